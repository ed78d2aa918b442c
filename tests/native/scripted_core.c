/* SPDX-License-Identifier: MIT
 *
 * The scripted core's own poller and its struct core_ops; see scripted_core.h.
 *
 * The poller asks poll(2) anew in every poll, so that nothing in the kernel can be out of date. A source that is closed
 * is freed when the poll is over, as an event of this poll may still point at it.
 */
#include "scripted_names.h"

#include "scripted_core.h"

#include "check.h"
#include "random.h"
#include "readiness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SPURIOUS_PERCENT = 15 };

struct scripted_source {
    struct readiness_source base; /* first: the two are cast into each other */
    struct core_loop *loop;
    struct scripted_source *next;
    bool is_closed;
    bool is_dead; /* its fd was closed under it, or belongs to the parent: until the next set */
    bool is_posted;
    bool is_post_due;       /* posted before this poll */
    bool is_never_spurious; /* a watch tells the truth, and so does the end of a pipe that a reader leaves */
    unsigned ready;         /* what this poll found */
};

struct core_loop {
    const struct core_hooks *hooks;
    void *owner;
    int wake_read, wake_write;
    bool is_interrupted;
    struct scripted_source *sources;
    struct pollfd *fds; /* the wake-up's, and one for each source */
    struct scripted_source **order;
    size_t count; /* of sources */
};

enum scripted_order { ORDER_AS_OPENED, ORDER_REVERSED, ORDER_SHUFFLED };

static enum scripted_order order;
static bool is_spurious;
static bool is_opening_pipe_write;
static struct random dice = {1};

/* --- the poller that readiness.h asks for */

static int
scripted_open(struct core_loop *loop, int fd, readiness_cb on_ready, void *owner, struct readiness_source **source)
{
    struct scripted_source *made = calloc(1, sizeof *made);
    struct pollfd *fds = realloc(loop->fds, (loop->count + 2) * sizeof *fds);
    struct scripted_source **sources = realloc(loop->order, (loop->count + 1) * sizeof(struct scripted_source *));
    CHECK(made != NULL && fds != NULL && sources != NULL);
    loop->fds = fds;
    loop->order = sources;
    loop->count++;
    made->base = (struct readiness_source){.fd = fd, .on_ready = on_ready, .owner = owner};
    made->loop = loop;
    made->is_never_spurious = is_opening_pipe_write;
    made->next = loop->sources;
    loop->sources = made;
    *source = &made->base;
    return 0;
}

/* The kinds of files that epoll refuses. */
static int
fd_check_pollable(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return -errno;
    }
    bool is_device = S_ISCHR(status.st_mode) && !isatty(fd);
    return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || is_device ? -EPERM : 0;
}

static int
scripted_set(struct readiness_source *source, unsigned interest)
{
    struct scripted_source *it = (struct scripted_source *)source;
    int error = interest != 0 ? fd_check_pollable(source->fd) : 0;
    it->ready = source->interest != 0 ? it->ready : 0; /* else it may be about a file that had this number before */
    source->interest = error == 0 ? interest : 0;
    it->is_dead = false;
    return error;
}

static void
scripted_close(struct readiness_source *source)
{
    struct scripted_source *it = (struct scripted_source *)source;
    it->is_closed = true;
    source->interest = 0;
}

static int
scripted_post(struct readiness_source *source)
{
    ((struct scripted_source *)source)->is_posted = true;
    return 0;
}

static bool
scripted_is_interrupted(struct core_loop *loop)
{
    return loop->is_interrupted;
}

static const struct readiness_poller poller = {
    .open = scripted_open,
    .set = scripted_set,
    .close = scripted_close,
    .post = scripted_post,
    .is_interrupted = scripted_is_interrupted,
};

/* --- loop */

static void
loop_open_wake(struct core_loop *loop)
{
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
    }
    loop->wake_read = fds[0];
    loop->wake_write = fds[1];
}

static int
scripted_loop_create(const struct core_hooks *hooks, void *owner, struct core_loop **loop)
{
    struct core_loop *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    made->hooks = hooks;
    made->owner = owner;
    made->fds = malloc(sizeof *made->fds);
    CHECK(made->fds != NULL);
    loop_open_wake(made);
    *loop = made;
    return 0;
}

static void
loop_free_closed(struct core_loop *loop)
{
    struct scripted_source **link = &loop->sources;
    while (*link != NULL) {
        struct scripted_source *source = *link;
        if (source->is_closed) {
            *link = source->next;
            loop->count--;
            free(source);
        }
        else {
            link = &source->next;
        }
    }
}

