/* SPDX-License-Identifier: MIT
 *
 * scripted_core.h - a third core, which misbehaves on purpose but within the contract.
 *
 * It is csrc/readiness_*.c on a poller over poll(2) that delivers events in a given order and reports readiness that is
 * not there, with system calls that cut reads and writes short, fail with EAGAIN and EINTR, or fail as a test tells
 * them to. The contract suite runs on it like on the others: what holds here does not depend on luck.
 */
#ifndef RLOOP_TESTS_SCRIPTED_CORE_H
#define RLOOP_TESTS_SCRIPTED_CORE_H

#include "core.h"

/* "scripted" (well-behaved), "scripted-reversed" (last event first), "scripted-shuffled" (any order, and readiness that
 * is not there), "scripted-faults" (that, and calls cut short or interrupted at random); else NULL. Sets how this
 * process's scripted core behaves. */
const struct core_ops *scripted_core_by_name(const char *name, bool *is_faulty);
/* Another seed for what happens at random. */
void scripted_set_seed(uint64_t seed);

enum scripted_direction { SCRIPTED_IN, SCRIPTED_OUT };

/* Make the next `times` calls that read from (or write to) `fd` fail with this errno; 0 means end of file when reading.
 * */
void scripted_fail(int fd, enum scripted_direction direction, int error, unsigned times);
/* From now on cut every transfer on `fd` short after this many bytes; 0: no longer. */
void scripted_limit(int fd, enum scripted_direction direction, size_t limit);
/* Scripted failures that have not happened yet. */
unsigned scripted_failures_left(void);

/* Percentages for scripted_calls.c, set by scripted_core_by_name. */
struct scripted_odds {
    unsigned eagain, eintr, cut;
};
void scripted_set_odds(struct scripted_odds odds);

#endif
