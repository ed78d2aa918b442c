/* SPDX-License-Identifier: MIT
 *
 * The way of datagrams in and out; see datagram_transport.h.
 *
 * With nothing buffered the kernel gets a datagram at once.  One that it does not take is copied and waits; the core
 * sends the oldest, and when that has gone the others follow until one is refused again.
 *
 * Addresses that socket_info.c can't make sense of (a host's name, an unusual family, a wrong type) go to the Python
 * socket's own sendto(), whose lookup or error is the right one; and where they are of an unusual family, it is its
 * recvfrom() that receives.  It can't wait, which is done by a watch over a copy of the fd: the fd itself is the core's.
 */
#include "datagram_transport.h"

#include "errors.h"
#include "socket_info.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Python 3.13 and newer count a header for each buffered datagram, so that empty ones fill the buffer too. */
enum { DATAGRAM_HEADER_BYTES = 8 };

enum send_outcome { SEND_DONE, SEND_BLOCKED, SEND_FAILED /* with the exception set */ };

/* --- in */

static void
datagram_on_buffer(void *owner, struct iovec *buffer)
{
    struct datagram_transport *t = owner;
    buffer->iov_base = loop_read_buffer(t->loop);
    buffer->iov_len = buffer->iov_base == NULL ? 0 : LOOP_READ_BUFFER_SIZE;
    if (buffer->iov_base == NULL) {
        datagram_fatal_error(t, "Fatal read error on datagram transport");
    }
}

static void
receive_datagram(struct loop *loop, struct datagram_transport *t, Py_ssize_t size, const struct sockaddr *from,
                 socklen_t from_len)
{
    PyObject *data = PyBytes_FromStringAndSize(loop->read_buffer, size);
    PyObject *address = data == NULL ? NULL : address_cache_object(&loop->addresses, t->state, from, from_len);
    if (address == NULL) {
        datagram_fatal_error(t, "Fatal read error on datagram transport");
    }
    else if (protocol_datagram_received(&t->protocol, t->state, data, address) < 0) {
        datagram_report(loop, t, "Exception in callback DatagramTransport._read_ready()");
    }
    Py_XDECREF(data);
    Py_XDECREF(address);
}

/* error_received() with the OSError that is set, from a callback of the core. */
static void
receive_error(struct loop *loop, struct datagram_transport *t, const char *message)
{
    PyObject *exception = PyErr_GetRaisedException();
    if (protocol_error_received(&t->protocol, t->state, exception) < 0) {
        datagram_report(loop, t, message);
    }
    Py_DECREF(exception);
}

static void
datagram_on_datagram(void *owner, ssize_t result, const struct sockaddr *from, socklen_t from_len)
{
    struct datagram_transport *t = owner;
    if (result == -EAGAIN) {
        return;
    }
    struct loop *loop = t->loop;
    PyObject *self = Py_NewRef(t->self);
    int64_t start_ns = loop->is_debug ? loop_now_ns() : 0;
    if (result >= 0) {
        receive_datagram(loop, t, result, from, from_len);
    }
    else {
        errors_set((int)result);
        receive_error(loop, t, "Exception in callback DatagramTransport._read_ready()");
    }
    if (start_ns != 0) {
        loop_warn_if_slow(loop, self, start_ns);
    }
    Py_DECREF(self);
    loop_end_callback(loop);
}

static void
watch_end(struct datagram_transport *t, int *fd)
{
    if (*fd < 0) {
        return;
    }
    /* At once, not lazily: the kernel would go on to report a closed number while another one of the same socket is
     * open. */
    fd_registry_forget(t->loop, *fd);
    close(*fd);
    *fd = -1;
}

/* Watch a new copy of the transport's fd, *fd: 0, or -1 with an exception. */
static int
watch_begin(struct datagram_transport *t, int *fd, unsigned direction, fd_ready run)
{
    *fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
    if (*fd < 0) {
        errors_set(-errno);
        return -1;
    }
    if (fd_registry_watch(t->loop, *fd, direction, run, t->self) < 0) {
        close(*fd);
        *fd = -1;
        return -1;
    }
    return 0;
}

