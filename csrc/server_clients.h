/* SPDX-License-Identifier: MIT
 *
 * server_clients.h - the transports of an asyncio.Server, in place of the WeakSet that it has in `_clients`.
 *
 * A member is a place inside the transport, and no weak reference: an idle connection costs less memory, and coming and
 * going less time.  server.c puts the object in; stream_transport.c has the place.
 */
#ifndef RLOOP_SERVER_CLIENTS_H
#define RLOOP_SERVER_CLIENTS_H

#include "module.h"

struct server_clients;

/* Within a StreamTransport. */
struct server_client {
    struct server_clients *clients; /* borrowed; NULL when it is in none */
    struct server_client *previous, *next;
};

/* The transport is about to go away. */
void server_client_leave(struct server_client *client);

/* Let this server keep its clients here from now on, if it is the stdlib's own and keeps them in a WeakSet (from Python
 * 3.13 on).  0, or -1 with the exception set. */
int server_clients_install(module_state *state, PyObject *server);

int server_clients_setup_types(PyObject *module, module_state *state);

#endif
