/* SPDX-License-Identifier: MIT
 *
 * datagram_sockets.h - bound datagram sockets of each address family, for the datagram tests.
 */
#ifndef RLOOP_TESTS_DATAGRAM_SOCKETS_H
#define RLOOP_TESTS_DATAGRAM_SOCKETS_H

#include "fixture.h"

enum family { FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FAMILY_ABSTRACT, FAMILY_COUNT };

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

/* Does this machine have it? */
bool family_exists(enum family family);
/* A non-blocking socket bound to an address of its own. */
int datagram_socket(enum family family, struct address *address);
/* An AF_UNIX socket leaves a name in the file system. */
void datagram_unlink(const struct address *address);
void datagram_connect(int fd, const struct address *address);
/* A connected pair without names. */
void datagram_pair(int fds[2]);
/* Send and receive on the raw end.  The number of the datagram that came, or -1 when none is there. */
void raw_send(int fd, size_t size, unsigned number, const struct address *to);
long raw_receive(int fd);

#define FOR_EACH_FAMILY(it) \
    for (enum family it = FAMILY_INET; it < FAMILY_COUNT; it++) \
        if (family_exists(it))

#endif
