/* SPDX-License-Identifier: MIT
 *
 * loop.h - the Loop type: what a turn is, and what the rooms above core.h share.
 *
 * A turn waits in the core's loop_poll; runs the handles that were queued before (a snapshot) and takes the due timers out of
 * the heap in before_first_delivery; delivers I/O in event order; runs the due timers; looks at stop last.
 */
#ifndef RLOOP_LOOP_H
#define RLOOP_LOOP_H

#include "address_cache.h"
#include "context_snapshot.h"
#include "core.h"
#include "fd_registry.h"
#include "inbox.h"
#include "module.h"
#include "ready_queue.h"
#include "stream_reader.h"
#include "timer_heap.h"

/* A transport that the core may call back.  The loop holds a strong reference to it while it is listed, and visits it, so
 * that a dropped loop with live transports is still collected.  Embed one, and list it while the core knows the object. */
struct loop_owned {
    struct loop_owned *previous, *next; /* NULL when not listed */
    PyObject *object;
    /* The loop is closing: close the core object now, and call no protocol. */
    void (*on_loop_close)(PyObject *object);
};

/* Where the read under way puts its bytes, when that isn't the loop's own buffer: filled in on_buffer and empty again after the
 * on_read that follows at once (see transport_read.c). */
struct read_target {
    Py_buffer view;              /* a buffered protocol's buffer, if obj is not NULL */
    PyObject *bytes;             /* a bytes object that is cut to size then */
    struct stream_reader reader; /* room in its buffer */
};

struct loop {
    PyObject_HEAD
    module_state *state;
    const struct core_ops *core;
    struct core_loop *core_loop; /* NULL before __init__ and after close */
    struct ready_queue ready;
    struct ready_queue due; /* timers that this turn runs after I/O */
    size_t not_run;         /* how much of `ready` an interrupted turn left that was queued before it */
    struct timer_heap timers;
    struct ready_queue new_timers;     /* of other threads, on their way into the heap */
    atomic_size_t cancelled_by_others; /* timers in the heap, or on their way; only without a GIL */
    struct context_snapshot snapshot;  /* the context of handles that were given none */
    struct inbox inbox;
    struct fd_registry fds;
    struct loop_owned owned; /* head of the circular list */
    char *read_buffer;       /* LOOP_READ_BUFFER_SIZE bytes, for one read at a time; made on first use */
    struct read_target target;
    struct address_cache *addresses; /* of datagrams; NULL before the first */
    PyObject *failure;               /* KeyboardInterrupt or SystemExit of a callback, on its way out of run_forever */
    PyObject *future_kwargs;         /* {'loop': this loop} for its futures while it runs, else NULL: it is a cycle */
    PyThreadState *blocked;          /* saved while the core waits without the GIL */
    unsigned callback_serial;        /* the callback that runs now; see loop_end_callback */
    struct ready_queue late;         /* what is to run when it ends */
    /* Other threads read these, and set is_stopping. */
    atomic_bool is_closed;
    atomic_bool is_stopping;
    atomic_bool is_debug;
    /* A subclass or the instance replaces these, so that calls go through the attribute. */
    bool overrides_time;
    bool overrides_call_at;
    bool overrides_call_soon;
    bool overrides_create_future;
    /* Shared with asyncio.BaseEventLoop, which reads and writes them as attributes. */
    atomic_ulong thread_id; /* of the running loop, else 0; other threads read it */
    double clock_resolution;
    double busy_poll; /* seconds; see loop_busy_poll in core.h */
    PyObject *exception_handler, *task_factory, *default_executor, *current_handle;
};

enum { LOOP_READ_BUFFER_SIZE = 256 * 1024, LOOP_LARGE_BLOCK_SIZE = 8 * 1024 * 1024, LOOP_SWEEP_FROM = 100 };

/* --- checks: 0, or -1 with asyncio's exception set */
int loop_check_closed(struct loop *loop);
/* In debug mode, a call from another thread raises as asyncio's does. */
int loop_check_thread(struct loop *loop);
/* The same in every mode, where there is no GIL: for what only the loop's thread keeps whole.  With the GIL it is nothing. */
#ifdef Py_GIL_DISABLED
int loop_check_owner(struct loop *loop);
#else
static inline int
loop_check_owner(struct loop *loop)
{
    (void)loop;
    return 0;
}
#endif

