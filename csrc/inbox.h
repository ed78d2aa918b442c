/* SPDX-License-Identifier: MIT
 *
 * inbox.h - the door for other threads: handles from call_soon_threadsafe, under a lock, and the wake-up of the loop.  Without a
 * GIL, whatever another thread schedules comes this way, timers too.
 *
 * The lock is never held across a call into Python.  One wake-up is enough until the loop has emptied the inbox.
 */
#ifndef RLOOP_INBOX_H
#define RLOOP_INBOX_H

#include "ready_queue.h"

#include <pthread.h>
#include <stdatomic.h>

struct core_ops;
struct core_loop;

struct inbox {
    pthread_mutex_t lock;
    struct ready_queue queue;
    struct ready_queue timers;   /* for the heap; their ready_run is unused */
    atomic_bool is_woken;        /* written under the lock */
    const struct core_ops *core; /* NULL once closed: nobody to wake */
    struct core_loop *core_loop;
};

void inbox_open(struct inbox *inbox, const struct core_ops *core, struct core_loop *core_loop);
/* From any thread; takes over the reference.  0, or -1 with an exception (MemoryError, or RuntimeError when closed). */
int inbox_push(struct inbox *inbox, ready_run run, PyObject *object);
int inbox_push_timer(struct inbox *inbox, PyObject *timer);
/* On the loop's thread: move everything to the end of `ready`, and the timers to the end of `timers`. */
int inbox_drain(struct inbox *inbox, struct ready_queue *ready, struct ready_queue *timers);
/* After this nobody wakes the core any more; it may be destroyed.  What is queued stays until inbox_free. */
void inbox_close(struct inbox *inbox);
int inbox_traverse(struct inbox *inbox, visitproc visit, void *arg);
void inbox_clear(struct inbox *inbox); /* once closed */
void inbox_free(struct inbox *inbox);

#endif
