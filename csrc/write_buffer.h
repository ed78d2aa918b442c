/* SPDX-License-Identifier: MIT
 *
 * write_buffer.h - what a stream has been given to write and the kernel has not taken yet.
 *
 * Two batches of pieces: `in_flight`, which the core is writing, and `pending`, which goes as the next batch.  A piece
 * of a bytes object refers to it; anything mutable is copied, and small pieces are copied together, so that many tiny
 * writes cost a memcpy each and become few iovecs.  Most connections never have anything wait, so that a buffer is one
 * pointer until then.
 */
#ifndef RLOOP_WRITE_BUFFER_H
#define RLOOP_WRITE_BUFFER_H

#include "module.h"

#include <sys/uio.h>

struct write_batch {
    struct iovec *pieces;
    PyObject **owners; /* a bytes object for each piece */
    int count;
    int capacity;
};

struct write_queue {
    struct write_batch pending;
    struct write_batch in_flight;
    size_t pending_size;
    size_t tail_room; /* bytes free behind the last pending piece, which then lies in a chunk of our own */
};

struct write_mark {
    int count;        /* of the pending pieces ... */
    size_t last_size; /* ... and the size of the last of them */
    size_t pending_size;
};

struct write_buffer {
    struct write_queue *queue; /* NULL until something has to wait */
};

static inline bool
write_buffer_is_in_flight(const struct write_buffer *buffer)
{
    return buffer->queue != NULL && buffer->queue->in_flight.count > 0;
}

static inline bool
write_buffer_is_pending(const struct write_buffer *buffer)
{
    return buffer->queue != NULL && buffer->queue->pending.count > 0;
}

static inline bool
write_buffer_is_empty(const struct write_buffer *buffer)
{
    return !write_buffer_is_pending(buffer) && !write_buffer_is_in_flight(buffer);
}

static inline size_t
write_buffer_pending_size(const struct write_buffer *buffer)
{
    return buffer->queue == NULL ? 0 : buffer->queue->pending_size;
}

/* Add `size` (> 0) bytes to what is pending.  They are part of `owner`, a bytes object, or must be copied when that
 * is NULL.  0, or -1 with MemoryError and nothing added. */
int write_buffer_append(struct write_buffer *buffer, PyObject *owner, const char *data, size_t size);
/* Where what is pending ends, and back to there: what was added behind it since is gone.  Between the two, only
 * appends. */
struct write_mark write_buffer_mark(const struct write_buffer *buffer);
void write_buffer_rewind(struct write_buffer *buffer, const struct write_mark *mark);
/* What is pending (something must be); valid until the next call that changes it. */
const struct write_batch *write_buffer_pending(const struct write_buffer *buffer);
/* The first `size` bytes of what is pending have been written. */
void write_buffer_consume(struct write_buffer *buffer, size_t size);
/* Make what is pending (something must be) the batch in flight (none may be).  It stays valid until the next end_flight
 * or clear. */
const struct write_batch *write_buffer_begin_flight(struct write_buffer *buffer);
void write_buffer_end_flight(struct write_buffer *buffer);
/* Forget what is pending; the core may go on with what is in flight. */
void write_buffer_drop_pending(struct write_buffer *buffer);
/* Free everything; the core must not use it any more. */
void write_buffer_clear(struct write_buffer *buffer);

#endif
