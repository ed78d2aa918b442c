/* SPDX-License-Identifier: MIT
 *
 * The Loop's methods that queue callbacks: call_soon, call_soon_threadsafe, call_later, call_at; and the same for C.
 *
 * Deadlines are kept in nanoseconds of the clock of loop.time(), rounded up and saturated, so that no timer is early and
 * infinity is just far away.
 */
#include "loop_calls.h"

#include "handle.h"

#include <math.h>
#include <time.h>

/* --- clock */

int64_t
loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Nanoseconds from seconds: rounded up; what is too large, infinite or not a number is INT64_MAX, which never comes. */
static int64_t
ns_from_seconds(double seconds)
{
    double ns = ceil(seconds * 1e9);
    if (!(ns < 9.2e18)) {
        return INT64_MAX;
    }
    return ns < 0 ? 0 : (int64_t)ns;
}

int
loop_clock_ns(struct loop *loop, int64_t *now_ns)
{
    if (!loop->overrides_time) {
        *now_ns = loop_now_ns();
        return 0;
    }
    PyObject *now = PyObject_CallMethodNoArgs((PyObject *)loop, loop->state->str_time);
    if (now == NULL) {
        return -1;
    }
    double seconds = PyFloat_AsDouble(now);
    Py_DECREF(now);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *now_ns = ns_from_seconds(seconds);
    return 0;
}

/* What loop.time() returns. */
static double
loop_time(void)
{
    return (double)loop_now_ns() / 1e9;
}

PyObject *
loop_method_time(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(loop_time());
}

/* --- checks */

