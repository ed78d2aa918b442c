/* SPDX-License-Identifier: MIT
 *
 * The sock_* methods of the loop: the table of calls, and their arguments.
 *
 * As with an `async def`, a method only binds its arguments to their names; everything else happens when it is awaited.
 */
#include "sock_calls.h"

#include "core.h"
#include "loop.h"

/* The place of a keyword among the parameters, or -1. */
static int
parameter_index(const struct sock_call *call, PyObject *keyword)
{
    for (int i = 0; i < call->parameter_count; i++) {
        if (PyUnicode_CompareWithASCIIString(keyword, call->parameters[i]) == 0) {
            return i;
        }
    }
    return -1;
}

/* Borrowed arguments by the order of their parameters; 0, or -1 with TypeError. */
static int
bind_arguments(const struct sock_call *call, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
               PyObject **bound)
{
    if (nargs > call->parameter_count) {
        PyErr_Format(PyExc_TypeError, "%s() takes %d positional arguments but %zd were given", call->name,
                     call->parameter_count, nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        bound[i] = args[i];
    }
    if (kwnames == NULL && nargs >= call->required_count) {
        return 0;
    }
    Py_ssize_t keyword_count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < keyword_count; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        int index = parameter_index(call, keyword);
        if (index < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", call->name, keyword);
            return -1;
        }
        if (bound[index] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", call->name, keyword);
            return -1;
        }
        bound[index] = args[nargs + i];
    }
    for (int i = 0; i < call->required_count; i++) {
        if (bound[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", call->name, call->parameters[i]);
            return -1;
        }
    }
    return 0;
}

static PyObject *
operation_for_call(PyObject *self, const struct sock_call *call, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *bound[SOCK_MAX_PARAMETERS] = {NULL};
    if (bind_arguments(call, args, nargs, kwnames, bound) < 0) {
        return NULL;
    }
    struct sock_operation *op = sock_operation_new((struct loop *)self, call);
    if (op == NULL) {
        return NULL;
    }
    op->sock = Py_NewRef(bound[0]);
    for (int i = 1; i < SOCK_MAX_PARAMETERS; i++) {
        op->args[i - 1] = Py_XNewRef(bound[i]);
    }
    return (PyObject *)op;
}

static const struct sock_call recv_call = {
    .name = "sock_recv",
    .parameters = {"sock", "n"},
    .parameter_count = 2,
    .required_count = 2,
    .direction = CORE_READABLE,
    .attempt = sock_recv_attempt,
};

static const struct sock_call recv_into_call = {
    .name = "sock_recv_into",
    .parameters = {"sock", "buf"},
    .parameter_count = 2,
    .required_count = 2,
    .direction = CORE_READABLE,
    .attempt = sock_recv_into_attempt,
};

static const struct sock_call recvfrom_call = {
    .name = "sock_recvfrom",
    .parameters = {"sock", "bufsize"},
    .parameter_count = 2,
    .required_count = 2,
    .direction = CORE_READABLE,
    .has_addresses = true,
    .attempt = sock_recvfrom_attempt,
};

static const struct sock_call recvfrom_into_call = {
    .name = "sock_recvfrom_into",
    .parameters = {"sock", "buf", "nbytes"},
    .parameter_count = 3,
    .required_count = 2,
    .direction = CORE_READABLE,
    .has_addresses = true,
    .prepare = sock_recvfrom_into_prepare,
    .attempt = sock_recvfrom_into_attempt,
};

static const struct sock_call sendall_call = {
    .name = "sock_sendall",
    .parameters = {"sock", "data"},
    .parameter_count = 2,
    .required_count = 2,
    .direction = CORE_WRITABLE,
    .attempt = sock_sendall_attempt,
};

static const struct sock_call sendto_call = {
    .name = "sock_sendto",
    .parameters = {"sock", "data", "address"},
    .parameter_count = 3,
    .required_count = 3,
    .direction = CORE_WRITABLE,
    .has_addresses = true,
    .attempt = sock_sendto_attempt,
};

static const struct sock_call connect_call = {
    .name = "sock_connect",
    .parameters = {"sock", "address"},
    .parameter_count = 2,
    .required_count = 2,
    .direction = CORE_WRITABLE,
    .has_addresses = true,
    .prepare = sock_connect_prepare,
    .prepared = sock_connect_prepared,
    .attempt = sock_connect_attempt,
};

static const struct sock_call accept_call = {
    .name = "sock_accept",
    .parameters = {"sock"},
    .parameter_count = 1,
    .required_count = 1,
    .direction = CORE_READABLE,
    .has_addresses = true,
    .attempt = sock_accept_attempt,
};

#define SOCK_METHOD(function, call) \
    static PyObject * \
    function(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) \
    { \
        return operation_for_call(self, &call, args, nargs, kwnames); \
    }

SOCK_METHOD(loop_sock_recv, recv_call)
SOCK_METHOD(loop_sock_recv_into, recv_into_call)
SOCK_METHOD(loop_sock_recvfrom, recvfrom_call)
SOCK_METHOD(loop_sock_recvfrom_into, recvfrom_into_call)
SOCK_METHOD(loop_sock_sendall, sendall_call)
SOCK_METHOD(loop_sock_sendto, sendto_call)
SOCK_METHOD(loop_sock_connect, connect_call)
SOCK_METHOD(loop_sock_accept, accept_call)

/* The errors are those of the system call, and these of asyncio, raised when the operation is awaited. */
#define SOCK_ERRORS \
    "Raises OSError; TypeError for an SSLSocket; ValueError in debug mode if the socket is not non-blocking;\n" \
    "RuntimeError if the socket belongs to an open transport.\n\n"

#define SOCK_ENTRY(name, signature, text, source) \
    {"sock_" #name, (PyCFunction)(void (*)(void))loop_sock_##name, METH_FASTCALL | METH_KEYWORDS, \
     PyDoc_STR("sock_" #name signature "\n--\n\n" text "\n\n" SOCK_ERRORS \
               "A coroutine.  Follows asyncio's loop.sock_" #name "() and " source ".")}

PyMethodDef sock_ops_loop_methods[] = {
    SOCK_ENTRY(recv, "($self, /, sock, n)", "Receive at most n bytes; b'' at the end of the stream.", "socket.recv()"),
    SOCK_ENTRY(recv_into, "($self, /, sock, buf)", "Receive into a writable buffer; returns the number of bytes.",
               "socket.recv_into()"),
    SOCK_ENTRY(recvfrom, "($self, /, sock, bufsize)",
               "Receive a datagram of at most bufsize bytes; returns (data, address).", "socket.recvfrom()"),
    SOCK_ENTRY(recvfrom_into, "($self, /, sock, buf, nbytes=0)",
               "Receive a datagram into a writable buffer, of nbytes bytes at most (0: its length); returns\n"
               "(count, address).",
               "socket.recvfrom_into()"),
    SOCK_ENTRY(sendall, "($self, /, sock, data)",
               "Send all of the data.  After an error nobody can tell how much of it was sent.", "socket.sendall()"),
    SOCK_ENTRY(sendto, "($self, /, sock, data, address)",
               "Send one datagram to the address; returns the number of bytes.", "socket.sendto()"),
    SOCK_ENTRY(connect, "($self, /, sock, address)",
               "Connect to the address; a host name is looked up by loop.getaddrinfo().", "socket.connect()"),
    SOCK_ENTRY(accept, "($self, /, sock)",
               "Accept a connection; returns (conn, address), where conn is a new non-blocking socket.",
               "socket.accept()"),
    {NULL, NULL, 0, NULL},
};
