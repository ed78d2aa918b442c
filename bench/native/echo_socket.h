/* SPDX-License-Identifier: MIT
 *
 * echo_socket.h - what the two echo servers in C share: options, and the socket that they serve on.
 *
 *     echo_epoll (--tcp | --udp | --unix) [--cpu CORE]
 */
#ifndef RLOOP_BENCH_ECHO_SOCKET_H
#define RLOOP_BENCH_ECHO_SOCKET_H

#include <stdbool.h>

enum { BUFFER_SIZE = 256 * 1024 };

struct echo_socket {
    int fd; /* bound and non-blocking; not listening yet */
    bool is_datagram, is_unix;
};

struct echo_socket echo_socket_open(int argc, char **argv);
/* Say where the server is; it has to be listening. */
void echo_socket_announce(const struct echo_socket *server);
_Noreturn void die(const char *what);

#endif
