/* SPDX-License-Identifier: MIT
 *
 * readiness.h - completion made from readiness, below core.h and written once.
 *
 * readiness_stream.c and readiness_datagram.c implement the stream and datagram halves of core.h over a
 * `readiness_source`: an fd of which a poller says what it is ready for.  rloop_mio/ uses them for everything;
 * tokioloop_uv/ for what libuv's own streams and udp handles can't do (AF_UNIX datagrams, write-only pipes, files that
 * can't be polled), and says so there; the scripted core of the tests to misbehave on purpose.  A watch of core.h is a
 * source with a callback.
 *
 * A poller embeds a source in its own struct, and calls on_ready only inside loop_poll, honouring rules 1, 5, 6 and 8
 * of core.h.  `close` may come inside on_ready; neither side touches the source after it.  The stream or datagram looks
 * after its own memory: closed inside its own callbacks, it lives until on_ready is about to return.
 */
#ifndef RLOOP_READINESS_H
#define RLOOP_READINESS_H

#include "core.h"

struct readiness_source;

/* `ready` is a non-empty subset of the source's interest (an error or a hang-up counts as all of it). */
typedef void (*readiness_cb)(void *owner, unsigned ready);

struct readiness_source {
    int fd;
    unsigned interest; /* what on_ready is wanted for; written by the poller's set */
    readiness_cb on_ready;
    void *owner;
    /* Set by the stream or datagram above: loop_destroy calls it, so that the owner closes itself and thereby the
     * source.  NULL for a watch. */
    void (*on_destroy)(void *owner);
};

/* What a poller offers.  `set` and `close` have the meaning of watch_set and watch_close in core.h, except that the fd
 * is the caller's own and therefore still the same file: nothing needs to be checked.  A failed `set` leaves no
 * interest.  None closes the fd, and `close` also takes it out of the kernel's set at once, so that the caller may
 * close it then. */
struct readiness_poller {
    int (*open)(struct core_loop *loop, int fd, readiness_cb on_ready, void *owner, struct readiness_source **source);
    int (*set)(struct readiness_source *source, unsigned interest);
    void (*close)(struct readiness_source *source);
    /* Call on_ready(owner, CORE_WRITABLE) in the next poll, without asking the kernel, and do not block before that:
     * for an fd that can't be polled.  Once per call; forgotten on close. */
    int (*post)(struct readiness_source *source);
    /* Has loop_interrupt been called in the poll under way?  A stream asks before it reads on. */
    bool (*is_interrupted)(struct core_loop *loop);
};

/* The openings take the poller; the other functions are entries of struct core_ops as they stand.  The objects are of
 * this file's own make, behind core.h's opaque types; a core that has streams of its own too tells the two apart
 * itself. */
int readiness_stream_open(const struct readiness_poller *poller, struct core_loop *loop, int fd,
                          enum core_stream_kind kind, const struct core_stream_events *events, void *owner,
                          struct core_stream **stream);
int readiness_stream_read_start(struct core_stream *stream);
void readiness_stream_read_stop(struct core_stream *stream);
ssize_t readiness_stream_try_write(struct core_stream *stream, const struct iovec *iov, int iovcnt);
int readiness_stream_write(struct core_stream *stream, struct iovec *iov, int iovcnt);
size_t readiness_stream_unsent(const struct core_stream *stream);
int readiness_stream_shutdown(struct core_stream *stream);
void readiness_stream_close(struct core_stream *stream);

int readiness_datagram_open(const struct readiness_poller *poller, struct core_loop *loop, int fd,
                            const struct core_datagram_events *events, void *owner, struct core_datagram **datagram);
int readiness_datagram_recv_start(struct core_datagram *datagram);
void readiness_datagram_recv_stop(struct core_datagram *datagram);
int readiness_datagram_try_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                                socklen_t to_len);
int readiness_datagram_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                            socklen_t to_len);
void readiness_datagram_close(struct core_datagram *datagram);

#endif
