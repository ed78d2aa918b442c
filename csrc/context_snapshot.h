/* SPDX-License-Identifier: MIT
 *
 * context_snapshot.h - the context of a handle that was given none: a copy of the current one, made as late as possible.
 *
 * Each such handle is to have a copy of its own, but nobody has set a variable between most of them: they share one snapshot, which
 * is never entered and never shown.  A handle gets its own copy when it runs or when somebody asks for it; one that is cancelled
 * before, as most timers are, never does.
 *
 * A copy that nobody has seen, and in which nothing was set, is spare when its handle has run and others are to run in one like
 * it: the next of them takes it, or the next snapshot is made of it.
 *
 * The loop has references to both, so that nothing is handed out of garbage that is being collected just now: the collector would
 * clear it all the same.  That is also why a spare one comes only from a handle that the loop has run and has for itself.  What the
 * variables hold must not outlive the handles for long: the loop forgets a snapshot in the second turn after the one in which it was
 * made, or when it waits or stops; the handles keep it.  All of it is under the GIL.
 */
#ifndef RLOOP_CONTEXT_SNAPSHOT_H
#define RLOOP_CONTEXT_SNAPSHOT_H

#include "module.h"

struct loop;

struct context_snapshot {
    PyObject *context; /* what handles share, and the next may; or NULL */
    PyObject *spare;   /* or NULL */
    bool is_old;       /* made before this turn */
};

/* The current context as it is now: a new reference, and whether others may have it too. */
PyObject *context_snapshot_take(struct loop *loop, bool *is_shared);
/* Make of a shared context one that nobody else has; -1 with an exception. */
int context_snapshot_own(struct loop *loop, PyObject **context);
/* Give the reference to a context back that a handle has had for itself and has not shown, when that has been run by the loop and
 * nobody else has it.  The context is the spare one now, or there is none. */
void context_snapshot_spare(struct loop *loop, PyObject *context);
/* A turn begins.  Runs destructors of the variables' values, which may queue callbacks. */
void context_snapshot_begin_turn(struct loop *loop);
/* The loop stops, or is cleared. */
void context_snapshot_forget(struct context_snapshot *snapshot);
int context_snapshot_traverse(struct context_snapshot *snapshot, visitproc visit, void *arg);

#endif
