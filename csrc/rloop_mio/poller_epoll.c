/* SPDX-License-Identifier: MIT
 *
 * The poller on Linux: epoll(7), with an eventfd(2) for the wake-up.  See poller.h.
 *
 * epoll registers an open file under an fd number.  The registration outlives the number while a copy of the fd is
 * open, and then nothing but a new epoll set stops its events: hence mio_poller_renew.
 */
#include "poller.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WAKE_TAG = 0 };

struct mio_poller {
    int epoll_fd;
    int wake_fd;
};

static int
mio_poller_control(int epoll_fd, int operation, int fd, uint32_t tag, uint32_t flags)
{
    struct epoll_event event = {.events = flags, .data.u64 = (uint64_t)tag << 32 | (uint32_t)fd};
    return epoll_ctl(epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

static uint32_t
mio_poller_flags(unsigned interest)
{
    return ((interest & CORE_READABLE) ? (uint32_t)EPOLLIN : 0) | ((interest & CORE_WRITABLE) ? (uint32_t)EPOLLOUT : 0);
}

/* Edge-triggered, the eventfd reports each write once and never needs to be read; its counter does not fill up. */
static int
mio_poller_open_set(int wake_fd)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        return -errno;
    }
    int error = mio_poller_control(epoll_fd, EPOLL_CTL_ADD, wake_fd, WAKE_TAG, (uint32_t)EPOLLIN | (uint32_t)EPOLLET);
    if (error < 0) {
        close(epoll_fd);
        return error;
    }
    return epoll_fd;
}

static int
mio_poller_open(struct mio_poller *poller)
{
    poller->epoll_fd = -1;
    poller->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (poller->wake_fd < 0) {
        return -errno;
    }
    int epoll_fd = mio_poller_open_set(poller->wake_fd);
    if (epoll_fd < 0) {
        close(poller->wake_fd);
        poller->wake_fd = -1;
        return epoll_fd;
    }
    poller->epoll_fd = epoll_fd;
    return 0;
}

static void
mio_poller_close(struct mio_poller *poller)
{
    if (poller->epoll_fd >= 0) {
        close(poller->epoll_fd);
        close(poller->wake_fd);
    }
}

int
mio_poller_create(struct mio_poller **poller)
{
    struct mio_poller *created = malloc(sizeof *created);
    if (created == NULL) {
        return -ENOMEM;
    }
    int error = mio_poller_open(created);
    if (error < 0) {
        free(created);
        return error;
    }
    *poller = created;
    return 0;
}

void
mio_poller_destroy(struct mio_poller *poller)
{
    mio_poller_close(poller);
    free(poller);
}

int
mio_poller_add(struct mio_poller *poller, int fd, uint32_t tag, unsigned interest)
{
    uint32_t flags = mio_poller_flags(interest);
    int error = mio_poller_control(poller->epoll_fd, EPOLL_CTL_ADD, fd, tag, flags);
    if (error == -EEXIST) {
        /* The number went away and came back for the same file, whose registration had stayed. */
        error = mio_poller_control(poller->epoll_fd, EPOLL_CTL_MOD, fd, tag, flags);
    }
    return error;
}

int
mio_poller_modify(struct mio_poller *poller, int fd, uint32_t tag, unsigned old_interest, unsigned interest)
{
    (void)old_interest;
    return mio_poller_control(poller->epoll_fd, EPOLL_CTL_MOD, fd, tag, mio_poller_flags(interest));
}

int
mio_poller_remove(struct mio_poller *poller, int fd, unsigned interest)
{
    (void)interest;
    return mio_poller_control(poller->epoll_fd, EPOLL_CTL_DEL, fd, 0, 0);
}

static int
mio_poller_timeout_ms(int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        return -1;
    }
    int64_t timeout_ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX;
}

int
mio_poller_wait(struct mio_poller *poller, int64_t timeout_ns, struct mio_event *events)
{
    struct epoll_event raw[MIO_EVENTS_MAX];
    int raw_count = epoll_wait(poller->epoll_fd, raw, MIO_EVENTS_MAX, mio_poller_timeout_ms(timeout_ns));
    if (raw_count < 0) {
        return -errno;
    }
    int count = 0;
    for (int i = 0; i < raw_count; i++) {
        uint32_t flags = raw[i].events;
        uint32_t tag = (uint32_t)(raw[i].data.u64 >> 32);
        if (tag == WAKE_TAG) {
            events[count++] = (struct mio_event){.fd = -1};
            continue;
        }
        bool is_hung_up = (flags & ((uint32_t)EPOLLERR | (uint32_t)EPOLLHUP)) != 0;
        events[count++] = (struct mio_event){
            .fd = (int)(uint32_t)raw[i].data.u64,
            .tag = tag,
            .ready = ((is_hung_up || (flags & (uint32_t)EPOLLIN)) ? (unsigned)CORE_READABLE : 0u) |
                     ((is_hung_up || (flags & (uint32_t)EPOLLOUT)) ? (unsigned)CORE_WRITABLE : 0u),
        };
    }
    return count;
}

void
mio_poller_wake(struct mio_poller *poller)
{
    int saved_errno = errno; /* a signal handler may be running in the middle of anything */
    uint64_t one = 1;
    while (write(poller->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
    errno = saved_errno;
}

int
mio_poller_fd(const struct mio_poller *poller)
{
    return poller->epoll_fd;
}

int
mio_poller_renew(struct mio_poller *poller)
{
    /* The eventfd stays: other threads may be writing to it.  Once written to, it is reported by the new set again. */
    int epoll_fd = mio_poller_open_set(poller->wake_fd);
    if (epoll_fd < 0) {
        return epoll_fd;
    }
    close(poller->epoll_fd);
    poller->epoll_fd = epoll_fd;
    return 0;
}

int
mio_poller_after_fork(struct mio_poller *poller)
{
    /* The inherited set is the parent's too: epoll_ctl would change it for both, close only drops our copy. */
    mio_poller_close(poller);
    return mio_poller_open(poller);
}
