/* SPDX-License-Identifier: MIT
 *
 * handle_lock.h - the lock of a handle that other threads may cancel (asyncio's _ThreadSafeHandle, Python 3.14 and newer).
 *
 * Its owner may take it again, as a callback may cancel its own handle.  Whoever waits for it does so without the GIL.  Before
 * Python 3.14 asyncio has no such handle, and this is nothing.
 */
#ifndef RLOOP_HANDLE_LOCK_H
#define RLOOP_HANDLE_LOCK_H

#include "module.h"

#include <stdatomic.h>

#if PY_VERSION_HEX >= 0x030E0000

struct handle_lock {
    PyMutex mutex;
    atomic_ulong owner; /* a thread's ident, or 0 */
    unsigned depth;     /* how often the owner has taken it again */
};

static inline void
handle_lock_enter(struct handle_lock *lock)
{
    unsigned long self = PyThread_get_thread_ident();
    if (atomic_load_explicit(&lock->owner, memory_order_relaxed) ==
        self) { /* only we ourselves can have written that */
        lock->depth++;
        return;
    }
    PyMutex_Lock(&lock->mutex);
    atomic_store_explicit(&lock->owner, self, memory_order_relaxed);
}

static inline void
handle_lock_leave(struct handle_lock *lock)
{
    if (lock->depth > 0) {
        lock->depth--;
        return;
    }
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    PyMutex_Unlock(&lock->mutex);
}

#else

struct handle_lock {
    char nothing;
};

static inline void
handle_lock_enter(struct handle_lock *lock)
{
    (void)lock;
}

static inline void
handle_lock_leave(struct handle_lock *lock)
{
    (void)lock;
}

#endif

#endif
