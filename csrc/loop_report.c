/* SPDX-License-Identifier: MIT
 *
 * From an exception in C to the loop's exception handler, to asyncio's log, or out of run_forever.  Every callback that the
 * cores or the ready queue run ends here when it fails; none leaves an exception set.
 */
#include "loop.h"

#include <stdarg.h>

/* {'message': message, 'exception': exception, NAME: VALUE, ...} */
static PyObject *
report_context(module_state *state, PyObject *message, PyObject *exception, va_list details)
{
    PyObject *context = PyDict_New();
    if (context == NULL || PyDict_SetItem(context, state->str_message, message) < 0 ||
        PyDict_SetItem(context, state->str_exception, exception) < 0)
    {
        goto error;
    }
    PyObject *name;
    while ((name = va_arg(details, PyObject *)) != NULL) {
        PyObject *value = va_arg(details, PyObject *);
        if (value != NULL && PyDict_SetItem(context, name, value) < 0) {
            goto error;
        }
    }
    return context;
error:
    Py_XDECREF(context);
    return NULL;
}

static int
report_call_handler(struct loop *loop, PyObject *message, va_list details)
{
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *context = message == NULL ? NULL : report_context(loop->state, message, exception, details);
    PyObject *result = NULL;
    if (context != NULL) {
        result = PyObject_CallMethodOneArg((PyObject *)loop, loop->state->str_call_exception_handler, context);
    }
    Py_XDECREF(context);
    Py_XDECREF(exception);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
loop_call_exception_handler(struct loop *loop, PyObject *message, ...)
{
    va_list details;
    va_start(details, message);
    int result = report_call_handler(loop, message, details);
    va_end(details);
    return result;
}

void
loop_report_exception(struct loop *loop, const char *message, ...)
{
    assert(PyErr_Occurred());
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *text = PyUnicode_FromString(message);
    if (text == NULL) {
        PyErr_Clear(); /* out of memory: the exception itself still gets reported */
        text = Py_NewRef(loop->state->str_message);
    }
    PyErr_SetRaisedException(exception);
    va_list details;
    va_start(details, message);
    int result = report_call_handler(loop, text, details);
    va_end(details);
    Py_DECREF(text);
    if (result < 0) {
        if (loop_must_leave()) {
            loop_fail(loop);
        }
        else {
            PyErr_WriteUnraisable((PyObject *)loop);
        }
    }
}

void
loop_log_error(struct loop *loop, PyObject *transport, const char *message, PyObject *exception)
{
    module_state *state = loop->state;
    PyObject *method = PyObject_GetAttr(state->logger, state->str_debug);
    PyObject *args = Py_BuildValue("(sOs)", "%r: %s", transport, message);
    PyObject *kwargs = Py_BuildValue("{OO}", state->str_exc_info, exception);
    PyObject *result = NULL;
    if (method != NULL && args != NULL && kwargs != NULL) {
        result = PyObject_Call(method, args, kwargs);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(transport);
    }
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(result);
}

int
loop_warn_lost_write(module_state *state, unsigned *lost_writes, const char *warning)
{
    PyObject *limit = PyObject_GetAttr(state->constants, state->str_LOG_THRESHOLD_FOR_CONNLOST_WRITES);
    long threshold = limit == NULL ? -1 : PyLong_AsLong(limit);
    Py_XDECREF(limit);
    if (PyErr_Occurred()) {
        return -1;
    }
    if ((long)*lost_writes >= threshold) {
        PyObject *result = PyObject_CallMethod(state->logger, "warning", "s", warning);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    (*lost_writes)++;
    return 0;
}

/* asyncio's "Executing ... took ... seconds": 0, or -1 with an exception. */
static int
report_slow(struct loop *loop, PyObject *what, double seconds)
{
    module_state *state = loop->state;
    PyObject *limit = PyObject_GetAttr((PyObject *)loop, state->str_slow_callback_duration);
    PyObject *spent = PyFloat_FromDouble(seconds);
    int is_slow = limit == NULL || spent == NULL ? -1 : PyObject_RichCompareBool(spent, limit, Py_GE);
    Py_XDECREF(limit);
    Py_XDECREF(spent);
    if (is_slow <= 0) {
        return is_slow;
    }
    PyObject *text = PyObject_IsInstance(what, state->Handle) == 1 ? PyObject_CallOneArg(state->format_handle, what)
                                                                   : PyObject_Str(what);
    PyObject *logged = NULL;
    if (text != NULL) {
        logged = PyObject_CallMethod(state->logger, "warning", "sOd", "Executing %s took %.3f seconds", text, seconds);
    }
    Py_XDECREF(text);
    Py_XDECREF(logged);
    return logged == NULL ? -1 : 0;
}

void
loop_warn_if_slow(struct loop *loop, PyObject *what, int64_t start_ns)
{
    double seconds = (double)(loop_now_ns() - start_ns) * 1e-9;
    if (loop->failure == NULL && report_slow(loop, what, seconds) < 0) {
        loop_fail(loop); /* asyncio measures outside of any callback: what fails there leaves run_forever */
    }
}

bool
loop_is_reportable(struct loop *loop)
{
    assert(PyErr_Occurred());
    if (!loop_must_leave()) {
        return true;
    }
    loop_fail(loop);
    return false;
}

void
loop_fail(struct loop *loop)
{
    PyObject *exception = PyErr_GetRaisedException();
    if (loop->failure == NULL) {
        loop->failure = exception;
    }
    else {
        PyErr_SetRaisedException(exception); /* one exception can leave run_forever; the later one is shown */
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    if (loop->core_loop != NULL) {
        loop->core->loop_interrupt(loop->core_loop);
    }
}
