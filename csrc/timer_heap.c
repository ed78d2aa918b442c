/* SPDX-License-Identifier: MIT
 *
 * The 4-ary heap of timers; see timer_heap.h.  Four children share a cache line or two, and the tree is half as deep as a
 * binary one.  Invariant: no entry comes before its parent, and *entry.place is the entry's index.
 *
 * Most timers are timeouts, which are cancelled long before they are due: a removed one leaves a dead entry where it was, whose
 * place is written to nowhere.  Dead entries go when they come to the top, or all together when they are more than half.
 */
#include "timer_heap.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

enum { ARITY = 4, INITIAL_CAPACITY = 64, SWEEP_FROM = 64 };

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

/* Without its dead entries, and in order again: children before parents, each sinks to its place. */
static void
heap_sweep(struct timer_heap *heap)
{
    size_t count = 0;
    for (size_t i = 0; i < heap->count; i++) {
        if (heap->entries[i].timer != NULL) {
            heap_put(heap, count++, heap->entries[i]);
        }
    }
    heap->count = count;
    heap->dead = 0;
    if (count > 1) {
        for (size_t i = (count - 2) / ARITY + 1; i-- > 0;) {
            heap_sift_down(heap, i, heap->entries[i]);
        }
    }
}

void *
timer_heap_remove(struct timer_heap *heap, ssize_t place)
{
    assert(place >= 0 && (size_t)place < heap->count);
    struct timer_entry *entry = &heap->entries[place];
    void *timer = entry->timer;
    *entry->place = -1;
    entry->timer = NULL;
    entry->place = &heap->nowhere;
    heap->dead++;
    if (heap->dead > heap->count / 2 && heap->dead >= SWEEP_FROM) {
        heap_sweep(heap);
    }
    return timer;
}

const struct timer_entry *
timer_heap_first(struct timer_heap *heap)
{
    while (heap->count > 0 && heap->entries[0].timer == NULL) {
        struct timer_entry last = heap->entries[--heap->count];
        heap->dead--;
        if (heap->count > 0) {
            heap_sift_down(heap, 0, last);
        }
    }
    return heap->count > 0 ? &heap->entries[0] : NULL;
}

void *
timer_heap_remove_any(struct timer_heap *heap)
{
    while (heap->count > 0) {
        const struct timer_entry *last = &heap->entries[--heap->count];
        if (last->timer != NULL) {
            *last->place = -1;
            return last->timer;
        }
        heap->dead--;
    }
    return NULL;
}

void
timer_heap_free(struct timer_heap *heap)
{
    free(heap->entries);
    *heap = (struct timer_heap){0};
}
