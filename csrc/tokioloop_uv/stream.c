/* SPDX-License-Identifier: MIT
 *
 * Streams of TokioLoop: libuv's own, uv_tcp_t for internet sockets, uv_pipe_t for Unix-domain ones and read pipes.
 *
 * The reactor stands in where libuv can't (uvcore_stream_is_for_libuv): then `below` is its stream, and all calls go
 * there.  The callbacks from libuv keep to the rule of uvcore.h; object.c has the life of a stream.
 */
#include "uvcore.h"

#include "../rloop_mio/reactor.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The most buffers that one writev takes on Linux: to give libuv more at a time buys nothing. */
enum { WRITE_BATCH = 1024 };

/* The write in flight; on the heap, for most streams never have one.  libuv calls back once for every request that it has
 * taken, and that ends it. */
struct uvcore_write {
    uv_write_t request;
    /* What comes after the batch that libuv has. */
    struct iovec *iov;
    int iovcnt;
};

struct core_stream {
    struct uvcore_object object;
    const struct core_stream_events *events;
    void *owner;
    struct uvcore_write *write; /* NULL when none is in flight */
    bool is_reading;
    /* The last field: a stream has only the memory of the one that it uses (uvcore_stream_size). */
    union {
        struct core_stream *below; /* of the reactor's making, for it alone to look into */
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
};

static bool
uvcore_stream_is_below(const struct core_stream *stream)
{
    return stream->object.handle == NULL;
}

/* --- reading */

static void uvcore_stream_on_read(uv_stream_t *handle, ssize_t nread, const uv_buf_t *buf);

static void
uvcore_stream_on_alloc(uv_handle_t *handle, size_t suggested_size, uv_buf_t *buf)
{
    (void)suggested_size;
    struct core_stream *stream = handle->data;
    struct iovec buffer = {NULL, 0};
    uvcore_begin_delivery(stream->object.loop);
    if (stream->is_reading && uvcore_object_may_read(&stream->object)) {
        stream->events->on_buffer(stream->owner, &buffer);
    }
    bool is_stopped = !stream->is_reading;
    if (is_stopped && !stream->object.is_closed && buffer.iov_len > 0) {
        stream->events->on_read(stream->owner, -EAGAIN); /* what was stopped in on_buffer gives the buffer back */
    }
    buf->base = buffer.iov_base;
    buf->len = is_stopped ? 0 : buffer.iov_len;
    /* libuv calls read_cb next in any case, if only to say that it was given no buffer.  When reading was stopped, or
     * the stream closed, in here, it has set read_cb to NULL: for that one call it gets it back. */
    stream->uv.stream.read_cb = uvcore_stream_on_read;
}

/* libuv says end of file because of a hang-up, and did not read to see it.  That isn't believed: the last read, if it left
 * room, may have ended at a mark in the stream.  Read, or else ask again in the next poll. */
static void
uvcore_stream_on_hang_up(struct core_stream *stream)
{
    uv_handle_t *handle = &stream->uv.handle;
    uv_buf_t buf = {.base = NULL, .len = 0};
    ssize_t nread = 0;
    uv_read_start(&stream->uv.stream, uvcore_stream_on_alloc, uvcore_stream_on_read);
    uvcore_stream_on_alloc(handle, 0, &buf);
    if (buf.len > 0) {
        do {
            nread = read(stream->object.fd, buf.base, buf.len);
        } while (nread < 0 && errno == EINTR);
        nread = nread > 0 ? nread : nread == 0 ? UV_EOF : errno == EAGAIN ? 0 : -errno;
    }
    uvcore_stream_on_read(&stream->uv.stream, nread, &buf);
}

static void
uvcore_stream_on_read(uv_stream_t *handle, ssize_t nread, const uv_buf_t *buf)
{
    struct core_stream *stream = handle->data;
    if (buf->len == 0) {
        if (!stream->is_reading) {
            handle->read_cb = NULL; /* since 1.52 libuv takes it to mean that it is reading */
        }
        else if (nread == UV_EOF) {
            uvcore_stream_on_hang_up(stream);
        }
        return;
    }
    ssize_t result = nread == 0 ? -EAGAIN : nread == UV_EOF ? 0 : nread;
    bool is_full = result > 0 && (size_t)result == buf->len;
    stream->object.reads = is_full ? stream->object.reads + 1 : CORE_READS_PER_POLL;
    if (result <= 0 && result != -EAGAIN) {
        uvcore_stream_read_stop(stream);
    }
    stream->events->on_read(stream->owner, result);
}

int
uvcore_stream_read_start(struct core_stream *stream)
{
    if (uvcore_stream_is_below(stream)) {
        return mio_core_ops.stream_read_start(stream->uv.below);
    }
    if (stream->is_reading) {
        return 0;
    }
    int error = uv_read_start(&stream->uv.stream, uvcore_stream_on_alloc, uvcore_stream_on_read);
    stream->is_reading = error == 0;
    return error;
}

void
uvcore_stream_read_stop(struct core_stream *stream)
{
    if (uvcore_stream_is_below(stream)) {
        mio_core_ops.stream_read_stop(stream->uv.below);
        return;
    }
    stream->is_reading = false;
    uv_read_stop(&stream->uv.stream);
}

/* --- writing */

/* What libuv is given at a time: never too many buffers, and never none. */
struct uvcore_batch {
    const uv_buf_t *bufs;
    unsigned count;
};

static struct uvcore_batch
uvcore_stream_batch(const struct iovec *iov, int iovcnt)
{
    static const uv_buf_t nothing = {.base = NULL, .len = 0};
    if (iovcnt == 0) {
        return (struct uvcore_batch){&nothing, 1};
    }
    return (struct uvcore_batch){(const uv_buf_t *)iov, iovcnt < WRITE_BATCH ? (unsigned)iovcnt : WRITE_BATCH};
}

static void uvcore_stream_on_batch(uv_write_t *request, int status);

static int
uvcore_stream_write_batch(struct core_stream *stream, struct uvcore_write *write)
{
    struct uvcore_batch batch = uvcore_stream_batch(write->iov, write->iovcnt);
    int error = uv_write(&write->request, &stream->uv.stream, batch.bufs, batch.count, uvcore_stream_on_batch);
    if (error == 0 && write->iovcnt > 0) {
        write->iov += batch.count;
        write->iovcnt -= (int)batch.count;
    }
    return error;
}

static void
uvcore_stream_on_batch(uv_write_t *request, int status)
{
    struct core_stream *stream = request->data;
    struct uvcore_write *write = stream->write;
    if (!stream->object.is_closed) {
        uvcore_begin_delivery(stream->object.loop);
    }
    bool is_closed = stream->object.is_closed;
    if (!is_closed && status == 0 && write->iovcnt > 0) {
        status = uvcore_stream_write_batch(stream, write);
        if (status == 0) {
            return;
        }
    }
    stream->write = NULL;
    free(write);
    if (is_closed) {
        return;
    }
    uvcore_object_written(&stream->object, status);
}

static void
uvcore_stream_complete(struct uvcore_object *object)
{
    struct core_stream *stream = (struct core_stream *)object;
    object->is_writing = false;
    stream->events->on_written(stream->owner, object->status);
}

ssize_t
uvcore_stream_try_write(struct core_stream *stream, const struct iovec *iov, int iovcnt)
{
    if (uvcore_stream_is_below(stream)) {
        return mio_core_ops.stream_try_write(stream->uv.below, iov, iovcnt);
    }
    assert(!stream->object.is_writing);
    struct uvcore_batch batch = uvcore_stream_batch(iov, iovcnt);
    return uv_try_write(&stream->uv.stream, batch.bufs, batch.count);
}

int
uvcore_stream_write(struct core_stream *stream, struct iovec *iov, int iovcnt)
{
    if (uvcore_stream_is_below(stream)) {
        return mio_core_ops.stream_write(stream->uv.below, iov, iovcnt);
    }
    assert(!stream->object.is_writing);
    struct uvcore_write *write = malloc(sizeof *write);
    if (write == NULL) {
        return -ENOMEM;
    }
    write->request.data = stream;
    write->iov = iov;
    write->iovcnt = iovcnt;
    int error = uvcore_stream_write_batch(stream, write);
    if (error < 0) {
        free(write);
        return error;
    }
    stream->write = write;
    stream->object.is_writing = true;
    return 0;
}

size_t
uvcore_stream_unsent(const struct core_stream *stream)
{
    if (uvcore_stream_is_below(stream)) {
        return mio_core_ops.stream_unsent(stream->uv.below);
    }
    if (!stream->object.is_writing) {
        return 0;
    }
    size_t unsent = uv_stream_get_write_queue_size(&stream->uv.stream);
    /* A write that has ended and is yet to be told (an interrupted poll) has no request any more. */
    for (int i = 0; stream->write != NULL && i < stream->write->iovcnt; i++) {
        unsent += stream->write->iov[i].iov_len;
    }
    return unsent;
}

/* --- the end */

int
uvcore_stream_shutdown(struct core_stream *stream)
{
    if (uvcore_stream_is_below(stream)) {
        return mio_core_ops.stream_shutdown(stream->uv.below);
    }
    assert(!stream->object.is_writing);
    return shutdown(stream->object.fd, SHUT_WR) < 0 ? -errno : 0;
}

void
uvcore_stream_close(struct core_stream *stream)
{
    stream->is_reading = false;
    if (uvcore_stream_is_below(stream)) {
        mio_core_ops.stream_close(stream->uv.below);
    }
    uvcore_object_close(&stream->object);
}

static void
uvcore_stream_close_object(struct uvcore_object *object)
{
    uvcore_stream_close((struct core_stream *)object);
}

static void
uvcore_stream_stop_object(struct uvcore_object *object)
{
    uvcore_stream_read_stop((struct core_stream *)object);
}

static const struct uvcore_kind uvcore_stream_kind = {
    .close = uvcore_stream_close_object,
    .stop = uvcore_stream_stop_object,
    .complete = uvcore_stream_complete,
};

/* --- the beginning */

/* libuv never sees that a write pipe's reader left, aborts the process on a file that can't be polled, and doesn't
 * close fds 0, 1 and 2. */
static bool
uvcore_stream_is_for_libuv(int fd, enum core_stream_kind kind)
{
    if (fd <= STDERR_FILENO || kind == CORE_STREAM_PIPE_WRITE) {
        return false;
    }
    struct stat status;
    return kind == CORE_STREAM_SOCKET ||
           (fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)));
}

