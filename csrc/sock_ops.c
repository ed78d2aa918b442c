/* SPDX-License-Identifier: MIT
 *
 * How a sock_* operation runs; whoever awaits it drives it from here, a task or another coroutine.
 *
 * Nothing happens before the first send.  Then the call is tried at once; if it would block, a watch tries it again
 * whenever the socket is ready and completes a future, in which the operation waits.  So the bytes are taken when they
 * arrive, and never by an operation whose future is done already (cancelled, and its task not yet told).
 * Invariant: an operation that has ended has no watch; a watch that somebody else has put in its place is left alone.
 */
#include "sock_ops.h"

#include "fd_registry.h"
#include "loop.h"

static void
operation_unwatch(struct sock_operation *op)
{
    if (op->fd < 0) {
        return;
    }
    if (fd_registry_watched(op->loop, op->fd, op->call->direction) == (PyObject *)op) {
        Py_XDECREF(fd_registry_unwatch(op->loop, op->fd, op->call->direction));
    }
    op->fd = -1;
}

void
sock_operation_drop(struct sock_operation *op)
{
    Py_CLEAR(op->inner);
    Py_CLEAR(op->future);
    Py_CLEAR(op->sock);
    for (int i = 0; i < SOCK_MAX_PARAMETERS - 1; i++) {
        Py_CLEAR(op->args[i]);
    }
    if (op->buffer.obj != NULL) {
        PyBuffer_Release(&op->buffer);
    }
}

static void
operation_finish(struct sock_operation *op)
{
    op->stage = SOCK_FINISHED;
    operation_unwatch(op);
    sock_operation_drop(op);
}

/* StopIteration would read as a result to whoever drives us: as in every coroutine it becomes a RuntimeError. */
static void
convert_stop_iteration(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return;
    }
    PyObject *stop = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyObject *error = PyErr_GetRaisedException();
    PyException_SetCause(error, Py_NewRef(stop));
    PyException_SetContext(error, stop);
    PyErr_SetRaisedException(error);
}

/* --- waiting */

static int
future_is_done(module_state *state, PyObject *future)
{
    PyObject *answer = PyObject_CallMethodNoArgs(future, state->str_done);
    if (answer == NULL) {
        return -1;
    }
    int is_done = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return is_done;
}

/* What a callback of ours leaves: -1 for what must leave run_forever, else it is reported. */
static int
operation_report(struct sock_operation *op)
{
    if (loop_must_leave()) {
        return -1;
    }
    char message[64];
    PyOS_snprintf(message, sizeof message, "Exception in callback of %s()", op->call->name);
    loop_report_exception(op->loop, message, NULL);
    return 0;
}

/* A fd_ready: the socket may be ready now. */
static int
operation_on_ready(struct loop *loop, PyObject *self)
{
    struct sock_operation *op = (struct sock_operation *)self;
    PyObject *result = NULL;
    int status = 0;

    if (op->is_running || op->future == NULL) {
        return 0; /* a socket's Python method is at work for us and runs the loop, nested */
    }
    PyObject *future = Py_NewRef(op->future);
    op->is_running = true;
    int is_done = future_is_done(loop->state, future);
    if (is_done != 0) {
        operation_unwatch(op);
        status = is_done < 0 ? operation_report(op) : 0;
        goto done;
    }
    enum sock_outcome outcome = op->call->attempt(op, &result);
    if (outcome == SOCK_AGAIN) {
        goto done;
    }
    if (outcome == SOCK_FAILED) {
        if (loop_must_leave()) {
            status = -1;
            goto done;
        }
        convert_stop_iteration();
        result = PyErr_GetRaisedException();
    }
    operation_unwatch(op);
    PyObject *setter = outcome == SOCK_DONE ? loop->state->str_set_result : loop->state->str_set_exception;
    PyObject *answer = PyObject_CallMethodOneArg(future, setter, result);
    if (answer == NULL) {
        status = operation_report(op);
    }
    Py_XDECREF(answer);

done:
    op->is_running = false;
    Py_XDECREF(result);
    Py_DECREF(future);
    return status;
}

static int
operation_set_inner(struct sock_operation *op, PyObject *awaitable)
{
    PyAsyncMethods *slots = Py_TYPE(awaitable)->tp_as_async;
    if (slots == NULL || slots->am_await == NULL) {
        PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression", Py_TYPE(awaitable)->tp_name);
        return -1;
    }
    PyObject *inner = slots->am_await(awaitable);
    if (inner == NULL) {
        return -1;
    }
    if (!PyIter_Check(inner)) {
        PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'", Py_TYPE(inner)->tp_name);
        Py_DECREF(inner);
        return -1;
    }
    Py_XSETREF(op->inner, inner);
    return 0;
}

/* The number to watch; -1 with an exception set. */
static int
operation_fileno(struct sock_operation *op)
{
    int fd = -1;
    if (op->is_direct) {
        if (!sock_get_fd(op, &fd)) {
            return -1;
        }
    }
    else {
        PyObject *number = PyObject_CallMethodNoArgs(op->sock, op->loop->state->str_fileno);
        fd = number == NULL ? -1 : fd_registry_fileno(number);
        Py_XDECREF(number);
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        return -1;
    }
    return fd;
}

/* The call would block: make the future, and watch the socket for it. */
static int
operation_watch(struct sock_operation *op)
{
    int status = -1;

    PyObject *future = loop_create_future(op->loop);
    int fd = future == NULL ? -1 : operation_fileno(op);
    if (fd < 0 || loop_check_thread(op->loop) < 0 || loop_check_owner(op->loop) < 0 ||
        fd_registry_check_free(op->loop, fd, NULL) < 0 || loop_check_closed(op->loop) < 0 ||
        operation_set_inner(op, future) < 0)
    {
        goto done;
    }
    if (fd_registry_watch(op->loop, fd, op->call->direction, operation_on_ready, (PyObject *)op) < 0) {
        goto done;
    }
    op->fd = fd;
    Py_XSETREF(op->future, Py_NewRef(future));
    status = 0;

done:
    Py_XDECREF(future);
    return status;
}

