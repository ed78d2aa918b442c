/* SPDX-License-Identifier: MIT
 *
 * context_snapshot.h - the context of a handle that was given none: a copy of the current one, made as late as possible.
 *
 * Each such handle is to have a copy of its own, but nobody has set a variable between most of them: they share one snapshot, which
 * is never entered and never shown.  A handle gets its own copy when it runs or when somebody asks for it; one that is cancelled
 * before, as most timers are, never does.  The loop has no reference to the snapshot: it lives, and with it what the variables hold,
 * as long as those handles.  A copy that nobody has seen, and in which nothing was set, is spare when its handle is gone and others
 * share what it was made from: the next of them takes it.  It goes with the last of them, or when the loop waits.  Used by handle.c,
 * under the GIL.
 */
#ifndef RLOOP_CONTEXT_SNAPSHOT_H
#define RLOOP_CONTEXT_SNAPSHOT_H

#include "module.h"

struct loop;

struct context_snapshot {
    PyObject *context; /* borrowed from the handles that share it; NULL when none is left */
    size_t users;      /* how many they are */
    PyObject *spare;   /* or NULL */
};

/* The current context as it is now: a new reference, and whether others may have it too. */
PyObject *context_snapshot_take(struct loop *loop, bool *is_shared);
/* Make of a shared context one that nobody else has; -1 with an exception. */
int context_snapshot_own(struct loop *loop, PyObject **context);
/* Give the reference to a shared context back. */
void context_snapshot_drop(struct loop *loop, PyObject *context);
/* The same for one that its handle has had for itself, and has not shown. */
void context_snapshot_keep(struct loop *loop, PyObject *context);

#endif
