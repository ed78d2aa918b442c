/* SPDX-License-Identifier: MIT
 *
 * The ring of what to run next; see ready_queue.h.
 */
#include "ready_queue.h"

enum { INITIAL_CAPACITY = 64 };

int
ready_queue_grow(struct ready_queue *queue)
{
    size_t capacity = queue->capacity ? queue->capacity * 2 : INITIAL_CAPACITY;
    struct ready_item *items = PyMem_New(struct ready_item, capacity);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < queue->count; i++) {
        items[i] = queue->items[(queue->head + i) & (queue->capacity - 1)];
    }
    PyMem_Free(queue->items);
    queue->items = items;
    queue->capacity = capacity;
    queue->head = 0;
    return 0;
}

int
ready_queue_traverse(struct ready_queue *queue, visitproc visit, void *arg)
{
    for (size_t i = 0; i < queue->count; i++) {
        Py_VISIT(queue->items[(queue->head + i) & (queue->capacity - 1)].object);
    }
    return 0;
}

void
ready_queue_clear(struct ready_queue *queue)
{
    while (queue->count > 0) {
        struct ready_item item = ready_queue_pop(queue);
        Py_DECREF(item.object);
    }
}

void
ready_queue_free(struct ready_queue *queue)
{
    ready_queue_clear(queue);
    PyMem_Free(queue->items);
    *queue = (struct ready_queue){0};
}
