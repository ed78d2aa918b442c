/* SPDX-License-Identifier: MIT
 *
 * timer_heap.h - the timers of a loop: a 4-ary heap by (deadline, order of scheduling), with removal in constant time
 * (amortized).
 *
 * Each entry writes its place back through `place`, which is how a timer finds itself; the heap knows nothing else about its
 * timers, and no Python.  Deadlines are nanoseconds of the monotonic clock.
 */
#ifndef RLOOP_TIMER_HEAP_H
#define RLOOP_TIMER_HEAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct timer_entry {
    int64_t deadline_ns;
    uint64_t order;
    void *timer;    /* NULL when it was removed */
    ssize_t *place; /* kept equal to the entry's index; -1 when it is out */
};

struct timer_heap {
    struct timer_entry *entries;
    size_t count; /* with the dead ones */
    size_t dead;
    size_t capacity;
    uint64_t next_order;
    ssize_t nowhere; /* the place of dead entries */
};

/* 0, or -1 when out of memory. */
int timer_heap_push(struct timer_heap *heap, int64_t deadline_ns, void *timer, ssize_t *place);
/* Take out the timer at this place, and return it. */
void *timer_heap_remove(struct timer_heap *heap, ssize_t place);
/* The entry of the first timer, at place 0; NULL when there is none. */
const struct timer_entry *timer_heap_first(struct timer_heap *heap);
/* Take out any timer, in constant time, and return it; NULL when there is none. */
void *timer_heap_remove_any(struct timer_heap *heap);
void timer_heap_free(struct timer_heap *heap);

#endif
