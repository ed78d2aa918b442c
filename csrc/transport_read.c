/* SPDX-License-Identifier: MIT
 *
 * The way of bytes from the core to the protocol, for StreamTransport and ReadPipeTransport; see transport.h.
 *
 * A plain protocol's bytes are read into the loop's one buffer, which stays in the cache, and copied into a bytes
 * object of the exact size; a buffered one's are read where it wants them.  The core calls these functions, inside a
 * poll; they hold the transport while user code runs, and look at it again afterwards.
 */
#include "transport.h"

#include "errors.h"

#include <errno.h>

void
transport_read_start(struct transport *t)
{
    if (t->stream == NULL || !transport_is_reading(t)) {
        return;
    }
    int result = t->loop->core->stream_read_start(t->stream);
    t->is_read_started = result == 0;
    if (result < 0) {
        errors_set(result);
        transport_fatal_error(t, t->kind->read_error);
    }
}

void
transport_read_stop(struct transport *t)
{
    if (t->stream != NULL) {
        t->loop->core->stream_read_stop(t->stream);
    }
    t->is_read_started = false;
}

/* --- on_buffer */

/* What asyncio's recv_into() says about an object that it can't write to. */
static void
read_set_buffer_error(PyObject *object)
{
    if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "recv_into() argument 1 must be read-write bytes-like object, not %s",
                     Py_TYPE(object)->tp_name);
    }
}

/* Leave the protocol's buffer in t->view, or nothing: when get_buffer() failed, or stopped the reading. */
static void
read_ask_protocol(struct transport *t)
{
    struct loop *loop = t->loop;
    PyObject *object = protocol_get_buffer(&t->protocol, t->state);
    Py_ssize_t length = object == NULL ? -1 : PyObject_Size(object);
    if (length == 0) {
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    }
    if (length <= 0) {
        if (loop_is_reportable(loop)) {
            transport_fatal_error(t, "Fatal error: protocol.get_buffer() call failed.");
        }
    }
    else if (t->stream != NULL && transport_is_reading(t) && PyObject_GetBuffer(object, &t->view, PyBUF_WRITABLE) < 0) {
        read_set_buffer_error(object);
        transport_fatal_error(t, t->kind->read_error);
    }
    Py_XDECREF(object);
}

static void
transport_on_buffer(void *owner, struct iovec *buffer)
{
    struct transport *t = owner;
    if (!t->protocol.is_buffered) {
        buffer->iov_base = loop_read_buffer(t->loop);
        buffer->iov_len = buffer->iov_base == NULL ? 0 : LOOP_READ_BUFFER_SIZE;
        if (buffer->iov_base == NULL) {
            transport_fatal_error(t, t->kind->read_error);
        }
        return;
    }
    PyObject *self = Py_NewRef(t->self);
    read_ask_protocol(t);
    buffer->iov_base = t->view.buf;
    buffer->iov_len = t->view.obj == NULL ? 0 : (size_t)t->view.len;
    Py_DECREF(self);
}

/* --- on_read */

static void
read_deliver_bytes(struct transport *t, const char *start, Py_ssize_t size)
{
    struct loop *loop = t->loop;
    PyObject *data = PyBytes_FromStringAndSize(start, size);
    if (t->view.obj != NULL) {
        PyBuffer_Release(&t->view);
    }
    if (data == NULL) {
        transport_fatal_error(t, t->kind->read_error);
        return;
    }
    if (protocol_data_received(&t->protocol, t->state, data) < 0 && loop_is_reportable(loop)) {
        t->kind->on_receive_error(t, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(data);
}

static void
read_deliver(struct transport *t, Py_ssize_t size)
{
    struct loop *loop = t->loop;
    if (t->view.obj == NULL) {
        read_deliver_bytes(t, loop->read_buffer, size);
        return;
    }
    if (!t->protocol.is_buffered) { /* get_buffer() has put a plain protocol in its place */
        read_deliver_bytes(t, t->view.buf, size);
        return;
    }
    PyBuffer_Release(&t->view);
    if (protocol_buffer_updated(&t->protocol, t->state, size) < 0 && loop_is_reportable(loop)) {
        t->kind->on_receive_error(t, "Fatal error: protocol.buffer_updated() call failed.");
    }
}

static void
transport_on_read(void *owner, ssize_t result)
{
    struct transport *t = owner;
    struct loop *loop = t->loop;
    PyObject *self = Py_NewRef(t->self);
    int64_t start_ns = loop->is_debug ? loop_now_ns() : 0;
    if (result > 0) {
        read_deliver(t, result);
    }
    else {
        if (t->view.obj != NULL) {
            PyBuffer_Release(&t->view);
        }
        if (result == 0) {
            t->is_read_started = false;
            t->kind->on_end(t);
        }
        else if (result != -EAGAIN) {
            t->is_read_started = false;
            errors_set((int)result);
            transport_fatal_error(t, t->kind->read_error);
        }
    }
    if (start_ns != 0) {
        loop_warn_if_slow(loop, self, start_ns);
    }
    Py_DECREF(self);
}

const struct core_stream_events transport_core_events = {
    .on_buffer = transport_on_buffer,
    .on_read = transport_on_read,
    .on_written = transport_on_written,
};
