/* SPDX-License-Identifier: MIT
 *
 * The way of bytes from the core to the protocol, for StreamTransport and ReadPipeTransport; see transport.h.
 *
 * A plain protocol's bytes are read into the loop's one buffer, which stays in the cache, and copied into a bytes
 * object of the exact size, or into the buffer of asyncio's StreamReader; a buffered one's are read where it wants them.
 * The core calls these functions, inside a poll; they hold the transport while user code runs, and look at it again
 * afterwards.
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

/* When the last read brought this many bytes, the next one goes where its bytes stay. */
enum { READ_DIRECTLY_FROM = 16 * 1024 };

/* What asyncio's recv_into() says about an object that it can't write to. */
static void
read_set_buffer_error(PyObject *object)
{
    if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "recv_into() argument 1 must be read-write bytes-like object, not %s",
                     Py_TYPE(object)->tp_name);
    }
}

/* Leave the protocol's buffer in the target, or nothing: when get_buffer() failed, or stopped the reading. */
static void
read_ask_protocol(struct transport *t, Py_buffer *view)
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
    else if (t->stream != NULL && transport_is_reading(t) && PyObject_GetBuffer(object, view, PyBUF_WRITABLE) < 0) {
        read_set_buffer_error(object);
        transport_fatal_error(t, t->kind->read_error);
    }
    Py_XDECREF(object);
}

/* Room for a large read where its bytes will stay, which saves a copy: in the reader's own buffer, or in a new bytes object. */
static char *
read_reserve(struct transport *t, size_t size)
{
    struct read_target *target = &t->loop->target;
    if (t->protocol.feeds_reader) {
        if (!stream_reader_hold(&target->reader, t->protocol.object, t->state)) {
            return NULL;
        }
        char *room = stream_reader_reserve(&target->reader, (Py_ssize_t)size);
        if (room == NULL) {
            stream_reader_release(&target->reader);
        }
        return room;
    }
    target->bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (target->bytes == NULL) {
        PyErr_Clear();
        return NULL;
    }
    return PyBytes_AS_STRING(target->bytes);
}

static void
transport_on_buffer(void *owner, struct iovec *buffer)
{
    struct transport *t = owner;
    struct read_target *target = &t->loop->target;
    if (t->protocol.is_buffered) {
        PyObject *self = Py_NewRef(t->self), *loop = Py_NewRef(t->loop);
        read_ask_protocol(t, &target->view);
        *buffer = (struct iovec){target->view.buf, target->view.obj == NULL ? 0 : (size_t)target->view.len};
        Py_DECREF(self);
        Py_DECREF(loop);
        return;
    }
    if (t->last_read_size >= READ_DIRECTLY_FROM && !t->protocol.is_filter) {
        size_t size = t->last_read_size * 2 < LOOP_READ_BUFFER_SIZE ? t->last_read_size * 2 : LOOP_READ_BUFFER_SIZE;
        buffer->iov_base = read_reserve(t, size);
        buffer->iov_len = size;
        if (buffer->iov_base != NULL) {
            return;
        }
    }
    buffer->iov_base = loop_read_buffer(t->loop);
    buffer->iov_len = buffer->iov_base == NULL ? 0 : LOOP_READ_BUFFER_SIZE;
    if (buffer->iov_base == NULL) {
        transport_fatal_error(t, t->kind->read_error);
    }
}

/* --- on_read */

/* For TLS, which takes memory as it is. */
static void
read_deliver_to_filter(struct transport *t, const char *start, Py_ssize_t size)
{
    struct loop *loop = t->loop;
    if (protocol_filter_received(&t->protocol, start, size) < 0 && loop_is_reportable(loop)) {
        t->kind->on_receive_error(t, "Fatal error: protocol.buffer_updated() call failed.");
    }
}

