/* SPDX-License-Identifier: MIT
 *
 * What Python may ask about a StreamTransport's socket: the socket object and the two addresses; see stream_socket.h.
 *
 * A Python socket over the core's fd must let go of the fd (detach) before the core closes it.
 */
#include "stream_socket.h"

#include "socket_info.h"
#include "transport.h"

#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

_Static_assert(sizeof(struct sockaddr_storage) <= UCHAR_MAX, "the length of an address is kept in one byte");

/* --- the Python socket */

void
stream_socket_detach(struct transport *t)
{
    PyObject *sock = t->file;
    t->file = NULL;
    PyObject *result = sock == NULL ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(sock, t->state->str_detach);
    if (result == NULL) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_XDECREF(result);
    Py_XDECREF(sock);
}

PyObject *
stream_socket_object(struct transport *t)
{
    if (t->file == NULL && t->stream != NULL) {
        t->file = socket_info_socket(t->state, t->fd, stream_of(t)->family, -1, -1);
        return Py_XNewRef(t->file);
    }
    if (t->file != NULL) {
        return Py_NewRef(t->file);
    }
    /* Somebody asks for the first time after the end: what asyncio has then is a closed socket of the same family. */
    PyObject *sock = PyObject_CallFunction(t->state->socket_type, "i", stream_of(t)->family);
    PyObject *result = sock == NULL ? NULL : PyObject_CallMethodNoArgs(sock, t->state->str_close);
    if (result == NULL) {
        Py_CLEAR(sock);
    }
    Py_XDECREF(result);
    return sock;
}

/* --- get_extra_info() */

static PyObject *
socket_make_socket_info(struct transport *t)
{
    PyObject *sock = stream_socket_object(t);
    PyObject *info = sock == NULL ? NULL : PyObject_CallOneArg(t->state->TransportSocket, sock);
    Py_XDECREF(sock);
    return info;
}

static PyObject *
socket_make_address(struct transport *t, bool is_peer)
{
    const struct stream_transport *stream = stream_of(t);
    struct sockaddr_storage address;
    socklen_t len = is_peer ? stream->peer_len : stream->own_len;
    memcpy(&address, stream->addresses + (is_peer ? stream->own_len : 0), len);
    return socket_info_address(t->state, (struct sockaddr *)&address, len);
}

static PyObject *
socket_make_sockname(struct transport *t)
{
    return socket_make_address(t, false);
}

static PyObject *
socket_make_peername(struct transport *t)
{
    return socket_make_address(t, true);
}

/* Put `key` into the dict unless it is there; `name`, when it is not NULL, says what is wanted. */
static int
socket_make_item(struct transport *t, PyObject *name, PyObject *key, PyObject *(*make)(struct transport *t))
{
    if (name != NULL && name != key && !(PyUnicode_Check(name) && PyUnicode_Compare(name, key) == 0)) {
        return 0;
    }
    int has_value = PyDict_Contains(t->extra, key);
    if (has_value != 0) {
        return has_value < 0 ? -1 : 0;
    }
    PyObject *value = make(t);
    int result = value == NULL ? -1 : PyDict_SetItem(t->extra, key, value);
    Py_XDECREF(value);
    return result;
}

int
stream_socket_make_extra(struct transport *t, PyObject *name)
{
    return socket_make_item(t, name, t->state->str_socket, socket_make_socket_info) < 0 ||
                   socket_make_item(t, name, t->state->str_sockname, socket_make_sockname) < 0 ||
                   socket_make_item(t, name, t->state->str_peername, socket_make_peername) < 0
               ? -1
               : 0;
}

/* --- making */

/* An address that only Python's socket module can read is made at once: it needs the fd. */
static int
socket_make_foreign_addresses(struct transport *t)
{
    if (t->extra == NULL && (t->extra = PyDict_New()) == NULL) {
        return -1;
    }
    PyObject *own = socket_info_name(t->state, t->fd);
    PyObject *peer = own == NULL ? NULL : socket_info_peer(t->state, t->fd);
    int result = peer == NULL ? -1 : PyDict_SetItem(t->extra, t->state->str_sockname, own);
    if (result == 0 && PyDict_SetDefault(t->extra, t->state->str_peername, peer) == NULL) {
        result = -1;
    }
    Py_XDECREF(own);
    Py_XDECREF(peer);
    return result;
}

int
stream_socket_init(struct transport *t, const struct stream_transport_args *args)
{
    struct sockaddr_storage own, asked;
    socklen_t own_len = sizeof own, peer_len = args->peer_len;
    const struct sockaddr *peer = args->peer;
    if (getsockname(t->fd, (struct sockaddr *)&own, &own_len) < 0 || own_len > sizeof own) {
        own_len = 0;
    }
    if (peer == NULL) {
        peer = (const struct sockaddr *)&asked;
        peer_len = sizeof asked;
        if (getpeername(t->fd, (struct sockaddr *)&asked, &peer_len) < 0 || peer_len > sizeof asked) {
            peer_len = 0;
        }
    }
    int family = own_len > 0 ? own.ss_family : peer_len > 0 ? peer->sa_family : AF_UNSPEC;
    stream_of(t)->family = family;
    if (family == AF_INET || family == AF_INET6) {
        /* As asyncio does, against the delay of small writes.  What is not TCP refuses, and needs no attention. */
        (void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    char *addresses = PyMem_Malloc(own_len + peer_len);
    if (addresses == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(addresses, &own, own_len);
    memcpy(addresses + own_len, peer, peer_len);
    stream_of(t)->addresses = addresses;
    stream_of(t)->own_len = (unsigned char)own_len;
    stream_of(t)->peer_len = (unsigned char)peer_len;
    return family == AF_UNSPEC || socket_info_knows(family) ? 0 : socket_make_foreign_addresses(t);
}

void
stream_socket_free(struct transport *t)
{
    PyMem_Free(stream_of(t)->addresses);
    stream_of(t)->addresses = NULL;
}
