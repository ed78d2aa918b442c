/* SPDX-License-Identifier: MIT
 *
 * The calls of the sock_* family that move bytes: what each tries, and what it gives.  sock_ops.c drives them.
 *
 * On a plain socket.socket the system call is made here, with MSG_DONTWAIT: it never blocks the loop and never releases
 * the GIL.  Every other object (a subclass, a wrapper, a mock) has its own method called, and so has a plain socket
 * whose arguments are not the usual ones: whatever Python's socket says about them is right.
 */
#include "sock_calls.h"

#include "errors.h"
#include "loop.h"
#include "socket_info.h"

#include <errno.h>

/* --- outcomes */

enum sock_outcome
sock_errno_outcome(void)
{
    int error = errno;
    if (error == EAGAIN || error == EINTR) {
        return SOCK_AGAIN;
    }
    errors_set(-error);
    return SOCK_FAILED;
}

enum sock_outcome
sock_exception_outcome(void)
{
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError) || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return SOCK_AGAIN;
    }
    return SOCK_FAILED;
}

enum sock_outcome
sock_result_outcome(PyObject *made, PyObject **result)
{
    *result = made;
    return made == NULL ? SOCK_FAILED : SOCK_DONE;
}

enum sock_outcome
sock_method_outcome(struct sock_operation *op, PyObject *name, size_t nargs, PyObject **result)
{
    PyObject *args[SOCK_MAX_PARAMETERS] = {op->sock, op->args[0], op->args[1]};
    *result = PyObject_VectorcallMethod(name, args, 1 + nargs, NULL);
    return *result == NULL ? sock_exception_outcome() : SOCK_DONE;
}

/* --- the socket and its arguments */

bool
sock_get_fd(struct sock_operation *op, int *fd)
{
    PyObject *number = PyObject_CallOneArg(op->loop->state->raw_socket_fileno, op->sock);
    if (number == NULL) {
        return false;
    }
    *fd = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return *fd != -1 || !PyErr_Occurred();
}

