/* SPDX-License-Identifier: MIT
 *
 * The reactor: RLoop's core.  It owns the sources, decides what the kernel watches for them, and delivers events in
 * their order.  core.h calls it through mio_core_ops; streams and datagrams are readiness_*.c over its sources.
 *
 * Two invariants.  An event names its source by fd and tag, and counts only while the table has a source with that tag
 * under that fd: so a source may be closed and freed at any moment.  And the kernel may watch for more than a source's
 * interest (never for less): what is not wanted is taken out when it first comes, so that pausing and resuming cost
 * nothing.
 */
#include "reactor.h"

#include "poller.h"
#include "readiness.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A source is a watch of core.h, or is below a stream or a datagram. */
struct core_watch {
    struct readiness_source base;
    struct core_loop *loop;
    uint32_t tag;                       /* of the present registration; each has a new one */
    unsigned armed;                     /* what the kernel watches for; 0 when it has no registration */
    bool owns_fd;                       /* its owner alone closes the fd, after this source */
    bool is_relaxed;                    /* see watch_relax */
    uint64_t posted_in;                 /* number of the poll before which, or in which, it was posted */
    uint64_t told_in;                   /* and of the poll in which its owner was told that it had been */
    struct core_watch *previous, *next; /* in the list of posted ones; NULL outside */
};

struct core_loop {
    struct mio_poller *poller;
    const struct core_hooks *hooks;
    void *owner;
    struct core_watch **sources; /* by fd; NULL where there is none */
    size_t capacity;
    size_t asking;            /* sources that a poll must look for: with an interest, and not relaxed */
    struct core_watch posted; /* head of the circular list, oldest first */
    uint64_t poll_number;
    int64_t busy_poll_ns;
    uint32_t last_tag;
    uint32_t suspect_tag; /* no source has it, and the kernel may still report it; 0 for none */
    bool is_interrupted;
    atomic_bool is_woken; /* after the poller was, and until the next look at it */
};

/* --- sources */

static struct core_watch *
mio_source_of(struct readiness_source *base)
{
    return (struct core_watch *)base;
}

static bool
mio_source_is_asking(const struct core_watch *source)
{
    return source->base.interest != 0 && !source->is_relaxed;
}

static void
mio_source_note(struct core_watch *source, unsigned interest, bool is_relaxed)
{
    source->loop->asking -= mio_source_is_asking(source);
    source->base.interest = interest;
    source->is_relaxed = is_relaxed;
    source->loop->asking += mio_source_is_asking(source);
}

static int
mio_loop_reserve(struct core_loop *loop, int fd)
{
    size_t needed = (size_t)fd + 1;
    if (needed <= loop->capacity) {
        return 0;
    }
    size_t capacity = loop->capacity > 0 ? loop->capacity : 64;
    while (capacity < needed) {
        capacity *= 2;
    }
    struct core_watch **sources = realloc(loop->sources, capacity * sizeof *sources);
    if (sources == NULL) {
        return -ENOMEM;
    }
    memset(sources + loop->capacity, 0, (capacity - loop->capacity) * sizeof *sources);
    loop->sources = sources;
    loop->capacity = capacity;
    return 0;
}

static int
mio_source_open(struct core_loop *loop, int fd, bool owns_fd, readiness_cb on_ready, void *owner,
                struct core_watch **result)
{
    if (fd < 0) {
        return -EBADF;
    }
    int error = mio_loop_reserve(loop, fd);
    if (error < 0) {
        return error;
    }
    if (loop->sources[fd] != NULL) {
        return -EEXIST;
    }
    struct core_watch *source = calloc(1, sizeof *source);
    if (source == NULL) {
        return -ENOMEM;
    }
    source->base.fd = fd;
    source->base.on_ready = on_ready;
    source->base.owner = owner;
    source->loop = loop;
    source->owns_fd = owns_fd;
    loop->sources[fd] = source;
    *result = source;
    return 0;
}

/* Make the kernel watch for exactly `interest`, which is not empty, on the file that the fd names now. */
static int
mio_source_arm(struct core_watch *source, unsigned interest)
{
    struct core_loop *loop = source->loop;
    int error = -ENOENT;
    if (source->armed != 0) {
        error = mio_poller_modify(loop->poller, source->base.fd, source->tag, source->armed, interest);
        loop->suspect_tag = error < 0 ? source->tag : loop->suspect_tag;
    }
    if (error < 0) {
        loop->last_tag += loop->last_tag < UINT32_MAX ? 1 : 2; /* 0 is nobody's tag */
        source->tag = loop->last_tag;
        error = mio_poller_add(loop->poller, source->base.fd, source->tag, interest);
    }
    source->armed = error < 0 ? 0 : interest;
    return error;
}

