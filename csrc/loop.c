/* SPDX-License-Identifier: MIT
 *
 * The Loop's base type in C: its life, its state as Python sees it, and its methods' table.  loop_turn.c runs it.
 *
 * rloop.RLoop and rloop.TokioLoop inherit from this type and from asyncio.BaseEventLoop; what both halves need is a field
 * here with a descriptor of asyncio's name.  All of it belongs to the loop's thread, save what inbox.h guards.
 */
#include "loop.h"

#include "datagram_transport.h"
#include "errors.h"
#include "loop_calls.h"
#include "pipe_transport.h"
#include "server.h"
#include "sock_ops.h"
#include "stream_transport.h"

#include <stddef.h>
#include <structmember.h>

/* --- what a program has put in our methods' place */

/* Is `name`, as the loop or its class has it, something else than our own method?  (No look into the instance's dictionary: it
 * would be made by that, and then be in the way of every attribute.) */
static bool
loop_overrides(PyObject *self, PyObject *name, PyCFunction function)
{
    PyObject *used = PyObject_GetAttr(self, name);
    bool result = used == NULL || !PyCFunction_CheckExact(used) || PyCFunction_GET_SELF(used) != self ||
                  PyCFunction_GET_FUNCTION(used) != function;
    PyErr_Clear();
    Py_XDECREF(used);
    return result;
}

void
loop_find_overrides(struct loop *loop)
{
    PyObject *self = (PyObject *)loop;
    module_state *state = loop->state;
    loop->overrides_time = loop_overrides(self, state->str_time, loop_method_time);
    loop->overrides_call_at = loop_overrides(self, state->str_call_at, _PyCFunction_CAST(loop_method_call_at));
    loop->overrides_call_soon = loop_overrides(self, state->str_call_soon, _PyCFunction_CAST(loop_method_call_soon));
    loop->overrides_create_future = loop_overrides(self, state->str_create_future, loop_method_create_future);
}

static int
loop_setattr(PyObject *self, PyObject *name, PyObject *value)
{
    if (PyObject_GenericSetAttr(self, name, value) < 0) {
        return -1;
    }
    struct loop *loop = (struct loop *)self;
    module_state *state = loop->state;
    if (name == state->str_time || name == state->str_call_at || name == state->str_call_soon ||
        name == state->str_create_future)
    {
        loop_find_overrides(loop);
    }
    return 0;
}

/* --- state that Python sees */

static PyObject *
loop_method_stop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((struct loop *)self)->is_stopping = true;
    Py_RETURN_NONE;
}

static PyObject *
loop_method_is_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((struct loop *)self)->thread_id != 0);
}

static PyObject *
loop_method_is_closed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((struct loop *)self)->is_closed);
}

static PyObject *
loop_method_get_debug(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((struct loop *)self)->is_debug);
}

static PyObject *
loop_get_debug(PyObject *self, void *Py_UNUSED(closure))
{
    return loop_method_get_debug(self, NULL);
}

/* Any object will do, as in asyncio. */
static int
loop_set_debug(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int is_debug = value == NULL ? 0 : PyObject_IsTrue(value);
    if (is_debug < 0) {
        return -1;
    }
    ((struct loop *)self)->is_debug = is_debug;
    return 0;
}

static PyObject *
loop_get_thread_id(PyObject *self, void *Py_UNUSED(closure))
{
    unsigned long thread_id = ((struct loop *)self)->thread_id;
    return thread_id == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(thread_id);
}

static int
loop_set_thread_id(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long thread_id = 0;
    if (value != NULL && value != Py_None) {
        thread_id = PyLong_AsUnsignedLong(value);
        if (thread_id == (unsigned long)-1 && PyErr_Occurred()) {
            return -1;
        }
    }
    ((struct loop *)self)->thread_id = thread_id;
    return 0;
}

/* --- transports */

void
loop_own(struct loop *loop, struct loop_owned *owned, PyObject *object)
{
    assert(owned->next == NULL);
    owned->object = Py_NewRef(object);
    owned->previous = loop->owned.previous;
    owned->next = &loop->owned;
    owned->previous->next = owned;
    owned->next->previous = owned;
}

