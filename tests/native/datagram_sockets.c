/* SPDX-License-Identifier: MIT
 *
 * Datagram sockets of each address family; see datagram_sockets.h.
 */
#include "datagram_sockets.h"

#include "probes.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static void
address_make(enum family family, struct address *address)
{
    static unsigned count;
    struct sockaddr_in *inet = (struct sockaddr_in *)&address->storage;
    struct sockaddr_in6 *inet6 = (struct sockaddr_in6 *)&address->storage;
    struct sockaddr_un *local = (struct sockaddr_un *)&address->storage;
    memset(address, 0, sizeof *address);
    if (family == FAMILY_INET) {
        inet->sin_family = AF_INET;
        inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address->length = sizeof *inet;
    }
    else if (family == FAMILY_INET6) {
        inet6->sin6_family = AF_INET6;
        inet6->sin6_addr = in6addr_loopback;
        address->length = sizeof *inet6;
    }
    else {
        local->sun_family = AF_UNIX;
        int length = snprintf(local->sun_path, sizeof local->sun_path, "/tmp/rloop-test-%ld-%u", (long)getpid(),
                              count++);
        address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length + 1);
        if (family == FAMILY_ABSTRACT) {
            /* Any bytes may follow the leading zero, and the length alone tells where they end. */
            local->sun_path[0] = '\0';
            local->sun_path[length] = '\xff';
        }
    }
}

/* The socket, or -errno. */
static int
socket_try(enum family family, struct address *address)
{
    address_make(family, address);
    int fd = socket(address->storage.ss_family, SOCK_DGRAM, 0);
    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&address->storage, address->length) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    address->length = sizeof address->storage;
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address->storage, &address->length), 0);
    fd_set_blocking(fd, false);
    return fd;
}

bool
family_exists(enum family family)
{
    static const char *const names[FAMILY_COUNT] = {"IPv4", "IPv6", "AF_UNIX", "AF_UNIX, abstract"};
    check_note("%s", names[family]);
#ifdef __linux__
    bool has_abstract = true;
#else
    bool has_abstract = false;
#endif
    if (family == FAMILY_INET6) {
        struct address address;
        int fd = socket_try(family, &address);
        if (fd >= 0) {
            close(fd);
        }
        return fd >= 0;
    }
    return family != FAMILY_ABSTRACT || has_abstract;
}

int
datagram_socket(enum family family, struct address *address)
{
    int fd = socket_try(family, address);
    CHECK(fd >= 0);
    return fd;
}

void
datagram_unlink(const struct address *address)
{
    const struct sockaddr_un *local = (const struct sockaddr_un *)&address->storage;
    if (local->sun_family == AF_UNIX && local->sun_path[0] != '\0') {
        CHECK_EQ(unlink(local->sun_path), 0);
    }
}

void
datagram_connect(int fd, const struct address *address)
{
    CHECK_EQ(connect(fd, (const struct sockaddr *)&address->storage, address->length), 0);
}

void
datagram_pair(int fds[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    fd_set_blocking(fds[0], false);
    fd_set_blocking(fds[1], false);
}

void
raw_send(int fd, size_t size, unsigned number, const struct address *to)
{
    char bytes[65536];
    CHECK(size <= sizeof bytes);
    datagram_make(bytes, size, number);
    const struct sockaddr *name = to != NULL ? (const struct sockaddr *)&to->storage : NULL;
    CHECK_EQ(sendto(fd, bytes, size, 0, name, to != NULL ? to->length : 0), size);
}

long
raw_receive(int fd)
{
    static char bytes[65536], expected[65536];
    unsigned number = 0;
    ssize_t size = recv(fd, bytes, sizeof bytes, 0);
    if (size < 0) {
        CHECK_EQ(errno, EAGAIN);
        return -1;
    }
    if ((size_t)size >= sizeof number) {
        memcpy(&number, bytes, sizeof number);
        datagram_make(expected, (size_t)size, number);
        CHECK_EQ(memcmp(bytes, expected, (size_t)size), 0);
    }
    return (long)number;
}
