/* SPDX-License-Identifier: MIT
 *
 * poller.h - what the reactor asks of the operating system: level-triggered readiness of fds, and a wake-up.
 *
 * poller_epoll.c or poller_kqueue.c implements it; the build picks one.  A registration carries the fd and a tag of the
 * reactor's choice, never a pointer, so that an event which comes too late is recognised and cannot do harm.  A poller
 * knows nothing of sources and calls nobody.  Everything but mio_poller_wake belongs to the loop's thread.
 */
#ifndef RLOOP_MIO_POLLER_H
#define RLOOP_MIO_POLLER_H

#include "core.h"

enum { MIO_EVENTS_MAX = 256 };

struct mio_poller;

struct mio_event {
    int fd; /* -1: the poller was woken; the rest says nothing */
    uint32_t tag;
    unsigned ready; /* CORE_READABLE | CORE_WRITABLE; an error or a hang-up counts as both */
};

int mio_poller_create(struct mio_poller **poller);
void mio_poller_destroy(struct mio_poller *poller);

/* Register `fd` (non-empty interest, tag not 0).  -EPERM when it is of a kind that can't be polled. */
int mio_poller_add(struct mio_poller *poller, int fd, uint32_t tag, unsigned interest);
/* Change a registration.  An error (-ENOENT, -EBADF...) says that the kernel has none of the file that `fd` names. */
int mio_poller_modify(struct mio_poller *poller, int fd, uint32_t tag, unsigned old_interest, unsigned interest);
/* Take a registration out.  After an error it may be there still, out of reach: its fd was closed, a copy of it was not. */
int mio_poller_remove(struct mio_poller *poller, int fd, unsigned interest);

/* Wait as loop_poll does, and fill up to MIO_EVENTS_MAX events: their number, or -errno (-EINTR among them). */
int mio_poller_wait(struct mio_poller *poller, int64_t timeout_ns, struct mio_event *events);
/* Make the wait under way, or else the next one, return.  Any thread; async-signal-safe. */
void mio_poller_wake(struct mio_poller *poller);

/* The fd of the set, for another loop to wait on: readable when mio_poller_wait has something to tell. */
int mio_poller_fd(const struct mio_poller *poller);

/* Begin again with an empty set: the only way to be rid of registrations that stayed.  A wake-up is not lost.  On an
 * error the old set is still there. */
int mio_poller_renew(struct mio_poller *poller);
/* In a forked child: begin again with kernel objects of its own, and leave the parent's as they are. */
int mio_poller_after_fork(struct mio_poller *poller);

#endif
