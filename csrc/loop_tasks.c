/* SPDX-License-Identifier: MIT
 *
 * The Loop's create_future and create_task.  Futures and tasks are always asyncio's own types, looked up where a program may
 * have replaced them; what is saved is the Python between the caller and the type.
 */
#include "loop_calls.h"

/* As PyObject_GetAttr; a new reference. */
static PyObject *
module_attribute(PyObject *module, PyObject *name)
{
#ifdef Py_GIL_DISABLED
    PyObject *value; /* another thread may replace it */
    int is_found = PyDict_GetItemRef(PyModule_GetDict(module), name, &value);
    return is_found != 0 ? value : PyObject_GetAttr(module, name);
#else
    PyObject *value = PyDict_GetItemWithError(PyModule_GetDict(module), name);
    return value != NULL ? Py_NewRef(value) : PyErr_Occurred() ? NULL : PyObject_GetAttr(module, name);
#endif
}

/* The keywords of a type that takes the loop, made once: the type makes a tuple and a dictionary out of a vectorcall, each
 * time, and keeps neither.  NULL when the loop doesn't run in this thread. */
static PyObject *
loop_own_kwargs(const struct loop *loop)
{
    return loop->thread_id == PyThread_get_thread_ident() ? loop->future_kwargs : NULL;
}

PyObject *
loop_method_create_future(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct loop *loop = (struct loop *)self;
    module_state *state = loop->state;
    PyObject *future_type = module_attribute(state->futures, state->str_Future);
    PyObject *future = NULL;
    if (future_type == NULL) {
        return NULL;
    }
    PyObject *own_kwargs = future_type == state->Future ? loop_own_kwargs(loop) : NULL;
    if (own_kwargs != NULL) {
        future = PyObject_Call(future_type, state->no_args, own_kwargs);
    }
    else {
        PyObject *args[] = {NULL, self};
        future = PyObject_Vectorcall(future_type, args + 1, 0 | PY_VECTORCALL_ARGUMENTS_OFFSET, state->kwnames_loop);
    }
    Py_DECREF(future_type);
    return future;
}

PyObject *
loop_create_future(struct loop *loop)
{
    PyObject *self = (PyObject *)loop;
    return loop->overrides_create_future ? PyObject_CallMethodNoArgs(self, loop->state->str_create_future)
                                         : loop_method_create_future(self, NULL);
}

/* With a task factory, another type in asyncio.tasks' place, in debug mode, or with keywords that only some Python versions
 * know, asyncio's own method does it. */
static PyObject *
loop_create_task_by_base(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    module_state *state = ((struct loop *)self)->state;
    PyObject *method = PyObject_GetAttr(state->BaseEventLoop, state->str_create_task);
    Py_ssize_t total = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject **call = PyMem_New(PyObject *, 1 + total);
    PyObject *task = NULL;
    if (method == NULL || call == NULL) {
        goto done;
    }
    call[0] = self;
    for (Py_ssize_t i = 0; i < total; i++) {
        call[1 + i] = args[i];
    }
    task = PyObject_Vectorcall(method, call, (size_t)(1 + nargs), kwnames);
done:
    Py_XDECREF(method);
    PyMem_Free(call);
    return task;
}

PyObject *
loop_method_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct loop *loop = (struct loop *)self;
    module_state *state = loop->state;
    PyObject *name = Py_None, *context = Py_None;
    bool is_plain = nargs == 1 && !loop->is_debug && (loop->task_factory == NULL || loop->task_factory == Py_None);
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw && is_plain; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        if (keyword == state->str_name) {
            name = args[nargs + i];
        }
        else if (keyword == state->str_context) {
            context = args[nargs + i];
        }
        else {
            is_plain = false;
        }
    }
    if (!is_plain) {
        return loop_create_task_by_base(self, args, nargs, kwnames);
    }
    if (loop_check_closed(loop) < 0) {
        return NULL;
    }
    PyObject *task_type = module_attribute(state->tasks, state->str_Task);
    if (task_type == NULL) {
        return NULL;
    }
    if (task_type != state->Task) {
        Py_DECREF(task_type);
        return loop_create_task_by_base(self, args, nargs, kwnames);
    }
    bool has_defaults = name == Py_None && context == Py_None;
    PyObject *own_kwargs = has_defaults ? loop_own_kwargs(loop) : NULL;
    PyObject *task = NULL;
    if (own_kwargs == NULL) {
        PyObject *call[] = {NULL, args[0], self, name, context};
        task = PyObject_Vectorcall(task_type, call + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   state->kwnames_loop_name_context);
    }
    else {
        PyObject *positional = PyTuple_Pack(1, args[0]);
        task = positional == NULL ? NULL : PyObject_Call(task_type, positional, own_kwargs);
        Py_XDECREF(positional);
    }
    Py_DECREF(task_type);
    return task;
}