static int
receive_by_python(struct loop *loop, PyObject *self)
{
    struct datagram_transport *t = datagram_transport_of(self);
    PyObject *pair = PyObject_CallMethod(t->sock, "recvfrom", "i", LOOP_READ_BUFFER_SIZE);
    PyObject *data, *address;
    if (pair == NULL) {
        if (PyErr_ExceptionMatches(PyExc_BlockingIOError) || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
            PyErr_Clear();
        }
        else if (PyErr_ExceptionMatches(PyExc_OSError)) {
            receive_error(loop, t, "Exception in callback DatagramTransport._read_ready()");
        }
        else if (loop_is_reportable(loop)) {
            datagram_fatal_error(t, "Fatal read error on datagram transport");
        }
    }
    else if (!PyArg_ParseTuple(pair, "OO", &data, &address)) {
        datagram_fatal_error(t, "Fatal read error on datagram transport");
    }
    else if (protocol_datagram_received(&t->protocol, t->state, data, address) < 0) {
        datagram_report(loop, t, "Exception in callback DatagramTransport._read_ready()");
    }
    Py_XDECREF(pair);
    return 0;
}

int
datagram_watch_python(struct datagram_transport *t)
{
    return t->read_fd >= 0 ? 0 : watch_begin(t, &t->read_fd, CORE_READABLE, receive_by_python);
}

void
datagram_unwatch_python(struct datagram_transport *t)
{
    watch_end(t, &t->read_fd);
}

/* --- flow control */

int
datagram_maybe_pause(struct datagram_transport *t)
{
    if (!flow_control_must_pause(&t->flow, t->buffer_size)) {
        return 0;
    }
    t->flow.is_paused = true;
    if (protocol_pause_writing(&t->protocol, t->state) < 0) {
        if (loop_must_leave()) {
            return -1;
        }
        datagram_report(t->loop, t, "protocol.pause_writing() failed");
    }
    return 0;
}

static void
send_maybe_resume(struct loop *loop, struct datagram_transport *t)
{
    if (flow_control_may_resume(&t->flow, t->buffer_size)) {
        t->flow.is_paused = false;
        if (protocol_resume_writing(&t->protocol, t->state) < 0) {
            datagram_report(loop, t, "protocol.resume_writing() failed");
        }
    }
}

/* --- the queue */

static size_t
item_size(const struct datagram_transport *t, const struct datagram_item *item)
{
    return item->iov.iov_len + (t->state->sends_empty_datagrams ? DATAGRAM_HEADER_BYTES : 0);
}

static void
item_free(struct datagram_item *item)
{
    Py_DECREF(item->data);
    Py_XDECREF(item->address);
    PyMem_Free(item);
}

