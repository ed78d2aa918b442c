/* SPDX-License-Identifier: MIT
 *
 * Datagram sockets of TokioLoop: libuv's uv_udp_t for UDP.
 *
 * The reactor stands in for every other kind (uvcore_datagram_is_for_libuv): then `below` is its object, and all calls
 * go there.  The callbacks from libuv keep to the rule of uvcore.h; object.c has the life of a datagram.
 */
#include "uvcore.h"

#include "../rloop_mio/reactor.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

struct core_datagram {
    struct uvcore_object object;
    struct core_datagram *below; /* of the reactor's making, for it alone to look into; else NULL */
    uv_udp_t udp;
    const struct core_datagram_events *events;
    void *owner;
    bool is_receiving;
    uv_udp_send_t request;
};

/* --- receiving */

static void
uvcore_datagram_on_alloc(uv_handle_t *handle, size_t suggested_size, uv_buf_t *buf)
{
    (void)suggested_size;
    struct core_datagram *datagram = handle->data;
    struct iovec buffer = {NULL, 0};
    uvcore_begin_delivery(datagram->object.loop);
    if (datagram->is_receiving && uvcore_object_may_read(&datagram->object)) {
        datagram->events->on_buffer(datagram->owner, &buffer);
    }
    bool is_stopped = !datagram->is_receiving;
    if (is_stopped && !datagram->object.is_closed && buffer.iov_len > 0) {
        /* What was stopped in on_buffer gives the buffer back. */
        datagram->events->on_datagram(datagram->owner, -EAGAIN, NULL, 0);
    }
    buf->base = buffer.iov_base;
    buf->len = is_stopped ? 0 : buffer.iov_len;
}

/* libuv gives no length: nothing but internet addresses comes here. */
static socklen_t
uvcore_datagram_address_len(const struct sockaddr *address)
{
    switch (address == NULL ? AF_UNSPEC : address->sa_family) {
    case AF_INET:
        return sizeof(struct sockaddr_in);
    case AF_INET6:
        return sizeof(struct sockaddr_in6);
    default:
        return 0;
    }
}

static void
uvcore_datagram_on_recv(uv_udp_t *udp, ssize_t nread, const uv_buf_t *buf, const struct sockaddr *from, unsigned flags)
{
    (void)flags;
    struct core_datagram *datagram = udp->data;
    if (buf->len == 0) {
        return; /* no buffer, nothing received */
    }
    ssize_t result = nread == 0 && from == NULL ? -EAGAIN : nread;
    datagram->object.reads = result != -EAGAIN ? datagram->object.reads + 1 : CORE_READS_PER_POLL;
    datagram->events->on_datagram(datagram->owner, result, from, uvcore_datagram_address_len(from));
}

/* libuv calls these two also when nothing is being received: the second whenever it has called the first, even if
 * receiving was stopped in that, and since 1.52 both when a send fails. */
static void
uvcore_datagram_set_callbacks(struct core_datagram *datagram)
{
    datagram->udp.alloc_cb = uvcore_datagram_on_alloc;
    datagram->udp.recv_cb = uvcore_datagram_on_recv;
}

int
uvcore_datagram_recv_start(struct core_datagram *datagram)
{
    if (datagram->below != NULL) {
        return mio_core_ops.datagram_recv_start(datagram->below);
    }
    if (datagram->is_receiving) {
        return 0;
    }
    int error = uv_udp_recv_start(&datagram->udp, uvcore_datagram_on_alloc, uvcore_datagram_on_recv);
    datagram->is_receiving = error == 0;
    return error;
}

void
uvcore_datagram_recv_stop(struct core_datagram *datagram)
{
    if (datagram->below != NULL) {
        mio_core_ops.datagram_recv_stop(datagram->below);
        return;
    }
    datagram->is_receiving = false;
    uv_udp_recv_stop(&datagram->udp);
    uvcore_datagram_set_callbacks(datagram);
}

/* --- sending */

static void
uvcore_datagram_on_sent(uv_udp_send_t *request, int status)
{
    struct core_datagram *datagram = request->data;
    if (!datagram->object.is_closed) {
        uvcore_begin_delivery(datagram->object.loop);
    }
    if (!datagram->object.is_closed) {
        uvcore_object_written(&datagram->object, status);
    }
}

