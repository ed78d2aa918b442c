/* SPDX-License-Identifier: MIT
 *
 * The wrappers of the functions that inject.c lets fail.  Called by everybody in the process: what is not to fail is passed on.
 */

#define _GNU_SOURCE
#include "inject.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* `fault`: of this call; the call itself, unless the fault comes before it. */
#define BEFORE(name)                                                                                                       \
    int fault = inject_fault(INJECT_##name);                                                                               \
    if (fault > 0) {                                                                                                       \
        errno = fault;                                                                                                     \
        return -1;                                                                                                         \
    }

/* The same for read and write, which an eventfd may only interrupt. */
#define BEFORE_BYTES(name, fd)                                                                                             \
    int fault = inject_fault(INJECT_##name);                                                                               \
    if (fault != INJECT_NOTHING && fault != EINTR && is_eventfd(fd)) {                                                     \
        inject_withdraw();                                                                                                 \
        fault = INJECT_NOTHING;                                                                                            \
    }                                                                                                                      \
    if (fault > 0) {                                                                                                       \
        errno = fault;                                                                                                     \
        return -1;                                                                                                         \
    }

#define REAL(type, name, ...) (((type (*)(PARAMETERS))inject_real(INJECT_##name))(__VA_ARGS__))

static bool
is_eventfd(int fd)
{
    char name[64], target[64] = "";
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return readlink(name, target, sizeof target - 1) > 0 && strstr(target, "eventfd") != NULL;
}

/* What the call has returned, or the error that it is said to have come to though it did its work. */
static int
after(int fault, int result)
{
    if (fault <= INJECT_DONE && (result >= 0 || errno == EINPROGRESS)) {
        errno = INJECT_DONE - fault;
        return -1;
    }
    return result;
}

/* --- Memory: with PYTHONMALLOC=malloc every object comes from here, and libuv's and our own blocks as ever */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n_items, size_t size);
extern void *__libc_realloc(void *block, size_t size);

/* With AddressSanitizer it has the memory. */
extern void *__interceptor_malloc(size_t size) __attribute__((weak));
extern void *__interceptor_calloc(size_t n_items, size_t size) __attribute__((weak));
extern void *__interceptor_realloc(void *block, size_t size) __attribute__((weak));

#define ALLOCATE(function, ...) \
    (__interceptor_##function != NULL ? __interceptor_##function(__VA_ARGS__) : __libc_##function(__VA_ARGS__))

static bool
is_out_of_memory(void)
{
    int fault = inject_fault(INJECT_malloc);
    if (fault > 0) {
        errno = fault;
    }
    return fault > 0;
}

EXPORT void *
malloc(size_t size)
{
    return is_out_of_memory() ? NULL : ALLOCATE(malloc, size);
}

EXPORT void *
calloc(size_t n_items, size_t size)
{
    return is_out_of_memory() ? NULL : ALLOCATE(calloc, n_items, size);
}

EXPORT void *
realloc(void *block, size_t size)
{
    if (!is_out_of_memory()) {
        return ALLOCATE(realloc, block, size);
    }
    if (block != NULL) {
        inject_exit_if_libuv(__builtin_return_address(0)); /* it would abort, or (1.53) go on with what it has freed */
    }
    return NULL;
}

/* --- Bytes */

#define PARAMETERS int, void *, size_t
EXPORT ssize_t
read(int fd, void *buffer, size_t size)
{
    BEFORE_BYTES(read, fd)
    return REAL(ssize_t, read, fd, buffer, fault == INJECT_SHORT && size > 1 ? 1 : size);
}
#undef PARAMETERS

#define PARAMETERS int, void *, size_t, int
EXPORT ssize_t
recv(int fd, void *buffer, size_t size, int flags)
{
    BEFORE(recv)
    return REAL(ssize_t, recv, fd, buffer, fault == INJECT_SHORT && size > 1 ? 1 : size, flags);
}
#undef PARAMETERS

#define PARAMETERS int, void *, size_t, int, struct sockaddr *, socklen_t *
EXPORT ssize_t
recvfrom(int fd, void *restrict buffer, size_t size, int flags, struct sockaddr *restrict address,
         socklen_t *restrict length)
{
    BEFORE(recvfrom)
    return REAL(ssize_t, recvfrom, fd, buffer, size, flags, address, length);
}
#undef PARAMETERS

#define PARAMETERS int, struct msghdr *, int
EXPORT ssize_t
recvmsg(int fd, struct msghdr *message, int flags)
{
    BEFORE(recvmsg)
    return REAL(ssize_t, recvmsg, fd, message, flags);
}
#undef PARAMETERS

#define PARAMETERS int, struct mmsghdr *, unsigned, int, struct timespec *
EXPORT int
recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    BEFORE(recvmmsg)
    return REAL(int, recvmmsg, fd, messages, fault == INJECT_SHORT && count > 1 ? 1 : count, flags, timeout);
}
#undef PARAMETERS

#define PARAMETERS int, const void *, size_t
EXPORT ssize_t
write(int fd, const void *data, size_t size)
{
    BEFORE_BYTES(write, fd)
    return REAL(ssize_t, write, fd, data, fault == INJECT_SHORT && size > 1 ? 1 : size);
}
#undef PARAMETERS

#define PARAMETERS int, const struct iovec *, int
EXPORT ssize_t
writev(int fd, const struct iovec *pieces, int count)
{
    BEFORE(writev)
    if (fault == INJECT_SHORT && count > 0 && pieces[0].iov_len > 1) {
        struct iovec first = {pieces[0].iov_base, 1};
        return REAL(ssize_t, writev, fd, &first, 1);
    }
    return REAL(ssize_t, writev, fd, pieces, count);
}
#undef PARAMETERS

#define PARAMETERS int, const void *, size_t, int
EXPORT ssize_t
send(int fd, const void *data, size_t size, int flags)
{
    BEFORE(send)
    return REAL(ssize_t, send, fd, data, fault == INJECT_SHORT && size > 1 ? 1 : size, flags);
}
#undef PARAMETERS

#define PARAMETERS int, const void *, size_t, int, const struct sockaddr *, socklen_t
EXPORT ssize_t
sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length)
{
    BEFORE(sendto)
    return REAL(ssize_t, sendto, fd, data, size, flags, address, length);
}
#undef PARAMETERS

