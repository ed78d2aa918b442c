/* SPDX-License-Identifier: MIT
 *
 * Snapshots of the current context; see context_snapshot.h.
 *
 * A context holds its variables in one immutable mapping, and setting one puts another mapping in its place.  So the mapping's
 * identity tells whether anything has been set, and the context shows it to the garbage collector, by tp_traverse.  That is how
 * CPython does it, not what it promises: context_snapshot_setup looks whether the running one does, and each handle gets its own
 * copy at once if not, and without a GIL, where another thread may set what is being looked at.
 */
#include "context_snapshot.h"

#include "loop.h"

#if !defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030F0000 /* the thread state's `context` has been seen up to 3.14 */

struct vars_search {
    PyTypeObject *type;
    PyObject *vars;
};

static int
find_vars(PyObject *object, void *arg)
{
    struct vars_search *search = arg;
    if (Py_TYPE(object) == search->type) {
        search->vars = object;
    }
    return 0;
}

/* The mapping, borrowed. */
static PyObject *
context_vars(PyObject *context, PyTypeObject *type)
{
    struct vars_search search = {type, NULL};
    Py_TYPE(context)->tp_traverse(context, find_vars, &search);
    return search.vars;
}

static PyObject *
current_context(void)
{
    return PyThreadState_Get()->context; /* NULL before the first is needed */
}

static bool
snapshot_is_current(module_state *state, struct context_snapshot *snapshot)
{
    PyObject *current = snapshot->context == NULL ? NULL : current_context();
    if (current == NULL) {
        return false;
    }
    /* The snapshot's is not kept: the garbage collector may have cleared a context that nobody can reach any more. */
    PyObject *vars = context_vars(snapshot->context, state->context_vars_type);
    return vars != NULL && vars == context_vars(current, state->context_vars_type);
}

PyObject *
context_snapshot_take(struct loop *loop, bool *is_shared)
{
    struct context_snapshot *snapshot = &loop->snapshot;
    if (snapshot_is_current(loop->state, snapshot)) {
        *is_shared = true;
        snapshot->users++;
        return Py_NewRef(snapshot->context);
    }
    PyObject *context = PyContext_CopyCurrent();
    *is_shared = context != NULL && loop->state->context_vars_type != NULL;
    if (*is_shared) {
        *snapshot = (struct context_snapshot){.context = context, .users = 1};
    }
    return context;
}

/* A handle has it no more, or for itself alone. */
static void
snapshot_leave(struct context_snapshot *snapshot, PyObject *context)
{
    if (context == snapshot->context && --snapshot->users == 0) {
        snapshot->context = NULL;
    }
}

int
context_snapshot_own(struct loop *loop, PyObject **context)
{
    PyObject *shared = *context;
    if (Py_REFCNT(shared) > 1) {
        PyObject *own = PyContext_Copy(shared);
        if (own == NULL) {
            return -1;
        }
        *context = own;
        Py_DECREF(shared);
    }
    snapshot_leave(&loop->snapshot, shared);
    return 0;
}

void
context_snapshot_drop(struct loop *loop, PyObject *context)
{
    snapshot_leave(&loop->snapshot, context);
    Py_DECREF(context);
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

/* The type of what a context that isn't entered shows, when that is one object; borrowed, else NULL. */
static PyTypeObject *
context_find_vars_type(PyObject *context)
{
    struct shown shown = {NULL, 0};
    Py_TYPE(context)->tp_traverse(context, count_shown, &shown);
    return shown.count == 1 ? Py_TYPE(shown.object) : NULL;
}

/* Have `one` and its copy the same mapping, until a variable is set in one?  1 or 0, or -1 with an exception. */
static int
contexts_tell(PyObject *one, PyObject *copy, PyTypeObject *type, PyObject *variable)
{
    PyObject *vars = context_vars(one, type);
    if (vars == NULL || vars != context_vars(copy, type)) {
        return 0;
    }
    if (PyContext_Enter(one) < 0) {
        return -1;
    }
    PyObject *token = PyContextVar_Set(variable, Py_True);
    PyObject *changed = context_vars(one, type);
    bool does_tell = current_context() == one && changed != NULL && changed != vars && context_vars(copy, type) == vars;
    Py_XDECREF(token);
    return PyContext_Exit(one) < 0 || token == NULL ? -1 : does_tell;
}

int
context_snapshot_setup(module_state *state)
{
    PyObject *one = PyContext_New();
    PyObject *copy = one == NULL ? NULL : PyContext_Copy(one);
    PyObject *variable = PyContextVar_New("rloop", NULL);
    PyTypeObject *type = copy == NULL ? NULL : context_find_vars_type(copy);
    int result = copy == NULL || variable == NULL ? -1 : type == NULL ? 0 : contexts_tell(one, copy, type, variable);
    if (result == 1) {
        state->context_vars_type = (PyTypeObject *)Py_NewRef(type);
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
context_snapshot_drop(struct loop *Py_UNUSED(loop), PyObject *context)
{
    Py_DECREF(context);
}

int
context_snapshot_setup(module_state *Py_UNUSED(state))
{
    return 0;
}

#endif
