/* SPDX-License-Identifier: MIT
 *
 * From a core's -errno to OSError; see errors.h.
 */
#include "errors.h"

#include <errno.h>
#include <string.h>

PyObject *
errors_set(int result)
{
    /* OSError's own constructor picks the subclass: BrokenPipeError, ConnectionResetError... (PEP 3151). */
    errno = -result;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *
errors_new(int result)
{
    errors_set(result);
    return PyErr_GetRaisedException();
}
