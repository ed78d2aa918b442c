/* SPDX-License-Identifier: MIT
 *
 * core.h - the one interface between the asyncio layer and the two cores.
 *
 * Above this line files know Python and never epoll, kqueue or libuv; below it files know the operating system and never
 * Python.  rloop_mio/ (our reactor) and tokioloop_uv/ (libuv) each fill one `struct core_ops`; the layer fills the
 * `*_events` structs and `struct core_hooks`.  The interface is completion-shaped: the layer never hears "readable", except
 * from a watch, which exists for exactly that.
 *
 * THE CONTRACT (tests/native/ runs it on both cores and on a scripted one)
 *
 *  1. Callbacks fire only inside loop_poll, never inside a downward call.  After an object's close returns it calls back
 *     never again; the core frees its own memory when it can (a core object may be closed inside any callback, its own
 *     too).  loop_destroy closes every object that is left and calls nobody.
 *  2. All downward calls come from the loop's thread, except loop_wake, which any thread and any signal handler may call.
 *  3. A stream or a datagram has at most one write in flight.  Its buffers, and the array of iovecs (which the core may
 *     change), stay valid until on_written / on_sent or until close.
 *  4. Each on_buffer is followed at once by exactly one on_read: > 0 bytes read, 0 end of file, < 0 an -errno, and -EAGAIN
 *     when nothing was there after all.  on_buffer may decline (leave iov_len 0): no on_read follows, and the object asks
 *     again in the next poll, or never if reading was stopped; a buffer offered in an on_buffer that also stops reading comes
 *     back with -EAGAIN.  After end of file or an error reading has stopped.  read_stop or close inside on_read ends
 *     delivery at once.  One poll delivers at most CORE_READS_PER_POLL reads, or CORE_DATAGRAMS_PER_POLL datagrams, per
 *     object, and a read that did not fill its buffer is the last one.
 *  5. A watch is level-triggered; errors and hang-ups count as every direction that it is interested in; the fd's flags stay
 *     as they were found.  It never owns the fd.  An interest that is taken away may be taken out of the kernel late: an
 *     event nobody asked for is swallowed there.  watch_set with an interest after none checks that the kernel's
 *     registration is of the file that the fd number names now.
 *  6. What nobody asks anything of costs no wake-ups: a paused stream whose peer resets does not spin.
 *  7. Streams and datagrams own their fd from a successful open on, until close, which closes it before it returns.
 *     A failed open leaves the fd with the caller.
 *  8. loop_interrupt, called inside a callback: nothing more is delivered in this poll, and nothing is lost; what was due
 *     comes with the next poll.  Only an on_buffer that offers a buffer all the same gets its on_read (rule 4) at once.
 *  9. loop_after_fork, called in a forked child before anything else: afterwards nothing that the child does with its copy
 *     of the loop is seen by the parent.  An inherited object delivers nothing there until it is asked anew.
 *
 * The process ignores SIGPIPE, as Python does: writing to what nobody reads is -EPIPE.
 *
 * Downward calls return 0 (or a count) or -errno.  Strings, addresses and iovecs passed down are borrowed for the call, save
 * for rule 3.
 */
#ifndef RLOOP_CORE_H
#define RLOOP_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { CORE_READS_PER_POLL = 4, CORE_DATAGRAMS_PER_POLL = 32 };

/* Interest in a watch, and what a watch reports. */
enum { CORE_READABLE = 1, CORE_WRITABLE = 2 };

/* Each core defines these; the layer only holds pointers. */
struct core_loop;
struct core_watch;
struct core_stream;
struct core_datagram;

/* What the loop's owner is told during loop_poll. */
struct core_hooks {
    /* Around the one wait of a poll that may block; not called at all when the poll cannot block. */
    void (*before_block)(void *owner);
    void (*after_block)(void *owner);
    /* Once in every poll, after the wait and before the first callback of any object (in a poll that delivers nothing too).
     * It may call loop_interrupt. */
    void (*before_first_delivery)(void *owner);
};

/* `ready` is a non-empty subset of the watch's present interest. */
typedef void (*core_watch_cb)(void *owner, unsigned ready);

enum core_stream_kind {
    CORE_STREAM_SOCKET,    /* a connected TCP or AF_UNIX stream socket */
    CORE_STREAM_PIPE_READ, /* the read end of a pipe, a FIFO, a character device, or a socket used as such */
    /* The write end of one of these.  It has nothing to read: read_start on it watches for the reader to leave, and reports
     * that as on_read(0) without on_buffer.  On an fd that cannot be polled (a file such as /dev/null) writes go out
     * directly and the reader never leaves. */
    CORE_STREAM_PIPE_WRITE,
};

