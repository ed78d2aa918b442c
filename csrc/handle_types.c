/* SPDX-License-Identifier: MIT
 *
 * Handle, TimerHandle and _ThreadSafeHandle as Python sees them: for everything that call_soon, call_later, add_reader and the
 * like give back.
 *
 * They extend asyncio's classes of the same names, so that isinstance holds, by PEP 697: our fields lie behind the slots of
 * asyncio's class, at the end of the object, where its type's size leads to them.  Those slots stay empty; descriptors of the
 * same names hide them and show our fields, so asyncio's own Python methods (__repr__, comparisons, hash) work on ours.
 */
#include "handle.h"

#include "loop.h"

/* --- methods */

static PyObject *
handle_method_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct loop *loop = handle_of(self)->loop;
    int result = 0;
    if (loop != NULL) {
        Py_INCREF(self); /* the heap's reference may be the last one */
        result = handle_cancel(loop, self);
        Py_DECREF(self);
    }
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
handle_method_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct handle *handle = handle_of(self);
    if (handle->has_lock) {
        handle_lock_enter(handle_lock_of(self));
        handle_lock_leave(handle_lock_of(self));
    }
    return PyBool_FromLong(handle_is_cancelled(handle));
}

static PyObject *
handle_method_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct loop *loop = handle_of(self)->loop;
    if (loop != NULL && handle_run_now(loop, self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_method_get_context(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct handle *handle = handle_of(self);
    if (handle->context == NULL) {
        Py_RETURN_NONE;
    }
    return Py_XNewRef(handle_show_context(handle));
}

static PyObject *
handle_get_context(PyObject *self, void *Py_UNUSED(closure))
{
    return handle_method_get_context(self, NULL);
}

static PyObject *
handle_get_object(PyObject *self, void *offset)
{
    PyObject *value;
    Py_BEGIN_CRITICAL_SECTION(self);
    value = *(PyObject **)((char *)handle_of(self) + (size_t)offset);
    Py_XINCREF(value);
    Py_END_CRITICAL_SECTION();
    return value == NULL ? Py_NewRef(Py_None) : value;
}

static PyObject *
handle_make_args(struct handle *handle)
{
    if (handle->callback == NULL) {
        Py_RETURN_NONE;
    }
    if (handle->nargs > HANDLE_INLINE_ARGS) {
        return Py_NewRef(handle->args[0]);
    }
    PyObject *args = PyTuple_New(handle->nargs);
    for (Py_ssize_t i = 0; args != NULL && i < handle->nargs; i++) {
        PyTuple_SET_ITEM(args, i, Py_NewRef(handle->args[i]));
    }
    return args;
}

static PyObject *
handle_get_args(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *args;
    Py_BEGIN_CRITICAL_SECTION(self);
    args = handle_make_args(handle_of(self));
    Py_END_CRITICAL_SECTION();
    return args;
}

static PyObject *
handle_get_cancelled(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(handle_is_cancelled(handle_of(self)));
}

static PyObject *
timer_handle_method_when(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct timer_handle *timer = timer_handle_of(self);
    PyObject *when;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (timer->when_object == NULL) {
        timer->when_object = PyFloat_FromDouble(timer->when);
    }
    when = Py_XNewRef(timer->when_object);
    Py_END_CRITICAL_SECTION();
    return when;
}

static PyObject *
timer_handle_get_when(PyObject *self, void *Py_UNUSED(closure))
{
    return timer_handle_method_when(self, NULL);
}

static PyObject *
timer_handle_get_scheduled(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(timer_handle_of(self)->heap_place != -1);
}

/* --- types */

#define HANDLE_METHODS \
    {"cancel", handle_method_cancel, METH_NOARGS, \
     PyDoc_STR("cancel($self, /)\n--\n\nCancel the callback; does nothing when it has run (asyncio.Handle).")}, \
    {"cancelled", handle_method_cancelled, METH_NOARGS, \
     PyDoc_STR("cancelled($self, /)\n--\n\nReturn True if the callback was cancelled (asyncio.Handle).")}, \
    {"get_context", handle_method_get_context, METH_NOARGS, \
     PyDoc_STR("get_context($self, /)\n--\n\nReturn the contextvars.Context of the callback (asyncio.Handle).")}, \
    {"_run", handle_method_run, METH_NOARGS, NULL}

#define HANDLE_GETSET \
    {"_callback", handle_get_object, NULL, NULL, (void *)offsetof(struct handle, callback)}, \
    {"_args", handle_get_args, NULL, NULL, NULL}, \
    {"_cancelled", handle_get_cancelled, NULL, NULL, NULL}, \
    {"_loop", handle_get_object, NULL, NULL, (void *)offsetof(struct handle, loop)}, \
    {"_source_traceback", handle_get_object, NULL, NULL, (void *)offsetof(struct handle, source_traceback)}, \
    {"_repr", handle_get_object, NULL, NULL, (void *)offsetof(struct handle, repr)}, \
    {"_context", handle_get_context, NULL, NULL, NULL}

static PyMethodDef handle_methods[] = {HANDLE_METHODS, {NULL, NULL, 0, NULL}};
static PyGetSetDef handle_getset[] = {HANDLE_GETSET, {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef timer_handle_methods[] = {
    HANDLE_METHODS,
    {"when", timer_handle_method_when, METH_NOARGS,
     PyDoc_STR("when($self, /)\n--\n\nReturn the scheduled time, in seconds of loop.time() (asyncio.TimerHandle).")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef timer_handle_getset[] = {
    HANDLE_GETSET,
    {"_when", timer_handle_get_when, NULL, NULL, NULL},
    {"_scheduled", timer_handle_get_scheduled, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define HANDLE_SLOTS(methods, getset) \
    {Py_tp_doc, (void *)"A callback that was handed to the loop (see asyncio.Handle)."}, \
    {Py_tp_dealloc, handle_dealloc}, \
    {Py_tp_traverse, handle_traverse}, \
    {Py_tp_clear, handle_clear}, \
    {Py_tp_methods, methods}, \
    {Py_tp_getset, getset}, \
    {0, NULL}

static PyType_Slot handle_slots[] = {HANDLE_SLOTS(handle_methods, handle_getset)};
static PyType_Slot timer_handle_slots[] = {HANDLE_SLOTS(timer_handle_methods, timer_handle_getset)};

enum { HANDLE_FLAGS = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION };

static PyTypeObject *
handle_add_type(PyObject *module, const char *name, PyObject *base, size_t size, PyType_Slot *slots)
{
    PyType_Spec spec = {.name = name, .basicsize = -(int)size, .flags = HANDLE_FLAGS, .slots = slots};
    PyTypeObject *type = module_add_type(module, &spec, base);
    assert(type == NULL || type->tp_basicsize == module_type_data_offset(type) + (Py_ssize_t)size);
    return type;
}

static int
handle_add_threadsafe_type(PyObject *module, module_state *state)
{
#if PY_VERSION_HEX >= 0x030E0000
    PyObject *events = PyImport_ImportModule("asyncio.events");
    PyObject *base = events == NULL ? NULL : PyObject_GetAttrString(events, "_ThreadSafeHandle");
    if (base != NULL) {
        state->ThreadSafeHandle_type = handle_add_type(module, "rloop._rloop._ThreadSafeHandle", base,
                                                       sizeof(struct threadsafe_handle), handle_slots);
    }
    Py_XDECREF(base);
    Py_XDECREF(events);
    return state->ThreadSafeHandle_type == NULL ? -1 : 0;
#else
    (void)module;
    (void)state;
    return 0;
#endif
}

static int
handle_add_types(PyObject *module, module_state *state)
{
    state->Handle_type = handle_add_type(module, "rloop._rloop.Handle", state->Handle, sizeof(struct handle),
                                         handle_slots);
    if (state->Handle_type == NULL) {
        return -1;
    }
    state->TimerHandle_type = handle_add_type(module, "rloop._rloop.TimerHandle", state->TimerHandle,
                                              sizeof(struct timer_handle), timer_handle_slots);
    return state->TimerHandle_type == NULL ? -1 : handle_add_threadsafe_type(module, state);
}

int
handle_setup_types(PyObject *module, module_state *state)
{
    if (handle_add_types(module, state) < 0) {
        return -1;
    }
    /* Python 3.13 and newer hide a callback's arguments outside debug mode, and so want to know the mode. */
    PyObject *defaults = PyObject_GetAttr(state->format_callback_source, state->str___kwdefaults__);
    if (defaults == NULL) {
        return -1;
    }
    if (PyDict_Check(defaults) && PyDict_Contains(defaults, state->str_debug) == 1) {
        state->kwnames_debug = PyTuple_Pack(1, state->str_debug);
    }
    Py_DECREF(defaults);
    return PyErr_Occurred() ? -1 : 0;
}
