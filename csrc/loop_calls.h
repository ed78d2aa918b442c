/* SPDX-License-Identifier: MIT
 *
 * loop_calls.h - what the files of the Loop type share: its methods outside loop.c, and the clock of timers.
 */
#ifndef RLOOP_LOOP_CALLS_H
#define RLOOP_LOOP_CALLS_H

#include "loop.h"

PyObject *loop_method_time(PyObject *self, PyObject *ignored);
PyObject *loop_method_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *loop_method_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *loop_method_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *loop_method_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *loop_method_create_future(PyObject *self, PyObject *ignored);
PyObject *loop_method_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *loop_method_run_turns(PyObject *self, PyObject *ignored);

extern const struct core_hooks loop_core_hooks; /* the owner is the loop */

/* Note which methods the loop's class or the loop itself has replaced. */
void loop_find_overrides(struct loop *loop);

/* Now, on the clock of loop.time(), which a subclass may replace: 0, or -1 with its exception. */
int loop_clock_ns(struct loop *loop, int64_t *now_ns);

#endif