struct core_stream_events {
    void (*on_buffer)(void *owner, struct iovec *buffer);
    void (*on_read)(void *owner, ssize_t result);
    /* The write in flight has ended: 0 when every byte is with the kernel, or -errno. */
    void (*on_written)(void *owner, int status);
};

struct core_datagram_events {
    void (*on_buffer)(void *owner, struct iovec *buffer);
    /* One datagram (result >= 0; 0 is an empty one), or -errno, which does not stop receiving.  `from` may be of length 0.
     * Both are valid during the call only. */
    void (*on_datagram)(void *owner, ssize_t result, const struct sockaddr *from, socklen_t from_len);
    void (*on_sent)(void *owner, int status);
};

struct core_ops {
    const char *name;

    /* --- loop */
    int (*loop_create)(const struct core_hooks *hooks, void *owner, struct core_loop **loop);
    void (*loop_destroy)(struct core_loop *loop);
    /* Wait at most timeout_ns (< 0: for ever; 0: do not wait; otherwise rounded up, never down) and deliver.  loop_wake
     * ends the wait early, and an interrupting signal may (libuv goes on waiting: who must see a signal wakes the loop).
     * It does not nest.  Returns 0 or -errno.  Without a wait, and while nothing can be delivered, it costs no system
     * call. */
    int (*loop_poll)(struct core_loop *loop, int64_t timeout_ns);
    /* Make the poll under way, or else the next one, return without waiting.  Any thread; async-signal-safe. */
    void (*loop_wake)(struct core_loop *loop);
    void (*loop_interrupt)(struct core_loop *loop);
    /* From now on a wait spins for this long, or until it ends, before the thread sleeps; 0, as at first, turns that off. */
    void (*loop_busy_poll)(struct core_loop *loop, int64_t spin_ns);
    int (*loop_after_fork)(struct core_loop *loop);

    /* --- watch: readiness of an fd that somebody else owns; one watch per fd */
    int (*watch_open)(struct core_loop *loop, int fd, core_watch_cb on_ready, void *owner, struct core_watch **watch);
    /* Replace the interest (CORE_READABLE | CORE_WRITABLE, or 0).  -EPERM when the fd is of a kind that can't be polled.  A
     * call that fails leaves no interest. */
    int (*watch_set)(struct core_watch *watch, unsigned interest);
    /* Say whether the watch is there only to end waits: if so, a poll that does not wait may leave it unseen. */
    void (*watch_relax)(struct core_watch *watch, bool is_relaxed);
    void (*watch_close)(struct core_watch *watch);

    /* --- stream; the fd is non-blocking already */
    int (*stream_open)(struct core_loop *loop, int fd, enum core_stream_kind kind,
                       const struct core_stream_events *events, void *owner, struct core_stream **stream);
    /* Starting what is started and stopping what is stopped are allowed and do nothing. */
    int (*stream_read_start)(struct core_stream *stream);
    void (*stream_read_stop)(struct core_stream *stream);
    /* Write what the kernel takes now: the count, or -errno (-EAGAIN: nothing now).  Only with no write in flight. */
    ssize_t (*stream_try_write)(struct core_stream *stream, const struct iovec *iov, int iovcnt);
    /* Write everything, whatever iovcnt is; ends with on_written in some later poll. */
    int (*stream_write)(struct core_stream *stream, struct iovec *iov, int iovcnt);
    /* Bytes of the write in flight that are not with the kernel yet; 0 when none is in flight. */
    size_t (*stream_unsent)(const struct core_stream *stream);
    /* Half-close, at once; only with no write in flight. */
    int (*stream_shutdown)(struct core_stream *stream);
    void (*stream_close)(struct core_stream *stream);

    /* --- datagram socket; `to` may be NULL on a connected one */
    int (*datagram_open)(struct core_loop *loop, int fd, const struct core_datagram_events *events, void *owner,
                         struct core_datagram **datagram);
    int (*datagram_recv_start)(struct core_datagram *datagram);
    void (*datagram_recv_stop)(struct core_datagram *datagram);
    /* Send one datagram now: 0 or -errno (-EAGAIN: not now). */
    int (*datagram_try_send)(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                             socklen_t to_len);
    /* Send one datagram when the kernel takes it; `iov` and `to` stay valid until on_sent. */
    int (*datagram_send)(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                         socklen_t to_len);
    void (*datagram_close)(struct core_datagram *datagram);
};

/* The cores by name ("mio", "uv"); NULL for another name.  cores.c is the only file that names both. */
const struct core_ops *core_by_name(const char *name);

#endif
