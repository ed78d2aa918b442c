/* SPDX-License-Identifier: MIT
 *
 * The way of bytes from write() to the core, for StreamTransport and WritePipeTransport; see transport.h.
 *
 * With nothing unsent, the kernel gets the data at once.  What it does not take waits in the write buffer, one batch in
 * flight and the rest pending; when a batch has ended the next one goes out, and when none is left, what waited for
 * that happens: resume_writing, the end of close(), the half-close of write_eof().
 *
 * Writes of one callback go out together when it ends: a head and a body, or a thousand lines, are then one system call.
 * But the first of them goes to the kernel at once, unless the last callback that wrote here did so several times.
 * Nothing that a program can ask the transport tells the difference, because asking sends what has waited.
 */
#include "transport.h"

#include "errors.h"

#include <errno.h>
#include <limits.h>

size_t
transport_unsent(const struct transport *t)
{
    if (t->is_loss_scheduled || t->stream == NULL) {
        return 0;
    }
    size_t size = write_buffer_pending_size(&t->buffer);
    return write_buffer_is_in_flight(&t->buffer) ? size + t->loop->core->stream_unsent(t->stream) : size;
}

/* --- flow control */

/* After the buffer grew, in a call of the user: 0, or -1 with KeyboardInterrupt or SystemExit. */
static int
write_maybe_pause(struct transport *t)
{
    if (!flow_control_must_pause(&t->flow, transport_unsent(t))) {
        return 0;
    }
    if (t->is_write_deferred) {
        transport_send_deferred(t);
        if (t->is_closing || !flow_control_must_pause(&t->flow, transport_unsent(t))) {
            return 0;
        }
    }
    t->flow.is_paused = true;
    if (protocol_pause_writing(&t->protocol, t->state) < 0) {
        if (loop_must_leave()) {
            return -1;
        }
        transport_report(t, "protocol.pause_writing() failed");
    }
    return 0;
}

static void
write_maybe_resume(struct transport *t)
{
    if (!flow_control_may_resume(&t->flow, transport_unsent(t))) {
        return;
    }
    struct loop *loop = t->loop;
    t->flow.is_paused = false;
    if (protocol_resume_writing(&t->protocol, t->state) < 0 && loop_is_reportable(loop)) {
        transport_report(t, "protocol.resume_writing() failed");
    }
}

int
transport_set_limits(struct transport *t, PyObject *high, PyObject *low)
{
    if (flow_control_set_limits(&t->flow, high, low) < 0) {
        return -1;
    }
    return write_maybe_pause(t);
}

/* --- the empty waiter */

