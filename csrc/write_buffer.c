/* SPDX-License-Identifier: MIT
 *
 * The pending and the in-flight batch of a stream; see write_buffer.h.  Invariant: pending_size is the sum of the
 * pending pieces, and tail_room is not 0 only while the last pending piece is the open end of a chunk that nobody else
 * knows.
 */
#include "write_buffer.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

enum {
    COPY_LIMIT = 1024,    /* up to here a copy is cheaper than one more iovec, and keeps no large object alive */
    CHUNK_MIN = 4 * 1024, /* chunks grow with what is pending, so that one small rest does not cost much memory */
    CHUNK_MAX = 64 * 1024,
    FIRST_CAPACITY = 8,
    KEPT_CAPACITY = 256, /* larger arrays are freed when they have been used */
};

/* --- batches */

static int
batch_grow(struct write_batch *batch)
{
    if (batch->capacity > INT_MAX / 2) {
        PyErr_NoMemory();
        return -1;
    }
    int capacity = batch->capacity == 0 ? FIRST_CAPACITY : batch->capacity * 2;
    struct iovec *pieces = PyMem_Realloc(batch->pieces, (size_t)capacity * sizeof *pieces);
    if (pieces == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    batch->pieces = pieces;
    PyObject **owners = PyMem_Realloc(batch->owners, (size_t)capacity * sizeof *owners);
    if (owners == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    batch->owners = owners;
    batch->capacity = capacity;
    return 0;
}

static void
batch_drop_first(struct write_batch *batch, int count)
{
    for (int i = 0; i < count; i++) {
        Py_DECREF(batch->owners[i]); /* bytes: runs no code of anybody */
    }
    batch->count -= count;
    memmove(batch->pieces, batch->pieces + count, (size_t)batch->count * sizeof *batch->pieces);
    memmove(batch->owners, batch->owners + count, (size_t)batch->count * sizeof(PyObject *));
}

static void
batch_free(struct write_batch *batch)
{
    for (int i = 0; i < batch->count; i++) {
        Py_DECREF(batch->owners[i]);
    }
    PyMem_Free(batch->pieces);
    PyMem_Free(batch->owners);
    *batch = (struct write_batch){0};
}

static void
batch_empty(struct write_batch *batch)
{
    if (batch->capacity > KEPT_CAPACITY) {
        batch_free(batch);
    }
    else if (batch->count > 0) {
        batch_drop_first(batch, batch->count);
    }
}

/* --- the buffer */

/* One more piece; takes over the reference to `owner`, in case of failure too. */
static int
queue_add_piece(struct write_queue *queue, PyObject *owner, const char *data, size_t size)
{
    struct write_batch *batch = &queue->pending;
    if (batch->count == batch->capacity && batch_grow(batch) < 0) {
        Py_DECREF(owner);
        return -1;
    }
    batch->pieces[batch->count] = (struct iovec){(void *)data, size};
    batch->owners[batch->count++] = owner;
    queue->pending_size += size;
    return 0;
}

static void
queue_extend_tail(struct write_queue *queue, const char *data, size_t size)
{
    struct iovec *tail = &queue->pending.pieces[queue->pending.count - 1];
    memcpy((char *)tail->iov_base + tail->iov_len, data, size);
    tail->iov_len += size;
    queue->tail_room -= size;
    queue->pending_size += size;
}

static size_t
queue_chunk_size(const struct write_queue *queue, size_t size)
{
    if (size > COPY_LIMIT) {
        return size;
    }
    size_t wanted = queue->pending_size < CHUNK_MIN ? CHUNK_MIN : queue->pending_size;
    return wanted > CHUNK_MAX ? CHUNK_MAX : wanted;
}

static struct write_queue *
buffer_queue(struct write_buffer *buffer)
{
    if (buffer->queue == NULL) {
        buffer->queue = PyMem_Calloc(1, sizeof *buffer->queue);
        if (buffer->queue == NULL) {
            PyErr_NoMemory();
        }
    }
    return buffer->queue;
}

int
write_buffer_append(struct write_buffer *buffer, PyObject *owner, const char *data, size_t size)
{
    assert(size > 0);
    struct write_queue *queue = buffer_queue(buffer);
    if (queue == NULL) {
        return -1;
    }
    if (owner != NULL && size > COPY_LIMIT) {
        queue->tail_room = 0;
        return queue_add_piece(queue, Py_NewRef(owner), data, size);
    }
    if (size <= queue->tail_room) {
        queue_extend_tail(queue, data, size);
        return 0;
    }
    size_t chunk_size = queue_chunk_size(queue, size);
    PyObject *chunk = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)chunk_size);
    if (chunk == NULL) {
        return -1;
    }
    char *start = PyBytes_AS_STRING(chunk);
    memcpy(start, data, size);
    queue->tail_room = 0;
    if (queue_add_piece(queue, chunk, start, size) < 0) {
        return -1;
    }
    queue->tail_room = chunk_size - size;
    return 0;
}

