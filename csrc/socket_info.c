/* SPDX-License-Identifier: MIT
 *
 * Addresses and socket objects as Python's socket module forms them; see socket_info.h.
 *
 * AF_INET, AF_INET6 and AF_UNIX are done here, since a datagram's or a connection's address is on the hot path.  The
 * rest goes the long way, over a Python socket object, wherever there is an fd to make one of.
 */
#include "socket_info.h"

#include "errors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

/* --- from the kernel */

static PyObject *
address_from_inet(const struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &address->sin_addr, host, sizeof host) == NULL) {
        return errors_set(-errno);
    }
    return Py_BuildValue("(si)", host, (int)ntohs(address->sin_port));
}

static PyObject *
address_from_inet6(const struct sockaddr_in6 *address)
{
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof host) == NULL) {
        return errors_set(-errno);
    }
    return Py_BuildValue("(siII)", host, (int)ntohs(address->sin6_port), (unsigned)ntohl(address->sin6_flowinfo),
                         (unsigned)address->sin6_scope_id);
}

static PyObject *
address_from_unix(const struct sockaddr_un *address, socklen_t len)
{
    size_t path_offset = offsetof(struct sockaddr_un, sun_path);
    size_t path_len = (size_t)len > path_offset ? (size_t)len - path_offset : 0;
    if (path_len > sizeof address->sun_path) {
        path_len = sizeof address->sun_path;
    }
#ifdef __linux__
    if (path_len > 0 && address->sun_path[0] == 0) {
        return PyBytes_FromStringAndSize(address->sun_path, (Py_ssize_t)path_len); /* abstract: every byte counts */
    }
#endif
    return PyUnicode_DecodeFSDefaultAndSize(address->sun_path, (Py_ssize_t)strnlen(address->sun_path, path_len));
}