void
transport_wake_empty_waiter(struct transport *t, PyObject *exception)
{
    if (t->empty_waiter == NULL) {
        return;
    }
    PyObject *waiter = Py_NewRef(t->empty_waiter);
    PyObject *done = PyObject_CallMethodNoArgs(waiter, t->state->str_done);
    PyObject *result = done == NULL ? NULL : Py_NewRef(done);
    if (done == Py_False) {
        PyObject *name = exception == NULL ? t->state->str_set_result : t->state->str_set_exception;
        Py_SETREF(result, PyObject_CallMethodOneArg(waiter, name, exception == NULL ? Py_None : exception));
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_XDECREF(result);
    Py_XDECREF(done);
    Py_DECREF(waiter);
}

/* --- out */

/* The exception that is set came from the kernel, or from the core. */
static void
write_fail(struct transport *t)
{
    PyObject *exception = PyErr_GetRaisedException();
    write_buffer_drop_pending(&t->buffer);
    if (t->kind->closing_ends_writing) {
        t->lost_writes++;
    }
    PyErr_SetRaisedException(Py_NewRef(exception));
    transport_fatal_error(t, t->kind->write_error);
    transport_wake_empty_waiter(t, exception);
    Py_DECREF(exception);
}

/* Let the core write what is pending. */
static void
write_flush(struct transport *t)
{
    const struct write_batch *batch = write_buffer_begin_flight(&t->buffer);
    int result = t->loop->core->stream_write(t->stream, batch->pieces, batch->count);
    if (result < 0) {
        write_buffer_end_flight(&t->buffer);
        errors_set(result);
        write_fail(t);
    }
}

/* What the kernel took at once: a count >= 0, or -1 after a failure that has ended the transport. */
static ssize_t
write_try(struct transport *t, const struct iovec *pieces, int count)
{
    ssize_t written = t->loop->core->stream_try_write(t->stream, pieces, count);
    if (written >= 0) {
        return written;
    }
    if (written == -EAGAIN) {
        return 0;
    }
    errors_set((int)written);
    write_fail(t);
    return -1;
}

/* What is pending, with nothing in flight: at once what the kernel takes, and the rest by the core. */
static void
write_pending(struct transport *t)
{
    const struct write_batch *pending = write_buffer_pending(&t->buffer);
    ssize_t written = write_try(t, pending->pieces, pending->count < IOV_MAX ? pending->count : IOV_MAX);
    if (written < 0) {
        return;
    }
    write_buffer_consume(&t->buffer, (size_t)written);
    if (write_buffer_is_pending(&t->buffer)) {
        write_flush(t);
    }
}

/* --- deferred writes */

void
transport_send_deferred(struct transport *t)
{
    if (!t->is_write_deferred) {
        return;
    }
    if (transport_check_owner(t) < 0) {
        PyErr_Clear(); /* another thread only asks; the loop's sends it soon */
        return;
    }
    t->is_write_deferred = false;
    if (t->stream != NULL && write_buffer_is_pending(&t->buffer)) {
        write_pending(t);
    }
}

static int
write_run_deferred(struct loop *Py_UNUSED(loop), PyObject *self)
{
    struct transport *t = transport_of(self);
    t->writes_in_series = t->write_count > 1;
    transport_send_deferred(t);
    return 0;
}

/* One more write() in the callback that runs now; may it wait for that to end? */
static bool
write_may_wait(struct transport *t)
{
    if (t->write_serial != t->loop->callback_serial) {
        t->write_serial = t->loop->callback_serial;
        t->write_count = 0;
    }
    if (++t->write_count > 1) {
        t->writes_in_series = true;
    }
    return t->writes_in_series && t->loop->thread_id != 0;
}

static int
write_refuse(struct transport *t)
{
    return loop_warn_lost_write(t->state, &t->lost_writes, t->kind->lost_write_warning);
}

/* The bytes object that `data` is or is a view of, if it can be kept as it is.  One of a subclass can't: with its last
 * reference code of anybody would run, when the buffer drops it. */
static PyObject *
write_owner(PyObject *data)
{
    if (PyBytes_CheckExact(data)) {
        return data;
    }
    PyObject *exporter = PyMemoryView_Check(data) ? PyMemoryView_GET_BUFFER(data)->obj : NULL;
    return exporter != NULL && PyBytes_CheckExact(exporter) ? exporter : NULL;
}

static int
write_contiguous(struct transport *t, PyObject *data, const char *start, size_t size)
{
    bool may_wait = write_may_wait(t);
    bool was_empty = write_buffer_is_empty(&t->buffer), waits = was_empty && may_wait;
    if (was_empty && !waits) {
        struct iovec piece = {(void *)start, size};
        ssize_t written = write_try(t, &piece, 1);
        if (written < 0 || (size_t)written == size) {
            return 0;
        }
        start += written;
        size -= (size_t)written;
    }
    if (write_buffer_append(&t->buffer, write_owner(data), start, size) < 0) {
        return -1;
    }
    if (waits) {
        t->is_write_deferred = true;
        if (loop_defer_to_end(t->loop, write_run_deferred, Py_NewRef(t->self)) < 0) {
            PyErr_Clear();
            transport_send_deferred(t);
        }
    }
    else if (was_empty) {
        write_flush(t);
    }
    return write_maybe_pause(t);
}

int
transport_write(struct transport *t, PyObject *data)
{
    if (PyBytes_Check(data)) {
        Py_ssize_t size = PyBytes_GET_SIZE(data);
        if (size == 0) {
            return 0;
        }
        return t->is_write_refused ? write_refuse(t) : write_contiguous(t, data, PyBytes_AS_STRING(data), (size_t)size);
    }
    int has_data = PyObject_IsTrue(data);
    if (has_data <= 0) {
        return has_data;
    }
    if (t->is_write_refused) {
        return write_refuse(t);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        write_fail(t); /* not contiguous: for asyncio an error of the sending */
        return 0;
    }
    int result = 0;
    if (t->is_write_refused) {
        result = write_refuse(t); /* the object's own __buffer__() has ended the transport */
    }
    else if (view.len > 0) {
        result = write_contiguous(t, data, view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return result;
}

/* --- many pieces */

/* A list of the pieces as bytes objects, all others copied: an error among them must come before anything is
 * written. */
static PyObject *
write_collect(PyObject *list_of_data)
{
    PyObject *pieces = PySequence_List(list_of_data);
    for (Py_ssize_t i = 0; pieces != NULL && i < PyList_GET_SIZE(pieces); i++) {
        PyObject *data = PyList_GET_ITEM(pieces, i);
        if (PyBytes_CheckExact(data)) {
            continue;
        }
        PyObject *copy = NULL;
        if (PyObject_CheckBuffer(data)) {
            copy = PyBytes_FromObject(data);
        }
        else {
            PyErr_Format(PyExc_TypeError, "memoryview: a bytes-like object is required, not '%.200s'",
                         Py_TYPE(data)->tp_name);
        }
        if (copy == NULL || PyList_SetItem(pieces, i, copy) < 0) {
            Py_CLEAR(pieces);
        }
    }
    return pieces;
}

/* All of them, or none for want of memory. */
static int
write_pieces(struct transport *t, PyObject *pieces)
{
    bool was_empty = write_buffer_is_empty(&t->buffer);
    struct write_mark end = write_buffer_mark(&t->buffer);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pieces); i++) {
        PyObject *data = PyList_GET_ITEM(pieces, i);
        size_t size = (size_t)PyBytes_GET_SIZE(data);
        if (size > 0 && write_buffer_append(&t->buffer, data, PyBytes_AS_STRING(data), size) < 0) {
            write_buffer_rewind(&t->buffer, &end);
            return -1;
        }
    }
    if (was_empty && write_buffer_is_pending(&t->buffer)) {
        write_pending(t);
    }
    return write_maybe_pause(t);
}

/* Since 3.13.10 and 3.14.1 asyncio doesn't look at the pieces any more once the connection is lost (gh-136234). */
static bool
write_looks_at_refused_pieces(void)
{
    return Py_Version < 0x030D0A00 || (Py_Version >= 0x030E0000 && Py_Version < 0x030E0100);
}

int
transport_writelines(struct transport *t, PyObject *list_of_data)
{
    int has_data = PyObject_IsTrue(list_of_data);
    if (has_data <= 0) {
        return has_data;
    }
    if (t->is_write_refused && !write_looks_at_refused_pieces()) {
        return write_refuse(t);
    }
    PyObject *pieces = write_collect(list_of_data);
    if (pieces == NULL) {
        return -1;
    }
    int result = t->is_write_refused ? write_refuse(t) : write_pieces(t, pieces);
    Py_DECREF(pieces);
    return result;
}

/* --- the end of a batch */

/* Nothing is unsent any more. */
static void
write_finish(struct transport *t)
{
    transport_wake_empty_waiter(t, NULL);
    if (t->is_closing) {
        if (t->loop->failure == NULL) {
            transport_lose_now(t);
        }
        else if (transport_schedule_loss(t, NULL) < 0) { /* resume_writing was interrupted: nothing else now */
            PyErr_WriteUnraisable(t->self);
        }
    }
    else if (t->is_eof_written) {
        int result = t->loop->core->stream_shutdown(t->stream);
        if (result < 0) {
            errors_set(result);
            transport_report(t, "Exception in callback StreamTransport._write_ready()");
        }
    }
}

void
transport_on_written(void *owner, int status)
{
    struct transport *t = owner;
    struct loop *loop = t->loop;
    PyObject *self = Py_NewRef(t->self);
    write_buffer_end_flight(&t->buffer);
    if (t->is_loss_scheduled) {
        goto done; /* aborted; this was under way */
    }
    if (status < 0) {
        errors_set(status);
        write_fail(t);
        goto done;
    }
    write_maybe_resume(t); /* may write more, or end the transport */
    if (t->is_loss_scheduled || t->stream == NULL || write_buffer_is_in_flight(&t->buffer)) {
        goto done;
    }
    if (write_buffer_is_pending(&t->buffer)) {
        write_flush(t);
    }
    else {
        write_finish(t);
    }
done:
    Py_DECREF(self);
    loop_end_callback(loop);
}
