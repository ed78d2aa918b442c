/* SPDX-License-Identifier: MIT
 *
 * A handle's life: making, running, cancelling, and the memory of dead ones.  handle_types.c has what Python sees of it.
 *
 * With the GIL, or in the loop's thread alone, nothing here needs care.  Without one any thread may cancel a handle: its
 * call is taken, dropped and shown in a critical section.
 */
#include "handle.h"

#include "loop.h"

/* --- the pools: memory of dead handles waits here for the next ones.  The GIL guards them; without one there are none.  A
 * pooled object is clean: no reference, no weak reference, not tracked. */

enum { HANDLE_POOL_SIZE = 16 * 1024 };

static PyObject *
handle_alloc(PyTypeObject *type, struct handle_pool *pool)
{
#ifndef Py_GIL_DISABLED
    if (pool->count > 0) {
        PyObject *self = PyObject_Init(pool->objects[--pool->count], type);
        PyObject_GC_Track(self);
        return self;
    }
#endif
    (void)pool;
    return type->tp_alloc(type, 0);
}

static void
handle_free(PyObject *self, PyTypeObject *type, struct handle_pool *pool)
{
#ifndef Py_GIL_DISABLED
    if (pool->objects == NULL && !pool->is_closed) {
        pool->objects = PyMem_New(PyObject *, HANDLE_POOL_SIZE);
    }
    if (pool->objects != NULL && pool->count < HANDLE_POOL_SIZE) {
        pool->objects[pool->count++] = self;
        return;
    }
#endif
    (void)pool;
    type->tp_free(self);
}

static void
handle_pool_close(struct handle_pool *pool)
{
    pool->is_closed = true;
    while (pool->count > 0) {
        PyObject_GC_Del(pool->objects[--pool->count]);
    }
    PyMem_Free(pool->objects);
    pool->objects = NULL;
}

void
handle_close_pools(module_state *state)
{
    handle_pool_close(&state->handle_pool);
    handle_pool_close(&state->timer_handle_pool);
    handle_pool_close(&state->threadsafe_handle_pool);
}

static bool
handle_may_have_weakrefs(PyObject *self)
{
#ifdef Py_GIL_DISABLED
    (void)self;
    return true; /* the list is not ours to read */
#else
    return *(PyObject **)((char *)self + Py_TYPE(self)->tp_weaklistoffset) != NULL;
#endif
}

/* --- making */

static int
handle_init(struct handle *handle, struct loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
            PyObject *context)
{
    atomic_init(&handle->is_cancelled, false);
    handle->is_context_shared = handle->is_context_hidden = false;
    handle->context = context != NULL ? Py_NewRef(context) : context_snapshot_take(loop, &handle->is_context_shared);
    if (handle->context == NULL) {
        return -1;
    }
    handle->loop = (struct loop *)Py_NewRef(loop);
    handle->callback = Py_NewRef(callback);
    if (nargs <= HANDLE_INLINE_ARGS) {
        handle->nargs = nargs;
        for (Py_ssize_t i = 0; i < nargs; i++) {
            handle->args[i] = Py_NewRef(args[i]);
        }
    }
    else if ((handle->args[0] = PyTuple_New(nargs)) != NULL) {
        handle->nargs = nargs;
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(handle->args[0], i, Py_NewRef(args[i]));
        }
    }
    else {
        return -1;
    }
    if (loop->is_debug) {
        PyObject *frame = (PyObject *)PyEval_GetFrame();
        handle->source_traceback = PyObject_CallOneArg(loop->state->extract_stack, frame == NULL ? Py_None : frame);
        return handle->source_traceback == NULL ? -1 : 0;
    }
    return 0;
}

