/* SPDX-License-Identifier: MIT
 *
 * errors.h - from a core's -errno to the OSError subclass that asyncio's users expect.  The only place where they cross.
 */
#ifndef RLOOP_ERRORS_H
#define RLOOP_ERRORS_H

#include "module.h"

/* Set OSError(errno, strerror(errno)) of the right subclass, for a negative result; always returns NULL. */
PyObject *errors_set(int result);
/* The same exception as an object (new reference), not set; NULL with an exception set when out of memory. */
PyObject *errors_new(int result);

#endif
