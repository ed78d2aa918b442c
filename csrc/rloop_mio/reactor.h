/* SPDX-License-Identifier: MIT
 *
 * reactor.h - RLoop's core as a room inside another loop: what tokioloop_uv/ needs of it beyond core.h.
 *
 * The other loop waits for the reactor's fd instead of its own objects, and calls mio_loop_poll_kernel without waiting
 * when it is ready.
 */
#ifndef RLOOP_MIO_REACTOR_H
#define RLOOP_MIO_REACTOR_H

#include "core.h"

extern const struct core_ops mio_core_ops;

/* loop_poll, with a look into the kernel in any case: only that takes away what makes the fd readable. */
int mio_loop_poll_kernel(struct core_loop *loop, int64_t timeout_ns);

/* An fd that is readable while loop_poll has something to deliver, or was woken, or once after something was watched in
 * which there is no interest any more.  A poll and loop_after_fork may change it. */
int mio_loop_fd(const struct core_loop *loop);

/* Has something been posted, which loop_poll delivers although the fd does not tell of it? */
bool mio_loop_is_posted(const struct core_loop *loop);

/* Is there nothing that a poll without a wait could deliver? */
bool mio_loop_is_quiet(const struct core_loop *loop);

#endif
