/* SPDX-License-Identifier: MIT
 *
 * The calls of the sock_* family that make connections: sock_connect and sock_accept.  sock_ops.c drives them.
 *
 * Connecting uses the socket's own connect(), which knows every family; a name is looked up before, by the loop, unless
 * it is numeric.  Accepting is accept4 on a plain socket, and the object's own accept() otherwise.
 */
#include "sock_calls.h"

#include "errors.h"
#include "loop.h"
#include "socket_info.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

/* --- connecting */

/* The `count` parts of what a program's own method has given, as a tuple; an assignment's errors if there are more or less. */
static PyObject *
unpack_parts(PyObject *whole, Py_ssize_t count)
{
    if (Py_TYPE(whole)->tp_iter == NULL && !PySequence_Check(whole)) {
        return PyErr_Format(PyExc_TypeError, "cannot unpack non-iterable %.200s object", Py_TYPE(whole)->tp_name);
    }
    PyObject *parts = PySequence_Tuple(whole);
    Py_ssize_t given = parts == NULL ? count : PyTuple_GET_SIZE(parts);
    if (given < count) {
        PyErr_Format(PyExc_ValueError, "not enough values to unpack (expected %zd, got %zd)", count, given);
        Py_CLEAR(parts);
    }
    else if (given > count) {
        PyErr_Format(PyExc_ValueError, "too many values to unpack (expected %zd)", count);
        Py_CLEAR(parts);
    }
    return parts;
}

static int
connect_is_inet(struct sock_operation *op)
{
    if (op->is_direct) {
        return op->family == AF_INET || op->family == AF_INET6;
    }
    PyObject *family = PyObject_GetAttr(op->sock, op->loop->state->str_family);
    if (family == NULL) {
        return -1;
    }
    int is_inet = 0;
    const int inets[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2 && is_inet == 0; i++) {
        PyObject *number = PyLong_FromLong(inets[i]);
        is_inet = number == NULL ? -1 : PyObject_RichCompareBool(family, number, Py_EQ);
        Py_XDECREF(number);
    }
    Py_DECREF(family);
    return is_inet;
}

/* 1 when the address is numeric and needs no look-up: it is then in the form that a look-up gives.  0, or -1. */
static int
connect_take_numeric(struct sock_operation *op)
{
    module_state *state = op->loop->state;
    struct sockaddr_storage parsed;
    socklen_t len;
    int type, proto;

    if (!op->is_direct || !PyTuple_CheckExact(op->args[0]) ||
        !socket_info_parse(op->family, op->args[0], &parsed, &len))
    {
        return 0;
    }
    if (sock_get_int(op, state->str_type, &type) < 0 || sock_get_int(op, state->str_proto, &proto) < 0) {
        return -1;
    }
    if ((type != SOCK_STREAM && type != SOCK_DGRAM) || (proto != 0 && proto != IPPROTO_TCP && proto != IPPROTO_UDP)) {
        return 0;
    }
    Py_ssize_t given = PyTuple_GET_SIZE(op->args[0]);
    if (op->family == AF_INET6 && given < 4) {
        PyObject *const *parts = &PyTuple_GET_ITEM(op->args[0], 0);
        PyObject *full = given > 2 ? Py_BuildValue("(OOOi)", parts[0], parts[1], parts[2], 0)
                                   : Py_BuildValue("(OOii)", parts[0], parts[1], 0, 0);
        if (full == NULL) {
            return -1;
        }
        Py_SETREF(op->args[0], full);
    }
    return 1;
}

int
sock_connect_prepare(struct sock_operation *op, PyObject **awaitable)
{
    module_state *state = op->loop->state;
    PyObject *const names[] = {state->str_family, state->str_type, state->str_proto};

    *awaitable = NULL;
    int is_inet = connect_is_inet(op);
    if (is_inet <= 0) {
        return is_inet;
    }
    int is_numeric = connect_take_numeric(op);
    if (is_numeric != 0) {
        return is_numeric < 0 ? -1 : 0;
    }
    PyObject *args[6] = {(PyObject *)op->loop, op->args[0], NULL, NULL, NULL, (PyObject *)op->loop};
    PyObject *kwnames = PyTuple_Pack(4, names[0], names[1], names[2], state->str_loop);
    int i = 0;
    while (kwnames != NULL && i < 3 && (args[2 + i] = PyObject_GetAttr(op->sock, names[i])) != NULL) {
        i++;
    }
    if (i == 3) {
        *awaitable = PyObject_VectorcallMethod(state->str__ensure_resolved, args, 2, kwnames);
    }
    while (i > 0) {
        i--;
        Py_DECREF(args[2 + i]);
    }
    Py_XDECREF(kwnames);
    return *awaitable == NULL ? -1 : 0;
}

