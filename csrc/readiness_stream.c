/* SPDX-License-Identifier: MIT
 *
 * The stream half of core.h over a readiness_source; see readiness.h.  All of RLoop's streams are these.
 *
 * The poller is asked for exactly what the stream waits for: readability while reading, writability while a write is in
 * flight.  Any callback may close the stream; it then stays in memory until stream_on_ready is about to return.
 */
#include "readiness.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* Where send(2) has no such flag the socket has an option instead; stream_open sets it. */
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

struct core_stream {
    const struct readiness_poller *poller;
    struct core_loop *loop;
    struct readiness_source *source;
    const struct core_stream_events *events;
    void *owner;
    enum core_stream_kind kind;
    int fd;
    bool is_reading;
    bool is_delivering; /* stream_on_ready is at work and frees the stream if it is closed meanwhile */
    bool is_closed;
    bool is_writing; /* a write is in flight, and these three tell what is left of it */
    int iovcnt;
    struct iovec *iov;
    size_t unsent;
};

/* --- interest */

static int
stream_update_interest(struct core_stream *stream)
{
    unsigned interest = (stream->is_reading ? (unsigned)CORE_READABLE : 0u) |
                        (stream->is_writing ? (unsigned)CORE_WRITABLE : 0u);
    return interest == stream->source->interest ? 0 : stream->poller->set(stream->source, interest);
}

/* Come back when the fd takes bytes: in the next poll, if it is of a kind that can't be polled. */
static int
stream_await_writable(struct core_stream *stream)
{
    int error = stream_update_interest(stream);
    return error == -EPERM ? stream->poller->post(stream->source) : error;
}

static void
stream_stop_reading(struct core_stream *stream)
{
    stream->is_reading = false;
    (void)stream_update_interest(stream); /* to ask for less can't fail */
}

/* --- system calls */

