/* SPDX-License-Identifier: MIT
 *
 * The door for other threads; see inbox.h.  `core` tells whether the loop is open, under the same lock as the queue, so that
 * nobody wakes a core that has been destroyed.
 */
#include "inbox.h"

#include "core.h"

void
inbox_open(struct inbox *inbox, const struct core_ops *core, struct core_loop *core_loop)
{
    pthread_mutex_lock(&inbox->lock);
    inbox->core = core;
    inbox->core_loop = core_loop;
    pthread_mutex_unlock(&inbox->lock);
}

/* With the lock held.  One wake-up lasts until the loop has drained the inbox. */
static void
inbox_wake_locked(struct inbox *inbox)
{
    if (!inbox->is_woken && inbox->core != NULL) {
        inbox->is_woken = true;
        inbox->core->loop_wake(inbox->core_loop);
    }
}

int
inbox_push(struct inbox *inbox, ready_run run, PyObject *object)
{
    int result = 0;
    Py_INCREF(object); /* so that no destructor can run under the lock */
    pthread_mutex_lock(&inbox->lock);
    bool is_open = inbox->core != NULL;
    if (is_open) {
        result = ready_queue_push(&inbox->queue, run, object);
        inbox_wake_locked(inbox);
    }
    pthread_mutex_unlock(&inbox->lock);
    Py_DECREF(object);
    if (!is_open) {
        Py_DECREF(object);
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    return result;
}

int
inbox_drain(struct inbox *inbox, struct ready_queue *ready)
{
    /* Whoever pushes after this look wakes the core too, so that the next turn comes at once. */
    if (!atomic_load_explicit(&inbox->is_woken, memory_order_acquire)) {
        return 0;
    }
    int result = 0;
    pthread_mutex_lock(&inbox->lock);
    inbox->is_woken = false;
    while (inbox->queue.count > 0) {
        if (ready->count == ready->capacity && ready_queue_grow(ready) < 0) {
            result = -1;
            break;
        }
        struct ready_item item = ready_queue_pop(&inbox->queue);
        ready_queue_push(ready, item.run, item.object);
    }
    pthread_mutex_unlock(&inbox->lock);
    return result;
}

void
inbox_close(struct inbox *inbox)
{
    inbox_open(inbox, NULL, NULL);
}

int
inbox_traverse(struct inbox *inbox, visitproc visit, void *arg)
{
    /* The collector runs with the world stopped or with the GIL held, and nobody holds the lock across a safe point. */
    return ready_queue_traverse(&inbox->queue, visit, arg);
}

void
inbox_free(struct inbox *inbox)
{
    ready_queue_free(&inbox->queue);
}
