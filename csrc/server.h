/* SPDX-License-Identifier: MIT
 *
 * server.h - accepting: what asyncio.Server asks of a loop.
 *
 * server.c listens: one `struct listener` per listening socket, watched in the fd registry.  accepted.c makes a
 * transport of each connection.
 */
#ifndef RLOOP_SERVER_H
#define RLOOP_SERVER_H

#include "module.h"

#include <sys/socket.h>

struct loop;

/* Never changes once it is made. */
struct listener {
    PyObject_HEAD
    struct loop *loop;
    PyObject *protocol_factory;
    PyObject *sock;
    PyObject *sslcontext; /* NULL for plain connections */
    PyObject *server;     /* an asyncio.Server, or NULL */
    PyObject *handshake_timeout, *shutdown_timeout;
    PyObject *context; /* each connection runs in a copy of it */
    int fd;
    int batch; /* connections in one readiness */
};

/* See to it that the connection gets a protocol and a transport, in a later turn.  Takes the fd over, on failure too.
 * 0, or -1 with the exception set. */
int accepted_start(struct listener *listener, int fd, const struct sockaddr *peer, socklen_t peer_len);
int accepted_setup_types(PyObject *module, module_state *state);

/* Methods of Loop: _start_serving and _stop_serving. */
extern PyMethodDef server_loop_methods[];

#endif
