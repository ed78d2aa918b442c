/* SPDX-License-Identifier: MIT
 *
 * The life of a stream or pipe transport, and what becomes of its errors; see transport.h.
 *
 * Invariant: while the core knows the stream (t->stream is not NULL), the loop owns the transport, so that no callback
 * of the core meets a dead one.  A finalizer or a dealloc never calls down into the core.
 */
#include "transport.h"

#include "errors.h"

/* --- making */

PyObject *
transport_new(struct loop *loop, PyTypeObject *type, const struct transport_kind *kind, PyObject *protocol,
              PyObject *extra, PyObject *context)
{
    if (loop_check_closed(loop) < 0) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    struct transport *t = transport_of(self);
    t->self = self;
    t->state = loop->state;
    t->kind = kind;
    t->fd = -1;
    t->loop = (struct loop *)Py_NewRef(loop);
    t->extra = Py_XNewRef(extra);
    flow_control_init(&t->flow);
    if (protocol_set_context(&t->protocol, context) < 0 ||
        protocol_set(&t->protocol, t->state, protocol, kind->has_buffered_protocols) < 0)
    {
        Py_CLEAR(self);
    }
    return self;
}

/* Close the core's stream, and with it the fd. */
static void
transport_close_stream(struct transport *t)
{
    struct core_stream *stream = t->stream;
    if (stream == NULL) {
        return;
    }
    t->kind->before_close(t);
    t->stream = NULL;
    t->loop->core->stream_close(stream);
    write_buffer_clear(&t->buffer);
}

static void
transport_on_loop_close(PyObject *self)
{
    struct transport *t = transport_of(self);
    t->is_write_refused = true;
    transport_close_stream(t);
}

int
transport_open(struct transport *t, int fd)
{
    struct loop *loop = t->loop;
    if (loop_check_closed(loop) < 0) { /* by code of the user's that ran since transport_new() looked */
        return -1;
    }
    int result = loop->core->stream_open(loop->core_loop, fd, t->kind->core_kind, &transport_core_events, t,
                                         &t->stream);
    if (result < 0) {
        errors_set(result);
        return -1;
    }
    t->owned.on_loop_close = transport_on_loop_close;
    loop_own(loop, &t->owned, t->self);
    t->is_open = true;
    return 0;
}

static int
transport_run_read_start(struct loop *Py_UNUSED(loop), PyObject *self)
{
    transport_read_start(transport_of(self));
    return 0;
}

int
transport_begin(struct transport *t, bool reads, PyObject *waiter)
{
    if (protocol_call_soon(&t->protocol, t->loop, t->state->str_connection_made, t->self) < 0) {
        return -1;
    }
    if (reads && loop_defer(t->loop, transport_run_read_start, Py_NewRef(t->self)) < 0) {
        return -1;
    }
    return waiter == NULL ? 0 : loop_wake_waiter(t->loop, waiter);
}

void
transport_abandon(struct transport *t)
{
    PyObject *exception = PyErr_GetRaisedException();
    t->is_open = false;
    t->is_closing = true;
    t->is_loss_scheduled = true;
    t->is_write_refused = true;
    transport_close_stream(t);
    loop_disown(&t->owned);
    PyErr_SetRaisedException(exception);
}

/* --- ending */

/* connection_lost(), then let go of everything: 0, or -1 with the exception of connection_lost().  The caller holds
 * self. */
static int
transport_lose(struct transport *t)
{
    struct loop *loop = t->loop;
    PyObject *exception = t->lost_exception == NULL ? Py_NewRef(Py_None) : t->lost_exception;
    t->lost_exception = NULL;
    int result = protocol_connection_lost(&t->protocol, t->state, exception);
    PyObject *raised = PyErr_GetRaisedException();
    Py_DECREF(exception);
    t->is_open = false;
    transport_close_stream(t);
    protocol_clear(&t->protocol);
    t->loop = NULL;
    t->kind->after_lost(t);
    if (t->empty_waiter != NULL) {
        PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
        PyObject *closed = PyErr_GetRaisedException();
        transport_wake_empty_waiter(t, closed);
        Py_DECREF(closed);
    }
    loop_disown(&t->owned);
    Py_DECREF(loop);
    PyErr_SetRaisedException(raised);
    return result;
}

static int
transport_run_lose(struct loop *loop, PyObject *self)
{
    struct transport *t = transport_of(self);
    if (transport_lose(t) == 0) {
        return 0;
    }
    if (loop_must_leave()) {
        return -1;
    }
    loop_report_exception(loop, t->kind->connection_lost_error, t->state->str_transport, self, NULL);
    return 0;
}

