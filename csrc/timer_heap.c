/* SPDX-License-Identifier: MIT
 *
 * The 4-ary heap of timers; see timer_heap.h.  Four children share a cache line or two, and the tree is half as deep as a
 * binary one.  Invariant: no entry comes before its parent, and *entry.place is the entry's index.
 */
#include "timer_heap.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

enum { ARITY = 4, INITIAL_CAPACITY = 64 };

static bool
entry_is_before(const struct timer_entry *a, const struct timer_entry *b)
{
    if (a->deadline_ns != b->deadline_ns) {
        return a->deadline_ns < b->deadline_ns;
    }
    return a->order < b->order;
}

static void
heap_put(struct timer_heap *heap, size_t index, struct timer_entry entry)
{
    heap->entries[index] = entry;
    *entry.place = (ssize_t)index;
}

static void
heap_sift_up(struct timer_heap *heap, size_t index, struct timer_entry entry)
{
    while (index > 0) {
        size_t parent = (index - 1) / ARITY;
        if (!entry_is_before(&entry, &heap->entries[parent])) {
            break;
        }
        heap_put(heap, index, heap->entries[parent]);
        index = parent;
    }
    heap_put(heap, index, entry);
}

static void
heap_sift_down(struct timer_heap *heap, size_t index, struct timer_entry entry)
{
    for (;;) {
        size_t child = index * ARITY + 1;
        if (child >= heap->count) {
            break;
        }
        size_t last = child + ARITY < heap->count ? child + ARITY : heap->count;
        size_t first = child;
        for (size_t i = child + 1; i < last; i++) {
            if (entry_is_before(&heap->entries[i], &heap->entries[first])) {
                first = i;
            }
        }
        if (!entry_is_before(&heap->entries[first], &entry)) {
            break;
        }
        heap_put(heap, index, heap->entries[first]);
        index = first;
    }
    heap_put(heap, index, entry);
}

int
timer_heap_push(struct timer_heap *heap, int64_t deadline_ns, void *timer, ssize_t *place)
{
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity ? heap->capacity * 2 : INITIAL_CAPACITY;
        struct timer_entry *entries = realloc(heap->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            return -1;
        }
        heap->entries = entries;
        heap->capacity = capacity;
    }
    struct timer_entry entry = {deadline_ns, heap->next_order++, timer, place};
    heap_sift_up(heap, heap->count++, entry);
    return 0;
}

void *
timer_heap_remove(struct timer_heap *heap, ssize_t place)
{
    assert(place >= 0 && (size_t)place < heap->count);
    struct timer_entry removed = heap->entries[place];
    struct timer_entry last = heap->entries[--heap->count];
    size_t index = (size_t)place;
    if (index < heap->count) {
        /* The last entry takes the free place, and then moves up or down. */
        if (index > 0 && entry_is_before(&last, &heap->entries[(index - 1) / ARITY])) {
            heap_sift_up(heap, index, last);
        }
        else {
            heap_sift_down(heap, index, last);
        }
    }
    *removed.place = -1;
    return removed.timer;
}

void
timer_heap_free(struct timer_heap *heap)
{
    free(heap->entries);
    *heap = (struct timer_heap){0};
}
