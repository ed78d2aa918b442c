/* SPDX-License-Identifier: MIT
 *
 * sock_ops.h - the sock_* family: a coroutine made in C around one system call on a socket that the user owns.
 *
 * sock_ops.c runs an operation: it tries the call at once, waits on a watch when it would block, and takes the watch
 * away before it ends, however it ends.  sock_coroutine.c is the type that Python sees; sock_methods.c has the loop's
 * methods and a `struct sock_call` for each; sock_calls.c and sock_connect.c make the calls.
 */
#ifndef RLOOP_SOCK_OPS_H
#define RLOOP_SOCK_OPS_H

#include "module.h"

struct loop;
struct sock_operation;

enum { SOCK_MAX_PARAMETERS = 3 }; /* the socket and two more */

enum sock_outcome {
    SOCK_DONE,   /* *result is a new reference */
    SOCK_AGAIN,  /* it would block; no exception */
    SOCK_FAILED, /* with the exception set */
};

struct sock_call {
    const char *name; /* of the method */
    const char *parameters[SOCK_MAX_PARAMETERS];
    int parameter_count;
    int required_count;
    unsigned direction; /* what to wait for */
    /* Addresses of other families than these three are left to Python's socket: AF_INET, AF_INET6, AF_UNIX. */
    bool has_addresses;
    /* Something to await before the first attempt: a new reference in *awaitable, or NULL when there is nothing; then
     * `prepared` is told what came out of it.  Both may be NULL; they return 0, or -1 with the exception set. */
    int (*prepare)(struct sock_operation *op, PyObject **awaitable);
    int (*prepared)(struct sock_operation *op, PyObject *value);
    enum sock_outcome (*attempt)(struct sock_operation *op, PyObject **result);
};

enum sock_stage { SOCK_CREATED, SOCK_SUSPENDED, SOCK_FINISHED };

struct sock_operation {
    PyObject_HEAD
    struct loop *loop;
    const struct sock_call *call;
    PyObject *sock;
    PyObject *args[SOCK_MAX_PARAMETERS - 1];
    PyObject *inner;     /* the iterator it waits in: the future's, or what `prepare` gave */
    PyObject *future;    /* the watch completes it; NULL before the first attempt that would block */
    Py_buffer buffer;    /* what is being sent (obj is NULL when none is held) ... */
    Py_ssize_t position; /* ... and how much of it the kernel has */
    int fd;              /* the number that is watched */
    int family;          /* of a direct socket with addresses */
    enum sock_stage stage;
    bool is_running;
    bool is_preparing; /* `inner` is what `prepare` gave */
    bool is_direct;    /* a plain socket.socket: system calls are made here, else its methods are called */
};

/* --- sock_coroutine.c: a new operation without socket and arguments */
struct sock_operation *sock_operation_new(struct loop *loop, const struct sock_call *call);

/* --- sock_ops.c: what a coroutine's methods do; `exception` is an instance */
PySendResult sock_operation_send(struct sock_operation *op, PyObject *value, PyObject **result);
PySendResult sock_operation_throw(struct sock_operation *op, PyObject *exception, PyObject **result);
int sock_operation_close(struct sock_operation *op);
/* Drop everything but the loop. */
void sock_operation_drop(struct sock_operation *op);

/* --- sock_calls.c: asyncio's checks of the socket, and whether system calls can be made on it directly */
int sock_check_socket(struct sock_operation *op);
/* The number that a plain socket has now, -1 when it is closed; false with an exception set. */
bool sock_get_fd(struct sock_operation *op, int *fd);

/* Methods of Loop. */
extern PyMethodDef sock_ops_loop_methods[];

#endif
