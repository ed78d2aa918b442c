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
    struct iovec *pieces = PyMem_Resize(batch->pieces, struct iovec, (size_t)capacity);
    if (pieces == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    batch->pieces = pieces;
    PyObject **owners = PyMem_Resize(batch->owners, PyObject *, (size_t)capacity);
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
buffer_add_piece(struct write_buffer *buffer, PyObject *owner, const char *data, size_t size)
{
    struct write_batch *batch = &buffer->pending;
    if (batch->count == batch->capacity && batch_grow(batch) < 0) {
        Py_DECREF(owner);
        return -1;
    }
    batch->pieces[batch->count] = (struct iovec){(void *)data, size};
    batch->owners[batch->count++] = owner;
    buffer->pending_size += size;
    return 0;
}

static void
buffer_extend_tail(struct write_buffer *buffer, const char *data, size_t size)
{
    struct iovec *tail = &buffer->pending.pieces[buffer->pending.count - 1];
    memcpy((char *)tail->iov_base + tail->iov_len, data, size);
    tail->iov_len += size;
    buffer->tail_room -= size;
    buffer->pending_size += size;
}

static size_t
buffer_chunk_size(const struct write_buffer *buffer, size_t size)
{
    if (size > COPY_LIMIT) {
        return size;
    }
    size_t wanted = buffer->pending_size < CHUNK_MIN ? CHUNK_MIN : buffer->pending_size;
    return wanted > CHUNK_MAX ? CHUNK_MAX : wanted;
}

int
write_buffer_append(struct write_buffer *buffer, PyObject *owner, const char *data, size_t size)
{
    assert(size > 0);
    if (owner != NULL && size > COPY_LIMIT) {
        buffer->tail_room = 0;
        return buffer_add_piece(buffer, Py_NewRef(owner), data, size);
    }
    if (size <= buffer->tail_room) {
        buffer_extend_tail(buffer, data, size);
        return 0;
    }
    size_t chunk_size = buffer_chunk_size(buffer, size);
    PyObject *chunk = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)chunk_size);
    if (chunk == NULL) {
        return -1;
    }
    char *start = PyBytes_AS_STRING(chunk);
    memcpy(start, data, size);
    buffer->tail_room = 0;
    if (buffer_add_piece(buffer, chunk, start, size) < 0) {
        return -1;
    }
    buffer->tail_room = chunk_size - size;
    return 0;
}

void
write_buffer_consume(struct write_buffer *buffer, size_t size)
{
    assert(size <= buffer->pending_size);
    struct write_batch *batch = &buffer->pending;
    int written = 0;
    buffer->pending_size -= size;
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
        buffer->tail_room = 0;
    }
}

const struct write_batch *
write_buffer_begin_flight(struct write_buffer *buffer)
{
    assert(!write_buffer_is_in_flight(buffer));
    struct write_batch spare = buffer->in_flight;
    buffer->in_flight = buffer->pending;
    buffer->pending = spare;
    buffer->pending_size = 0;
    buffer->tail_room = 0;
    return &buffer->in_flight;
}

void
write_buffer_end_flight(struct write_buffer *buffer)
{
    batch_empty(&buffer->in_flight);
}

void
write_buffer_drop_pending(struct write_buffer *buffer)
{
    batch_empty(&buffer->pending);
    buffer->pending_size = 0;
    buffer->tail_room = 0;
}

void
write_buffer_clear(struct write_buffer *buffer)
{
    batch_free(&buffer->pending);
    batch_free(&buffer->in_flight);
    buffer->pending_size = 0;
    buffer->tail_room = 0;
}
