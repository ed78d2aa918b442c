/* SPDX-License-Identifier: MIT
 *
 * Readiness in TokioLoop: a reactor inside, RLoop's core, whose own set of fds libuv polls as one fd.  It serves all
 * watches, the streams that stream.c doesn't give to libuv, all datagrams, and loop_wake.
 *
 * uv_poll_t is not fit for a watch.  libuv aborts the process when a watched fd is closed before the next wait or is a
 * regular file, and never returns from uv_run when the kernel goes on reporting a file whose fd was closed while a copy
 * of it is open.  It also switches the fd to non-blocking, and stops at the first error.  The reactor has an answer to
 * each, and takes one system call to change an interest where a uv_poll_t takes five.
 *
 * A uv_udp_t receives in batches only what nobody stops receiving meanwhile: the rest of a batch is lost then.  It also
 * sets options of the user's socket, and cuts an abstract Unix-domain address at its first zero byte.
 */
#include "uvcore.h"

#include "../rloop_mio/reactor.h"

#include <errno.h>
#include <stdlib.h>

/* --- the reactor in libuv's loop */

static void
uvcore_readiness_on_closed(uv_handle_t *handle)
{
    struct core_loop *loop = handle->data;
    loop->closing--;
    free(handle);
}

static void
uvcore_readiness_detach(struct core_loop *loop)
{
    if (loop->readiness != NULL) {
        loop->closing++;
        uv_close((uv_handle_t *)loop->readiness, uvcore_readiness_on_closed);
        loop->readiness = NULL;
    }
}

static void
uvcore_readiness_on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    uvcore_readiness_deliver(poll->data);
}

/* Have libuv poll the fd that the reactor has now: to be rid of stale events it begins again with another one. */
int
uvcore_readiness_attach(struct core_loop *loop)
{
    int fd = mio_loop_fd(loop->reactor);
    if (loop->readiness != NULL && loop->readiness_fd == fd) {
        return 0;
    }
    uvcore_readiness_detach(loop);
    uv_poll_t *poll = malloc(sizeof *poll);
    if (poll == NULL) {
        return -ENOMEM;
    }
    int error = uv_poll_init(&loop->uv, poll, fd);
    if (error < 0) {
        free(poll);
        return error;
    }
    poll->data = loop;
    loop->readiness = poll;
    loop->readiness_fd = fd;
    uv_unref((uv_handle_t *)poll);
    return uv_poll_start(poll, UV_READABLE, uvcore_readiness_on_poll);
}

bool
uvcore_readiness_is_quiet(const struct core_loop *loop)
{
    return mio_loop_is_quiet(loop->reactor);
}

bool
uvcore_readiness_is_posted(const struct core_loop *loop)
{
    return mio_loop_is_posted(loop->reactor);
}

/* Once in a poll, so that nothing that stays ready is told of twice. */
void
uvcore_readiness_deliver(struct core_loop *loop)
{
    if (loop->is_interrupted || loop->readiness_poll == loop->poll_number) {
        return; /* the reactor's fd stays readable */
    }
    loop->readiness_poll = loop->poll_number;
    int error = mio_loop_poll_kernel(loop->reactor, 0);
    if (error == 0) {
        /* At once, for the old fd is closed now and its number free. */
        error = uvcore_readiness_attach(loop);
    }
    if (error < 0) {
        loop->status = error;
    }
}

void
uvcore_readiness_interrupt(struct core_loop *loop)
{
    mio_core_ops.loop_interrupt(loop->reactor);
}

void
uvcore_readiness_wake(struct core_loop *loop)
{
    mio_core_ops.loop_wake(loop->reactor);
}

/* --- life */

/* The reactor never blocks. */
static void
uvcore_reactor_on_block(void *owner)
{
    (void)owner;
}

/* It has asked the kernel and is about to deliver.  What becomes ready in the layer's hook is for the next poll: the layer
 * has queued callbacks there that come before it.  (Not so when a stream of libuv's has begun the poll: the kernel is asked
 * after the hook then, and asking before would be one more system call in each such poll.) */
static void
uvcore_reactor_before_delivery(void *owner)
{
    uvcore_begin_delivery(owner);
}

static const struct core_hooks uvcore_reactor_hooks = {
    .before_block = uvcore_reactor_on_block,
    .after_block = uvcore_reactor_on_block,
    .before_first_delivery = uvcore_reactor_before_delivery,
};

int
uvcore_readiness_open(struct core_loop *loop)
{
    int error = mio_core_ops.loop_create(&uvcore_reactor_hooks, loop, &loop->reactor);
    if (error < 0) {
        return error;
    }
    error = uvcore_readiness_attach(loop);
    if (error < 0) {
        uvcore_readiness_close(loop);
    }
    return error;
}

/* Closes every watch that is left, too. */
void
uvcore_readiness_close(struct core_loop *loop)
{
    uvcore_readiness_detach(loop);
    mio_core_ops.loop_destroy(loop->reactor);
}

/* libuv has new kernel objects by now, so that detaching isn't seen by the parent. */
int
uvcore_readiness_after_fork(struct core_loop *loop)
{
    uvcore_readiness_detach(loop);
    int error = mio_core_ops.loop_after_fork(loop->reactor);
    return error < 0 ? error : uvcore_readiness_attach(loop);
}

/* --- watches */

int
uvcore_watch_open(struct core_loop *loop, int fd, core_watch_cb on_ready, void *owner, struct core_watch **watch)
{
    return mio_core_ops.watch_open(loop->reactor, fd, on_ready, owner, watch);
}

int
uvcore_watch_set(struct core_watch *watch, unsigned interest)
{
    return mio_core_ops.watch_set(watch, interest);
}

void
uvcore_watch_relax(struct core_watch *watch, bool is_relaxed)
{
    mio_core_ops.watch_relax(watch, is_relaxed);
}

void
uvcore_watch_close(struct core_watch *watch)
{
    mio_core_ops.watch_close(watch);
}

/* --- datagram */

int
uvcore_datagram_open(struct core_loop *loop, int fd, const struct core_datagram_events *events, void *owner,
                     struct core_datagram **datagram)
{
    return mio_core_ops.datagram_open(loop->reactor, fd, events, owner, datagram);
}