static void
mio_source_disarm(struct core_watch *source)
{
    if (source->armed == 0) {
        return;
    }
    if (mio_poller_remove(source->loop->poller, source->base.fd, source->armed) < 0) {
        source->loop->suspect_tag = source->tag;
    }
    source->armed = 0;
}

static int
mio_source_set(struct core_watch *source, unsigned interest)
{
    unsigned old = source->base.interest;
    /* The kernel has these already.  Under a watch the number may have passed to another file, which only the kernel
     * can tell: unless the call just takes something away, ask it. */
    unsigned known = source->owns_fd ? source->armed : (interest != old ? old : 0);
    mio_source_note(source, interest, source->is_relaxed);
    if ((interest & ~known) == 0) {
        return 0;
    }
    int error = mio_source_arm(source, interest);
    if (error < 0) {
        mio_source_note(source, 0, source->is_relaxed);
    }
    return error;
}

static void
mio_source_relax(struct core_watch *source, bool is_relaxed)
{
    mio_source_note(source, source->base.interest, is_relaxed);
}

static void
mio_source_unpost(struct core_watch *source)
{
    if (source->next != NULL) {
        source->previous->next = source->next;
        source->next->previous = source->previous;
        source->previous = source->next = NULL;
    }
}

static void
mio_source_post(struct core_watch *source)
{
    if (source->next != NULL) {
        return;
    }
    struct core_watch *head = &source->loop->posted;
    source->posted_in = source->loop->poll_number;
    source->previous = head->previous;
    source->next = head;
    head->previous->next = source;
    head->previous = source;
}

static void
mio_source_close(struct core_watch *source)
{
    mio_source_unpost(source);
    mio_source_disarm(source);
    mio_source_note(source, 0, false);
    assert(source->loop->sources[source->base.fd] == source);
    source->loop->sources[source->base.fd] = NULL;
    free(source);
}

/* --- the poller of readiness.h */

static int
mio_readiness_open(struct core_loop *loop, int fd, readiness_cb on_ready, void *owner, struct readiness_source **source)
{
    struct core_watch *opened;
    int error = mio_source_open(loop, fd, true, on_ready, owner, &opened);
    if (error == 0) {
        *source = &opened->base;
    }
    return error;
}

static int
mio_readiness_set(struct readiness_source *source, unsigned interest)
{
    return mio_source_set(mio_source_of(source), interest);
}

static void
mio_readiness_close(struct readiness_source *source)
{
    mio_source_close(mio_source_of(source));
}

static int
mio_readiness_post(struct readiness_source *source)
{
    mio_source_post(mio_source_of(source));
    return 0;
}

static bool
mio_readiness_is_interrupted(struct core_loop *loop)
{
    return loop->is_interrupted;
}

static const struct readiness_poller mio_readiness = {
    .open = mio_readiness_open,
    .set = mio_readiness_set,
    .close = mio_readiness_close,
    .post = mio_readiness_post,
    .is_interrupted = mio_readiness_is_interrupted,
};

/* --- loop */

static int
mio_loop_create(const struct core_hooks *hooks, void *owner, struct core_loop **result)
{
    struct core_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        return -ENOMEM;
    }
    int error = mio_poller_create(&loop->poller);
    if (error < 0) {
        free(loop);
        return error;
    }
    loop->hooks = hooks;
    loop->owner = owner;
    loop->posted.previous = loop->posted.next = &loop->posted;
    *result = loop;
    return 0;
}

static void
mio_loop_destroy(struct core_loop *loop)
{
    for (size_t fd = 0; fd < loop->capacity; fd++) {
        struct core_watch *source = loop->sources[fd];
        if (source == NULL) {
            continue;
        }
        if (source->base.on_destroy != NULL) {
            source->base.on_destroy(source->base.owner);
        }
        else {
            mio_source_close(source);
        }
        assert(loop->sources[fd] == NULL);
    }
    mio_poller_destroy(loop->poller);
    free(loop->sources);
    free(loop);
}

/* After the poller began again with an empty set.  A source whose fd was closed stays out of it, as epoll has it. */
static int
mio_loop_rearm(struct core_loop *loop)
{
    int result = 0;
    loop->suspect_tag = 0;
    for (size_t fd = 0; fd < loop->capacity; fd++) {
        struct core_watch *source = loop->sources[fd];
        if (source == NULL || source->armed == 0) {
            continue;
        }
        source->armed = 0;
        int error = source->base.interest != 0 ? mio_source_arm(source, source->base.interest) : 0;
        if (error < 0 && error != -EBADF && error != -EPERM && result == 0) {
            result = error;
        }
    }
    return result;
}

