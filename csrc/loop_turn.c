/* SPDX-License-Identifier: MIT
 *
 * One turn of a loop, run_forever's turns, and the hooks that the core calls around its wait; loop.h says what a turn is.
 *
 * What must leave run_forever is kept in loop->failure while the core is still at work, and raised when its poll is over.
 * Invariant: what a failure has kept from running stays queued, in the order in which it would have run.
 */
#include "errors.h"
#include "loop.h"
#include "loop_calls.h"

/* --- the core's hooks */

static void
loop_before_block(void *owner)
{
    struct loop *loop = owner;
    loop->blocked = PyEval_SaveThread();
}

static void
loop_after_block(void *owner)
{
    struct loop *loop = owner;
    PyEval_RestoreThread(loop->blocked);
    loop->blocked = NULL;
}

/* Run the first `count` items.  On failure the loop keeps the exception and the rest, which is returned, stays queued. */
static size_t
loop_run_queue(struct loop *loop, struct ready_queue *queue, size_t count)
{
    for (; count > 0 && loop->failure == NULL; count--) {
        struct ready_item item = ready_queue_pop(queue);
        if (item.run(loop, item.object) < 0) {
            loop_fail(loop);
        }
        Py_DECREF(item.object);
        loop_end_callback(loop);
    }
    return count;
}

void
loop_run_late(struct loop *loop)
{
    while (loop->late.count > 0) {
        struct ready_item item = ready_queue_pop(&loop->late);
        if (item.run(loop, item.object) < 0) {
            loop_fail(loop);
        }
        Py_DECREF(item.object);
    }
}

static void
loop_before_first_delivery(void *owner)
{
    struct loop *loop = owner;
    if (PyErr_CheckSignals() < 0 || inbox_drain(&loop->inbox, &loop->ready, &loop->new_timers) < 0 ||
        loop_collect_timers(loop) < 0)
    {
        loop_fail(loop);
        loop->not_run = loop->ready.count;
        return;
    }
    loop->not_run = loop_run_queue(loop, &loop->ready, loop->ready.count);
}

const struct core_hooks loop_core_hooks = {
    .before_block = loop_before_block,
    .after_block = loop_after_block,
    .before_first_delivery = loop_before_first_delivery,
};

/* --- one turn */

static int
loop_timeout_ns(struct loop *loop, int64_t *timeout_ns)
{
    if (loop->ready.count > 0 || loop->is_stopping) {
        *timeout_ns = 0;
        return 0;
    }
    const struct timer_entry *first = timer_heap_first(&loop->timers);
    if (first == NULL || first->deadline_ns == INT64_MAX) {
        *timeout_ns = -1;
        return 0;
    }
    int64_t deadline_ns = first->deadline_ns;
    int64_t now_ns;
    if (loop_clock_ns(loop, &now_ns) < 0) {
        return -1;
    }
    *timeout_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    return 0;
}

/* The turn was left early: timers that are due still go behind what was queued before them and before what was queued since. */
static void
loop_requeue_due(struct loop *loop)
{
    struct ready_queue *ready = &loop->ready;
    size_t count = ready->count;
    for (size_t i = 0; i <= count; i++) {
        while (i == loop->not_run && loop->due.count > 0) {
            struct ready_item item = ready_queue_pop(&loop->due);
            if (ready_queue_push(ready, item.run, item.object) < 0) {
                PyErr_WriteUnraisable((PyObject *)loop);
            }
        }
        if (i < count) {
            struct ready_item item = ready_queue_pop(ready);
            ready_queue_push(ready, item.run, item.object);
        }
    }
}

static int
loop_turn(struct loop *loop)
{
    int64_t timeout_ns;
    context_snapshot_begin_turn(loop); /* before it is seen whether anything is queued */
    if (loop_timeout_ns(loop, &timeout_ns) < 0) {
        return -1;
    }
    loop->not_run = 0;
    int result = loop->core->loop_poll(loop->core_loop, timeout_ns);
    loop_end_callback(loop);
    if (result < 0 && loop->failure == NULL) {
        errors_set(result);
        return -1;
    }
    loop_run_queue(loop, &loop->due, loop->due.count);
    if (loop->failure == NULL) {
        return 0;
    }
    loop_requeue_due(loop);
    PyErr_SetRaisedException(loop->failure);
    loop->failure = NULL;
    return -1;
}

PyObject *
loop_method_run_turns(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct loop *loop = (struct loop *)self;
    if (loop_check_closed(loop) < 0) {
        return NULL;
    }
    loop_find_overrides(loop);
    Py_XSETREF(loop->future_kwargs, Py_BuildValue("{OO}", loop->state->str_loop, self));
    int result = loop->future_kwargs == NULL ? -1 : 0;
    while (result == 0 && (result = loop_turn(loop)) == 0 && !loop->is_stopping) {
    }
    Py_CLEAR(loop->future_kwargs);
    context_snapshot_forget(&loop->snapshot);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}
