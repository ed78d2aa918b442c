/* SPDX-License-Identifier: MIT
 *
 * fd_registry.h - who uses which file descriptor: a watch's two directions, or a transport.
 *
 * The one place that maps an fd's number to something.  It answers add_reader's RuntimeError, keeps one core watch per fd with
 * both interests combined, and drops a stale watch before a transport opens on the same number.
 */
#ifndef RLOOP_FD_REGISTRY_H
#define RLOOP_FD_REGISTRY_H

#include "module.h" /* Python.h, before any header of the system */

#include "core.h"

struct loop;

/* Called when the fd is ready, on the loop's thread, inside a poll; the registry holds a reference to `object` during the
 * call.  Returns -1 with the exception set only for KeyboardInterrupt and SystemExit. */
typedef int (*fd_ready)(struct loop *loop, PyObject *object);

struct fd_watch;

struct fd_entry {
    struct fd_watch *watch; /* kept, with no interest, after its last direction was taken away */
    PyObject *transport;    /* borrowed */
};

struct fd_registry {
    struct fd_entry *entries; /* by number */
    size_t capacity;
};

/* Watch `fd` in one direction (CORE_READABLE or CORE_WRITABLE); a handle that was watched there is cancelled.  The registry
 * keeps a reference to `object`.  0, or -1 with an OSError. */
int fd_registry_watch(struct loop *loop, int fd, unsigned direction, fd_ready run, PyObject *object);
/* Returns a new reference to what was watched in that direction, or NULL (no exception). */
PyObject *fd_registry_unwatch(struct loop *loop, int fd, unsigned direction);
/* Borrowed: the object watched in that direction, or NULL. */
PyObject *fd_registry_watched(struct loop *loop, int fd, unsigned direction);

/* Drop the watch that a closed file has left on this number, before the core opens something on it. */
void fd_registry_forget(struct loop *loop, int fd);
/* A transport takes the fd (borrowed: it must call release before it goes away); a watch there is dropped first. */
int fd_registry_claim(struct loop *loop, int fd, PyObject *transport);
void fd_registry_release(struct loop *loop, int fd, PyObject *transport);
/* 0 when no open transport uses it; else -1 with asyncio's RuntimeError, which names `fileobj` (NULL: the
 * number). */
int fd_registry_check_free(struct loop *loop, int fd, PyObject *fileobj);

/* The number behind a file object or an int, as selectors find it (ValueError "Invalid file object: ..."); -1 on error. */
int fd_registry_fileno(PyObject *fileobj);

int fd_registry_traverse(struct fd_registry *fds, visitproc visit, void *arg);
/* Close every watch. */
void fd_registry_clear(struct loop *loop);
void fd_registry_free(struct fd_registry *fds);

/* Methods of Loop, in fd_registry.c: add_reader, remove_reader, add_writer, remove_writer and asyncio's private forms. */
extern PyMethodDef fd_registry_methods[];

#endif
