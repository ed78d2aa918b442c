/* SPDX-License-Identifier: MIT
 *
 * load_pattern.c - the bytes that both sides know where the answer is no echo; bench/scenario.py makes the same.
 */
#include "load.h"

#include <string.h>

const char *
pattern_at(uint64_t offset)
{
    static char bytes[SCRATCH_SIZE + PATTERN_PERIOD];
    if (bytes[1] == 0) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (char)(i % PATTERN_PERIOD);
        }
    }
    return bytes + offset % PATTERN_PERIOD;
}

void
pattern_compare(const char *data, size_t size, uint64_t offset)
{
    if (memcmp(data, pattern_at(offset), size) != 0) {
        fail(EXIT_WRONG, "the answer has wrong bytes");
    }
}