#define PARAMETERS int, const struct msghdr *, int
EXPORT ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    BEFORE(sendmsg)
    if (fault == INJECT_SHORT && message->msg_iovlen > 0 && message->msg_iov[0].iov_len > 1) {
        struct iovec first = {message->msg_iov[0].iov_base, 1};
        struct msghdr part = *message;
        part.msg_iov = &first;
        part.msg_iovlen = 1;
        return REAL(ssize_t, sendmsg, fd, &part, flags);
    }
    return REAL(ssize_t, sendmsg, fd, message, flags);
}
#undef PARAMETERS

/* --- Connections */

#define PARAMETERS int, struct sockaddr *, socklen_t *
EXPORT int
accept(int fd, struct sockaddr *restrict address, socklen_t *restrict length)
{
    BEFORE(accept)
    return REAL(int, accept, fd, address, length);
}

EXPORT int
getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict length)
{
    BEFORE(getsockname)
    return REAL(int, getsockname, fd, address, length);
}

EXPORT int
getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict length)
{
    BEFORE(getpeername)
    return REAL(int, getpeername, fd, address, length);
}
#undef PARAMETERS

#define PARAMETERS int, struct sockaddr *, socklen_t *, int
EXPORT int
accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict length, int flags)
{
    BEFORE(accept4)
    return REAL(int, accept4, fd, address, length, flags);
}
#undef PARAMETERS