/* What comes in on the inherited fds is for the parent, and what goes out is the parent's to write: no source is armed
 * here until it is set anew. */
static int
mio_loop_after_fork(struct core_loop *loop)
{
    for (size_t fd = 0; fd < loop->capacity; fd++) {
        struct core_watch *source = loop->sources[fd];
        if (source != NULL) {
            mio_source_unpost(source);
            mio_source_note(source, 0, source->is_relaxed);
            source->armed = 0;
        }
    }
    loop->suspect_tag = 0;
    return mio_poller_after_fork(loop->poller);
}

/* Those that were posted before this poll. */
static void
mio_loop_deliver_posted(struct core_loop *loop)
{
    while (!loop->is_interrupted && mio_loop_is_posted(loop)) {
        struct core_watch *source = loop->posted.next;
        if (source->posted_in == loop->poll_number) {
            break;
        }
        mio_source_unpost(source);
        source->told_in = loop->poll_number;
        source->base.on_ready(source->base.owner, CORE_WRITABLE);
    }
}

/* The callback may close any source: nothing of this one is read after it. */
static void
mio_source_deliver(struct core_watch *source, unsigned ready)
{
    unsigned interest = source->base.interest;
    unsigned wanted = ready & interest;
    if (wanted == 0 || (ready & source->armed & ~interest) != 0) {
        if (interest == 0) {
            mio_source_disarm(source);
        }
        else {
            (void)mio_source_arm(source, interest); /* fails if the fd is closed, and then there is nothing to tell */
        }
    }
    if (wanted != 0) {
        source->base.on_ready(source->base.owner, wanted);
    }
}

/* An event without a source is either left over from a source that was closed after the wait, or else the kernel
 * reports a registration that nobody can reach any more: its fd was closed, but a copy of the fd was not.  Only the
 * second kind comes after a wait that began with the tag already under suspicion; then begin with a new set. */
static int
mio_loop_deliver(struct core_loop *loop, const struct mio_event *events, int count, uint32_t suspect_tag)
{
    bool must_renew = false;
    for (int i = 0; i < count && !loop->is_interrupted; i++) {
        if (events[i].fd < 0) {
            continue;
        }
        assert((size_t)events[i].fd < loop->capacity);
        struct core_watch *source = loop->sources[events[i].fd];
        if (source != NULL && source->armed != 0 && source->tag == events[i].tag) {
            if (source->told_in != loop->poll_number) { /* else it had its turn, and the kernel tells again */
                mio_source_deliver(source, events[i].ready);
            }
            continue;
        }
        must_renew = must_renew || events[i].tag == suspect_tag;
        loop->suspect_tag = loop->suspect_tag != 0 ? loop->suspect_tag : events[i].tag;
    }
    if (!must_renew) {
        return 0;
    }
    /* Out of fds, for one: the old set still works, and the next stale event tries again. */
    return mio_poller_renew(loop->poller) < 0 ? 0 : mio_loop_rearm(loop);
}

/* What begins every poll. */
static void
mio_loop_begin(struct core_loop *loop)
{
    loop->poll_number++;
    loop->is_interrupted = false;
}

static int64_t
mio_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The wait of a poll that may block. */
static int
mio_loop_wait(struct core_loop *loop, int64_t timeout_ns, struct mio_event *events)
{
    int64_t spin_ns = loop->busy_poll_ns;
    if (spin_ns == 0) {
        return mio_poller_wait(loop->poller, timeout_ns, events);
    }
    int64_t start_ns = mio_now_ns(), elapsed_ns;
    do {
        int count = mio_poller_wait(loop->poller, 0, events);
        if (count != 0) {
            return count;
        }
        elapsed_ns = mio_now_ns() - start_ns;
        if (timeout_ns >= 0 && elapsed_ns >= timeout_ns) {
            return 0;
        }
    } while (elapsed_ns < spin_ns);
    return mio_poller_wait(loop->poller, timeout_ns < 0 ? -1 : timeout_ns - elapsed_ns, events);
}

