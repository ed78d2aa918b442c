/* SPDX-License-Identifier: MIT
 *
 * stream_transport.h - StreamTransport: a connected TCP or AF_UNIX stream socket, as asyncio's users see it.
 *
 * Made by server.c for what it accepts and by the loop's _make_socket_transport for the rest.
 */
#ifndef RLOOP_STREAM_TRANSPORT_H
#define RLOOP_STREAM_TRANSPORT_H

#include "module.h"

#include <sys/socket.h>

struct loop;

/* What is not said otherwise may be NULL. */
struct stream_transport_args {
    PyObject *sock;     /* the Python socket; or NULL: only the fd is known, and a socket is made when somebody asks */
    int fd;             /* non-blocking; always given */
    PyObject *protocol; /* always given */
    PyObject *waiter;   /* a future, done after connection_made() */
    PyObject *extra;    /* a dict, which becomes the transport's own */
    PyObject *server;   /* asyncio's Server; the transport attaches itself to it */
    PyObject *context;  /* of the protocol's calls; or NULL: a copy of the present one */
    const struct sockaddr *peer; /* what accept() said; or NULL: ask the kernel */
    socklen_t peer_len;
};

/* A new transport, whose connection_made() is queued; NULL with an exception set on failure.  It takes over a bare
 * fd, in case of failure too (then the fd is closed); with a Python socket, the caller still closes that after a
 * failure. */
PyObject *stream_transport_new(struct loop *loop, const struct stream_transport_args *args);

/* write(), for C.  A transport is plain when nobody has put anything of his own in the place of its methods. */
PyObject *stream_transport_write(PyObject *self, PyObject *data);
bool stream_transport_is_plain(module_state *state, PyObject *transport);

/* Methods of Loop: _make_socket_transport. */
extern PyMethodDef stream_transport_loop_methods[];

#endif
