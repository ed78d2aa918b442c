/* SPDX-License-Identifier: MIT
 *
 * Between inject.c, which knows whose a call is and which one is to fail, and inject_calls.c, which wraps the functions.
 */

#ifndef INJECT_H
#define INJECT_H

#include <stdbool.h>

#define EXPORT __attribute__((visibility("default")))

/* All functions that can fail.  check.py says how each of them may. */
#define INJECT_FUNCTIONS(X)                                                                                                \
    X(malloc)                                                                                                              \
    X(read)                                                                                                                \
    X(recv)                                                                                                                \
    X(recvfrom)                                                                                                            \
    X(recvmsg)                                                                                                             \
    X(recvmmsg)                                                                                                            \
    X(write)                                                                                                               \
    X(writev)                                                                                                              \
    X(send)                                                                                                                \
    X(sendto)                                                                                                              \
    X(sendmsg)                                                                                                             \
    X(accept)                                                                                                              \
    X(accept4)                                                                                                             \
    X(connect)                                                                                                             \
    X(shutdown)                                                                                                            \
    X(close)                                                                                                               \
    X(getsockopt)                                                                                                          \
    X(setsockopt)                                                                                                          \
    X(getsockname)                                                                                                         \
    X(getpeername)                                                                                                         \
    X(fcntl)                                                                                                               \
    X(pipe2)                                                                                                               \
    X(eventfd)                                                                                                             \
    X(epoll_create1)                                                                                                       \
    X(epoll_ctl)                                                                                                           \
    X(epoll_wait)                                                                                                          \
    X(epoll_pwait)

#define INJECT_ENUM(name) INJECT_##name,
enum inject_function { INJECT_FUNCTIONS(INJECT_ENUM) };
#undef INJECT_ENUM

/* Beside the numbers of errno, which the function fails with without doing anything. */
enum {
    INJECT_NOTHING = 0,
    INJECT_SHORT = -1,   /* it does a part of what it is asked to: a byte, a message */
    INJECT_STALE = -2,   /* a wait tells of the event that it told of last, though nothing has happened */
    INJECT_EARLY = -3,   /* a wait ends before its time */
    INJECT_DONE = -1000, /* minus an errno: it does its work, and fails with it then */
};

/* Note the call, and say what is to become of it. */
int inject_fault(enum inject_function function);

/* The fault that this call was to have is none that it can have. */
void inject_withdraw(void);

/* End the process, if `caller` is a return address in libuv, in a way that the harness knows. */
void inject_exit_if_libuv(void *caller);

/* The function that the wrapper stands for. */
void *inject_real(enum inject_function function);

#endif