struct write_mark
write_buffer_mark(const struct write_buffer *buffer)
{
    if (!write_buffer_is_pending(buffer)) {
        return (struct write_mark){0};
    }
    const struct write_queue *queue = buffer->queue;
    int count = queue->pending.count;
    return (struct write_mark){count, queue->pending.pieces[count - 1].iov_len, queue->pending_size};
}

void
write_buffer_rewind(struct write_buffer *buffer, const struct write_mark *mark)
{
    struct write_queue *queue = buffer->queue;
    if (queue == NULL) {
        return;
    }
    struct write_batch *batch = &queue->pending;
    while (batch->count > mark->count) {
        Py_DECREF(batch->owners[--batch->count]); /* bytes: runs no code of anybody */
    }
    if (mark->count > 0) {
        batch->pieces[mark->count - 1].iov_len = mark->last_size;
    }
    queue->pending_size = mark->pending_size;
    queue->tail_room = 0;
}

const struct write_batch *
write_buffer_pending(const struct write_buffer *buffer)
{
    assert(write_buffer_is_pending(buffer));
    return &buffer->queue->pending;
}

void
write_buffer_consume(struct write_buffer *buffer, size_t size)
{
    struct write_queue *queue = buffer->queue;
    assert(queue != NULL && size <= queue->pending_size);
    struct write_batch *batch = &queue->pending;
    int written = 0;
    queue->pending_size -= size;
    while (size > 0 && size >= batch->pieces[written].iov_len) {
        size -= batch->pieces[written++].iov_len;
    }
    if (size > 0) {
        struct iovec *piece = &batch->pieces[written];
        piece->iov_base = (char *)piece->iov_base + size;
        piece->iov_len -= size;
    }
    batch_drop_first(batch, written);
    if (batch->count == 0) {
        queue->tail_room = 0;
    }
}

const struct write_batch *
write_buffer_begin_flight(struct write_buffer *buffer)
{
    assert(write_buffer_is_pending(buffer) && !write_buffer_is_in_flight(buffer));
    struct write_queue *queue = buffer->queue;
    struct write_batch spare = queue->in_flight;
    queue->in_flight = queue->pending;
    queue->pending = spare;
    queue->pending_size = 0;
    queue->tail_room = 0;
    return &queue->in_flight;
}

void
write_buffer_end_flight(struct write_buffer *buffer)
{
    if (buffer->queue != NULL) {
        batch_empty(&buffer->queue->in_flight);
    }
}

void
write_buffer_drop_pending(struct write_buffer *buffer)
{
    struct write_queue *queue = buffer->queue;
    if (queue != NULL) {
        batch_empty(&queue->pending);
        queue->pending_size = 0;
        queue->tail_room = 0;
    }
}

void
write_buffer_clear(struct write_buffer *buffer)
{
    struct write_queue *queue = buffer->queue;
    buffer->queue = NULL;
    if (queue != NULL) {
        batch_free(&queue->pending);
        batch_free(&queue->in_flight);
        PyMem_Free(queue);
    }
}
