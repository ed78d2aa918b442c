/* SPDX-License-Identifier: MIT
 *
 * handle.h - Handle, TimerHandle and _ThreadSafeHandle: a callback, its arguments and its context.
 */
#ifndef RLOOP_HANDLE_H
#define RLOOP_HANDLE_H

#include "context_snapshot.h"
#include "handle_lock.h"
#include "module.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

struct loop;

enum { HANDLE_INLINE_ARGS = 3 };

/* Our fields, behind those of asyncio's class: the last ones of an object of any of the three types (handle_types.c says
 * how). */
struct handle {
    alignas(max_align_t) struct loop *loop; /* strong; NULL once cleared */
    PyObject *callback;                     /* NULL once cancelled */
    PyObject *context;                      /* when it is shared, for handle.c only; see handle_show_context() */
    PyObject *source_traceback;             /* in debug mode, else NULL */
    PyObject *repr;                         /* what a handle cancelled in debug mode looked like, else NULL */
    PyObject *args[HANDLE_INLINE_ARGS];     /* the first nargs, or a tuple in args[0] when there are more */
    Py_ssize_t nargs;
    atomic_bool is_cancelled; /* by any thread, without a GIL */
    bool is_timer;            /* a struct timer_handle */
    bool has_lock;            /* a struct threadsafe_handle */
    bool is_context_shared;   /* see context_snapshot.h */
    bool is_context_hidden;   /* its own, which nobody has asked it for */
};

struct timer_handle {
    double when;           /* seconds */
    PyObject *when_object; /* the same, as it was given or was first asked for; else NULL */
    int64_t when_ns;       /* saturated, rounded up */
    ssize_t heap_place;    /* in loop->timers; TIMER_IN_INBOX when it is to be put there, -1 when it isn't there */
    struct handle base;
};

enum { TIMER_IN_INBOX = -2 };

struct threadsafe_handle {
    struct handle_lock lock; /* held while the callback runs, and by those who cancel it or ask whether it is */
    struct handle base;
};

/* How many of `args` are used. */
static inline Py_ssize_t
handle_held(const struct handle *handle)
{
    return handle->nargs <= HANDLE_INLINE_ARGS ? handle->nargs : 1;
}

static inline bool
handle_is_cancelled(struct handle *handle)
{
    return atomic_load_explicit(&handle->is_cancelled, memory_order_relaxed);
}

static inline struct handle *
handle_of(PyObject *object)
{
    return (struct handle *)((char *)object + Py_TYPE(object)->tp_basicsize) - 1;
}

static inline struct timer_handle *
timer_handle_of(PyObject *object)
{
    return (struct timer_handle *)((char *)object + Py_TYPE(object)->tp_basicsize) - 1;
}

static inline struct handle_lock *
handle_lock_of(PyObject *object)
{
    return &((struct threadsafe_handle *)((char *)object + Py_TYPE(object)->tp_basicsize) - 1)->lock;
}

/* A new Handle; `context` NULL means a copy of the current one; all is borrowed.  In debug mode it records the stack. */
PyObject *handle_new(struct loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs, PyObject *context);
/* A handle for other threads, which from Python 3.14 on may cancel it at any moment, and then wait while it runs. */
PyObject *threadsafe_handle_new(struct loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *context);
/* `when_object` may be NULL. */
PyObject *timer_handle_new(struct loop *loop, double when, PyObject *when_object, int64_t when_ns, PyObject *callback,
                           PyObject *const *args, Py_ssize_t nargs, PyObject *context);

/* Call it in its context.  An exception goes to the loop's exception handler, except KeyboardInterrupt and SystemExit: then -1
 * with the exception set.  A cancelled handle does nothing. */
int handle_run_now(struct loop *loop, PyObject *handle);
/* The same for the loop (this is a ready_run and an fd_ready): when nobody else has the handle, its context may serve the next
 * one, and the handle is only to be dropped. */
int handle_run(struct loop *loop, PyObject *handle);

/* The context, which is the handle's own and known to others from now on; borrowed, NULL with an exception set. */
PyObject *handle_show_context(struct handle *handle);

/* The slots of all handle types. */
int handle_traverse(PyObject *self, visitproc visit, void *arg);
int handle_clear(PyObject *self);
void handle_dealloc(PyObject *self);

/* The module is going: give back the memory of dead handles, while their types live. */
void handle_close_pools(module_state *state);

/* As its cancel() method: a timer leaves the heap at once.  -1 with the exception of the callback's repr(), which debug mode
 * keeps; the handle is cancelled all the same. */
int handle_cancel(struct loop *loop, PyObject *handle);

#endif