/* `infos` is what getaddrinfo gives: the address is the fifth part of the first. */
int
sock_connect_prepared(struct sock_operation *op, PyObject *infos)
{
    PyObject *zero = PyLong_FromLong(0);
    PyObject *first = zero == NULL ? NULL : PyObject_GetItem(infos, zero);
    PyObject *parts = first == NULL ? NULL : unpack_parts(first, 5);
    Py_XDECREF(zero);
    Py_XDECREF(first);
    if (parts == NULL) {
        return -1;
    }
    Py_XSETREF(op->args[0], Py_NewRef(PyTuple_GET_ITEM(parts, 4)));
    Py_DECREF(parts);
    return 0;
}

/* The socket is writable: connected, or not. */
static enum sock_outcome
connect_conclude(struct sock_operation *op, PyObject **result)
{
    PyObject *answer = PyObject_CallMethod(op->sock, "getsockopt", "ii", SOL_SOCKET, SO_ERROR);
    if (answer == NULL) {
        return sock_exception_outcome();
    }
    int is_error = PyObject_IsTrue(answer);
    if (is_error == 0) {
        Py_DECREF(answer);
        *result = Py_NewRef(Py_None);
        return SOCK_DONE;
    }
    PyObject *message = is_error < 0 ? NULL : PyUnicode_FromFormat("Connect call failed %S", op->args[0]);
    PyObject *error = message == NULL ? NULL : PyObject_CallFunctionObjArgs(PyExc_OSError, answer, message, NULL);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error); /* OSError() picks the subclass */
    }
    Py_XDECREF(error);
    Py_XDECREF(message);
    Py_DECREF(answer);
    return sock_exception_outcome();
}

enum sock_outcome
sock_connect_attempt(struct sock_operation *op, PyObject **result)
{
    PyObject *answer;
    if (op->future != NULL) {
        return connect_conclude(op, result);
    }
    enum sock_outcome outcome = sock_method_outcome(op, op->loop->state->str_connect, 1, &answer);
    if (outcome == SOCK_DONE) {
        Py_DECREF(answer);
        *result = Py_NewRef(Py_None);
    }
    return outcome;
}

/* --- accepting */

/* accept(2), with the new fd closed on exec and non-blocking. */
static int
accept_nonblocking(int listener, struct sockaddr *peer, socklen_t *peer_len)
{
#ifdef SOCK_NONBLOCK
    return accept4(listener, peer, peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int fd = accept(listener, peer, peer_len);
    if (fd >= 0 && (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
#endif
}

static enum sock_outcome
accept_by_method(struct sock_operation *op, PyObject **result)
{
    module_state *state = op->loop->state;
    PyObject *accepted;
    enum sock_outcome outcome = sock_method_outcome(op, state->str_accept, 0, &accepted);
    if (outcome != SOCK_DONE) {
        return outcome;
    }
    PyObject *pair = unpack_parts(accepted, 2);
    Py_DECREF(accepted);
    PyObject *conn = pair == NULL ? NULL : PyTuple_GET_ITEM(pair, 0);
    PyObject *answer = conn == NULL ? NULL : PyObject_CallMethodOneArg(conn, state->str_setblocking, Py_False);
    if (answer == NULL) {
        Py_XDECREF(pair);
        return sock_exception_outcome();
    }
    Py_DECREF(answer);
    *result = pair;
    return SOCK_DONE;
}

enum sock_outcome
sock_accept_attempt(struct sock_operation *op, PyObject **result)
{
    module_state *state = op->loop->state;
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof peer;
    int listener, type, proto;

    int has_timeout = op->is_direct ? sock_has_timeout(op) : 0;
    if (has_timeout < 0) {
        return SOCK_FAILED;
    }
    if (!op->is_direct || has_timeout) { /* accept has no MSG_DONTWAIT: only a non-blocking fd is safe to try */
        return accept_by_method(op, result);
    }
    if (!sock_get_fd(op, &listener) || sock_get_int(op, state->str_type, &type) < 0 ||
        sock_get_int(op, state->str_proto, &proto) < 0)
    {
        return SOCK_FAILED;
    }
    int fd = accept_nonblocking(listener, (struct sockaddr *)&peer, &peer_len);
    if (fd < 0) {
        return sock_errno_outcome();
    }
    PyObject *conn = socket_info_socket(state, fd, op->family, type, proto);
    if (conn == NULL) {
        close(fd);
        return SOCK_FAILED;
    }
    PyObject *address = socket_info_address(state, (struct sockaddr *)&peer, peer_len);
    *result = address == NULL ? NULL : PyTuple_Pack(2, conn, address);
    Py_XDECREF(address);
    Py_DECREF(conn);
    return *result == NULL ? SOCK_FAILED : SOCK_DONE;
}
