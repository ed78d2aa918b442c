/* SPDX-License-Identifier: MIT
 *
 * The poller on macOS and the BSDs: kqueue(2), with an EVFILT_USER event for the wake-up.  See poller.h.
 *
 * A filter is registered for an fd, not for its open file: closing the fd takes it out, so that no registration is ever
 * out of reach and the reactor never has a reason to renew the set while other threads wake it.
 */
#include "poller.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/event.h>
#include <time.h>
#include <unistd.h>

enum { WAKE_IDENT = 0 };

/* Some kernels refuse very long waits. */
enum { WAIT_MAX_SECONDS = 24 * 60 * 60 };

struct mio_poller {
    int kqueue_fd;
};

static int
mio_poller_change(int kqueue_fd, uintptr_t ident, int filter, unsigned flags, unsigned filter_flags, uint32_t tag)
{
    struct kevent change;
    EV_SET(&change, ident, (int16_t)filter, (uint16_t)flags, filter_flags, 0, (void *)(uintptr_t)tag);
    int result;
    do {
        result = kevent(kqueue_fd, &change, 1, NULL, 0, NULL);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

static int
mio_poller_open_set(void)
{
    int kqueue_fd = kqueue();
    if (kqueue_fd < 0) {
        return -errno;
    }
    int error = fcntl(kqueue_fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
    if (error == 0) {
        error = mio_poller_change(kqueue_fd, WAKE_IDENT, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0);
    }
    if (error < 0) {
        close(kqueue_fd);
        return error;
    }
    return kqueue_fd;
}

int
mio_poller_create(struct mio_poller **poller)
{
    struct mio_poller *created = malloc(sizeof *created);
    if (created == NULL) {
        return -ENOMEM;
    }
    created->kqueue_fd = mio_poller_open_set();
    if (created->kqueue_fd < 0) {
        int error = created->kqueue_fd;
        free(created);
        return error;
    }
    *poller = created;
    return 0;
}

void
mio_poller_destroy(struct mio_poller *poller)
{
    if (poller->kqueue_fd >= 0) {
        close(poller->kqueue_fd);
    }
    free(poller);
}

static void
mio_poller_delete(struct mio_poller *poller, int fd, unsigned interest)
{
    if (interest & CORE_READABLE) {
        (void)mio_poller_change(poller->kqueue_fd, (uintptr_t)fd, EVFILT_READ, EV_DELETE, 0, 0);
    }
    if (interest & CORE_WRITABLE) {
        (void)mio_poller_change(poller->kqueue_fd, (uintptr_t)fd, EVFILT_WRITE, EV_DELETE, 0, 0);
    }
}

int
mio_poller_add(struct mio_poller *poller, int fd, uint32_t tag, unsigned interest)
{
    int error = 0;
    if (interest & CORE_READABLE) {
        error = mio_poller_change(poller->kqueue_fd, (uintptr_t)fd, EVFILT_READ, EV_ADD, 0, tag);
    }
    if (error == 0 && (interest & CORE_WRITABLE)) {
        error = mio_poller_change(poller->kqueue_fd, (uintptr_t)fd, EVFILT_WRITE, EV_ADD, 0, tag);
        if (error < 0) {
            mio_poller_delete(poller, fd, CORE_READABLE);
        }
    }
    /* What a device driver without the filter answers depends on the system. */
    bool is_unpollable = error == -EINVAL || error == -ENODEV || error == -EOPNOTSUPP || error == -ENXIO;
    return is_unpollable ? -EPERM : error;
}

int
mio_poller_modify(struct mio_poller *poller, int fd, uint32_t tag, unsigned old_interest, unsigned interest)
{
    mio_poller_delete(poller, fd, old_interest & ~interest);
    /* Adding what is there is allowed; what went with a closed fd comes back for the file that has its number now. */
    return mio_poller_add(poller, fd, tag, interest);
}

int
mio_poller_remove(struct mio_poller *poller, int fd, unsigned interest)
{
    mio_poller_delete(poller, fd, interest);
    return 0;
}

static struct mio_event *
mio_poller_find_event(struct mio_event *events, int count, int fd)
{
    for (int i = 0; i < count; i++) {
        if (events[i].fd == fd) {
            return &events[i];
        }
    }
    return NULL;
}

int
mio_poller_wait(struct mio_poller *poller, int64_t timeout_ns, struct mio_event *events)
{
    struct timespec timeout = {.tv_sec = WAIT_MAX_SECONDS};
    if (timeout_ns >= 0 && timeout_ns / 1000000000 < WAIT_MAX_SECONDS) {
        timeout.tv_sec = (time_t)(timeout_ns / 1000000000);
        timeout.tv_nsec = (long)(timeout_ns % 1000000000);
    }
    struct kevent raw[MIO_EVENTS_MAX];
    int raw_count = kevent(poller->kqueue_fd, NULL, 0, raw, MIO_EVENTS_MAX, timeout_ns < 0 ? NULL : &timeout);
    if (raw_count < 0) {
        return -errno;
    }
    int count = 0;
    unsigned seen = 0;
    for (int i = 0; i < raw_count; i++) {
        if (raw[i].filter == EVFILT_USER) {
            events[count++] = (struct mio_event){.fd = -1};
            continue;
        }
        /* An end or an error (EV_EOF) comes from the filter of each direction, as far as there is one.  If both filters of an fd
         * have fired, that is one event: its owner hears of a poll once. */
        int fd = (int)raw[i].ident;
        unsigned ready = raw[i].filter == EVFILT_READ ? (unsigned)CORE_READABLE : (unsigned)CORE_WRITABLE;
        struct mio_event *other = (seen & ~ready) != 0 ? mio_poller_find_event(events, count, fd) : NULL;
        seen |= ready;
        if (other != NULL) {
            other->ready |= ready;
        }
        else {
            events[count++] = (struct mio_event){.fd = fd, .tag = (uint32_t)(uintptr_t)raw[i].udata, .ready = ready};
        }
    }
    return count;
}

void
mio_poller_wake(struct mio_poller *poller)
{
    int saved_errno = errno; /* a signal handler may be running in the middle of anything */
    (void)mio_poller_change(poller->kqueue_fd, WAKE_IDENT, EVFILT_USER, 0, NOTE_TRIGGER, 0);
    errno = saved_errno;
}

int
mio_poller_fd(const struct mio_poller *poller)
{
    return poller->kqueue_fd;
}

int
mio_poller_renew(struct mio_poller *poller)
{
    int kqueue_fd = mio_poller_open_set();
    if (kqueue_fd < 0) {
        return kqueue_fd;
    }
    close(poller->kqueue_fd);
    poller->kqueue_fd = kqueue_fd;
    return 0;
}

int
mio_poller_after_fork(struct mio_poller *poller)
{
    /* A child does not inherit a kqueue: the number is free, or somebody else's by now. */
    poller->kqueue_fd = mio_poller_open_set();
    return poller->kqueue_fd < 0 ? poller->kqueue_fd : 0;
}
