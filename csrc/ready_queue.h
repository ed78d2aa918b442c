/* SPDX-License-Identifier: MIT
 *
 * ready_queue.h - a ring of what to run next: Python handles and the layer's own deferred calls, in one order.
 *
 * Loop's thread only.  The queue owns a reference to each object.  Its room doubles and is kept.
 */
#ifndef RLOOP_READY_QUEUE_H
#define RLOOP_READY_QUEUE_H

#include "module.h"

struct loop;

/* Returns -1, with the exception set, only for KeyboardInterrupt and SystemExit. */
typedef int (*ready_run)(struct loop *loop, PyObject *object);

struct ready_item {
    ready_run run;
    PyObject *object;
};

struct ready_queue {
    struct ready_item *items;
    size_t capacity; /* 0 or a power of two */
    size_t head;
    size_t count;
};

int ready_queue_grow(struct ready_queue *queue); /* -1 with MemoryError */

/* Takes over the reference; on failure it is dropped and -1 returned with MemoryError. */
static inline int
ready_queue_push(struct ready_queue *queue, ready_run run, PyObject *object)
{
    if (queue->count == queue->capacity && ready_queue_grow(queue) < 0) {
        Py_DECREF(object);
        return -1;
    }
    queue->items[(queue->head + queue->count) & (queue->capacity - 1)] = (struct ready_item){run, object};
    queue->count++;
    return 0;
}

/* The queue must not be empty; the caller owns the reference. */
static inline struct ready_item
ready_queue_pop(struct ready_queue *queue)
{
    struct ready_item item = queue->items[queue->head];
    queue->head = (queue->head + 1) & (queue->capacity - 1);
    queue->count--;
    return item;
}

int ready_queue_traverse(struct ready_queue *queue, visitproc visit, void *arg);
void ready_queue_clear(struct ready_queue *queue);
void ready_queue_free(struct ready_queue *queue);

#endif