/* --- driving */

static PySendResult
operation_send_inner(struct sock_operation *op, PyObject *value, PyObject **result)
{
    PySendResult status = PyIter_Send(op->inner, value, result);
    if (status != PYGEN_NEXT) {
        Py_CLEAR(op->inner);
    }
    return status;
}

static PySendResult
operation_first_attempt(struct sock_operation *op, PyObject **result)
{
    switch (op->call->attempt(op, result)) {
    case SOCK_DONE:
        return PYGEN_RETURN;
    case SOCK_AGAIN:
        if (operation_watch(op) == 0) {
            return operation_send_inner(op, Py_None, result);
        }
        break;
    case SOCK_FAILED:
        break;
    }
    return PYGEN_ERROR;
}

static PySendResult
operation_start(struct sock_operation *op, PyObject **result)
{
    if (sock_check_socket(op) < 0) {
        return PYGEN_ERROR;
    }
    if (op->call->prepare != NULL) {
        PyObject *awaitable = NULL;
        if (op->call->prepare(op, &awaitable) < 0) {
            return PYGEN_ERROR;
        }
        if (awaitable != NULL) {
            int status = operation_set_inner(op, awaitable);
            Py_DECREF(awaitable);
            op->is_preparing = true;
            return status < 0 ? PYGEN_ERROR : operation_send_inner(op, Py_None, result);
        }
    }
    return operation_first_attempt(op, result);
}

/* The end of every step: what `prepare` gave may have come to its result; what has ended is cleaned up. */
static PySendResult
operation_settle(struct sock_operation *op, PySendResult status, PyObject **result)
{
    if (status == PYGEN_RETURN && op->is_preparing) {
        PyObject *prepared = *result;
        *result = NULL;
        op->is_preparing = false;
        status = op->call->prepared(op, prepared) < 0 ? PYGEN_ERROR : operation_first_attempt(op, result);
        Py_DECREF(prepared);
    }
    op->is_running = false;
    if (status == PYGEN_NEXT) {
        return PYGEN_NEXT;
    }
    if (status == PYGEN_ERROR) {
        convert_stop_iteration();
    }
    operation_finish(op);
    return status;
}

static int
operation_check_idle(struct sock_operation *op)
{
    if (op->is_running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    return 0;
}

/* Before send and throw. */
static int
operation_check_alive(struct sock_operation *op)
{
    if (operation_check_idle(op) < 0) {
        return -1;
    }
    if (op->stage == SOCK_FINISHED) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return -1;
    }
    return 0;
}

PySendResult
sock_operation_send(struct sock_operation *op, PyObject *value, PyObject **result)
{
    PySendResult status;

    *result = NULL;
    if (operation_check_alive(op) < 0) {
        return PYGEN_ERROR;
    }
    if (op->stage == SOCK_CREATED && value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    op->is_running = true;
    if (op->stage == SOCK_CREATED) {
        op->stage = SOCK_SUSPENDED;
        status = operation_start(op, result);
    }
    else {
        status = operation_send_inner(op, value, result);
    }
    return operation_settle(op, status, result);
}

/* Call a method that an iterator may have: 1 when it has none, 0, or -1 with the exception set. */
static int
inner_call(PyObject *inner, PyObject *name, PyObject *arg, PyObject **result)
{
    PyObject *method = PyObject_GetAttr(inner, name);
    if (method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 1;
    }
    *result = arg == NULL ? PyObject_CallNoArgs(method) : PyObject_CallOneArg(method, arg);
    Py_DECREF(method);
    return *result == NULL ? -1 : 0;
}

static PySendResult
operation_throw_inner(struct sock_operation *op, PyObject *exception, PyObject **result)
{
    PyObject *inner = Py_NewRef(op->inner);
    int status = inner_call(inner, op->loop->state->str_throw, exception, result);
    Py_DECREF(inner);
    if (status == 0) {
        return PYGEN_NEXT;
    }
    Py_CLEAR(op->inner);
    if (status > 0) {
        PyErr_SetRaisedException(Py_NewRef(exception));
        return PYGEN_ERROR;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = PyErr_GetRaisedException();
    *result = PyObject_GetAttr(stop, op->loop->state->str_value);
    Py_DECREF(stop);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

PySendResult
sock_operation_throw(struct sock_operation *op, PyObject *exception, PyObject **result)
{
    PySendResult status = PYGEN_ERROR;

    *result = NULL;
    if (operation_check_alive(op) < 0) {
        return PYGEN_ERROR;
    }
    op->is_running = true;
    if (op->stage == SOCK_CREATED) {
        PyErr_SetRaisedException(Py_NewRef(exception));
    }
    else {
        status = operation_throw_inner(op, exception, result);
    }
    return operation_settle(op, status, result);
}

int
sock_operation_close(struct sock_operation *op)
{
    int status = 0;

    if (operation_check_idle(op) < 0) {
        return -1;
    }
    if (op->inner != NULL) {
        PyObject *inner = Py_NewRef(op->inner);
        PyObject *answer = NULL;
        op->is_running = true;
        status = inner_call(inner, op->loop->state->str_close, NULL, &answer);
        op->is_running = false;
        Py_XDECREF(answer);
        Py_DECREF(inner);
    }
    operation_finish(op);
    return status < 0 ? -1 : 0;
}
