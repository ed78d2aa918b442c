/* SPDX-License-Identifier: MIT
 *
 * scripted_calls.h - the system calls that may be made to misbehave.
 *
 * The build puts this file in front of the second compilation of csrc/readiness_*.c (-include). The system's own
 * headers come first, so that the new names touch our sources only; the functions are in scripted_calls.c.
 */
#ifndef RLOOP_TESTS_SCRIPTED_CALLS_H
#define RLOOP_TESTS_SCRIPTED_CALLS_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t scripted_read(int fd, void *buffer, size_t length);
ssize_t scripted_readv(int fd, const struct iovec *iov, int iovcnt);
ssize_t scripted_recv(int fd, void *buffer, size_t length, int flags);
ssize_t scripted_recvfrom(int fd, void *buffer, size_t length, int flags, struct sockaddr *from, socklen_t *from_len);
ssize_t scripted_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t scripted_write(int fd, const void *buffer, size_t length);
ssize_t scripted_writev(int fd, const struct iovec *iov, int iovcnt);
ssize_t scripted_send(int fd, const void *buffer, size_t length, int flags);
ssize_t scripted_sendto(int fd, const void *buffer, size_t length, int flags, const struct sockaddr *to,
                        socklen_t to_len);
ssize_t scripted_sendmsg(int fd, const struct msghdr *message, int flags);

#ifndef SCRIPTED_CALLS_KEEP_NAMES
#include "scripted_names.h"
#define read scripted_read
#define readv scripted_readv
#define recv scripted_recv
#define recvfrom scripted_recvfrom
#define recvmsg scripted_recvmsg
#define write scripted_write
#define writev scripted_writev
#define send scripted_send
#define sendto scripted_sendto
#define sendmsg scripted_sendmsg
#endif

#endif