PyObject *
handle_new(struct loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    module_state *state = loop->state;
    PyObject *self = handle_alloc(state->Handle_type, &state->handle_pool);
    if (self != NULL && handle_init(handle_of(self), loop, callback, args, nargs, context) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

PyObject *
threadsafe_handle_new(struct loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    module_state *state = loop->state;
    if (state->ThreadSafeHandle_type == NULL) {
        return handle_new(loop, callback, args, nargs, context);
    }
    PyObject *self = handle_alloc(state->ThreadSafeHandle_type, &state->threadsafe_handle_pool);
    if (self == NULL) {
        return NULL;
    }
    handle_of(self)->has_lock = true;
    if (handle_init(handle_of(self), loop, callback, args, nargs, context) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

PyObject *
timer_handle_new(struct loop *loop, double when, PyObject *when_object, int64_t when_ns, PyObject *callback,
                 PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    module_state *state = loop->state;
    PyObject *self = handle_alloc(state->TimerHandle_type, &state->timer_handle_pool);
    if (self == NULL) {
        return NULL;
    }
    struct timer_handle *timer = timer_handle_of(self);
    timer->when = when;
    timer->when_object = Py_XNewRef(when_object);
    timer->when_ns = when_ns;
    timer->heap_place = -1;
    timer->base.is_timer = true;
    if (handle_init(&timer->base, loop, callback, args, nargs, context) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

/* --- running */

static int
handle_leave_snapshot(struct handle *handle)
{
    if (context_snapshot_own(handle->loop, &handle->context) < 0) {
        return -1;
    }
    handle->is_context_shared = false;
    handle->is_context_hidden = true;
    return 0;
}

static int
handle_own_context(struct handle *handle)
{
    if (!handle->is_context_shared || handle_leave_snapshot(handle) == 0) {
        return 0;
    }
    PyErr_Clear(); /* out of memory; a callback may be lost, where asyncio's call_soon() would have raised */
    PyGC_Collect();
    return handle->is_context_shared ? handle_leave_snapshot(handle) : 0; /* a destructor may have asked for it */
}

PyObject *
handle_show_context(struct handle *handle)
{
    if (handle_own_context(handle) < 0) {
        return NULL;
    }
    if (handle->is_context_hidden) { /* without a GIL never: nothing is written here then */
        handle->is_context_hidden = false;
    }
    return handle->context;
}

/* The callback's exception, which is set, in asyncio's words. */
static int
handle_report(struct loop *loop, PyObject *self)
{
    module_state *state = loop->state;
    struct handle *handle = handle_of(self);
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *args = PyObject_GetAttr(self, state->str__args);
    PyObject *callback = PyObject_GetAttr(self, state->str__callback);
    PyObject *source = NULL, *message = NULL;
    int result = -1;
    if (args == NULL || callback == NULL) {
        goto done;
    }
    PyObject *call[] = {callback, args, loop->is_debug ? Py_True : Py_False};
    source = PyObject_Vectorcall(state->format_callback_source, call, 2, state->kwnames_debug);
    if (source == NULL || (message = PyUnicode_FromFormat("Exception in callback %U", source)) == NULL) {
        goto done;
    }
    PyErr_SetRaisedException(exception);
    exception = NULL;
    result = loop_call_exception_handler(loop, message, state->str_handle, self, state->str_source_traceback,
                                         handle->source_traceback, NULL);
done:
    Py_XDECREF(exception);
    Py_XDECREF(args);
    Py_XDECREF(callback);
    Py_XDECREF(source);
    Py_XDECREF(message);
    if (result < 0 && !loop_must_leave()) {
        PyErr_WriteUnraisable(self);
        result = 0;
    }
    return result;
}

static PyObject *
handle_call(PyObject *self)
{
    struct handle *handle = handle_of(self);
    /* The callback may cancel its own handle, or run it again, and without a GIL so may another thread: everything it needs is
     * held here. */
    PyObject *callback, *args[1 + HANDLE_INLINE_ARGS] = {NULL}; /* args[0] is vectorcall's to change */
    PyObject *context, *result = NULL;
    Py_ssize_t nargs, held;
    if (handle_own_context(handle) < 0) {
        return NULL;
    }
    context = Py_NewRef(handle->context);
    Py_BEGIN_CRITICAL_SECTION(self);
    callback = Py_XNewRef(handle->callback);
    nargs = handle->nargs;
    held = handle_held(handle);
    for (Py_ssize_t i = 0; i < held; i++) {
        args[1 + i] = Py_NewRef(handle->args[i]);
    }
    Py_END_CRITICAL_SECTION();
    if (callback == NULL) {
        result = Py_NewRef(Py_None); /* another thread has cancelled it just now */
    }
    else if (PyContext_Enter(context) == 0) {
        if (nargs <= HANDLE_INLINE_ARGS) {
            result = PyObject_Vectorcall(callback, args + 1, (size_t)nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        }
        else {
            result = PyObject_Call(callback, args[1], NULL);
        }
        if (PyContext_Exit(context) < 0) {
            Py_CLEAR(result);
        }
    }
    for (Py_ssize_t i = 0; i < held; i++) {
        Py_DECREF(args[1 + i]);
    }
    Py_DECREF(context);
    Py_XDECREF(callback);
    return result;
}

static int
handle_run_plain(struct loop *loop, PyObject *self)
{
    PyObject *result = handle_call(self);
    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    return loop_must_leave() ? -1 : handle_report(loop, self);
}

/* In debug mode a callback that takes long is logged, and the exception handler can tell which one runs. */
static int
handle_run_debug(struct loop *loop, PyObject *self)
{
    Py_XSETREF(loop->current_handle, Py_NewRef(self));
    int64_t start_ns = loop_now_ns();
    int result = handle_run_plain(loop, self);
    Py_CLEAR(loop->current_handle);
    if (result == 0) {
        loop_warn_if_slow(loop, self, start_ns);
    }
    return result;
}

static int
handle_run_unlocked(struct loop *loop, PyObject *self)
{
    if (handle_of(self)->callback == NULL) {
        return 0;
    }
    return loop->is_debug ? handle_run_debug(loop, self) : handle_run_plain(loop, self);
}

int
handle_run_now(struct loop *loop, PyObject *self)
{
    if (!handle_of(self)->has_lock) {
        return handle_run_unlocked(loop, self);
    }
    struct handle_lock *lock = handle_lock_of(self);
    handle_lock_enter(lock);
    int result = handle_run_unlocked(loop, self);
    handle_lock_leave(lock);
    return result;
}

int
handle_run(struct loop *loop, PyObject *self)
{
    struct handle *handle = handle_of(self);
    int result = handle_run_now(loop, self);
    if (handle->is_context_hidden && Py_REFCNT(self) == 1 && !handle_may_have_weakrefs(self)) {
        PyObject *context = handle->context;
        handle->context = NULL;
        handle->is_context_hidden = false;
        context_snapshot_spare(loop, context);
    }
    return result;
}

static void
handle_drop_call(PyObject *self)
{
    struct handle *handle = handle_of(self);
    PyObject *dropped[1 + HANDLE_INLINE_ARGS] = {NULL};
    Py_BEGIN_CRITICAL_SECTION(self);
    Py_ssize_t held = handle_held(handle);
    dropped[0] = handle->callback;
    handle->callback = NULL;
    handle->nargs = 0;
    for (Py_ssize_t i = 0; i < held; i++) {
        dropped[1 + i] = handle->args[i];
        handle->args[i] = NULL;
    }
    Py_END_CRITICAL_SECTION();
    for (Py_ssize_t i = 0; i < 1 + HANDLE_INLINE_ARGS; i++) {
        Py_XDECREF(dropped[i]);
    }
}

static int
handle_cancel_unlocked(struct loop *loop, PyObject *self)
{
    struct handle *handle = handle_of(self);
    PyObject *exception = NULL;
    if (handle_is_cancelled(handle)) {
        return 0;
    }
    atomic_store_explicit(&handle->is_cancelled, true, memory_order_relaxed);
    if (loop->is_debug) {
        PyObject *repr = PyObject_Repr(self);
        exception = PyErr_GetRaisedException();
        Py_BEGIN_CRITICAL_SECTION(self);
        Py_XSETREF(handle->repr, repr);
        Py_END_CRITICAL_SECTION();
    }
    if (handle->is_timer) {
        loop_unschedule(loop, self);
    }
    handle_drop_call(self);
    if (exception != NULL) {
        PyErr_SetRaisedException(exception);
        return -1;
    }
    return 0;
}

int
handle_cancel(struct loop *loop, PyObject *self)
{
    if (!handle_of(self)->has_lock) {
        return handle_cancel_unlocked(loop, self);
    }
    struct handle_lock *lock = handle_lock_of(self);
    handle_lock_enter(lock);
    int result = handle_cancel_unlocked(loop, self);
    handle_lock_leave(lock);
    return result;
}

/* --- the end */

int
handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    struct handle *handle = handle_of(self);
    Py_VISIT(handle->loop);
    Py_VISIT(handle->callback);
    Py_VISIT(handle->context);
    Py_VISIT(handle->source_traceback);
    for (Py_ssize_t i = 0; i < handle_held(handle); i++) {
        Py_VISIT(handle->args[i]);
    }
    if (handle->is_timer) {
        Py_VISIT(timer_handle_of(self)->when_object);
    }
    return 0;
}

int
handle_clear(PyObject *self)
{
    struct handle *handle = handle_of(self);
    Py_ssize_t held = handle_held(handle);
    handle->nargs = 0;
    Py_CLEAR(handle->callback); /* from here on it does not run */
    handle->is_context_shared = handle->is_context_hidden = false;
    Py_CLEAR(handle->context);
    Py_CLEAR(handle->loop);
    Py_CLEAR(handle->source_traceback);
    Py_CLEAR(handle->repr);
    for (Py_ssize_t i = 0; i < held; i++) {
        Py_CLEAR(handle->args[i]);
    }
    return 0;
}

/* A handle may be an argument of the next, and that of another: however long the chain, the stack holds. */
void
handle_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, handle_dealloc) PyTypeObject *type = Py_TYPE(self);
    struct handle *handle = handle_of(self);
    module_state *state = handle->loop != NULL ? handle->loop->state : PyType_GetModuleState(type);
    if (handle_may_have_weakrefs(self)) {
        PyObject_ClearWeakRefs(self);
    }
    handle_clear(self);
    if (handle->is_timer) {
        assert(timer_handle_of(self)->heap_place < 0);
        Py_CLEAR(timer_handle_of(self)->when_object);
        handle_free(self, type, &state->timer_handle_pool);
    }
    else {
        handle_free(self, type, handle->has_lock ? &state->threadsafe_handle_pool : &state->handle_pool);
    }
    Py_DECREF(type);
    Py_TRASHCAN_END
}