bool
socket_info_knows(int family)
{
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

PyObject *
socket_info_address(module_state *Py_UNUSED(state), const struct sockaddr *address, socklen_t len)
{
    if (len == 0) {
        Py_RETURN_NONE;
    }
    switch (address->sa_family) {
    case AF_INET:
        return address_from_inet((const struct sockaddr_in *)address);
    case AF_INET6:
        return address_from_inet6((const struct sockaddr_in6 *)address);
    case AF_UNIX:
        return address_from_unix((const struct sockaddr_un *)address, len);
    default: {
        Py_ssize_t size = (Py_ssize_t)len - (Py_ssize_t)offsetof(struct sockaddr, sa_data);
        return Py_BuildValue("(iy#)", (int)address->sa_family, address->sa_data, size > 0 ? size : 0);
    }
    }
}

/* sock.getsockname() or sock.getpeername(), on a socket object that borrows the fd; OSError gives None. */
static PyObject *
name_from_python(module_state *state, int fd, int family, PyObject *method)
{
    PyObject *sock = socket_info_socket(state, fd, family, -1, -1);
    if (sock == NULL) {
        return NULL;
    }
    PyObject *name = PyObject_CallMethodNoArgs(sock, method);
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *detached = PyObject_CallMethodNoArgs(sock, state->str_detach);
    Py_DECREF(sock);
    if (detached == NULL) {
        Py_XDECREF(exception);
        Py_XDECREF(name);
        return NULL;
    }
    Py_DECREF(detached);
    if (exception != NULL && PyErr_GivenExceptionMatches(exception, PyExc_OSError)) {
        Py_DECREF(exception);
        Py_RETURN_NONE;
    }
    PyErr_SetRaisedException(exception);
    return name;
}

static PyObject *
name_of_fd(module_state *state, int fd, int (*get)(int, struct sockaddr *, socklen_t *), PyObject *method)
{
    struct sockaddr_storage storage;
    socklen_t len = sizeof storage;
    memset(&storage, 0, sizeof storage);
    if (get(fd, (struct sockaddr *)&storage, &len) < 0) {
        Py_RETURN_NONE;
    }
    if (len > 0 && !socket_info_knows(storage.ss_family)) {
        return name_from_python(state, fd, storage.ss_family, method);
    }
    return socket_info_address(state, (struct sockaddr *)&storage, len);
}

PyObject *
socket_info_name(module_state *state, int fd)
{
    return name_of_fd(state, fd, getsockname, state->str_getsockname);
}

PyObject *
socket_info_peer(module_state *state, int fd)
{
    return name_of_fd(state, fd, getpeername, state->str_getpeername);
}

PyObject *
socket_info_accepted(module_state *state, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    if (peer_len > 0 && !socket_info_knows(peer->sa_family)) {
        return socket_info_peer(state, fd);
    }
    return socket_info_address(state, peer, peer_len);
}

/* --- socket objects */

PyObject *
socket_info_socket(module_state *state, int fd, int family, int type, int proto)
{
    socklen_t len = sizeof type;
    if (type == -1 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        return errors_set(-errno);
    }
#ifdef SOCK_NONBLOCK
    /* This tells the object, which would otherwise take the fd for a blocking one; it makes no system call. */
    type |= SOCK_NONBLOCK;
#endif
    PyObject *sock = PyObject_CallFunction(state->socket_type, "iiii", family, type, proto, fd);
#ifndef SOCK_NONBLOCK
    PyObject *result = sock == NULL ? NULL : PyObject_CallMethodOneArg(sock, state->str_setblocking, Py_False);
    if (result == NULL && sock != NULL) {
        PyObject *exception = PyErr_GetRaisedException();
        Py_XDECREF(PyObject_CallMethodNoArgs(sock, state->str_detach));
        PyErr_SetRaisedException(exception);
        Py_CLEAR(sock);
    }
    Py_XDECREF(result);
#endif
    return sock;
}

/* --- to the kernel */

/* An int from 0 to `limit`: true.  No exception is left. */
static bool
parse_number(PyObject *object, unsigned long limit, unsigned long *number)
{
    if (!PyLong_Check(object)) {
        return false;
    }
    *number = PyLong_AsUnsignedLong(object);
    if (*number == (unsigned long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return *number <= limit;
}

static bool
parse_host(int family, PyObject *object, void *out)
{
    if (!PyUnicode_Check(object) || !PyUnicode_IS_ASCII(object)) {
        return false;
    }
    const char *host = PyUnicode_DATA(object);
    return strlen(host) == (size_t)PyUnicode_GET_LENGTH(object) && inet_pton(family, host, out) == 1;
}

static bool
parse_inet(PyObject *address, struct sockaddr_in *out)
{
    unsigned long port;
    if (PyTuple_GET_SIZE(address) != 2 || !parse_host(AF_INET, PyTuple_GET_ITEM(address, 0), &out->sin_addr) ||
        !parse_number(PyTuple_GET_ITEM(address, 1), 0xffff, &port))
    {
        return false;
    }
    out->sin_family = AF_INET;
    out->sin_port = htons((uint16_t)port);
    return true;
}

static bool
parse_inet6(PyObject *address, struct sockaddr_in6 *out)
{
    Py_ssize_t size = PyTuple_GET_SIZE(address);
    unsigned long port, flowinfo = 0, scope_id = 0;
    if (size < 2 || size > 4 || !parse_host(AF_INET6, PyTuple_GET_ITEM(address, 0), &out->sin6_addr) ||
        !parse_number(PyTuple_GET_ITEM(address, 1), 0xffff, &port) ||
        (size > 2 && !parse_number(PyTuple_GET_ITEM(address, 2), 0xfffff, &flowinfo)) ||
        (size > 3 && !parse_number(PyTuple_GET_ITEM(address, 3), 0xffffffff, &scope_id)))
    {
        return false;
    }
    out->sin6_family = AF_INET6;
    out->sin6_port = htons((uint16_t)port);
    out->sin6_flowinfo = htonl((uint32_t)flowinfo);
    out->sin6_scope_id = (uint32_t)scope_id;
    return true;
}

static bool
parse_unix(PyObject *address, struct sockaddr_un *out, socklen_t *len)
{
    PyObject *path = PyUnicode_Check(address) ? PyUnicode_EncodeFSDefault(address) : Py_NewRef(address);
    if (path == NULL) {
        PyErr_Clear();
        return false;
    }
    size_t path_len = PyBytes_Check(path) ? (size_t)PyBytes_GET_SIZE(path) : SIZE_MAX;
    /* An empty path is not an address here: on Linux it asks bind() for a name of the kernel's choice. */
    bool is_parsed = path_len > 0 && path_len < sizeof out->sun_path;
    if (is_parsed) {
        out->sun_family = AF_UNIX;
        memcpy(out->sun_path, PyBytes_AS_STRING(path), path_len);
        bool is_abstract = out->sun_path[0] == 0;
        *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len + (is_abstract ? 0 : 1));
    }
    Py_DECREF(path);
    return is_parsed;
}

int
socket_info_parse(int family, PyObject *address, struct sockaddr_storage *out, socklen_t *len)
{
    memset(out, 0, sizeof *out);
    switch (family) {
    case AF_INET:
        *len = sizeof(struct sockaddr_in);
        return PyTuple_Check(address) && parse_inet(address, (struct sockaddr_in *)out);
    case AF_INET6:
        *len = sizeof(struct sockaddr_in6);
        return PyTuple_Check(address) && parse_inet6(address, (struct sockaddr_in6 *)out);
    case AF_UNIX:
        return parse_unix(address, (struct sockaddr_un *)out, len);
    default:
        return 0;
    }
}

void
socket_info_hold(module_state *state, PyObject *sock)
{
    PyObject *one = PyLong_FromLong(1);
    PyObject *users = one == NULL ? NULL : PyObject_GetAttr(sock, state->str__io_refs);
    PyObject *more = users == NULL ? NULL : PyNumber_Add(users, one);
    if (more == NULL || PyObject_SetAttr(sock, state->str__io_refs, more) < 0) {
        PyErr_Clear(); /* something like a socket, but none: it has to look after itself */
    }
    Py_XDECREF(more);
    Py_XDECREF(users);
    Py_XDECREF(one);
}
