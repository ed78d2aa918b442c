/* SPDX-License-Identifier: MIT
 *
 * Snapshots of the current context; see context_snapshot.h.
 *
 * A context holds its variables in one immutable mapping, and setting one puts another mapping in its place.  So the mapping's
 * identity tells whether anything has been set.  The context shows it to the garbage collector, by tp_traverse, and that tells
 * where in the object it stands.  This is how CPython does it, not what it promises: context_snapshot_setup looks whether the
 * running one does, and each handle gets its own copy at once if not, and without a GIL, where another thread may set what is
 * being looked at.
 */
#include "context_snapshot.h"

#include "loop.h"

#if !defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x03100000 /* the thread state's `context` has been seen up to 3.15 */

/* The mapping, borrowed; NULL when the garbage collector has cleared the context, in a loop that is garbage itself. */
static PyObject *
context_vars(PyObject *context, module_state *state)
{
    return *(PyObject **)((char *)context + state->context_vars_offset);
}

static bool
contexts_are_alike(PyObject *one, PyObject *other, module_state *state)
{
    PyObject *vars = one == NULL || other == NULL ? NULL : context_vars(one, state);
    return vars != NULL && vars == context_vars(other, state);
}

static PyObject *
current_context(void)
{
    return PyThreadState_Get()->context; /* NULL before the first is needed */
}

/* The spare context, if it is like this one; else NULL. */
static PyObject *
snapshot_take_spare(struct context_snapshot *snapshot, PyObject *like, module_state *state)
{
    PyObject *spare = snapshot->spare;
    if (!contexts_are_alike(spare, like, state)) {
        return NULL;
    }
    snapshot->spare = NULL;
    return spare;
}

PyObject *
context_snapshot_take(struct loop *loop, bool *is_shared)
{
    struct context_snapshot *snapshot = &loop->snapshot;
    module_state *state = loop->state;
    *is_shared = state->context_vars_offset > 0 && loop->thread_id != 0;
    if (!*is_shared) {
        return PyContext_CopyCurrent();
    }
    PyObject *current = current_context();
    if (contexts_are_alike(snapshot->context, current, state)) {
        return Py_NewRef(snapshot->context);
    }
    PyObject *context = snapshot_take_spare(snapshot, current, state);
    if (context == NULL && (context = PyContext_CopyCurrent()) == NULL) {
        *is_shared = false;
        return NULL;
    }
    Py_XSETREF(snapshot->context, Py_NewRef(context));
    snapshot->is_old = false;
    return context;
}

int
context_snapshot_own(struct loop *loop, PyObject **context)
{
    struct context_snapshot *snapshot = &loop->snapshot;
    PyObject *shared = *context;
    if (Py_REFCNT(shared) == (shared == snapshot->context ? 2 : 1)) {
        if (shared == snapshot->context) {
            Py_CLEAR(snapshot->context); /* it will be entered, or shown */
        }
        return 0;
    }
    PyObject *own = snapshot_take_spare(snapshot, shared, loop->state);
    if (own == NULL && (own = PyContext_Copy(shared)) == NULL) {
        return -1;
    }
    *context = own;
    Py_DECREF(shared);
    return 0;
}

void
context_snapshot_spare(struct loop *loop, PyObject *context)
{
    struct context_snapshot *snapshot = &loop->snapshot;
    bool is_spare = Py_REFCNT(context) == 1 && contexts_are_alike(context, snapshot->context, loop->state);
    PyObject *old = snapshot->spare;
    snapshot->spare = is_spare ? context : NULL;
    Py_XDECREF(old);
    if (!is_spare) {
        Py_DECREF(context);
    }
}

void
context_snapshot_begin_turn(struct loop *loop)
{
    struct context_snapshot *snapshot = &loop->snapshot;
    if (loop->ready.count == 0 || snapshot->is_old) {
        Py_CLEAR(snapshot->context);
    }
    snapshot->is_old = true;
    if (!contexts_are_alike(snapshot->spare, snapshot->context, loop->state)) {
        Py_CLEAR(snapshot->spare);
    }
}

struct shown {
    PyObject *object;
    int count;
};

static int
count_shown(PyObject *object, void *arg)
{
    struct shown *shown = arg;
    shown->object = object;
    shown->count++;
    return 0;
}

/* Where a context that isn't entered keeps the one object it shows, as an offset; 0 if that is not to be seen. */
static size_t
context_find_vars(PyObject *context)
{
    struct shown shown = {NULL, 0};
    Py_TYPE(context)->tp_traverse(context, count_shown, &shown);
    size_t found = 0;
    for (size_t i = sizeof(PyObject); i < (size_t)Py_TYPE(context)->tp_basicsize; i += sizeof(PyObject *)) {
        if (shown.count == 1 && *(PyObject **)((char *)context + i) == shown.object) {
            found = found == 0 ? i : SIZE_MAX;
        }
    }
    return found == SIZE_MAX ? 0 : found;
}

/* Have `one` and its copy the same mapping, until a variable is set in one?  1 or 0, or -1 with an exception. */
static int
contexts_tell(PyObject *one, PyObject *copy, PyObject *variable, module_state *state)
{
    PyObject *vars = context_vars(one, state);
    if (!contexts_are_alike(one, copy, state)) {
        return 0;
    }
    if (PyContext_Enter(one) < 0) {
        return -1;
    }
    PyObject *token = PyContextVar_Set(variable, Py_True);
    bool does_tell = current_context() == one && context_vars(one, state) != NULL &&
                     context_vars(copy, state) == vars && !contexts_are_alike(one, copy, state);
    Py_XDECREF(token);
    return PyContext_Exit(one) < 0 || token == NULL ? -1 : does_tell;
}

int
context_snapshot_setup(module_state *state)
{
    PyObject *one = PyContext_New();
    PyObject *copy = one == NULL ? NULL : PyContext_Copy(one);
    PyObject *variable = PyContextVar_New("rloop", NULL);
    int result = -1;
    if (copy != NULL && variable != NULL) {
        state->context_vars_offset = context_find_vars(copy);
        result = state->context_vars_offset == 0 ? 0 : contexts_tell(one, copy, variable, state);
    }
    if (result <= 0) {
        state->context_vars_offset = 0;
    }
    Py_XDECREF(one);
    Py_XDECREF(copy);
    Py_XDECREF(variable);
    return result < 0 ? -1 : 0;
}

#else

PyObject *
context_snapshot_take(struct loop *Py_UNUSED(loop), bool *is_shared)
{
    *is_shared = false;
    return PyContext_CopyCurrent();
}

int
context_snapshot_own(struct loop *Py_UNUSED(loop), PyObject **Py_UNUSED(context))
{
    return 0;
}

void
context_snapshot_spare(struct loop *Py_UNUSED(loop), PyObject *context)
{
    Py_DECREF(context);
}

void
context_snapshot_begin_turn(struct loop *Py_UNUSED(loop))
{
}

int
context_snapshot_setup(module_state *Py_UNUSED(state))
{
    return 0;
}

#endif

void
context_snapshot_forget(struct context_snapshot *snapshot)
{
    Py_CLEAR(snapshot->context);
    Py_CLEAR(snapshot->spare);
}

int
context_snapshot_traverse(struct context_snapshot *snapshot, visitproc visit, void *arg)
{
    Py_VISIT(snapshot->context);
    Py_VISIT(snapshot->spare);
    return 0;
}
