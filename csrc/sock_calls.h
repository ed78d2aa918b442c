/* SPDX-License-Identifier: MIT
 *
 * sock_calls.h - the entries of the table of calls (sock_methods.c), and what the calls share.
 *
 * sock_calls.c has the ones that move bytes, sock_connect.c those that make connections; struct sock_call tells their
 * contract.
 */
#ifndef RLOOP_SOCK_CALLS_H
#define RLOOP_SOCK_CALLS_H

#include "sock_ops.h"

#include <sys/socket.h>

enum sock_outcome sock_recv_attempt(struct sock_operation *op, PyObject **result);
enum sock_outcome sock_recv_into_attempt(struct sock_operation *op, PyObject **result);
enum sock_outcome sock_recvfrom_attempt(struct sock_operation *op, PyObject **result);
int sock_recvfrom_into_prepare(struct sock_operation *op, PyObject **awaitable);
enum sock_outcome sock_recvfrom_into_attempt(struct sock_operation *op, PyObject **result);
enum sock_outcome sock_sendall_attempt(struct sock_operation *op, PyObject **result);
enum sock_outcome sock_sendto_attempt(struct sock_operation *op, PyObject **result);
int sock_connect_prepare(struct sock_operation *op, PyObject **awaitable);
int sock_connect_prepared(struct sock_operation *op, PyObject *infos);
enum sock_outcome sock_connect_attempt(struct sock_operation *op, PyObject **result);
enum sock_outcome sock_accept_attempt(struct sock_operation *op, PyObject **result);

/* What errno says about a system call that failed. */
enum sock_outcome sock_errno_outcome(void);
/* What the exception that is set says about a socket's method: BlockingIOError and InterruptedError are SOCK_AGAIN. */
enum sock_outcome sock_exception_outcome(void);
/* Done, unless `made` is NULL. */
enum sock_outcome sock_result_outcome(PyObject *made, PyObject **result);
/* Call the socket's own method with the operation's first `nargs` arguments. */
enum sock_outcome sock_method_outcome(struct sock_operation *op, PyObject *name, size_t nargs, PyObject **result);

/* An attribute of a plain socket as its C half has it: an int, where socket.socket itself makes an enum in Python. */
int sock_get_int(struct sock_operation *op, PyObject *name, int *value);
/* sock.gettimeout() != 0: 1 or 0, or -1 with the exception set. */
int sock_has_timeout(struct sock_operation *op);

#endif
