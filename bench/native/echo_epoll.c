/* SPDX-License-Identifier: MIT
 *
 * echo_epoll.c - an echo server on bare epoll: the least that a server can spend, and so the limit of every loop on Linux.
 *
 * A stream: one recv and one send for each message, no more; datagrams: recvmmsg and sendmmsg, as many as there are.  What a send
 * leaves is kept, and the connection is not read from until it is gone.
 */
#include "echo_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, BATCH = 64, DATAGRAM_MAX = 65536 };

struct connection {
    int fd;
    char *rest; /* NULL: all was sent */
    size_t rest_size;
};

static int epoll_fd;
static char buffer[BUFFER_SIZE];

static void
watch(int operation, int fd, unsigned events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(epoll_fd, operation, fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void
connection_close(struct connection *connection)
{
    close(connection->fd);
    free(connection->rest);
    free(connection);
}

static void
connections_accept(const struct echo_socket *server)
{
    int fd, on = 1;
    while ((fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) {
            die("connection");
        }
        connection->fd = fd;
        if (!server->is_unix) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        }
        watch(EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    }
}

static void
connection_keep(struct connection *connection, const char *data, size_t size)
{
    connection->rest = malloc(size);
    if (connection->rest == NULL) {
        die("rest");
    }
    memcpy(connection->rest, data, size);
    connection->rest_size = size;
    watch(EPOLL_CTL_MOD, connection->fd, EPOLLOUT, connection);
}

static void
connection_read(struct connection *connection)
{
    ssize_t count = recv(connection->fd, buffer, sizeof buffer, 0);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN) {
            connection_close(connection);
        }
        return;
    }
    ssize_t sent = send(connection->fd, buffer, (size_t)count, 0);
    if (sent < 0 && errno != EAGAIN) {
        connection_close(connection);
    }
    else if (sent < count) {
        sent = sent < 0 ? 0 : sent;
        connection_keep(connection, buffer + sent, (size_t)(count - sent));
    }
}

static void
connection_write(struct connection *connection)
{
    ssize_t sent = send(connection->fd, connection->rest, connection->rest_size, 0);
    if (sent < 0) {
        if (errno != EAGAIN) {
            connection_close(connection);
        }
        return;
    }
    connection->rest_size -= (size_t)sent;
    memmove(connection->rest, connection->rest + sent, connection->rest_size);
    if (connection->rest_size == 0) {
        free(connection->rest);
        connection->rest = NULL;
        watch(EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection);
    }
}

static void
datagrams_echo(int fd)
{
    static char data[BATCH][DATAGRAM_MAX];
    static struct sockaddr_in peers[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){.iov_base = data[i], .iov_len = sizeof data[i]};
        messages[i] = (struct mmsghdr){
            .msg_hdr = {.msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &parts[i], .msg_iovlen = 1},
        };
    }
    int count = recvmmsg(fd, messages, BATCH, 0, NULL);
    for (int i = 0; i < count; i++) {
        parts[i].iov_len = messages[i].msg_len;
    }
    if (count > 0 && sendmmsg(fd, messages, (unsigned)count, 0) < 0 && errno != EAGAIN) {
        die("sendmmsg");
    }
}

static void
serve(const struct echo_socket *server, const struct epoll_event *event)
{
    struct connection *connection = event->data.ptr;
    if (connection == NULL && server->is_datagram) {
        datagrams_echo(server->fd);
    }
    else if (connection == NULL) {
        connections_accept(server);
    }
    else if (connection->rest != NULL) {
        connection_write(connection);
    }
    else {
        connection_read(connection);
    }
}

int
main(int argc, char **argv)
{
    struct echo_socket server = echo_socket_open(argc, argv);
    struct epoll_event events[EVENTS];
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || (!server.is_datagram && listen(server.fd, 1024) < 0)) {
        die("start");
    }
    watch(EPOLL_CTL_ADD, server.fd, EPOLLIN, NULL);
    echo_socket_announce(&server);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            serve(&server, &events[i]);
        }
    }
}
