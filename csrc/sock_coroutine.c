/* SPDX-License-Identifier: MIT
 *
 * SockOperation: the face of an operation, that of a coroutine of `async def` down to its errors and warnings.
 *
 * It has what asyncio, inspect and collections.abc.Coroutine look for, save a frame and a code object, which C has not.
 */
#include "sock_ops.h"

#include "loop.h"

#include <stddef.h>
#include <string.h>

/* The result of a step as an iterator gives it: a return is StopIteration with the value. */
static PyObject *
iterator_result(PySendResult status, PyObject *result)
{
    if (status != PYGEN_RETURN) {
        return result;
    }
    /* Not PyErr_SetObject, which would take a tuple for the arguments, and an exception for the one to raise. */
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    if (stop != NULL) {
        PyErr_SetRaisedException(stop);
    }
    Py_DECREF(result);
    return NULL;
}

static PyObject *
operation_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult status = sock_operation_send((struct sock_operation *)self, value, &result);
    return iterator_result(status, result);
}

static PyObject *
operation_iternext(PyObject *self)
{
    PyObject *result;
    PySendResult status = sock_operation_send((struct sock_operation *)self, Py_None, &result);
    if (status == PYGEN_RETURN && result == Py_None) {
        Py_DECREF(result);
        return NULL; /* the short form of StopIteration(None) */
    }
    return iterator_result(status, result);
}

/* The exception to throw, from throw(type[, value[, traceback]]); a new reference. */
static PyObject *
throw_exception(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *traceback = nargs > 2 && args[2] != Py_None ? args[2] : NULL;
    PyObject *exception;

    if (traceback != NULL && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback object");
        return NULL;
    }
    if (PyExceptionClass_Check(args[0])) {
        PyErr_SetObject(args[0], value);
        exception = PyErr_GetRaisedException();
    }
    else if (!PyExceptionInstance_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
        return NULL;
    }
    else if (value != NULL) {
        PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
        return NULL;
    }
    else {
        exception = Py_NewRef(args[0]);
    }
    if (traceback != NULL && PyException_SetTraceback(exception, traceback) < 0) {
        Py_CLEAR(exception);
    }
    return exception;
}

static PyObject *
operation_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result;

    if (nargs < 1 || nargs > 3) {
        const char *bound = nargs < 1 ? "at least 1 argument" : "at most 3 arguments";
        return PyErr_Format(PyExc_TypeError, "throw expected %s, got %zd", bound, nargs);
    }
    PyObject *exception = throw_exception(args, nargs);
    if (exception == NULL) {
        return NULL;
    }
    PySendResult status = sock_operation_throw((struct sock_operation *)self, exception, &result);
    Py_DECREF(exception);
    return iterator_result(status, result);
}

static PyObject *
operation_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (sock_operation_close((struct sock_operation *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PySendResult
operation_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    return sock_operation_send((struct sock_operation *)self, value, result);
}

static PyObject *
operation_am_await(PyObject *self)
{
    if (((struct sock_operation *)self)->stage == SOCK_SUSPENDED) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(self);
}

/* --- the type */

static PyObject *
operation_get_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((struct sock_operation *)self)->call->name);
}

static PyObject *
operation_get_qualname(PyObject *self, void *Py_UNUSED(closure))
{
    struct sock_operation *op = (struct sock_operation *)self;
    PyObject *class_name = PyType_GetQualName(Py_TYPE(op->loop));
    if (class_name == NULL) {
        return NULL;
    }
    PyObject *qualname = PyUnicode_FromFormat("%U.%s", class_name, op->call->name);
    Py_DECREF(class_name);
    return qualname;
}

static PyObject *
operation_get_running(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((struct sock_operation *)self)->is_running);
}

static PyObject *
operation_get_suspended(PyObject *self, void *Py_UNUSED(closure))
{
    struct sock_operation *op = (struct sock_operation *)self;
    return PyBool_FromLong(op->stage == SOCK_SUSPENDED && !op->is_running);
}

static PyObject *
operation_repr(PyObject *self)
{
    PyObject *qualname = operation_get_qualname(self, NULL);
    if (qualname == NULL) {
        return NULL;
    }
    PyObject *repr = PyUnicode_FromFormat("<coroutine object %U at %p>", qualname, (void *)self);
    Py_DECREF(qualname);
    return repr;
}

