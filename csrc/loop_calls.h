/* SPDX-License-Identifier: MIT
 *
 * loop_calls.h - what loop.c takes from loop_calls.c and loop_tasks.c: methods of the Loop, and the clock of timers.
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

/* Now, on the clock of loop.time(), which a subclass may replace: 0, or -1 with its exception. */
int loop_clock_ns(struct loop *loop, int64_t *now_ns);

#endif