static void
scripted_loop_destroy(struct core_loop *loop)
{
    for (struct scripted_source *source = loop->sources; source != NULL; source = source->next) {
        if (!source->is_closed && source->base.on_destroy != NULL) {
            source->base.on_destroy(source->base.owner);
        }
        source->is_closed = true;
    }
    loop_free_closed(loop);
    close(loop->wake_read);
    close(loop->wake_write);
    free(loop->fds);
    free(loop->order);
    free(loop);
}

static int
timeout_to_ms(int64_t timeout_ns)
{
    int64_t timeout_ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return timeout_ns < 0 ? -1 : timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX;
}

static void
loop_wait(struct core_loop *loop, nfds_t count, int64_t timeout_ns)
{
    if (poll(loop->fds, count, timeout_to_ms(timeout_ns)) < 0) {
        CHECK_EQ(errno, EINTR);
        for (nfds_t i = 0; i < count; i++) {
            loop->fds[i].revents = 0;
        }
    }
    char bytes[64];
    while ((loop->fds[0].revents & POLLIN) && read(loop->wake_read, bytes, sizeof bytes) == sizeof bytes) {
    }
}

static unsigned
ready_from_events(const struct pollfd *fd)
{
    unsigned ready = fd->revents & (POLLERR | POLLHUP) ? CORE_READABLE | CORE_WRITABLE : 0;
    ready |= fd->revents & POLLIN ? CORE_READABLE : 0;
    ready |= fd->revents & POLLOUT ? CORE_WRITABLE : 0;
    return ready;
}

/* Ask the kernel; every source has its `ready` afterwards.  Returns whether the poll could block. */
static void
loop_ask(struct core_loop *loop, int64_t timeout_ns)
{
    nfds_t count = 0;
    loop->fds[count++] = (struct pollfd){.fd = loop->wake_read, .events = POLLIN};
    for (struct scripted_source *source = loop->sources; source != NULL; source = source->next) {
        unsigned interest = source->is_dead ? 0 : source->base.interest;
        short events = (short)((interest & CORE_READABLE ? POLLIN : 0) | (interest & CORE_WRITABLE ? POLLOUT : 0));
        loop->fds[count++] = (struct pollfd){.fd = interest != 0 ? source->base.fd : -1, .events = events};
        timeout_ns = source->is_posted ? 0 : timeout_ns;
    }
    if (timeout_ns != 0) {
        loop->hooks->before_block(loop->owner);
    }
    loop_wait(loop, count, timeout_ns);
    if (timeout_ns != 0) {
        loop->hooks->after_block(loop->owner);
    }
    count = 1;
    for (struct scripted_source *source = loop->sources; source != NULL; source = source->next) {
        const struct pollfd *fd = &loop->fds[count++];
        source->is_dead |= (fd->revents & POLLNVAL) != 0;
        source->ready = ready_from_events(fd);
        source->is_post_due = source->is_posted;
        if (is_spurious && !source->is_never_spurious && random_below(&dice, 100) < SPURIOUS_PERCENT) {
            source->ready = source->is_dead ? 0 : CORE_READABLE | CORE_WRITABLE;
        }
    }
}

/* Put the sources into the order of delivery; their number. */
static size_t
loop_order(struct core_loop *loop)
{
    size_t count = 0;
    for (struct scripted_source *source = loop->sources; source != NULL; source = source->next) {
        loop->order[count++] = source;
    }
    for (size_t i = count; i-- > 0 && order != ORDER_REVERSED;) {
        /* The list has the newest first.  Swapping each with its mirror image, or with any one before it. */
        size_t other = order == ORDER_SHUFFLED ? random_below(&dice, (unsigned)i + 1) : count - 1 - i;
        if (other < i) {
            struct scripted_source *source = loop->order[i];
            loop->order[i] = loop->order[other];
            loop->order[other] = source;
        }
    }
    return count;
}

static int
scripted_loop_poll(struct core_loop *loop, int64_t timeout_ns)
{
    loop_free_closed(loop);
    loop->is_interrupted = false;
    loop_ask(loop, timeout_ns);
    size_t count = loop_order(loop);
    loop->hooks->before_first_delivery(loop->owner);
    for (size_t i = 0; i < count && !loop->is_interrupted; i++) {
        struct scripted_source *source = loop->order[i];
        unsigned ready = source->ready & source->base.interest;
        ready |= source->is_post_due ? CORE_WRITABLE : 0;
        if (ready != 0 && !source->is_closed) {
            source->is_posted &= !source->is_post_due;
            source->base.on_ready(source->base.owner, ready);
        }
    }
    loop_free_closed(loop);
    return 0;
}

