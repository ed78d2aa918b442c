/* SPDX-License-Identifier: MIT
 *
 * What a program can set on a loop of ours beyond asyncio's interface: so far, busy_poll.  Attributes of Loop.
 *
 * An option that is set before __init__ has made the core reaches it there (loop_options_apply); a value that is refused
 * changes nothing.
 */
#include "loop.h"

#include <math.h>

static const double NS_PER_SECOND = 1e9;

void
loop_options_apply(struct loop *loop)
{
    double ns = loop->busy_poll * NS_PER_SECOND;
    loop->core->loop_busy_poll(loop->core_loop, ns < (double)INT64_MAX ? (int64_t)ns : INT64_MAX);
}

PyObject *
loop_get_busy_poll(PyObject *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(((struct loop *)self)->busy_poll);
}

int
loop_set_busy_poll(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    struct loop *loop = (struct loop *)self;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "busy_poll can't be deleted");
        return -1;
    }
    double seconds = PyFloat_AsDouble(value);
    if (seconds == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
    }
    if (!isfinite(seconds) || seconds < 0) {
        PyErr_Format(PyExc_ValueError, "busy_poll must be a number of seconds >= 0, not %R", value);
        return -1;
    }
    loop->busy_poll = seconds;
    if (loop->core_loop != NULL) {
        loop_options_apply(loop);
    }
    return 0;
}
