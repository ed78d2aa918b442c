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

static int
inbox_push_to(struct inbox *inbox, struct ready_queue *queue, ready_run run, PyObject *object)
{
    int result = 0;
    Py_INCREF(object); /* so that no destructor can run under the lock */
    pthread_mutex_lock(&inbox->lock);
    bool is_open = inbox->core != NULL;
    if (is_open) {
        result = ready_queue_push(queue, run, object);
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
inbox_push(struct inbox *inbox, ready_run run, PyObject *object)
{
    return inbox_push_to(inbox, &inbox->queue, run, object);
}

int
inbox_push_timer(struct inbox *inbox, PyObject *timer)
{
    return inbox_push_to(inbox, &inbox->timers, NULL, timer);
}

static int
queue_move(struct ready_queue *from, struct ready_queue *to)
{
    while (from->count > 0) {
        if (to->count == to->capacity && ready_queue_grow(to) < 0) {
            return -1;
        }
        struct ready_item item = ready_queue_pop(from);
        ready_queue_push(to, item.run, item.object);
    }
    return 0;
}

int
inbox_drain(struct inbox *inbox, struct ready_queue *ready, struct ready_queue *timers)
{
    /* Whoever pushes after this look wakes the core too, so that the next turn comes at once. */
    if (!atomic_load_explicit(&inbox->is_woken, memory_order_acquire)) {
        return 0;
    }
    pthread_mutex_lock(&inbox->lock);
    inbox->is_woken = false;
    int result = queue_move(&inbox->queue, ready) < 0 || queue_move(&inbox->timers, timers) < 0 ? -1 : 0;
    if (result < 0) {
        inbox_wake_locked(inbox); /* what is left comes with the next turn */
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
    int result = ready_queue_traverse(&inbox->queue, visit, arg);
    return result != 0 ? result : ready_queue_traverse(&inbox->timers, visit, arg);
}

void
inbox_clear(struct inbox *inbox)
{
    ready_queue_clear(&inbox->queue);
    ready_queue_clear(&inbox->timers);
}

void
inbox_free(struct inbox *inbox)
{
    ready_queue_free(&inbox->queue);
    ready_queue_free(&inbox->timers);
}