void
loop_disown(struct loop_owned *owned)
{
    if (owned->next == NULL) {
        return;
    }
    owned->previous->next = owned->next;
    owned->next->previous = owned->previous;
    owned->previous = owned->next = NULL;
    Py_DECREF(owned->object); /* the last thing: it may be what holds `owned` */
}

char *
loop_read_buffer(struct loop *loop)
{
    if (loop->read_buffer == NULL) {
        /* glibc's malloc gives what is freed at the heap's end back to the kernel at once, and takes it again with a page
         * fault for each 4 KiB.  When it has seen a large block freed it keeps twice as much (mallopt(3), the dynamic
         * mmap threshold): a few dozen messages of 100 KiB then cost half. */
        PyMem_Free(PyMem_Malloc(LOOP_LARGE_BLOCK_SIZE));
        loop->read_buffer = PyMem_Malloc(LOOP_READ_BUFFER_SIZE);
        if (loop->read_buffer == NULL) {
            PyErr_NoMemory();
        }
    }
    return loop->read_buffer;
}

/* --- life */

static PyObject *
loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    module_state *state = module_state_of_type(type);
    struct loop *loop = state == NULL ? NULL : (struct loop *)type->tp_alloc(type, 0);
    if (loop == NULL) {
        return NULL;
    }
    loop->state = state;
    loop->is_closed = true; /* until __init__, so that an object which never got that far isn't a loop left open */
    loop->owned.previous = loop->owned.next = &loop->owned;
    if (pthread_mutex_init(&loop->inbox.lock, NULL) != 0) {
        Py_DECREF(loop);
        return PyErr_NoMemory();
    }
    return (PyObject *)loop;
}

static int
loop_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"core", NULL};
    struct loop *loop = (struct loop *)self;
    const char *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s:LoopBase", keywords, &name)) {
        return -1;
    }
    if (loop->core_loop != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the loop has been initialized already");
        return -1;
    }
    loop->is_closed =
        true; /* until it is open: BaseEventLoop.__init__ says that it is, and its __del__ would close it */
    loop->core = core_by_name(name);
    if (loop->core == NULL) {
        PyErr_Format(PyExc_ValueError, "no core is called '%s'", name);
        return -1;
    }
    int result = loop->core->loop_create(&loop_core_hooks, loop, &loop->core_loop);
    if (result < 0) {
        errors_set(result);
        return -1;
    }
    loop->is_closed = false;
    loop_options_apply(loop);
    inbox_open(&loop->inbox, loop->core, loop->core_loop);
    loop_find_overrides(loop);
    return 0;
}

/* Close what the core knows, calling no protocol, and drop what is queued. */
static void
loop_release(struct loop *loop)
{
    while (loop->owned.next != &loop->owned) {
        struct loop_owned *owned = loop->owned.next;
        owned->on_loop_close(owned->object);
        loop_disown(owned);
    }
    if (loop->core_loop != NULL) {
        fd_registry_clear(loop);
        inbox_close(&loop->inbox);
        loop->core->loop_destroy(loop->core_loop);
        loop->core_loop = NULL;
    }
    for (PyObject *timer; (timer = timer_heap_remove_any(&loop->timers)) != NULL;) {
        Py_DECREF(timer);
    }
    ready_queue_clear(&loop->ready);
    ready_queue_clear(&loop->due);
    ready_queue_clear(&loop->late);
    ready_queue_clear(&loop->new_timers);
    inbox_clear(&loop->inbox);
    context_snapshot_forget(&loop->snapshot);
}

static PyObject *
loop_method_close_core(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    loop_release((struct loop *)self);
    Py_RETURN_NONE;
}

static PyObject *
loop_method_renew_core(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct loop *loop = (struct loop *)self;
    int result = loop->core_loop == NULL ? 0 : loop->core->loop_after_fork(loop->core_loop);
    if (loop->thread_id != PyThread_get_thread_ident()) {
        loop->thread_id = 0; /* who ran it isn't here; a callback that forks is run by it still */
    }
    if (result < 0) {
        return errors_set(result);
    }
    if (loop->core_loop != NULL) {
        loop->core->loop_wake(loop->core_loop); /* the wake-up for what is in the inbox was the parent's */
    }
    Py_RETURN_NONE;
}

