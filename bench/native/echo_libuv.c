/* SPDX-License-Identifier: MIT
 *
 * echo_libuv.c - an echo server on bare libuv: the limit of the loops that have libuv below, uvloop and TokioLoop among them.
 *
 * It does what uvloop does, in C: one buffer to read into, uv_try_write at once, and a write request for what that leaves.
 */
#include "echo_socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct rest {
    uv_write_t request;
    char data[];
};

struct datagram {
    uv_udp_send_t request;
    char data[];
};

static char buffer[BUFFER_SIZE];

static void
check(int error, const char *what)
{
    if (error < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(error));
        exit(1);
    }
}

static void *
need_memory(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        die("memory");
    }
    return memory;
}

static void
give_buffer(uv_handle_t *handle, size_t suggested_size, uv_buf_t *given)
{
    (void)handle, (void)suggested_size;
    *given = uv_buf_init(buffer, sizeof buffer);
}

static void
on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void
on_written(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

static void
stream_send(uv_stream_t *stream, size_t size)
{
    uv_buf_t part = uv_buf_init(buffer, (unsigned)size);
    int sent = uv_try_write(stream, &part, 1);
    if (sent == (int)size) {
        return;
    }
    sent = sent < 0 ? 0 : sent;
    struct rest *rest = need_memory(sizeof *rest + size - (size_t)sent);
    memcpy(rest->data, buffer + sent, size - (size_t)sent);
    part = uv_buf_init(rest->data, (unsigned)(size - (size_t)sent));
    if (uv_write(&rest->request, stream, &part, 1, on_written) < 0) {
        free(rest);
    }
}

static void
on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *given)
{
    (void)given;
    if (count > 0) {
        stream_send(stream, (size_t)count);
    }
    else if (count < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
    }
}

static void
on_connection(uv_stream_t *server, int status)
{
    check(status, "listen");
    bool is_unix = server->type == UV_NAMED_PIPE;
    uv_stream_t *stream = need_memory(is_unix ? sizeof(uv_pipe_t) : sizeof(uv_tcp_t));
    if (is_unix) {
        uv_pipe_init(server->loop, (uv_pipe_t *)stream, 0);
    }
    else {
        uv_tcp_init(server->loop, (uv_tcp_t *)stream);
    }
    check(uv_accept(server, stream), "accept");
    if (!is_unix) {
        uv_tcp_nodelay((uv_tcp_t *)stream, 1);
    }
    check(uv_read_start(stream, give_buffer, on_read), "read");
}

static void
on_sent(uv_udp_send_t *request, int status)
{
    (void)status;
    free(request);
}

static void
on_datagram(uv_udp_t *udp, ssize_t count, const uv_buf_t *given, const struct sockaddr *peer, unsigned flags)
{
    (void)flags;
    if (count <= 0 || peer == NULL) {
        return;
    }
    uv_buf_t part = uv_buf_init(given->base, (unsigned)count);
    if (uv_udp_try_send(udp, &part, 1, peer) >= 0) {
        return;
    }
    struct datagram *datagram = need_memory(sizeof *datagram + (size_t)count);
    memcpy(datagram->data, given->base, (size_t)count);
    part.base = datagram->data;
    if (uv_udp_send(&datagram->request, udp, &part, 1, peer, on_sent) < 0) {
        free(datagram);
    }
}

int
main(int argc, char **argv)
{
    static union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_udp_t udp;
    } any;
    struct echo_socket server = echo_socket_open(argc, argv);
    uv_loop_t *loop = uv_default_loop();
    if (server.is_datagram) {
        check(uv_udp_init_ex(loop, &any.udp, UV_UDP_RECVMMSG), "init");
        check(uv_udp_open(&any.udp, server.fd), "open");
        check(uv_udp_recv_start(&any.udp, give_buffer, on_datagram), "receive");
    }
    else {
        if (server.is_unix) {
            check(uv_pipe_init(loop, &any.pipe, 0), "init");
            check(uv_pipe_open(&any.pipe, server.fd), "open");
        }
        else {
            check(uv_tcp_init(loop, &any.tcp), "init");
            check(uv_tcp_open(&any.tcp, server.fd), "open");
        }
        check(uv_listen(&any.stream, 1024, on_connection), "listen");
    }
    echo_socket_announce(&server);
    return uv_run(loop, UV_RUN_DEFAULT);
}