int
mio_loop_poll_kernel(struct core_loop *loop, int64_t timeout_ns)
{
    const struct core_hooks *hooks = loop->hooks;
    struct mio_event events[MIO_EVENTS_MAX];
    uint32_t suspect_tag = loop->suspect_tag;
    loop->suspect_tag = 0;
    mio_loop_begin(loop);
    if (atomic_load(&loop->is_woken)) {
        atomic_store(&loop->is_woken, false);
    }
    int count;
    if (timeout_ns == 0) {
        count = mio_poller_wait(loop->poller, 0, events);
    }
    else {
        hooks->before_block(loop->owner);
        count = mio_loop_wait(loop, timeout_ns, events);
        hooks->after_block(loop->owner);
    }
    if (count == -EINTR) {
        /* If the signal's handler called loop_wake, that was for this poll and not for the next. */
        count = mio_poller_wait(loop->poller, 0, events);
    }
    hooks->before_first_delivery(loop->owner);
    if (count < 0) {
        return count == -EINTR ? 0 : count;
    }
    mio_loop_deliver_posted(loop);
    return mio_loop_deliver(loop, events, count, suspect_tag);
}

/* A wake-up is not lost where the kernel isn't asked, it only lasts.  Registrations of no interest stay until it is. */
static int
mio_loop_poll(struct core_loop *loop, int64_t timeout_ns)
{
    if (mio_loop_is_posted(loop)) {
        timeout_ns = 0;
    }
    if (timeout_ns != 0 || loop->asking > 0 || atomic_load(&loop->is_woken)) {
        return mio_loop_poll_kernel(loop, timeout_ns);
    }
    mio_loop_begin(loop);
    loop->hooks->before_first_delivery(loop->owner);
    mio_loop_deliver_posted(loop);
    return 0;
}

/* In this order, so that whoever takes the flag down finds the poller woken. */
static void
mio_loop_wake(struct core_loop *loop)
{
    mio_poller_wake(loop->poller);
    atomic_store(&loop->is_woken, true);
}

static void
mio_loop_interrupt(struct core_loop *loop)
{
    loop->is_interrupted = true;
}

static void
mio_loop_busy_poll(struct core_loop *loop, int64_t spin_ns)
{
    loop->busy_poll_ns = spin_ns;
}

/* --- inside another loop */

int
mio_loop_fd(const struct core_loop *loop)
{
    return mio_poller_fd(loop->poller);
}

bool
mio_loop_is_quiet(const struct core_loop *loop)
{
    return loop->asking == 0 && !mio_loop_is_posted(loop);
}

bool
mio_loop_is_posted(const struct core_loop *loop)
{
    return loop->posted.next != &loop->posted;
}

/* --- the table */

static int
mio_watch_open(struct core_loop *loop, int fd, core_watch_cb on_ready, void *owner, struct core_watch **watch)
{
    return mio_source_open(loop, fd, false, on_ready, owner, watch);
}

static int
mio_stream_open(struct core_loop *loop, int fd, enum core_stream_kind kind, const struct core_stream_events *events,
                void *owner, struct core_stream **stream)
{
    return readiness_stream_open(&mio_readiness, loop, fd, kind, events, owner, stream);
}

static int
mio_datagram_open(struct core_loop *loop, int fd, const struct core_datagram_events *events, void *owner,
                  struct core_datagram **datagram)
{
    return readiness_datagram_open(&mio_readiness, loop, fd, events, owner, datagram);
}

const struct core_ops mio_core_ops = {
    .name = "mio",
    .loop_create = mio_loop_create,
    .loop_destroy = mio_loop_destroy,
    .loop_poll = mio_loop_poll,
    .loop_wake = mio_loop_wake,
    .loop_interrupt = mio_loop_interrupt,
    .loop_busy_poll = mio_loop_busy_poll,
    .loop_after_fork = mio_loop_after_fork,
    .watch_open = mio_watch_open,
    .watch_set = mio_source_set,
    .watch_relax = mio_source_relax,
    .watch_close = mio_source_close,
    .stream_open = mio_stream_open,
    .stream_read_start = readiness_stream_read_start,
    .stream_read_stop = readiness_stream_read_stop,
    .stream_try_write = readiness_stream_try_write,
    .stream_write = readiness_stream_write,
    .stream_unsent = readiness_stream_unsent,
    .stream_shutdown = readiness_stream_shutdown,
    .stream_close = readiness_stream_close,
    .datagram_open = mio_datagram_open,
    .datagram_recv_start = readiness_datagram_recv_start,
    .datagram_recv_stop = readiness_datagram_recv_stop,
    .datagram_try_send = readiness_datagram_try_send,
    .datagram_send = readiness_datagram_send,
    .datagram_close = readiness_datagram_close,
};
