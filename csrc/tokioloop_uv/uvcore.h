/* SPDX-License-Identifier: MIT
 *
 * uvcore.h - what the files of TokioLoop's core share.
 *
 * libuv does the waiting, and reads and writes TCP and Unix-domain streams and read pipes.  What it can't do right
 * goes to a reactor inside (watch.c says what and why).  Invariant: every callback from libuv that may lead to one of
 * the layer's begins with uvcore_begin_delivery, and after that looks again at whether its object is still open.
 */
#ifndef RLOOP_TOKIOLOOP_UV_UVCORE_H
#define RLOOP_TOKIOLOOP_UV_UVCORE_H

#include "core.h"

#include <stdatomic.h>
#include <uv.h>

/* On Unix, libuv's array of buffers is an array of iovecs. */
_Static_assert(sizeof(uv_buf_t) == sizeof(struct iovec), "uv_buf_t is an iovec");
_Static_assert(offsetof(uv_buf_t, base) == offsetof(struct iovec, iov_base), "uv_buf_t is an iovec");
_Static_assert(offsetof(uv_buf_t, len) == offsetof(struct iovec, iov_len), "uv_buf_t is an iovec");

/* A place in one of the loop's circular lists; `next` is NULL when it is in none. */
struct uvcore_node {
    struct uvcore_node *previous, *next;
    struct uvcore_object *object;
};

/* The part of a stream that object.c looks after: its first member. */
struct uvcore_object {
    struct uvcore_node node; /* in loop->objects */
    struct core_loop *loop;
    const struct uvcore_kind *kind;
    uv_handle_t *handle; /* NULL when the reactor stands in */
    int fd;
    unsigned char holders; /* the layer, until it closes the object; libuv, until it lets go of the handle */
    bool is_closed;        /* the handle is: nothing comes from it any more */
    bool is_writing;       /* a write or a send is in flight */
    /* What it has read in the poll under way (rule 4), and that poll's number. */
    int reads;
    /* The end of what was in flight, and its place in loop->deferred when it is told in the next poll. */
    int status;
    struct uvcore_node completion;
    uint64_t poll_number;
};

struct uvcore_kind {
    void (*close)(struct uvcore_object *object);
    void (*stop)(struct uvcore_object *object);     /* reading or receiving */
    void (*complete)(struct uvcore_object *object); /* tell how the write in flight ended */
};

struct core_loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t deadline;
    uv_pipe_t first_stream; /* never used: see uvcore_loop_init_uv */

    /* The reactor is a loop of another core, on which only that core may look; `readiness` tells when it has something
     * to deliver. */
    struct core_loop *reactor;
    uv_poll_t *readiness; /* NULL when it could not be made */
    int readiness_fd;
    uint64_t readiness_poll; /* number of the last poll in which the reactor delivered */

    const struct core_hooks *hooks;
    void *owner;
    struct uvcore_node objects;  /* that are open */
    struct uvcore_node deferred; /* completions, which libuv tells once, for the next poll */
    size_t closing;              /* handles that libuv has not let go of yet */
    atomic_bool is_woken;        /* since before_first_delivery was told last */

    int64_t busy_poll_ns;

    /* The poll under way. */
    uint64_t poll_number;
    int64_t timeout_ns;
    uint64_t deadline_ns; /* of uv_hrtime; when timeout_ns > 0 */
    int status;           /* an error of the reactor */
    bool has_begun;
    bool is_blocking;
    bool is_interrupted;
};

/* --- loop.c */

void uvcore_loop_begin(struct core_loop *loop);

/* The wait is over and a callback is about to come: once per poll, after_block and before_first_delivery.  What the
 * layer does there may close any object. */
static inline void
uvcore_begin_delivery(struct core_loop *loop)
{
    if (!loop->has_begun) {
        uvcore_loop_begin(loop);
    }
}

void uvcore_node_insert(struct uvcore_node *head, struct uvcore_node *node);
void uvcore_node_remove(struct uvcore_node *node);

/* --- object.c */

void uvcore_object_init(struct uvcore_object *object, const struct uvcore_kind *kind, struct core_loop *loop, int fd);
/* libuv has initialised the handle, which lies within the object. */
void uvcore_object_hold(struct uvcore_object *object, uv_handle_t *handle);
/* The layer has the object from now on; it lets go of it with uvcore_object_close. */
void uvcore_object_list(struct uvcore_object *object);
void uvcore_object_close(struct uvcore_object *object);
/* In a forked child: let nothing that goes on happen here. */
void uvcore_object_abandon(struct uvcore_object *object);

/* May it read once more in this poll? */
bool uvcore_object_may_read(struct uvcore_object *object);
/* The write in flight has ended: tell it now, or with the next poll if this one was interrupted. */
void uvcore_object_written(struct uvcore_object *object, int status);

/* The address family of a socket, or -errno. */
int uvcore_socket_family(int fd);

/* --- watch.c */

int uvcore_readiness_open(struct core_loop *loop);
void uvcore_readiness_close(struct core_loop *loop);
int uvcore_readiness_attach(struct core_loop *loop);
bool uvcore_readiness_is_quiet(const struct core_loop *loop);
bool uvcore_readiness_is_posted(const struct core_loop *loop);
void uvcore_readiness_deliver(struct core_loop *loop);
void uvcore_readiness_interrupt(struct core_loop *loop);
void uvcore_readiness_wake(struct core_loop *loop);
int uvcore_readiness_after_fork(struct core_loop *loop);

int uvcore_watch_open(struct core_loop *loop, int fd, core_watch_cb on_ready, void *owner, struct core_watch **watch);
int uvcore_watch_set(struct core_watch *watch, unsigned interest);
void uvcore_watch_relax(struct core_watch *watch, bool is_relaxed);
void uvcore_watch_close(struct core_watch *watch);

/* All datagram sockets are the reactor's. */
int uvcore_datagram_open(struct core_loop *loop, int fd, const struct core_datagram_events *events, void *owner,
                         struct core_datagram **datagram);

/* --- stream.c */

int uvcore_stream_open(struct core_loop *loop, int fd, enum core_stream_kind kind,
                       const struct core_stream_events *events, void *owner, struct core_stream **stream);
int uvcore_stream_read_start(struct core_stream *stream);
void uvcore_stream_read_stop(struct core_stream *stream);
ssize_t uvcore_stream_try_write(struct core_stream *stream, const struct iovec *iov, int iovcnt);
int uvcore_stream_write(struct core_stream *stream, struct iovec *iov, int iovcnt);
size_t uvcore_stream_unsent(const struct core_stream *stream);
int uvcore_stream_shutdown(struct core_stream *stream);
void uvcore_stream_close(struct core_stream *stream);

#endif