int
sock_get_int(struct sock_operation *op, PyObject *name, int *value)
{
    PyTypeObject *raw = (PyTypeObject *)op->loop->state->raw_socket_type;
    PyObject *descriptor = PyObject_GetAttr((PyObject *)raw, name);
    if (descriptor == NULL) {
        return -1;
    }
    PyObject *number = Py_TYPE(descriptor)->tp_descr_get(descriptor, op->sock, (PyObject *)raw);
    Py_DECREF(descriptor);
    if (number == NULL) {
        return -1;
    }
    *value = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

int
sock_has_timeout(struct sock_operation *op)
{
    PyObject *zero = PyLong_FromLong(0);
    PyObject *timeout = PyObject_CallMethodNoArgs(op->sock, op->loop->state->str_gettimeout);
    int has_timeout = zero == NULL || timeout == NULL ? -1 : PyObject_RichCompareBool(timeout, zero, Py_NE);
    Py_XDECREF(timeout);
    Py_XDECREF(zero);
    return has_timeout;
}

int
sock_check_socket(struct sock_operation *op)
{
    module_state *state = op->loop->state;
    if (Py_IS_TYPE(op->sock, (PyTypeObject *)state->socket_type)) {
        op->is_direct = true;
        if (op->call->has_addresses) {
            if (sock_get_int(op, state->str_family, &op->family) < 0) {
                return -1;
            }
            op->is_direct = op->family == AF_INET || op->family == AF_INET6 || op->family == AF_UNIX;
        }
    }
    else {
        PyObject *answer = PyObject_CallOneArg(state->check_ssl_socket, op->sock);
        if (answer == NULL) {
            return -1;
        }
        Py_DECREF(answer);
    }
    if (op->loop->is_debug) {
        int has_timeout = sock_has_timeout(op);
        if (has_timeout > 0) {
            PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
        }
        return has_timeout == 0 ? 0 : -1;
    }
    return 0;
}

/* A size that needs no thought; false, without an exception, for any other argument. */
static bool
plain_size(PyObject *number, Py_ssize_t *size)
{
    if (!PyLong_CheckExact(number)) {
        return false;
    }
    *size = PyLong_AsSsize_t(number);
    if (*size == -1 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return *size >= 0;
}

/* The bytes of an argument; false, without an exception, when it has none of this kind. */
static bool
plain_buffer(PyObject *object, int flags, Py_buffer *view)
{
    if (!PyObject_CheckBuffer(object)) {
        return false;
    }
    if (PyObject_GetBuffer(object, view, flags) < 0) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* --- receiving */

/* At most `size` bytes, and where they come from unless `from` is NULL.  A read that fits goes through the loop's own
 * buffer: the pages of a fresh one would cost more than the copy. */
static enum sock_outcome
receive_bytes(struct sock_operation *op, Py_ssize_t size, struct sockaddr *from, socklen_t *from_len, PyObject **bytes)
{
    PyObject *own = NULL;
    char *room;
    int fd;

    if (!sock_get_fd(op, &fd)) {
        return SOCK_FAILED;
    }
    if (size <= LOOP_READ_BUFFER_SIZE) {
        room = loop_read_buffer(op->loop);
    }
    else {
        own = PyBytes_FromStringAndSize(NULL, size);
        room = own == NULL ? NULL : PyBytes_AS_STRING(own);
    }
    if (room == NULL) {
        return SOCK_FAILED;
    }
    ssize_t count = recvfrom(fd, room, (size_t)size, MSG_DONTWAIT, from, from_len);
    if (count < 0) {
        enum sock_outcome outcome = sock_errno_outcome();
        Py_XDECREF(own);
        return outcome;
    }
    if (own == NULL) {
        return sock_result_outcome(PyBytes_FromStringAndSize(room, count), bytes);
    }
    _PyBytes_Resize(&own, count);
    return sock_result_outcome(own, bytes);
}

enum sock_outcome
sock_recv_attempt(struct sock_operation *op, PyObject **result)
{
    Py_ssize_t size;
    if (!op->is_direct || !plain_size(op->args[0], &size)) {
        return sock_method_outcome(op, op->loop->state->str_recv, 1, result);
    }
    if (size == 0) { /* as Python's recv(), which asks the kernel nothing then */
        return sock_result_outcome(PyBytes_FromStringAndSize(NULL, 0), result);
    }
    return receive_bytes(op, size, NULL, NULL, result);
}

enum sock_outcome
sock_recv_into_attempt(struct sock_operation *op, PyObject **result)
{
    Py_buffer view;
    int fd;

    if (!op->is_direct || !plain_buffer(op->args[0], PyBUF_WRITABLE, &view)) {
        return sock_method_outcome(op, op->loop->state->str_recv_into, 1, result);
    }
    enum sock_outcome outcome = SOCK_FAILED;
    if (sock_get_fd(op, &fd)) {
        ssize_t count = view.len == 0 ? 0 : recv(fd, view.buf, (size_t)view.len, MSG_DONTWAIT);
        outcome = count < 0 ? sock_errno_outcome() : sock_result_outcome(PyLong_FromSsize_t(count), result);
    }
    PyBuffer_Release(&view);
    return outcome;
}

/* (what, address), taking over `what`. */
static enum sock_outcome
from_outcome(struct sock_operation *op, PyObject *what, struct sockaddr_storage *from, socklen_t from_len,
             PyObject **result)
{
    PyObject *address = socket_info_address(op->loop->state, (struct sockaddr *)from, from_len);
    *result = what == NULL || address == NULL ? NULL : PyTuple_Pack(2, what, address);
    Py_XDECREF(what);
    Py_XDECREF(address);
    return *result == NULL ? SOCK_FAILED : SOCK_DONE;
}

enum sock_outcome
sock_recvfrom_attempt(struct sock_operation *op, PyObject **result)
{
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    PyObject *bytes = NULL;
    Py_ssize_t size;

    if (!op->is_direct || !plain_size(op->args[0], &size)) {
        return sock_method_outcome(op, op->loop->state->str_recvfrom, 1, result);
    }
    enum sock_outcome outcome = receive_bytes(op, size, (struct sockaddr *)&from, &from_len, &bytes);
    return outcome == SOCK_DONE ? from_outcome(op, bytes, &from, from_len, result) : outcome;
}

/* As asyncio: no nbytes, or 0, stands for the buffer's length. */
int
sock_recvfrom_into_prepare(struct sock_operation *op, PyObject **awaitable)
{
    *awaitable = NULL;
    int is_given = op->args[1] == NULL ? 0 : PyObject_IsTrue(op->args[1]);
    if (is_given != 0) {
        return is_given < 0 ? -1 : 0;
    }
    Py_ssize_t length = PyObject_Size(op->args[0]);
    PyObject *number = length < 0 ? NULL : PyLong_FromSsize_t(length);
    if (number == NULL) {
        return -1;
    }
    Py_XSETREF(op->args[1], number);
    return 0;
}

enum sock_outcome
sock_recvfrom_into_attempt(struct sock_operation *op, PyObject **result)
{
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    Py_buffer view = {.obj = NULL};
    Py_ssize_t size;
    int fd;

    if (!op->is_direct || !plain_size(op->args[1], &size) || !plain_buffer(op->args[0], PyBUF_WRITABLE, &view) ||
        size > view.len)
    {
        PyBuffer_Release(&view);
        return sock_method_outcome(op, op->loop->state->str_recvfrom_into, 2, result);
    }
    enum sock_outcome outcome = SOCK_FAILED;
    if (sock_get_fd(op, &fd)) {
        /* 0 stands for all of it in Python's recvfrom_into() too. */
        size_t room = (size_t)(size == 0 ? view.len : size);
        ssize_t count = recvfrom(fd, view.buf, room, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
        outcome = count < 0 ? sock_errno_outcome()
                            : from_outcome(op, PyLong_FromSsize_t(count), &from, from_len, result);
    }
    PyBuffer_Release(&view);
    return outcome;
}

/* --- sending */

/* What is left of the data, by the socket's own send(); the first time it gets the object that the user gave. */
static enum sock_outcome
send_by_method(struct sock_operation *op, PyObject **count)
{
    PyObject *send = op->loop->state->str_send;
    if (op->buffer.obj == NULL) {
        return sock_method_outcome(op, send, 1, count);
    }
    PyObject *rest = NULL;
    PyObject *view = PyMemoryView_FromObject(op->args[0]);
    PyObject *bytes = view == NULL ? NULL : PyObject_CallMethod(view, "cast", "s", "B");
    if (bytes != NULL) {
        rest = PySequence_GetSlice(bytes, op->position, op->buffer.len);
    }
    *count = rest == NULL ? NULL : PyObject_CallMethodOneArg(op->sock, send, rest);
    Py_XDECREF(rest);
    Py_XDECREF(bytes);
    Py_XDECREF(view);
    return *count == NULL ? sock_exception_outcome() : SOCK_DONE;
}

static enum sock_outcome
send_directly(struct sock_operation *op, ssize_t *count)
{
    int fd;
    if (!sock_get_fd(op, &fd)) {
        return SOCK_FAILED;
    }
    *count = send(fd, (char *)op->buffer.buf + op->position, (size_t)(op->buffer.len - op->position), MSG_DONTWAIT);
    return *count < 0 ? sock_errno_outcome() : SOCK_DONE;
}

enum sock_outcome
sock_sendall_attempt(struct sock_operation *op, PyObject **result)
{
    enum sock_outcome outcome;
    ssize_t count = 0;

    if (op->is_direct) {
        if (op->buffer.obj == NULL && PyObject_GetBuffer(op->args[0], &op->buffer, PyBUF_SIMPLE) < 0) {
            return SOCK_FAILED;
        }
        outcome = send_directly(op, &count);
    }
    else {
        PyObject *number = NULL;
        outcome = send_by_method(op, &number);
        if (number != NULL) {
            count = PyLong_AsSsize_t(number);
            Py_DECREF(number);
        }
        if (outcome == SOCK_FAILED || (count == -1 && PyErr_Occurred())) {
            return SOCK_FAILED;
        }
        if (op->buffer.obj == NULL && PyObject_GetBuffer(op->args[0], &op->buffer, PyBUF_SIMPLE) < 0) {
            return SOCK_FAILED;
        }
    }
    if (outcome != SOCK_DONE) {
        return outcome;
    }
    op->position += count;
    if (op->position < op->buffer.len) {
        return SOCK_AGAIN;
    }
    *result = Py_NewRef(Py_None);
    return SOCK_DONE;
}

enum sock_outcome
sock_sendto_attempt(struct sock_operation *op, PyObject **result)
{
    struct sockaddr_storage to;
    socklen_t to_len;
    Py_buffer view;
    int fd;

    if (!op->is_direct || !socket_info_parse(op->family, op->args[1], &to, &to_len) ||
        !plain_buffer(op->args[0], PyBUF_SIMPLE, &view))
    {
        return sock_method_outcome(op, op->loop->state->str_sendto, 2, result);
    }
    enum sock_outcome outcome = SOCK_FAILED;
    if (PySys_Audit("socket.sendto", "OO", op->sock, op->args[1]) == 0 && sock_get_fd(op, &fd)) {
        ssize_t count = sendto(fd, view.buf, (size_t)view.len, MSG_DONTWAIT, (struct sockaddr *)&to, to_len);
        outcome = count < 0 ? sock_errno_outcome() : sock_result_outcome(PyLong_FromSsize_t(count), result);
    }
    PyBuffer_Release(&view);
    return outcome;
}