static size_t
uvcore_stream_size(bool is_for_libuv, bool is_pipe)
{
    size_t size = !is_for_libuv ? sizeof(struct core_stream *) : is_pipe ? sizeof(uv_pipe_t) : sizeof(uv_tcp_t);
    return offsetof(struct core_stream, uv) + size;
}

static int
uvcore_stream_open_uv(struct core_stream *stream, bool is_pipe)
{
    uv_loop_t *uv = &stream->object.loop->uv;
    int fd = stream->object.fd;
    int error = is_pipe ? uv_pipe_init(uv, &stream->uv.pipe, 0) : uv_tcp_init(uv, &stream->uv.tcp);
    if (error < 0) {
        return error;
    }
    uvcore_object_hold(&stream->object, &stream->uv.handle);
    return is_pipe ? uv_pipe_open(&stream->uv.pipe, fd) : uv_tcp_open(&stream->uv.tcp, fd);
}

int
uvcore_stream_open(struct core_loop *loop, int fd, enum core_stream_kind kind, const struct core_stream_events *events,
                   void *owner, struct core_stream **result)
{
    bool is_for_libuv = uvcore_stream_is_for_libuv(fd, kind);
    bool is_pipe = kind == CORE_STREAM_PIPE_READ || (is_for_libuv && uvcore_socket_family(fd) == AF_UNIX);
    struct core_stream *stream = calloc(1, uvcore_stream_size(is_for_libuv, is_pipe));
    if (stream == NULL) {
        return -ENOMEM;
    }
    uvcore_object_init(&stream->object, &uvcore_stream_kind, loop, fd);
    stream->events = events;
    stream->owner = owner;
    int error = is_for_libuv ? uvcore_stream_open_uv(stream, is_pipe)
                             : mio_core_ops.stream_open(loop->reactor, fd, kind, events, owner, &stream->uv.below);
    if (error < 0) {
        uvcore_object_close(&stream->object);
        return error;
    }
    uvcore_object_list(&stream->object);
    *result = stream;
    return 0;
}
