/* SPDX-License-Identifier: MIT
 *
 * load_io.c - the load client's sockets: TCP, TLS, Unix and UDP.  All are non-blocking once they are connected.
 */
#include "load.h"
#include "load_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct mio_poller *
io_poller(void)
{
    static struct mio_poller *poller;
    if (poller == NULL) {
        int error = mio_poller_create(&poller);
        if (error < 0) {
            fail(EXIT_USAGE, "poller: %s", strerror(-error));
        }
    }
    return poller;
}

static int
connect_unix(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, options.unix_path, sizeof address.sun_path - 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fail(EXIT_CLOSED, "connect: %s", strerror(errno));
    }
    return fd;
}

static int
connect_inet(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, options.is_datagram ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fail(EXIT_CLOSED, "connect: %s", strerror(errno));
    }
    if (!options.is_datagram) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return fd;
}

void
io_open(struct connection *connection)
{
    connection->fd = options.unix_path != NULL ? connect_unix() : connect_inet();
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    connection->interest = 0;
    connection->tls = options.is_tls ? tls_open(connection->fd) : NULL;
}

void
io_close(struct connection *connection)
{
    if (connection->tls != NULL) {
        tls_close(connection->tls);
        connection->tls = NULL;
    }
    if (options.is_reset) {
        struct linger at_once = {.l_onoff = 1};
        setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    connection->interest = 0; /* closing takes the fd out of the poller */
    close(connection->fd);
    connection->fd = -1;
}

void
io_want(struct connection *connection, unsigned interest)
{
    int error = 0;
    if (connection->tls != NULL && tls_waits_to_read(connection->tls)) {
        interest = CORE_READABLE;
    }
    if (interest == connection->interest) {
        return;
    }
    if (connection->interest == 0) {
        error = mio_poller_add(io_poller(), connection->fd, connection->tag, interest);
    }
    else {
        error = mio_poller_modify(io_poller(), connection->fd, connection->tag, connection->interest, interest);
    }
    if (error < 0) {
        fail(EXIT_USAGE, "poller: %s", strerror(-error));
    }
    connection->interest = interest;
}

ssize_t
io_send(struct connection *connection, const char *data, size_t size)
{
    if (connection->tls != NULL) {
        return tls_send(connection->tls, data, size);
    }
    ssize_t count = send(connection->fd, data, size, 0);
    if (count < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return -EAGAIN;
        }
        fail(EXIT_CLOSED, "send: %s", strerror(errno));
    }
    return count;
}

ssize_t
io_receive(struct connection *connection, char *data, size_t size)
{
    if (connection->tls != NULL) {
        return tls_receive(connection->tls, data, size);
    }
    ssize_t count = recv(connection->fd, data, size, 0);
    if (count < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return -EAGAIN;
        }
        fail(EXIT_CLOSED, "receive: %s", strerror(errno));
    }
    if (count == 0) {
        fail(EXIT_CLOSED, "the server closed a connection");
    }
    return count;
}

bool
io_has_more(const struct connection *connection)
{
    return connection->tls != NULL && tls_has_more(connection->tls);
}