static void
operation_finalize(PyObject *self)
{
    if (((struct sock_operation *)self)->stage != SOCK_CREATED) {
        return;
    }
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *qualname = operation_get_qualname(self, NULL);
    if (qualname == NULL || PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%U' was never awaited", qualname) < 0)
    {
        PyErr_WriteUnraisable(self);
    }
    Py_XDECREF(qualname);
    PyErr_SetRaisedException(exception);
}

static int
operation_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct sock_operation *op = (struct sock_operation *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(op->loop);
    Py_VISIT(op->sock);
    for (int i = 0; i < SOCK_MAX_PARAMETERS - 1; i++) {
        Py_VISIT(op->args[i]);
    }
    Py_VISIT(op->inner);
    Py_VISIT(op->future);
    Py_VISIT(op->buffer.obj);
    return 0;
}

/* The loop stays: every method relies on it, and a cycle through it is broken in the loop's own clear. */
static int
operation_clear(PyObject *self)
{
    struct sock_operation *op = (struct sock_operation *)self;
    op->stage = SOCK_FINISHED;
    sock_operation_drop(op);
    return 0;
}

/* --- the pool: an echo makes two operations a message, one after the other, so a few serve all.  The GIL guards it;
 * without one there is none.  What is in it is clean: no reference, no weak reference, not tracked, never finalized. */

static PyObject *
operation_alloc(module_state *state)
{
#ifndef Py_GIL_DISABLED
    if (state->sock_pool_count > 0) {
        PyObject *self = PyObject_Init(state->sock_pool[--state->sock_pool_count], state->SockOperation_type);
        size_t head = offsetof(struct sock_operation, loop);
        memset((char *)self + head, 0, sizeof(struct sock_operation) - head);
        PyObject_GC_Track(self);
        return self;
    }
#endif
    return state->SockOperation_type->tp_alloc(state->SockOperation_type, 0);
}

static void
operation_free(PyObject *self, module_state *state)
{
#ifndef Py_GIL_DISABLED
    if (state->sock_pool_count < MODULE_SOCK_POOL_SIZE && !PyObject_GC_IsFinalized(self) &&
        Py_IS_TYPE(self, state->SockOperation_type)) /* it is NULL when the module goes away */
    {
        state->sock_pool[state->sock_pool_count++] = self;
        return;
    }
#endif
    (void)state;
    Py_TYPE(self)->tp_free(self);
}

void
sock_ops_clear_pool(module_state *state)
{
    while (state->sock_pool_count > 0) {
        PyObject_GC_Del(state->sock_pool[--state->sock_pool_count]);
    }
}

/* --- its end */

static void
operation_dealloc(PyObject *self)
{
    struct sock_operation *op = (struct sock_operation *)self;
    PyTypeObject *type = Py_TYPE(self);
    module_state *state = op->loop->state;

    /* The finalizer has something to say about a new operation only. */
    if (op->stage == SOCK_CREATED && PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    sock_operation_drop(op);
    Py_CLEAR(op->loop);
    operation_free(self, state);
    Py_DECREF(type);
}

static PyMethodDef operation_methods[] = {
    {"send", operation_send, METH_O,
     PyDoc_STR("send($self, value, /)\n--\n\n"
               "Run up to the next future to wait for, and return that; StopIteration carries the result.")},
    {"throw", (PyCFunction)(void (*)(void))operation_throw, METH_FASTCALL,
     PyDoc_STR("throw($self, type, value=None, traceback=None, /)\n--\n\n"
               "Raise an exception where the operation waits; nothing watches the socket any more.")},
    {"close", operation_close, METH_NOARGS,
     PyDoc_STR("close($self, /)\n--\n\nEnd the operation where it is; nothing watches the socket any more.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef operation_getset[] = {
    {"__name__", operation_get_name, NULL, NULL, NULL},
    {"__qualname__", operation_get_qualname, NULL, NULL, NULL},
    {"cr_running", operation_get_running, NULL, NULL, NULL},
    {"cr_suspended", operation_get_suspended, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot operation_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("What the sock_* methods of a loop return: a coroutine around one system call.")},
    {Py_tp_methods, operation_methods},
    {Py_tp_getset, operation_getset},
    {Py_tp_repr, operation_repr},
    {Py_tp_iternext, operation_iternext},
    {Py_am_await, operation_am_await},
    {Py_am_send, operation_am_send},
    {Py_tp_finalize, operation_finalize},
    {Py_tp_traverse, operation_traverse},
    {Py_tp_clear, operation_clear},
    {Py_tp_dealloc, operation_dealloc},
    {0, NULL},
};

static PyType_Spec operation_spec = {
    .name = "rloop._rloop.SockOperation",
    .basicsize = sizeof(struct sock_operation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_MANAGED_WEAKREF,
    .slots = operation_slots,
};

struct sock_operation *
sock_operation_new(struct loop *loop, const struct sock_call *call)
{
    struct sock_operation *op = (struct sock_operation *)operation_alloc(loop->state);
    if (op != NULL) {
        op->loop = (struct loop *)Py_NewRef(loop);
        op->call = call;
        op->fd = -1;
    }
    return op;
}

int
sock_ops_setup_types(PyObject *module, module_state *state)
{
    state->SockOperation_type = module_add_type(module, &operation_spec, NULL);
    state->raw_socket_fileno = PyObject_GetAttr(state->raw_socket_type, state->str_fileno);
    return state->SockOperation_type == NULL || state->raw_socket_fileno == NULL ? -1 : 0;
}