static int
loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct loop *loop = (struct loop *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->failure);
    Py_VISIT(loop->future_kwargs);
    Py_VISIT(loop->exception_handler);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->default_executor);
    Py_VISIT(loop->current_handle);
    for (size_t i = 0; i < loop->timers.count; i++) {
        Py_VISIT((PyObject *)loop->timers.entries[i].timer);
    }
    for (struct loop_owned *owned = loop->owned.next; owned != &loop->owned; owned = owned->next) {
        Py_VISIT(owned->object);
    }
    int result = context_snapshot_traverse(&loop->snapshot, visit, arg);
    if (result == 0) {
        result = ready_queue_traverse(&loop->ready, visit, arg);
    }
    if (result == 0) {
        result = ready_queue_traverse(&loop->new_timers, visit, arg);
    }
    if (result == 0) {
        result = ready_queue_traverse(&loop->due, visit, arg);
    }
    if (result == 0) {
        result = ready_queue_traverse(&loop->late, visit, arg);
    }
    if (result == 0) {
        result = inbox_traverse(&loop->inbox, visit, arg);
    }
    return result != 0 ? result : fd_registry_traverse(&loop->fds, visit, arg);
}

static int
loop_clear(PyObject *self)
{
    struct loop *loop = (struct loop *)self;
    loop_release(loop);
    Py_CLEAR(loop->failure);
    Py_CLEAR(loop->future_kwargs);
    Py_CLEAR(loop->exception_handler);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->default_executor);
    Py_CLEAR(loop->current_handle);
    return 0;
}