static ssize_t
stream_receive(const struct core_stream *stream, const struct iovec *buffer)
{
    ssize_t count;
    do {
        count = stream->kind == CORE_STREAM_SOCKET ? recv(stream->fd, buffer->iov_base, buffer->iov_len, 0)
                                                   : read(stream->fd, buffer->iov_base, buffer->iov_len);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

/* The first IOV_MAX buffers, in one system call. */
static ssize_t
stream_send(const struct core_stream *stream, const struct iovec *iov, int iovcnt)
{
    int batch = iovcnt < IOV_MAX ? iovcnt : IOV_MAX;
    ssize_t count;
    do {
        if (stream->kind != CORE_STREAM_SOCKET) {
            count = writev(stream->fd, iov, batch);
        }
        else if (batch == 1) {
            count = send(stream->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
        }
        else {
            struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = batch};
            count = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
        }
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

/* --- delivery */

/* One on_buffer and its on_read.  True if there may be more to read now. */
static bool
stream_deliver_read(struct core_stream *stream)
{
    struct iovec buffer = {NULL, 0};
    stream->events->on_buffer(stream->owner, &buffer);
    if (stream->is_closed || buffer.iov_len == 0) {
        return false;
    }
    /* A buffer that was given is given back, even if reading was stopped at the same time. */
    ssize_t result = stream->is_reading ? stream_receive(stream, &buffer) : -EAGAIN;
    if (result <= 0 && result != -EAGAIN) {
        stream_stop_reading(stream);
    }
    stream->events->on_read(stream->owner, result);
    return result > 0 && (size_t)result == buffer.iov_len;
}

static void
stream_deliver_reads(struct core_stream *stream)
{
    if (stream->kind == CORE_STREAM_PIPE_WRITE) {
        stream_stop_reading(stream);
        stream->events->on_read(stream->owner, 0);
        return;
    }
    for (int i = 0; i < CORE_READS_PER_POLL; i++) {
        if (!stream_deliver_read(stream) || stream->is_closed || !stream->is_reading ||
            stream->poller->is_interrupted(stream->loop))
        {
            return;
        }
    }
}

static void
stream_advance(struct core_stream *stream, size_t count)
{
    stream->unsent -= count;
    while (stream->iovcnt > 0 && count >= stream->iov->iov_len) {
        count -= stream->iov->iov_len;
        stream->iov++;
        stream->iovcnt--;
    }
    if (count > 0) {
        stream->iov->iov_base = (char *)stream->iov->iov_base + count;
        stream->iov->iov_len -= count;
    }
}

/* 0: everything is with the kernel.  -EAGAIN: it takes no more now. */
static int
stream_flush(struct core_stream *stream)
{
    while (stream->unsent > 0) {
        const struct iovec *batch_end = stream->iov + (stream->iovcnt < IOV_MAX ? stream->iovcnt : IOV_MAX);
        ssize_t count = stream_send(stream, stream->iov, stream->iovcnt);
        if (count < 0) {
            return (int)count;
        }
        stream_advance(stream, (size_t)count);
        if (stream->iov < batch_end) {
            return -EAGAIN; /* what the kernel did not take now it would refuse if asked again */
        }
    }
    return 0;
}

static void
stream_deliver_write(struct core_stream *stream)
{
    int status = stream_flush(stream);
    if (status == -EAGAIN) {
        status = stream_await_writable(stream);
        if (status == 0) {
            return;
        }
    }
    stream->is_writing = false;
    stream->unsent = 0;
    (void)stream_update_interest(stream);
    stream->events->on_written(stream->owner, status);
}

static void
stream_on_ready(void *owner, unsigned ready)
{
    struct core_stream *stream = owner;
    stream->is_delivering = true;
    if (ready & CORE_READABLE) {
        stream_deliver_reads(stream);
    }
    if ((ready & CORE_WRITABLE) && !stream->is_closed && !stream->poller->is_interrupted(stream->loop)) {
        stream_deliver_write(stream);
    }
    stream->is_delivering = false;
    if (stream->is_closed) {
        free(stream);
    }
}

/* --- downward calls */

static void
stream_on_destroy(void *owner)
{
    readiness_stream_close(owner);
}

int
readiness_stream_open(const struct readiness_poller *poller, struct core_loop *loop, int fd, enum core_stream_kind kind,
                      const struct core_stream_events *events, void *owner, struct core_stream **result)
{
    struct core_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return -ENOMEM;
    }
    int error = poller->open(loop, fd, stream_on_ready, stream, &stream->source);
    if (error < 0) {
        free(stream);
        return error;
    }
    stream->source->on_destroy = stream_on_destroy;
    stream->poller = poller;
    stream->loop = loop;
    stream->events = events;
    stream->owner = owner;
    stream->kind = kind;
    stream->fd = fd;
#ifdef SO_NOSIGPIPE
    if (kind == CORE_STREAM_SOCKET) {
        /* It fails on a socket whose peer has gone; the first write tells. */
        (void)setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &(int){1}, sizeof(int));
    }
#endif
    *result = stream;
    return 0;
}

int
readiness_stream_read_start(struct core_stream *stream)
{
    stream->is_reading = true;
    int error = stream_update_interest(stream);
    if (error == 0) {
        return 0;
    }
    stream->is_reading = false;
    /* What can't be polled has no reader that could leave. */
    return error == -EPERM && stream->kind == CORE_STREAM_PIPE_WRITE ? 0 : error;
}

void
readiness_stream_read_stop(struct core_stream *stream)
{
    stream_stop_reading(stream);
}

ssize_t
readiness_stream_try_write(struct core_stream *stream, const struct iovec *iov, int iovcnt)
{
    assert(!stream->is_writing);
    return stream_send(stream, iov, iovcnt);
}

int
readiness_stream_write(struct core_stream *stream, struct iovec *iov, int iovcnt)
{
    assert(!stream->is_writing);
    stream->is_writing = true;
    int error = stream_await_writable(stream);
    if (error < 0) {
        stream->is_writing = false;
        return error;
    }
    stream->iov = iov;
    stream->iovcnt = iovcnt;
    stream->unsent = 0;
    for (int i = 0; i < iovcnt; i++) {
        stream->unsent += iov[i].iov_len;
    }
    return 0;
}

size_t
readiness_stream_unsent(const struct core_stream *stream)
{
    return stream->unsent;
}

int
readiness_stream_shutdown(struct core_stream *stream)
{
    assert(!stream->is_writing);
    return shutdown(stream->fd, SHUT_WR) < 0 ? -errno : 0;
}

void
readiness_stream_close(struct core_stream *stream)
{
    stream->poller->close(stream->source);
    close(stream->fd);
    stream->is_closed = true;
    if (!stream->is_delivering) {
        free(stream);
    }
}
