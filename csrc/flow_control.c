/* SPDX-License-Identifier: MIT
 *
 * The limits of a write buffer; see flow_control.h.  Python's own arithmetic decides what is valid, as it does in
 * asyncio.
 */
#include "flow_control.h"

#include <math.h>
#include <stdint.h>

int
flow_control_size(PyObject *number, size_t *size)
{
    if (PyLong_Check(number)) {
        *size = PyLong_AsSize_t(number);
        if (*size == (size_t)-1 && PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
                return -1;
            }
            PyErr_Clear();
        }
        return 0;
    }
    double value = PyFloat_AsDouble(number);
    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *size = value < 9.2e18 ? (size_t)floor(value) : SIZE_MAX;
    return 0;
}

/* The two numbers as asyncio completes them; new references. */
static int
limits_complete(PyObject *high, PyObject *low, PyObject **full_high, PyObject **full_low)
{
    PyObject *four = PyLong_FromLong(4);
    if (four == NULL) {
        return -1;
    }
    if (high != Py_None) {
        *full_high = Py_NewRef(high);
    }
    else {
        *full_high = low == Py_None ? PyLong_FromLong(FLOW_CONTROL_HIGH_BYTES) : PyNumber_Multiply(four, low);
    }
    if (*full_high != NULL) {
        *full_low = low != Py_None ? Py_NewRef(low) : PyNumber_FloorDivide(*full_high, four);
    }
    Py_DECREF(four);
    return *full_high == NULL || *full_low == NULL ? -1 : 0;
}

/* high >= low >= 0: 0, or -1 with the exception set. */
static int
limits_check(PyObject *high, PyObject *low)
{
    PyObject *zero = PyLong_FromLong(0);
    if (zero == NULL) {
        return -1;
    }
    int is_valid = PyObject_RichCompareBool(high, low, Py_GE);
    if (is_valid == 1) {
        is_valid = PyObject_RichCompareBool(low, zero, Py_GE);
    }
    Py_DECREF(zero);
    if (is_valid == 0) {
        PyErr_Format(PyExc_ValueError, "high (%R) must be >= low (%R) must be >= 0", high, low);
    }
    return is_valid == 1 ? 0 : -1;
}

int
flow_control_set_limits(struct flow_control *flow, PyObject *high, PyObject *low)
{
    PyObject *full_high = NULL, *full_low = NULL;
    size_t high_bytes, low_bytes;
    int result = -1;
    if (limits_complete(high, low, &full_high, &full_low) == 0 && limits_check(full_high, full_low) == 0 &&
        flow_control_size(full_high, &high_bytes) == 0 && flow_control_size(full_low, &low_bytes) == 0)
    {
        flow->high_bytes = high_bytes;
        flow->low_bytes = low_bytes;
        result = 0;
    }
    Py_XDECREF(full_high);
    Py_XDECREF(full_low);
    return result;
}

PyObject *
flow_control_get_limits(const struct flow_control *flow)
{
    return Py_BuildValue("(NN)", PyLong_FromSize_t(flow->low_bytes), PyLong_FromSize_t(flow->high_bytes));
}