int
loop_check_closed(struct loop *loop)
{
    if (loop->is_closed || loop->core_loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    return 0;
}

static int
loop_call_check(struct loop *loop, PyObject *method, PyObject *const *args, size_t nargs)
{
    PyObject *call[3] = {(PyObject *)loop};
    for (size_t i = 0; i < nargs; i++) {
        call[1 + i] = args[i];
    }
    PyObject *result = PyObject_VectorcallMethod(method, call, 1 + nargs, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
loop_check_thread(struct loop *loop)
{
    unsigned long owner = loop->is_debug ? loop->thread_id : 0;
    if (owner == 0 || owner == PyThread_get_thread_ident()) {
        return 0;
    }
    return loop_call_check(loop, loop->state->str__check_thread, NULL, 0);
}

#ifdef Py_GIL_DISABLED
int
loop_check_owner(struct loop *loop)
{
    unsigned long owner = loop->thread_id;
    if (owner != 0 && owner != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Non-thread-safe operation invoked on an event loop other than the current one");
        return -1;
    }
    return 0;
}
#endif

static int
loop_check_call_slowly(struct loop *loop, PyObject *callback, PyObject *method, bool is_threadsafe)
{
    if (loop_check_closed(loop) < 0) {
        return -1;
    }
    if (!is_threadsafe && loop_check_thread(loop) < 0) {
        return -1;
    }
    if (!loop->is_debug) {
        return 0;
    }
    PyObject *args[] = {callback, method};
    return loop_call_check(loop, loop->state->str__check_callback, args, 2);
}

/* What asyncio checks before it makes a handle; `method` names the caller.  A callback is looked at in debug mode only. */
static inline int
loop_check_call(struct loop *loop, PyObject *callback, PyObject *method, bool is_threadsafe)
{
    if (!loop->is_closed && !loop->is_debug && loop->core_loop != NULL) {
        return 0;
    }
    return loop_check_call_slowly(loop, callback, method, is_threadsafe);
}

/* --- arguments: (first, ..., callback, *args, context=None), by position or name as in asyncio's Python */

struct call_args {
    PyObject *first; /* delay or when, where there is one */
    PyObject *callback;
    PyObject *const *args;
    Py_ssize_t nargs;
    PyObject *context;
};

/* Is this ('context',), which every wake-up of a task comes with?  The tuple is the caller's constant: it is known again. */
static bool
is_context_alone(module_state *state, PyObject *kwnames)
{
    if (kwnames == state->kwnames_context) {
        return true;
    }
    if (PyTuple_GET_SIZE(kwnames) != 1 ||
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "context") != 0)
    {
        return false;
    }
#ifndef Py_GIL_DISABLED
    Py_XSETREF(state->kwnames_context, Py_NewRef(kwnames));
#endif
    return true;
}

/* The arguments given by name, into those that were given by position. */
static int
call_args_parse_names(struct call_args *parsed, module_state *state, const char *method, const char *first_name,
                      PyObject *const *values, PyObject *kwnames)
{
    if (is_context_alone(state, kwnames)) {
        parsed->context = values[0] == Py_None ? NULL : values[0];
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        PyObject **slot = NULL;
        if (PyUnicode_CompareWithASCIIString(name, "context") == 0) {
            slot = &parsed->context;
        }
        else if (PyUnicode_CompareWithASCIIString(name, "callback") == 0) {
            slot = &parsed->callback;
        }
        else if (first_name != NULL && PyUnicode_CompareWithASCIIString(name, first_name) == 0) {
            slot = &parsed->first;
        }
        if (slot == NULL) {
            PyErr_Format(PyExc_TypeError, "BaseEventLoop.%s() got an unexpected keyword argument '%U'", method, name);
            return -1;
        }
        if (*slot != NULL) {
            PyErr_Format(PyExc_TypeError, "BaseEventLoop.%s() got multiple values for argument '%U'", method, name);
            return -1;
        }
        *slot = values[i];
    }
    if (parsed->context == Py_None) {
        parsed->context = NULL;
    }
    return 0;
}

/* Python's words for one or two arguments that were not given. */
static int
call_args_missing(const char *method, const char *first, const char *second)
{
    if (first != NULL && second != NULL) {
        PyErr_Format(PyExc_TypeError, "BaseEventLoop.%s() missing 2 required positional arguments: '%s' and '%s'",
                     method, first, second);
    }
    else {
        PyErr_Format(PyExc_TypeError, "BaseEventLoop.%s() missing 1 required positional argument: '%s'", method,
                     first != NULL ? first : second);
    }
    return -1;
}

static inline int
call_args_parse(struct call_args *parsed, module_state *state, const char *method, const char *first_name,
                PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t leading = first_name == NULL ? 0 : 1;
    *parsed = (struct call_args){
        .first = leading && nargs > 0 ? args[0] : NULL,
        .callback = nargs > leading ? args[leading] : NULL,
        .args = args + leading + 1,
        .nargs = nargs > leading + 1 ? nargs - leading - 1 : 0,
    };
    if (kwnames != NULL && call_args_parse_names(parsed, state, method, first_name, args + nargs, kwnames) < 0) {
        return -1;
    }
    bool has_first = leading == 0 || parsed->first != NULL;
    if (has_first && parsed->callback != NULL) {
        return 0;
    }
    return call_args_missing(method, has_first ? NULL : first_name, parsed->callback != NULL ? NULL : "callback");
}

/* To the end of the ring, after what other threads have handed in before.  Takes over the reference. */
static inline int
loop_append(struct loop *loop, ready_run run, PyObject *object)
{
    if (atomic_load_explicit(&loop->inbox.is_woken, memory_order_relaxed) &&
        inbox_drain(&loop->inbox, &loop->ready, &loop->new_timers) < 0)
    {
        Py_DECREF(object);
        return -1;
    }
    return ready_queue_push(&loop->ready, run, object);
}

/* Takes over the reference. */
static int
loop_queue(struct loop *loop, ready_run run, PyObject *object)
{
    return loop_is_ours(loop) ? loop_append(loop, run, object) : inbox_push(&loop->inbox, run, object);
}

/* --- call_soon */

PyObject *
loop_method_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct loop *loop = (struct loop *)self;
    struct call_args call;
    if (call_args_parse(&call, loop->state, "call_soon", NULL, args, nargs, kwnames) < 0 ||
        loop_check_call(loop, call.callback, loop->state->str_call_soon, false) < 0)
    {
        return NULL;
    }
    PyObject *handle = handle_new(loop, call.callback, call.args, call.nargs, call.context);
    if (handle != NULL && loop_queue(loop, handle_run, Py_NewRef(handle)) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* Whoever need not wake the loop uses the ring, so that callbacks keep the order in which they were handed in. */
static bool
loop_needs_no_wake(struct loop *loop)
{
    unsigned long owner = loop->thread_id;
    return owner == PyThread_get_thread_ident() || (owner == 0 && loop_is_ours(loop));
}

PyObject *
loop_method_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct loop *loop = (struct loop *)self;
    struct call_args call;
    if (call_args_parse(&call, loop->state, "call_soon_threadsafe", NULL, args, nargs, kwnames) < 0 ||
        loop_check_call(loop, call.callback, loop->state->str_call_soon_threadsafe, true) < 0)
    {
        return NULL;
    }
    PyObject *handle = threadsafe_handle_new(loop, call.callback, call.args, call.nargs, call.context);
    if (handle == NULL) {
        return NULL;
    }
    int result = loop_needs_no_wake(loop) ? loop_append(loop, handle_run, Py_NewRef(handle))
                                          : inbox_push(&loop->inbox, handle_run, Py_NewRef(handle));
    if (result < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* --- timers */

/* After loop_check_call.  `when_object` is `when` as the caller gave it, or NULL. */
static PyObject *
loop_schedule(struct loop *loop, double when, PyObject *when_object, struct call_args *call)
{
    PyObject *timer = timer_handle_new(loop, when, when_object, ns_from_seconds(when), call->callback, call->args,
                                       call->nargs, call->context);
    if (timer == NULL) {
        return NULL;
    }
    struct timer_handle *fields = timer_handle_of(timer);
    if (!loop_is_ours(loop)) {
        fields->heap_place = TIMER_IN_INBOX;
        if (inbox_push_timer(&loop->inbox, Py_NewRef(timer)) < 0) {
            Py_CLEAR(timer);
        }
        return timer;
    }
    if (timer_heap_push(&loop->timers, fields->when_ns, timer, &fields->heap_place) < 0) {
        Py_DECREF(timer);
        return PyErr_NoMemory();
    }
    return Py_NewRef(timer); /* one reference is the heap's */
}

static PyObject *
loop_schedule_object(struct loop *loop, PyObject *when, struct call_args *call)
{
    if (loop_check_call(loop, call->callback, loop->state->str_call_at, false) < 0) {
        return NULL;
    }
    double seconds = PyFloat_AsDouble(when);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    return loop_schedule(loop, seconds, when, call);
}

PyObject *
loop_method_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct loop *loop = (struct loop *)self;
    struct call_args call;
    if (call_args_parse(&call, loop->state, "call_at", "when", args, nargs, kwnames) < 0) {
        return NULL;
    }
    if (call.first == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    return loop_schedule_object(loop, call.first, &call);
}

/* call_at as an attribute, for a loop that replaces it: call_at(when, callback, *args, context=context). */
static PyObject *
loop_call_overridden_at(struct loop *loop, PyObject *when, struct call_args *call)
{
    PyObject *method = PyObject_GetAttr((PyObject *)loop, loop->state->str_call_at);
    PyObject *args = PyTuple_New(2 + call->nargs);
    PyObject *kwargs = PyDict_New();
    PyObject *handle = NULL;
    if (method == NULL || args == NULL || kwargs == NULL) {
        goto done;
    }
    PyTuple_SET_ITEM(args, 0, Py_NewRef(when));
    PyTuple_SET_ITEM(args, 1, Py_NewRef(call->callback));
    for (Py_ssize_t i = 0; i < call->nargs; i++) {
        PyTuple_SET_ITEM(args, 2 + i, Py_NewRef(call->args[i]));
    }
    if (PyDict_SetItem(kwargs, loop->state->str_context, call->context == NULL ? Py_None : call->context) == 0) {
        handle = PyObject_Call(method, args, kwargs);
    }
done:
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return handle;
}

/* call_later for a delay that is not exactly a float or an int, or a loop with a time or a call_at of its own. */
static PyObject *
loop_call_later_by_objects(struct loop *loop, struct call_args *call)
{
    PyObject *self = (PyObject *)loop, *when = NULL, *handle = NULL;
    PyObject *now = loop->overrides_time ? PyObject_CallMethodNoArgs(self, loop->state->str_time)
                                         : loop_method_time(self, NULL);
    if (now != NULL && (when = PyNumber_Add(now, call->first)) != NULL) {
        handle = loop->overrides_call_at ? loop_call_overridden_at(loop, when, call)
                                         : loop_schedule_object(loop, when, call);
    }
    Py_XDECREF(now);
    Py_XDECREF(when);
    return handle;
}

PyObject *
loop_method_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct loop *loop = (struct loop *)self;
    struct call_args call;
    if (call_args_parse(&call, loop->state, "call_later", "delay", args, nargs, kwnames) < 0) {
        return NULL;
    }
    if (call.first == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    if (loop->overrides_time || loop->overrides_call_at ||
        !(PyFloat_CheckExact(call.first) || PyLong_CheckExact(call.first)))
    {
        return loop_call_later_by_objects(loop, &call);
    }
    double delay = PyFloat_CheckExact(call.first) ? PyFloat_AS_DOUBLE(call.first) : PyLong_AsDouble(call.first);
    if ((delay == -1.0 && PyErr_Occurred()) ||
        loop_check_call(loop, call.callback, loop->state->str_call_at, false) < 0)
    {
        return NULL;
    }
    return loop_schedule(loop, loop_time() + delay, NULL, &call);
}

/* --- for the other rooms */

int
loop_defer(struct loop *loop, ready_run run, PyObject *object)
{
    if (loop_check_closed(loop) < 0) {
        Py_DECREF(object);
        return -1;
    }
    return loop_queue(loop, run, object);
}

int
loop_defer_to_end(struct loop *loop, ready_run run, PyObject *object)
{
    return ready_queue_push(&loop->late, run, object);
}

int
loop_call_soon(struct loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    PyObject *handle = NULL;
    if (!loop->overrides_call_soon) {
        if (loop_check_closed(loop) < 0 || (handle = handle_new(loop, callback, args, nargs, context)) == NULL) {
            return -1;
        }
        return loop_queue(loop, handle_run, handle);
    }
    PyObject *method = PyObject_GetAttr((PyObject *)loop, loop->state->str_call_soon);
    PyObject *call = PyTuple_New(1 + nargs);
    PyObject *kwargs = context == NULL ? NULL : Py_BuildValue("{OO}", loop->state->str_context, context);
    if (method != NULL && call != NULL && (context == NULL || kwargs != NULL)) {
        PyTuple_SET_ITEM(call, 0, Py_NewRef(callback));
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(call, 1 + i, Py_NewRef(args[i]));
        }
        handle = PyObject_Call(method, call, kwargs);
    }
    Py_XDECREF(method);
    Py_XDECREF(call);
    Py_XDECREF(kwargs);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static int
run_wake_waiter(struct loop *loop, PyObject *waiter)
{
    module_state *state = loop->state;
    PyObject *cancelled = PyObject_CallMethodNoArgs(waiter, state->str_cancelled);
    PyObject *result = cancelled == NULL      ? NULL
                       : cancelled == Py_True ? Py_NewRef(Py_None)
                                              : PyObject_CallMethodOneArg(waiter, state->str_set_result, Py_None);
    Py_XDECREF(cancelled);
    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    if (loop_must_leave()) {
        return -1;
    }
    loop_report_exception(loop, "Exception in callback _set_result_unless_cancelled()", NULL);
    return 0;
}

int
loop_wake_waiter(struct loop *loop, PyObject *waiter)
{
    return loop_defer(loop, run_wake_waiter, Py_NewRef(waiter));
}
