/* SPDX-License-Identifier: MIT
 *
 * transport.h - what StreamTransport, ReadPipeTransport and WritePipeTransport have in common, written once.
 *
 * A `struct transport` lies at the beginning of each one's own fields; `struct transport_kind` says in what they
 * differ.  transport.c has its life and its errors, transport_read.c and transport_write.c the two directions,
 * transport_methods.c what Python sees.
 *
 * Life: made -> open (the core knows it, the loop owns it) -> closing (reads nothing any more) -> its loss is scheduled
 * (writes nothing any more; connection_lost() comes in a later turn) -> lost (no loop, no protocol, no fd).
 */
#ifndef RLOOP_TRANSPORT_H
#define RLOOP_TRANSPORT_H

#include "flow_control.h"
#include "loop.h"
#include "module.h"
#include "protocol.h"
#include "write_buffer.h"

struct transport;

/* Whoever calls these functions holds the transport; on_receive_error takes the exception that is set. */
struct transport_kind {
    enum core_stream_kind core_kind;
    bool has_buffered_protocols;
    bool closing_ends_writing; /* write() after close() is ignored, even while the rest is being flushed */
    /* asyncio's messages */
    const char *read_error;
    const char *write_error;
    const char *lost_write_warning;
    const char *connection_lost_error;
    /* A fatal error of this kind is logged in debug mode only. */
    bool (*is_quiet)(PyObject *exception);
    /* data_received() or buffer_updated() raised; `message` is of the call. */
    void (*on_receive_error)(struct transport *t, const char *message);
    /* End of file; of a write pipe: the reader left. */
    void (*on_end)(struct transport *t);
    /* The core is about to close its fd: the Python object over the same fd must not close it too. */
    void (*before_close)(struct transport *t);
    /* connection_lost() has been called and the core's fd is closed. */
    void (*after_lost)(struct transport *t);
    /* Put the value for get_extra_info(name) into t->extra if it is one that is made on demand: 0, or -1 with an
     * exception. */
    int (*make_extra)(struct transport *t, PyObject *name);
};

struct transport {
    struct loop *loop;          /* NULL once lost */
    struct core_stream *stream; /* NULL unless open */
    struct protocol protocol;   /* without object once lost */
    struct write_buffer buffer;
    struct flow_control flow;
    PyObject *self; /* borrowed: where all this lies */
    module_state *state;
    const struct transport_kind *kind;
    unsigned last_read_size;
    unsigned write_serial; /* the loop's callback_serial at the last write() */
    unsigned write_count;  /* how often that callback has called write() */
    bool is_open; /* to the protocol: from the beginning to connection_lost(), even when the loop has been closed */
    bool is_closing;
    bool is_paused;       /* reading, by pause_reading() */
    bool is_read_started; /* in the core */
    bool is_write_refused;
    bool is_write_deferred; /* what is pending goes out when the callback that runs now ends */
    bool writes_in_series;  /* the last callback that wrote did so several times */
    bool is_eof_written;
    bool is_loss_scheduled;
    unsigned lost_writes; /* asyncio's count, after which writing to a lost connection is logged */
    int fd;               /* as Python knows it; kept for repr when closed */
    struct loop_owned owned;
    PyObject *file;           /* the Python socket or pipe, or NULL */
    PyObject *extra;          /* dict, or NULL while nobody has asked */
    PyObject *empty_waiter;   /* a future that waits for the write buffer to be empty (sendfile), or NULL */
    PyObject *lost_exception; /* for connection_lost(), or NULL */
    PyObject *dict;           /* attributes that somebody has set, or NULL */
};

/* Our types are final, so that the data of the object's type is ours. */
static inline struct transport *
transport_of(PyObject *self)
{
    return PyObject_GetTypeData(self, Py_TYPE(self));
}

/* See loop_check_owner. */
static inline int
transport_check_owner(const struct transport *t)
{
    return t->loop == NULL ? 0 : loop_check_owner(t->loop);
}

static inline bool
transport_is_reading(const struct transport *t)
{
    return !t->is_closing && !t->is_paused;
}

/* --- transport.c: making.  On failure drop the object; after transport_open call transport_abandon first. */

/* A new object of `type`.  `context` and `extra` may be NULL. */
PyObject *transport_new(struct loop *loop, PyTypeObject *type, const struct transport_kind *kind, PyObject *protocol,
                        PyObject *extra, PyObject *context);
/* Give `fd` to the core: 0, or -1 with the exception set and the fd left with the caller. */
int transport_open(struct transport *t, int fd);
/* call_soon: connection_made(); start reading, if `reads`; then wake the waiter, if there is one. */
int transport_begin(struct transport *t, bool reads, PyObject *waiter);
/* Undo transport_open, closing the fd, and call nobody. */
void transport_abandon(struct transport *t);

/* --- transport.c: ending */

/* close(): flush, then connection_lost(None).  0, or -1 with RuntimeError when the loop is closed; so are the next
 * two. */
int transport_close(struct transport *t);
/* Drop what is unsent, then connection_lost(exception), which may be NULL. */
int transport_force_close(struct transport *t, PyObject *exception);
int transport_schedule_loss(struct transport *t, PyObject *exception);
/* connection_lost(None) now, from a callback of the core. */
void transport_lose_now(struct transport *t);

/* The exception that is set is fatal: log or report it, and force_close with it. */
void transport_fatal_error(struct transport *t, const char *message);
/* It is not: report it, as that of a callback. */
void transport_report(struct transport *t, const char *message);
/* logger.LEVEL(format, self); never fails. */
void transport_log(struct transport *t, PyObject *level, const char *format);

/* For tp_traverse and tp_clear. */
int transport_traverse(struct transport *t, visitproc visit, void *arg);
void transport_clear(struct transport *t);
/* For tp_dealloc: false when the object lives on; else drop what the type has added, then end it. */
bool transport_begin_dealloc(PyObject *self);
void transport_end_dealloc(PyObject *self);
/* For tp_finalize: warn if it is still open; true if it was. */
bool transport_warn_unclosed(struct transport *t);

/* --- transport_read.c */

extern const struct core_stream_events transport_core_events;

void transport_read_start(struct transport *t);
void transport_read_stop(struct transport *t);

/* --- transport_write.c; these two are write() and writelines(): 0, or -1 with an exception */

/* `data` is a bytes, bytearray or memoryview. */
int transport_write(struct transport *t, PyObject *data);
int transport_writelines(struct transport *t, PyObject *list_of_data);
void transport_on_written(void *owner, int status);
size_t transport_unsent(const struct transport *t);
/* Whoever asks what has been sent, or ends the writing, lets what is deferred go out first. */
void transport_send_deferred(struct transport *t);
/* set_write_buffer_limits(): 0, or -1 with an exception. */
int transport_set_limits(struct transport *t, PyObject *high, PyObject *low);
/* The future of _make_empty_waiter() is done, with an exception or (NULL) without. */
void transport_wake_empty_waiter(struct transport *t, PyObject *exception);

#endif