#define PARAMETERS int, const struct sockaddr *, socklen_t
EXPORT int
connect(int fd, const struct sockaddr *address, socklen_t length)
{
    BEFORE(connect)
    return after(fault, REAL(int, connect, fd, address, length));
}
#undef PARAMETERS

#define PARAMETERS int, int
EXPORT int
shutdown(int fd, int how)
{
    BEFORE(shutdown)
    return REAL(int, shutdown, fd, how);
}
#undef PARAMETERS

#define PARAMETERS int, int, int, void *, socklen_t *
EXPORT int
getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict length)
{
    BEFORE(getsockopt)
    return REAL(int, getsockopt, fd, level, option, value, length);
}
#undef PARAMETERS

#define PARAMETERS int, int, int, const void *, socklen_t
EXPORT int
setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    BEFORE(setsockopt)
    return REAL(int, setsockopt, fd, level, option, value, length);
}
#undef PARAMETERS

/* --- Files */

#define PARAMETERS int
EXPORT int
close(int fd)
{
    BEFORE(close)
    return after(fault, REAL(int, close, fd));
}

EXPORT int
epoll_create1(int flags)
{
    BEFORE(epoll_create1)
    return REAL(int, epoll_create1, flags);
}
#undef PARAMETERS

#define PARAMETERS unsigned, int
EXPORT int
eventfd(unsigned value, int flags)
{
    BEFORE(eventfd)
    return REAL(int, eventfd, value, flags);
}
#undef PARAMETERS

#define PARAMETERS int *, int
EXPORT int
pipe2(int ends[2], int flags)
{
    BEFORE(pipe2)
    return REAL(int, pipe2, ends, flags);
}
#undef PARAMETERS

/* All commands take one argument at most, which fits a pointer. */
#define PARAMETERS int, int, ...
EXPORT int
fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    BEFORE(fcntl)
    return REAL(int, fcntl, fd, command, argument);
}
#undef PARAMETERS

/* The name of the same function for whoever is compiled for large files. */
EXPORT int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));

/* --- Waiting */

/* The event that each epoll set told of last. */
enum { MAX_SETS = 1024 };
static struct epoll_event last_events[MAX_SETS];

static int
note_events(int epoll, const struct epoll_event *events, int result)
{
    if (result > 0 && epoll < MAX_SETS) {
        last_events[epoll] = events[0];
    }
    return result;
}

/* Is the wait to end at once, with *result?  One that is for ever does not end for nothing. */
static bool
is_woken(int epoll, int fault, struct epoll_event *events, int timeout, int *result)
{
    *result = fault == INJECT_STALE && epoll < MAX_SETS && last_events[epoll].events != 0;
    if (*result > 0) {
        events[0] = last_events[epoll];
        return true;
    }
    if (fault != INJECT_EARLY || timeout < 0) {
        if (fault != INJECT_NOTHING) {
            inject_withdraw();
        }
        return false;
    }
    return true;
}

#define PARAMETERS int, int, int, struct epoll_event *
EXPORT int
epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    BEFORE(epoll_ctl)
    return REAL(int, epoll_ctl, epoll, operation, fd, event);
}
#undef PARAMETERS

#define PARAMETERS int, struct epoll_event *, int, int
EXPORT int
epoll_wait(int epoll, struct epoll_event *events, int count, int timeout)
{
    int result;
    BEFORE(epoll_wait)
    return is_woken(epoll, fault, events, timeout, &result)
               ? result
               : note_events(epoll, events, REAL(int, epoll_wait, epoll, events, count, timeout));
}
#undef PARAMETERS

#define PARAMETERS int, struct epoll_event *, int, int, const sigset_t *
EXPORT int
epoll_pwait(int epoll, struct epoll_event *events, int count, int timeout, const sigset_t *mask)
{
    int result;
    BEFORE(epoll_pwait)
    return is_woken(epoll, fault, events, timeout, &result)
               ? result
               : note_events(epoll, events, REAL(int, epoll_pwait, epoll, events, count, timeout, mask));
}
#undef PARAMETERS
