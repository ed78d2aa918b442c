/* SPDX-License-Identifier: MIT
 *
 * The list of cores.  The only file that names both.
 */
#include "core.h"

#include <string.h>

extern const struct core_ops mio_core_ops;
extern const struct core_ops uvcore_core_ops;

const struct core_ops *
core_by_name(const char *name)
{
    static const struct core_ops *const cores[] = {&mio_core_ops, &uvcore_core_ops};
    for (size_t i = 0; i < sizeof cores / sizeof cores[0]; i++) {
        if (strcmp(cores[i]->name, name) == 0) {
            return cores[i];
        }
    }
    return NULL;
}