/* A copy that lives on, with a copy of the data if that is mutable. */
static struct datagram_item *
item_copy(const struct datagram_item *item, PyObject *data)
{
    struct datagram_item *copy = PyMem_Malloc(sizeof *copy);
    if (copy == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *copy = *item;
    copy->data = PyBytes_CheckExact(data)
                     ? Py_NewRef(data)
                     : PyBytes_FromStringAndSize(item->iov.iov_base, (Py_ssize_t)item->iov.iov_len);
    if (copy->data == NULL) {
        PyMem_Free(copy);
        return NULL;
    }
    copy->iov.iov_base = PyBytes_AS_STRING(copy->data);
    Py_XINCREF(copy->address);
    return copy;
}

static void
queue_append(struct datagram_transport *t, struct datagram_item *item)
{
    item->next = NULL;
    if (t->head == NULL) {
        t->head = item;
    }
    else {
        t->tail->next = item;
    }
    t->tail = item;
    t->buffer_size += item_size(t, item);
}

static struct datagram_item *
queue_take(struct datagram_transport *t)
{
    struct datagram_item *item = t->head;
    t->head = item->next;
    t->buffer_size -= item_size(t, item);
    return item;
}

static void
queue_put_back(struct datagram_transport *t, struct datagram_item *item)
{
    if (t->head == NULL) {
        t->tail = item;
    }
    item->next = t->head;
    t->head = item;
    t->buffer_size += item_size(t, item);
}

void
datagram_drop_pending(struct datagram_transport *t)
{
    struct datagram_item *in_flight = t->is_in_flight ? queue_take(t) : NULL;
    while (t->head != NULL) {
        item_free(queue_take(t));
    }
    if (in_flight != NULL) {
        queue_put_back(t, in_flight);
    }
    watch_end(t, &t->wait_fd);
}

void
datagram_clear_queue(struct datagram_transport *t)
{
    watch_end(t, &t->wait_fd);
    t->is_in_flight = false;
    while (t->head != NULL) {
        item_free(queue_take(t));
    }
}

/* --- out */

static enum send_outcome
send_by_core(struct datagram_transport *t, const struct datagram_item *item)
{
    const struct sockaddr *to = item->to_len == 0 ? NULL : (const struct sockaddr *)&item->to;
    int result = t->loop->core->datagram_try_send(t->datagram, &item->iov, to, item->to_len);
    if (result == 0) {
        return SEND_DONE;
    }
    if (result == -EAGAIN) {
        return SEND_BLOCKED;
    }
    errors_set(result);
    return SEND_FAILED;
}

static enum send_outcome
send_by_python(struct datagram_transport *t, const struct datagram_item *item, PyObject *data)
{
    PyObject *sock = Py_NewRef(t->sock);
    PyObject *result = PyObject_CallMethodObjArgs(sock, t->state->str_sendto, data, item->address, NULL);
    Py_DECREF(sock);
    if (result != NULL) {
        Py_DECREF(result);
        return SEND_DONE;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError) || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return SEND_BLOCKED;
    }
    return SEND_FAILED;
}

static enum send_outcome
send_try(struct datagram_transport *t, const struct datagram_item *item, PyObject *data)
{
    return item->address == NULL ? send_by_core(t, item) : send_by_python(t, item, data);
}

static int send_on_writable(struct loop *loop, PyObject *self);

/* The oldest datagram was refused: send it, and go on with the others, as soon as the kernel takes it. */
static int
send_arm(struct datagram_transport *t)
{
    struct datagram_item *item = t->head;
    if (item->address == NULL) {
        const struct sockaddr *to = item->to_len == 0 ? NULL : (const struct sockaddr *)&item->to;
        int result = t->loop->core->datagram_send(t->datagram, &item->iov, to, item->to_len);
        if (result < 0) {
            errors_set(result);
            return -1;
        }
        t->is_in_flight = true;
        return 0;
    }
    return watch_begin(t, &t->wait_fd, CORE_WRITABLE, send_on_writable);
}

/* No loss is scheduled, and the loop is open. */
static bool
send_is_allowed(const struct datagram_transport *t)
{
    return t->conn_lost == 0 && t->datagram != NULL;
}

static bool
send_is_armed(const struct datagram_transport *t)
{
    return t->is_in_flight || t->wait_fd >= 0;
}

/* The exception that is set ended the sending of one datagram, in a callback of the core. */
static void
send_fail(struct loop *loop, struct datagram_transport *t)
{
    if (PyErr_ExceptionMatches(PyExc_OSError)) {
        receive_error(loop, t, "Exception in callback DatagramTransport._sendto_ready()");
    }
    else if (loop_is_reportable(loop)) {
        datagram_fatal_error(t, "Fatal write error on datagram transport");
    }
}

/* Send what is buffered until the kernel refuses one.  After a failure that must leave run_forever (loop->failure)
 * nobody is called any more in this poll. */