static void
uvcore_datagram_complete(struct uvcore_object *object)
{
    struct core_datagram *datagram = (struct core_datagram *)object;
    object->is_writing = false;
    datagram->events->on_sent(datagram->owner, object->status);
}

int
uvcore_datagram_try_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                         socklen_t to_len)
{
    if (datagram->below != NULL) {
        return mio_core_ops.datagram_try_send(datagram->below, iov, to, to_len);
    }
    assert(!datagram->object.is_writing);
    int result = uv_udp_try_send(&datagram->udp, (const uv_buf_t *)iov, 1, to);
    return result < 0 ? result : 0;
}

int
uvcore_datagram_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                     socklen_t to_len)
{
    if (datagram->below != NULL) {
        return mio_core_ops.datagram_send(datagram->below, iov, to, to_len);
    }
    assert(!datagram->object.is_writing);
    const uv_buf_t *buf = (const uv_buf_t *)iov;
    int error = uv_udp_send(&datagram->request, &datagram->udp, buf, 1, to, uvcore_datagram_on_sent);
    datagram->object.is_writing = error == 0;
    return error;
}

/* --- the end */

void
uvcore_datagram_close(struct core_datagram *datagram)
{
    datagram->is_receiving = false;
    if (datagram->below != NULL) {
        mio_core_ops.datagram_close(datagram->below);
    }
    uvcore_object_close(&datagram->object);
}

static void
uvcore_datagram_close_object(struct uvcore_object *object)
{
    uvcore_datagram_close((struct core_datagram *)object);
}

static void
uvcore_datagram_stop_object(struct uvcore_object *object)
{
    uvcore_datagram_recv_stop((struct core_datagram *)object);
}

static const struct uvcore_kind uvcore_datagram_kind = {
    .close = uvcore_datagram_close_object,
    .stop = uvcore_datagram_stop_object,
    .complete = uvcore_datagram_complete,
};

/* --- the beginning */

/* libuv cuts an abstract Unix-domain address at its first zero byte, knows no other family than these, and aborts the
 * process when it has to close fd 0, 1 or 2. */
static bool
uvcore_datagram_is_for_libuv(int fd)
{
    int family = uvcore_socket_family(fd);
    return fd > STDERR_FILENO && (family == AF_INET || family == AF_INET6);
}

/* uv_udp_open sets one of these options, on a socket that isn't libuv's own: set it back. */
static int
uvcore_datagram_open_fd(struct core_datagram *datagram)
{
    static const int names[] = {SO_REUSEADDR, SO_REUSEPORT};
    enum { COUNT = sizeof names / sizeof names[0] };
    int fd = datagram->object.fd;
    int values[COUNT];
    for (int i = 0; i < COUNT; i++) {
        socklen_t length = sizeof values[i];
        if (getsockopt(fd, SOL_SOCKET, names[i], &values[i], &length) < 0) {
            return -errno;
        }
    }
    int error = uv_udp_open(&datagram->udp, fd);
    for (int i = 0; i < COUNT; i++) {
        if (values[i] == 0) {
            (void)setsockopt(fd, SOL_SOCKET, names[i], &values[i], sizeof values[i]);
        }
    }
    return error;
}

static int
uvcore_datagram_open_uv(struct core_datagram *datagram)
{
    int error = uv_udp_init(&datagram->object.loop->uv, &datagram->udp);
    if (error < 0) {
        return error;
    }
    uvcore_object_hold(&datagram->object, (uv_handle_t *)&datagram->udp);
    datagram->request.data = datagram;
    uvcore_datagram_set_callbacks(datagram);
    return uvcore_datagram_open_fd(datagram);
}

int
uvcore_datagram_open(struct core_loop *loop, int fd, const struct core_datagram_events *events, void *owner,
                     struct core_datagram **result)
{
    struct core_datagram *datagram = calloc(1, sizeof *datagram);
    if (datagram == NULL) {
        return -ENOMEM;
    }
    uvcore_object_init(&datagram->object, &uvcore_datagram_kind, loop, fd);
    datagram->events = events;
    datagram->owner = owner;
    int error = uvcore_datagram_is_for_libuv(fd)
                    ? uvcore_datagram_open_uv(datagram)
                    : mio_core_ops.datagram_open(loop->reactor, fd, events, owner, &datagram->below);
    if (error < 0) {
        uvcore_object_close(&datagram->object);
        return error;
    }
    uvcore_object_list(&datagram->object);
    *result = datagram;
    return 0;
}