void
transport_lose_now(struct transport *t)
{
    struct loop *loop = t->loop;
    t->is_loss_scheduled = true;
    t->is_write_refused = true;
    if (transport_lose(t) < 0 && loop_is_reportable(loop)) {
        loop_report_exception(loop, t->kind->connection_lost_error, t->state->str_transport, t->self, NULL);
    }
}

int
transport_schedule_loss(struct transport *t, PyObject *exception)
{
    if (t->is_loss_scheduled) {
        return 0;
    }
    t->is_loss_scheduled = true;
    t->is_write_refused = true;
    if (!t->kind->closing_ends_writing) {
        t->lost_writes++; /* a socket's count begins here, a pipe's with its first failed write */
    }
    t->lost_exception = Py_XNewRef(exception);
    if (loop_check_closed(t->loop) < 0) {
        return -1;
    }
    return loop_defer(t->loop, transport_run_lose, Py_NewRef(t->self));
}

int
transport_close(struct transport *t)
{
    transport_send_deferred(t);
    if (t->is_closing) {
        return 0;
    }
    bool is_flushed = write_buffer_is_empty(&t->buffer);
    t->is_closing = true;
    if (t->kind->closing_ends_writing) {
        t->is_write_refused = true;
    }
    if (is_flushed || t->kind->core_kind != CORE_STREAM_PIPE_WRITE) {
        transport_read_stop(t); /* a write pipe goes on looking whether its reader leaves */
    }
    return is_flushed ? transport_schedule_loss(t, NULL) : 0;
}

int
transport_force_close(struct transport *t, PyObject *exception)
{
    transport_send_deferred(t);
    if (t->is_loss_scheduled) {
        return 0;
    }
    write_buffer_drop_pending(&t->buffer); /* what is in flight ends when the core's stream is closed */
    if (!t->is_closing) {
        t->is_closing = true;
        transport_read_stop(t);
    }
    return transport_schedule_loss(t, exception);
}

/* --- errors */

void
transport_log(struct transport *t, PyObject *level, const char *format)
{
    PyObject *text = PyUnicode_FromString(format);
    PyObject *result = text == NULL ? NULL : PyObject_CallMethodObjArgs(t->state->logger, level, text, t->self, NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_XDECREF(result);
    Py_XDECREF(text);
}

void
transport_report(struct transport *t, const char *message)
{
    if (t->loop == NULL) {
        PyErr_WriteUnraisable(t->self); /* lost meanwhile */
        return;
    }
    loop_report_exception(t->loop, message, t->state->str_transport, t->self, t->state->str_protocol,
                          t->protocol.object, NULL);
}

void
transport_fatal_error(struct transport *t, const char *message)
{
    PyObject *exception = PyErr_GetRaisedException();
    if (!t->kind->is_quiet(exception)) {
        PyErr_SetRaisedException(Py_NewRef(exception));
        transport_report(t, message);
    }
    else if (t->loop != NULL && t->loop->is_debug) {
        loop_log_error(t->loop, t->self, message, exception);
    }
    if (transport_force_close(t, exception) < 0) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_DECREF(exception);
}

/* --- the object */

int
transport_traverse(struct transport *t, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(t->self));
    Py_VISIT((PyObject *)t->loop);
    Py_VISIT(t->file);
    Py_VISIT(t->extra);
    Py_VISIT(t->empty_waiter);
    Py_VISIT(t->lost_exception);
    Py_VISIT(t->dict);
    return protocol_traverse(&t->protocol, visit, arg);
}

/* Keeps the loop: what the collector finds in a cycle with us is closed by it (on_loop_close), and that needs the
 * loop.  From here on nothing reaches a protocol. */
void
transport_clear(struct transport *t)
{
    t->is_closing = true;
    t->is_loss_scheduled = true;
    t->is_write_refused = true;
    Py_CLEAR(t->file);
    Py_CLEAR(t->extra);
    Py_CLEAR(t->empty_waiter);
    Py_CLEAR(t->lost_exception);
    Py_CLEAR(t->dict);
    protocol_clear(&t->protocol);
    Py_CLEAR(t->protocol.context);
}

bool
transport_warn_unclosed(struct transport *t)
{
    if (!t->is_open) {
        return false;
    }
    PyObject *exception = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(t->self, 1, "unclosed transport %R", t->self) < 0) {
        PyErr_WriteUnraisable(t->self);
    }
    PyErr_SetRaisedException(exception);
    return true;
}

bool
transport_begin_dealloc(PyObject *self)
{
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return false;
    }
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    return true;
}

void
transport_end_dealloc(PyObject *self)
{
    struct transport *t = transport_of(self);
    PyTypeObject *type = Py_TYPE(self);
    transport_clear(t);
    write_buffer_clear(&t->buffer);
    Py_CLEAR(t->loop);
    type->tp_free(self);
    Py_DECREF(type);
}