static void
loop_dealloc(PyObject *self)
{
    struct loop *loop = (struct loop *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    loop_clear(self);
    ready_queue_free(&loop->ready);
    ready_queue_free(&loop->due);
    ready_queue_free(&loop->late);
    ready_queue_free(&loop->new_timers);
    inbox_free(&loop->inbox);
    timer_heap_free(&loop->timers);
    fd_registry_free(&loop->fds);
    PyMem_Free(loop->read_buffer);
    address_cache_free(loop->addresses);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- type */

static PyObject *loop_method_adopt(PyObject *type, PyObject *ignored);

#define FASTCALL(function) _PyCFunction_CAST(function), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef loop_methods[] = {
    {"call_soon", FASTCALL(loop_method_call_soon),
     PyDoc_STR("call_soon($self, callback, *args, context=None)\n--\n\n"
               "Call callback(*args) in the next turn; returns an asyncio.Handle (asyncio: Event Loop, call_soon).")},
    {"call_soon_threadsafe", FASTCALL(loop_method_call_soon_threadsafe),
     PyDoc_STR("call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n"
               "Like call_soon, from any thread (asyncio: Event Loop, call_soon_threadsafe).")},
    {"call_later", FASTCALL(loop_method_call_later),
     PyDoc_STR(
         "call_later($self, delay, callback, *args, context=None)\n--\n\n"
         "Call callback(*args) after delay seconds; returns an asyncio.TimerHandle (asyncio: Event Loop, call_later).")},
    {"call_at", FASTCALL(loop_method_call_at),
     PyDoc_STR("call_at($self, when, callback, *args, context=None)\n--\n\n"
               "Call callback(*args) at a time of loop.time(), in seconds (asyncio: Event Loop, call_at).")},
    {"time", loop_method_time, METH_NOARGS,
     PyDoc_STR("time($self, /)\n--\n\nThe monotonic clock, in seconds (time.monotonic).")},
    {"stop", loop_method_stop, METH_NOARGS,
     PyDoc_STR("stop($self, /)\n--\n\nEnd run_forever after the present turn (asyncio: Event Loop, stop).")},
    {"is_running", loop_method_is_running, METH_NOARGS,
     PyDoc_STR("is_running($self, /)\n--\n\nReturn True while the loop runs.")},
    {"is_closed", loop_method_is_closed, METH_NOARGS,
     PyDoc_STR("is_closed($self, /)\n--\n\nReturn True when the loop has been closed.")},
    {"get_debug", loop_method_get_debug, METH_NOARGS,
     PyDoc_STR("get_debug($self, /)\n--\n\nReturn the debug mode (asyncio: Developing with asyncio).")},
    {"create_future", loop_method_create_future, METH_NOARGS,
     PyDoc_STR("create_future($self, /)\n--\n\nReturn a new asyncio.Future of this loop.")},
    {"create_task", FASTCALL(loop_method_create_task),
     PyDoc_STR("create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\n"
               "Return a new asyncio.Task that runs coro (asyncio: Event Loop, create_task).")},
    {"_run_turns", loop_method_run_turns, METH_NOARGS, NULL},
    {"_close_core", loop_method_close_core, METH_NOARGS, NULL},
    {"_renew_core", loop_method_renew_core, METH_NOARGS, NULL},
    {"_adopt_methods", loop_method_adopt, METH_CLASS | METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef loop_members[] = {
    {"_closed", T_BOOL, offsetof(struct loop, is_closed), 0, NULL},
    {"_stopping", T_BOOL, offsetof(struct loop, is_stopping), 0, NULL},
    {"_clock_resolution", T_DOUBLE, offsetof(struct loop, clock_resolution), 0, NULL},
    {"_exception_handler", T_OBJECT, offsetof(struct loop, exception_handler), 0, NULL},
    {"_task_factory", T_OBJECT, offsetof(struct loop, task_factory), 0, NULL},
    {"_default_executor", T_OBJECT, offsetof(struct loop, default_executor), 0, NULL},
    {"_current_handle", T_OBJECT, offsetof(struct loop, current_handle), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef loop_getset[] = {
    {"_debug", loop_get_debug, loop_set_debug, NULL, NULL},
    {"_thread_id", loop_get_thread_id, loop_set_thread_id, NULL, NULL},
    {"busy_poll", loop_get_busy_poll, loop_set_busy_poll,
     PyDoc_STR(
         "Seconds for which a turn with nothing to do looks again and again before it sleeps; 0.0 turns it off.\n\n"
         "A message that comes meanwhile is answered sooner, as no thread has to be woken for it.  It costs up to\n"
         "that much CPU time for each wait, whether something comes or not; other threads run beside it.  Set it\n"
         "in the loop's thread.  ValueError when it is negative or not finite, TypeError when it is no number."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("LoopBase(core)\n--\n\nThe C half of RLoop (core 'mio') and TokioLoop (core 'uv').")},
    {Py_tp_new, loop_new},
    {Py_tp_init, loop_init},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_setattro, loop_setattr},
    {Py_tp_methods, loop_methods},
    {Py_tp_members, loop_members},
    {Py_tp_getset, loop_getset},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "rloop._rloop.LoopBase",
    .basicsize = sizeof(struct loop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = loop_slots,
};

static PyMethodDef *const loop_method_rooms[] = {
    fd_registry_methods, stream_transport_loop_methods,   pipe_transport_loop_methods,
    server_loop_methods, datagram_transport_loop_methods, sock_ops_loop_methods,
};
enum { LOOP_METHOD_ROOMS = sizeof loop_method_rooms / sizeof loop_method_rooms[0] };

/* Give a subclass descriptors of its own for our methods: the interpreter calls a method in C directly only when the
 * descriptor is of the instance's very type. */
static PyObject *
loop_method_adopt(PyObject *type, PyObject *Py_UNUSED(ignored))
{
    if (module_add_methods((PyTypeObject *)type, loop_methods) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

int
loop_setup_types(PyObject *module, module_state *state)
{
    state->LoopBase_type = module_add_type(module, &loop_spec, NULL);
    if (state->LoopBase_type == NULL) {
        return -1;
    }
    for (size_t i = 0; i < LOOP_METHOD_ROOMS; i++) {
        if (module_add_methods(state->LoopBase_type, loop_method_rooms[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
