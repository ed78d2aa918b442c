/* SPDX-License-Identifier: MIT
 *
 * The timers of a loop beyond their heap: which are due, and what other threads do to them.
 *
 * The heap belongs to the thread that runs the loop.  Without a GIL, another thread's timers come through the inbox, and
 * what it cancels stays in the heap until the loop sweeps.
 */
#include "handle.h"
#include "loop.h"
#include "loop_calls.h"

/* The timers of other threads. */
static int
loop_admit_timers(struct loop *loop)
{
    while (loop->new_timers.count > 0) {
        PyObject *timer = ready_queue_pop(&loop->new_timers).object;
        struct timer_handle *fields = timer_handle_of(timer);
        fields->heap_place = -1;
        if (handle_is_cancelled(&fields->base)) {
            Py_DECREF(timer);
        }
        else if (timer_heap_push(&loop->timers, fields->when_ns, timer, &fields->heap_place) < 0) {
            Py_DECREF(timer);
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

/* Without a GIL, what another thread has cancelled is still in the heap: take it out once it is a good part of all. */
static void
loop_sweep_cancelled(struct loop *loop)
{
    size_t cancelled = loop->cancelled_by_others;
    if (cancelled < LOOP_SWEEP_FROM || cancelled < loop->timers.count / 2) {
        return;
    }
    loop->cancelled_by_others = 0;
    for (size_t i = loop->timers.count; i-- > 0;) {
        PyObject *timer = loop->timers.entries[i].timer;
        size_t count = loop->timers.count;
        if (timer != NULL && handle_is_cancelled(handle_of(timer))) {
            timer_heap_remove(&loop->timers, (ssize_t)i);
            Py_DECREF(timer);
        }
        if (loop->timers.count != count) {
            i = loop->timers.count; /* the heap was laid anew, or the handle's end has scheduled something */
        }
    }
}

/* Take the timers that are due now out of the heap.  One that becomes due while callbacks run waits for the next turn, as in
 * asyncio. */
static int
loop_collect_due(struct loop *loop)
{
    const struct timer_entry *first = timer_heap_first(&loop->timers);
    if (first == NULL) {
        return 0;
    }
    int64_t now_ns;
    if (loop_clock_ns(loop, &now_ns) < 0) {
        return -1;
    }
    while ((first = timer_heap_first(&loop->timers)) != NULL && first->deadline_ns <= now_ns) {
        PyObject *timer = timer_heap_remove(&loop->timers, 0);
        if (ready_queue_push(&loop->due, handle_run, timer) < 0) {
            return -1;
        }
    }
    return 0;
}

int
loop_collect_timers(struct loop *loop)
{
    if (loop_admit_timers(loop) < 0) {
        return -1;
    }
    loop_sweep_cancelled(loop);
    return loop_collect_due(loop);
}

void
loop_unschedule(struct loop *loop, PyObject *timer)
{
    if (!loop_is_ours(loop)) {
        loop->cancelled_by_others++; /* its loop takes it out */
        return;
    }
    ssize_t place = timer_handle_of(timer)->heap_place;
    if (place >= 0) {
        timer_heap_remove(&loop->timers, place);
        Py_DECREF(timer);
    }
}