static void
send_flush(struct loop *loop, struct datagram_transport *t)
{
    t->is_flushing = true;
    while (t->head != NULL && send_is_allowed(t)) {
        struct datagram_item *item = queue_take(t); /* a Python sendto() may come back to us */
        enum send_outcome outcome = loop->failure != NULL ? SEND_BLOCKED : send_try(t, item, item->data);
        if (outcome == SEND_BLOCKED && send_is_allowed(t)) {
            queue_put_back(t, item);
            if (send_arm(t) == 0) {
                break;
            }
            outcome = SEND_FAILED;
            item = queue_take(t);
        }
        item_free(item);
        if (outcome == SEND_FAILED) {
            send_fail(loop, t);
        }
    }
    t->is_flushing = false;
    if (loop->failure == NULL) {
        send_maybe_resume(loop, t); /* may send more, or end the transport */
    }
    if (t->head == NULL && t->is_closing && send_is_allowed(t)) {
        datagram_finish(t);
    }
}

static int
send_on_writable(struct loop *loop, PyObject *self)
{
    struct datagram_transport *t = datagram_transport_of(self);
    watch_end(t, &t->wait_fd);
    send_flush(loop, t);
    return 0;
}

static void
datagram_on_sent(void *owner, int status)
{
    struct datagram_transport *t = owner;
    struct loop *loop = t->loop;
    PyObject *self = Py_NewRef(t->self);
    t->is_in_flight = false;
    item_free(queue_take(t));
    if (t->conn_lost == 0) {
        if (status < 0) {
            errors_set(status);
            send_fail(loop, t);
        }
        send_flush(loop, t);
    }
    Py_DECREF(self);
    loop_end_callback(loop);
}

const struct core_datagram_events datagram_core_events = {
    .on_buffer = datagram_on_buffer,
    .on_datagram = datagram_on_datagram,
    .on_sent = datagram_on_sent,
};

/* --- sendto() */

/* The exception that is set ended the sending: 0 when it was dealt with, or -1 with what the caller gets to see. */
static int
send_fail_in_call(struct datagram_transport *t)
{
    if (loop_must_leave()) {
        return -1;
    }
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        datagram_fatal_error(t, "Fatal write error on datagram transport");
        return 0;
    }
    PyObject *exception = PyErr_GetRaisedException();
    int result = protocol_send_failed(&t->protocol, t->state, exception);
    Py_DECREF(exception);
    return result;
}

static int
send_later(struct datagram_transport *t, const struct datagram_item *item, PyObject *data)
{
    if (!send_is_allowed(t)) {
        return 0; /* nothing waits for it any more */
    }
    struct datagram_item *copy = item_copy(item, data);
    if (copy == NULL) {
        return -1;
    }
    queue_append(t, copy);
    if (!t->is_flushing && !send_is_armed(t) && send_arm(t) < 0) {
        item_free(queue_take(t));
        return send_fail_in_call(t);
    }
    return datagram_maybe_pause(t);
}

int
datagram_send(struct datagram_transport *t, PyObject *data, PyObject *address)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return send_fail_in_call(t);
    }
    if (t->datagram == NULL) { /* the object's own __buffer__() has ended the transport */
        PyBuffer_Release(&view);
        return 0;
    }
    struct datagram_item item;
    item.address = NULL;
    item.iov = (struct iovec){view.buf, (size_t)view.len};
    item.to_len = 0;
    if (!t->is_connected && address_cache_parse(&t->loop->addresses, t->family, address, &item.to, &item.to_len) == 0) {
        item.address = address;
    }
    enum send_outcome outcome = t->head == NULL ? send_try(t, &item, data) : SEND_BLOCKED;
    int result = 0;
    if (outcome == SEND_BLOCKED) {
        result = send_later(t, &item, data);
    }
    else if (outcome == SEND_FAILED) {
        result = send_fail_in_call(t);
    }
    PyBuffer_Release(&view);
    return result;
}