/* A call of data_received(), or what stands for it, is over. */
static void
read_end_receive(struct transport *t, struct loop *loop, int result)
{
    if (result < 0 && loop_is_reportable(loop)) {
        t->kind->on_receive_error(t, "Fatal error: protocol.data_received() call failed.");
    }
}

/* Takes over the reference; NULL is a bytes object that could not be made. */
static void
read_deliver_object(struct transport *t, PyObject *data)
{
    struct loop *loop = t->loop;
    int result = data == NULL ? -1 : protocol_data_received(&t->protocol, t->state, data);
    read_end_receive(t, loop, result);
    Py_XDECREF(data);
}

static void
read_deliver_shared(struct transport *t, Py_ssize_t size)
{
    struct loop *loop = t->loop;
    struct stream_reader reader;
    if (t->protocol.is_filter) {
        read_deliver_to_filter(t, loop->read_buffer, size);
    }
    else if (t->protocol.feeds_reader && stream_reader_hold(&reader, t->protocol.object, t->state)) {
        read_end_receive(t, loop, stream_reader_feed(&reader, t->state, loop->read_buffer, size));
        stream_reader_release(&reader);
    }
    else {
        read_deliver_object(t, PyBytes_FromStringAndSize(loop->read_buffer, size));
    }
}

static void
read_deliver_buffered(struct transport *t, Py_buffer *view, Py_ssize_t size)
{
    struct loop *loop = t->loop;
    if (t->protocol.is_filter) {
        read_deliver_to_filter(t, view->buf, size);
        PyBuffer_Release(view);
        return;
    }
    if (!t->protocol.is_buffered) { /* get_buffer() has put a plain protocol in its place */
        PyObject *data = PyBytes_FromStringAndSize(view->buf, size);
        PyBuffer_Release(view);
        read_deliver_object(t, data);
        return;
    }
    PyBuffer_Release(view);
    if (protocol_buffer_updated(&t->protocol, t->state, size) < 0 && loop_is_reportable(loop)) {
        t->kind->on_receive_error(t, "Fatal error: protocol.buffer_updated() call failed.");
    }
}

/* `size` bytes, 0 if nothing came, are where `target` says. */
static void
read_deliver(struct transport *t, struct read_target *target, Py_ssize_t size)
{
    struct loop *loop = t->loop;
    if (target->reader.reader != NULL) {
        read_end_receive(t, loop, stream_reader_commit(&target->reader, t->state, size));
        stream_reader_release(&target->reader);
    }
    else if (target->bytes != NULL) {
        if (size == 0) {
            Py_CLEAR(target->bytes);
            return;
        }
        _PyBytes_Resize(&target->bytes, size);
        read_deliver_object(t, target->bytes);
    }
    else if (target->view.obj != NULL) {
        if (size == 0) {
            PyBuffer_Release(&target->view);
            return;
        }
        read_deliver_buffered(t, &target->view, size);
    }
    else if (size > 0) {
        read_deliver_shared(t, size);
    }
}

static void
transport_on_read(void *owner, ssize_t result)
{
    struct transport *t = owner;
    struct loop *loop = t->loop;
    PyObject *self = Py_NewRef(t->self);
    int64_t start_ns = loop->is_debug ? loop_now_ns() : 0;
    struct read_target target = loop->target;
    loop->target = (struct read_target){0};
    t->last_read_size = result > 0 ? (unsigned)result : 0;
    read_deliver(t, &target, result > 0 ? result : 0);
    if (result == 0) {
        t->is_read_started = false;
        t->kind->on_end(t);
    }
    else if (result < 0 && result != -EAGAIN) {
        t->is_read_started = false;
        errors_set((int)result);
        transport_fatal_error(t, t->kind->read_error);
    }
    if (start_ns != 0) {
        loop_warn_if_slow(loop, self, start_ns);
    }
    Py_DECREF(self);
    loop_end_callback(loop);
}

const struct core_stream_events transport_core_events = {
    .on_buffer = transport_on_buffer,
    .on_read = transport_on_read,
    .on_written = transport_on_written,
};