/* May this thread touch the ring and the heap?  With the GIL, any may.  Without it, the one that runs the loop: all others come
 * through the inbox.  So does everybody while nobody runs it, as it is not known who will. */
static inline bool
loop_is_ours(const struct loop *loop)
{
#ifdef Py_GIL_DISABLED
    return loop->thread_id == PyThread_get_thread_ident();
#else
    (void)loop;
    return true;
#endif
}

/* --- callbacks of our own: run(loop, object) in a later turn, in order with everybody's call_soon.  The reference to object
 * is taken over.  Like handle_run it returns -1, with the exception set, only for KeyboardInterrupt and SystemExit. */
int loop_defer(struct loop *loop, ready_run run, PyObject *object);
/* The same when the callback that runs now has ended; for what its further calls may still add to. */
int loop_defer_to_end(struct loop *loop, ready_run run, PyObject *object);
/* Whoever has called a callback of the user's says so when it has returned. */
void loop_run_late(struct loop *loop);
static inline void
loop_end_callback(struct loop *loop)
{
    loop->callback_serial++;
    if (loop->late.count > 0) {
        loop_run_late(loop);
    }
}
/* call_soon(callback, *args), as asyncio's transports do it; honours an overridden call_soon. */
int loop_call_soon(struct loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs, PyObject *context);
/* In a later turn: waiter.set_result(None), unless the waiter was cancelled. */
int loop_wake_waiter(struct loop *loop, PyObject *waiter);

/* --- create_future(), by the subclass's method where it has one */
PyObject *loop_create_future(struct loop *loop);

/* --- errors */
/* The exception that is set left a callback which the core called: KeyboardInterrupt and SystemExit are kept and interrupt
 * the poll; false.  Any other exception is left set for the caller to report; true. */
bool loop_is_reportable(struct loop *loop);
/* call_exception_handler({'message': message, 'exception': <the one that is set, which is cleared>, NAME: VALUE...}).  The
 * names are state->str_*; a NULL name ends the list; NULL values are left out.  An exception of the handler that must leave
 * run_forever is kept, as above. */
void loop_report_exception(struct loop *loop, const char *message,
                           ... /* PyObject *name, PyObject *value, ..., NULL */);
/* Keep the exception that is set as the loop's failure, whatever it is, and interrupt the poll. */
void loop_fail(struct loop *loop);

/* The exception that is set is KeyboardInterrupt or SystemExit, which leave run_forever. */
static inline bool
loop_must_leave(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit);
}
/* What loop_report_exception does, without keeping what the handler raised: -1 with that exception set. */
int loop_call_exception_handler(struct loop *loop, PyObject *message, ... /* as there */);

/* A transport's error that is logged and not reported: logger.debug("%r: %s", transport, message, exc_info=exception). */
void loop_log_error(struct loop *loop, PyObject *transport, const char *message, PyObject *exception);
/* One more write to a lost connection: asyncio's warning, from the fifth on.  0, or -1 with an exception. */
int loop_warn_lost_write(module_state *state, unsigned *lost_writes, const char *warning);

/* For debug mode: log that a handle, or a transport's protocol, ran for longer than the loop's slow_callback_duration. */
void loop_warn_if_slow(struct loop *loop, PyObject *what, int64_t start_ns);

/* --- time */
int64_t loop_now_ns(void); /* the monotonic clock */
/* At a turn's beginning: take in the timers of other threads, and move those that are due to loop->due; -1 with an
 * exception. */
int loop_collect_timers(struct loop *loop);
/* A timer leaves the heap, if it is there. */
void loop_unschedule(struct loop *loop, PyObject *timer);

/* --- options (loop_options.c) */
PyObject *loop_get_busy_poll(PyObject *self, void *closure);
int loop_set_busy_poll(PyObject *self, PyObject *value, void *closure);
/* Tell the core, once it is there. */
void loop_options_apply(struct loop *loop);

/* --- transports */
void loop_own(struct loop *loop, struct loop_owned *owned, PyObject *object);
void loop_disown(struct loop_owned *owned);
/* The one buffer that plain reads share: valid until the next on_buffer. */
char *loop_read_buffer(struct loop *loop);

static inline bool
loop_check(PyObject *object, module_state *state)
{
    return PyObject_TypeCheck(object, state->LoopBase_type);
}

#endif