static void
scripted_loop_wake(struct core_loop *loop)
{
    int saved_errno = errno;
    ssize_t count = write(loop->wake_write, "", 1); /* full is as good as written */
    (void)count;
    errno = saved_errno;
}

static void
scripted_loop_interrupt(struct core_loop *loop)
{
    loop->is_interrupted = true;
}

static int
scripted_loop_after_fork(struct core_loop *loop)
{
    close(loop->wake_read);
    close(loop->wake_write);
    loop_open_wake(loop);
    for (struct scripted_source *source = loop->sources; source != NULL; source = source->next) {
        source->is_dead = true;
        source->is_posted = false;
    }
    return 0;
}

/* --- watch, stream, datagram */

/* It never spins. */
static void
scripted_loop_busy_poll(struct core_loop *loop, int64_t spin_ns)
{
    (void)loop;
    (void)spin_ns;
}

static int
scripted_watch_open(struct core_loop *loop, int fd, core_watch_cb on_ready, void *owner, struct core_watch **watch)
{
    struct readiness_source *source = NULL;
    int status = scripted_open(loop, fd, on_ready, owner, &source);
    ((struct scripted_source *)source)->is_never_spurious = true;
    *watch = (struct core_watch *)source;
    return status;
}

static int
scripted_watch_set(struct core_watch *watch, unsigned interest)
{
    return scripted_set((struct readiness_source *)watch, interest);
}

/* It looks at everything in every poll. */
static void
scripted_watch_relax(struct core_watch *watch, bool is_relaxed)
{
    (void)watch;
    (void)is_relaxed;
}

static void
scripted_watch_close(struct core_watch *watch)
{
    scripted_close((struct readiness_source *)watch);
}

static int
scripted_stream_open(struct core_loop *loop, int fd, enum core_stream_kind kind,
                     const struct core_stream_events *events, void *owner, struct core_stream **stream)
{
    is_opening_pipe_write = kind == CORE_STREAM_PIPE_WRITE;
    int status = readiness_stream_open(&poller, loop, fd, kind, events, owner, stream);
    is_opening_pipe_write = false;
    return status;
}

static int
scripted_datagram_open(struct core_loop *loop, int fd, const struct core_datagram_events *events, void *owner,
                       struct core_datagram **datagram)
{
    return readiness_datagram_open(&poller, loop, fd, events, owner, datagram);
}

static const struct core_ops scripted_core_ops = {
    .name = "scripted",
    .loop_create = scripted_loop_create,
    .loop_destroy = scripted_loop_destroy,
    .loop_poll = scripted_loop_poll,
    .loop_wake = scripted_loop_wake,
    .loop_interrupt = scripted_loop_interrupt,
    .loop_busy_poll = scripted_loop_busy_poll,
    .loop_after_fork = scripted_loop_after_fork,
    .watch_open = scripted_watch_open,
    .watch_set = scripted_watch_set,
    .watch_relax = scripted_watch_relax,
    .watch_close = scripted_watch_close,
    .stream_open = scripted_stream_open,
    .stream_read_start = readiness_stream_read_start,
    .stream_read_stop = readiness_stream_read_stop,
    .stream_try_write = readiness_stream_try_write,
    .stream_write = readiness_stream_write,
    .stream_unsent = readiness_stream_unsent,
    .stream_shutdown = readiness_stream_shutdown,
    .stream_close = readiness_stream_close,
    .datagram_open = scripted_datagram_open,
    .datagram_recv_start = readiness_datagram_recv_start,
    .datagram_recv_stop = readiness_datagram_recv_stop,
    .datagram_try_send = readiness_datagram_try_send,
    .datagram_send = readiness_datagram_send,
    .datagram_close = readiness_datagram_close,
};

const struct core_ops *
scripted_core_by_name(const char *name, bool *is_faulty)
{
    static const struct {
        const char *name;
        enum scripted_order order;
        bool is_spurious;
        struct scripted_odds odds;
    } variants[] = {
        {"scripted", ORDER_AS_OPENED, false, {0, 0, 0}},
        {"scripted-reversed", ORDER_REVERSED, false, {0, 0, 0}},
        {"scripted-shuffled", ORDER_SHUFFLED, true, {0, 0, 0}},
        {"scripted-faults", ORDER_SHUFFLED, true, {.eagain = 20, .eintr = 20, .cut = 40}},
    };
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        if (strcmp(variants[i].name, name) == 0) {
            order = variants[i].order;
            is_spurious = variants[i].is_spurious;
            scripted_set_odds(variants[i].odds);
            *is_faulty = variants[i].odds.cut > 0;
            return &scripted_core_ops;
        }
    }
    return NULL;
}
