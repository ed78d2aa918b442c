/* SPDX-License-Identifier: MIT
 *
 * socket_info.h - between the kernel's addresses and fds and Python's: address objects, socket objects.
 *
 * Every form is the one of Python's socket module.  Nothing here looks a name up or blocks.
 */
#ifndef RLOOP_SOCKET_INFO_H
#define RLOOP_SOCKET_INFO_H

#include "module.h"

#include <sys/socket.h>

/* The address as recvfrom() of Python's socket gives it: (host, port); (host, port, flowinfo, scope_id); for AF_UNIX a
 * str, or bytes for an abstract name; None when `len` is 0.  A family that is not known here gives (family, bytes), the
 * form which that module has for those that it does not know.  NULL with an exception set. */
PyObject *socket_info_address(module_state *state, const struct sockaddr *address, socklen_t len);

/* Is socket_info_address right for this family? */
bool socket_info_knows(int family);

/* The fd's own address, or its peer's, or None where the kernel gives none.  The form is right for every family: one
 * that is not known here is left to Python.  NULL with an exception set. */
PyObject *socket_info_name(module_state *state, int fd);
PyObject *socket_info_peer(module_state *state, int fd);

/* The peer of a connection, from what accept() said where that is enough. */
PyObject *socket_info_accepted(module_state *state, int fd, const struct sockaddr *peer, socklen_t peer_len);

/* A socket.socket over an fd that must be non-blocking, as the object believes it to be; it owns the fd from then on. 
 * -1 for what the caller does not know (each costs a system call).  NULL with an exception set; the fd is the caller's
 * then. */
PyObject *socket_info_socket(module_state *state, int fd, int family, int type, int proto);

/* An address object to the kernel's form.  1: parsed.  0, and no exception: not numeric, malformed, or of a family that
 * is not known here; the caller leaves it to Python's own socket, whose lookup or error is then the right one. */
int socket_info_parse(int family, PyObject *address, struct sockaddr_storage *out, socklen_t *len);

/* A transport uses the Python socket's fd from now on, until it detaches it: when somebody else closes the socket, as its owner
 * may have done after handing it over, the fd is to stay open, or the number would be another file's under the transport.
 * The socket counts such users, as of makefile(), in _io_refs. */
void socket_info_hold(module_state *state, PyObject *sock);

#endif
