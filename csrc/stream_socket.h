/* SPDX-License-Identifier: MIT
 *
 * stream_socket.h - a StreamTransport's own fields, and what Python may ask about its socket.
 *
 * The addresses are taken from the kernel when the transport is made, since a lost connection has none; they and the
 * socket become Python objects when somebody asks, which a busy server's connections never do.
 */
#ifndef RLOOP_STREAM_SOCKET_H
#define RLOOP_STREAM_SOCKET_H

#include "server_clients.h"
#include "stream_transport.h"
#include "transport.h"

struct stream_transport {
    struct transport base;
    PyObject *server;            /* asyncio's Server, or NULL */
    struct server_client client; /* among that one's */
    char *addresses;             /* own, then peer */
    int family;
    unsigned char own_len, peer_len; /* 0: the kernel has none */
};

static inline struct stream_transport *
stream_of(struct transport *t)
{
    return (struct stream_transport *)t;
}

/* Learn the addresses of t->fd, and switch Nagle's algorithm off: 0, or -1 with an exception. */
int stream_socket_init(struct transport *t, const struct stream_transport_args *args);
void stream_socket_free(struct transport *t);

/* The Python socket, made on demand; NULL with an exception set. */
PyObject *stream_socket_object(struct transport *t);
/* The Python socket, if there is one, forgets the fd. */
void stream_socket_detach(struct transport *t);
/* make_extra of struct transport_kind; `name` NULL means every name. */
int stream_socket_make_extra(struct transport *t, PyObject *name);

#endif
