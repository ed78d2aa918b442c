/* SPDX-License-Identifier: MIT
 *
 * Who uses which fd, and the add_reader family on top of it; see fd_registry.h.
 *
 * A watch outlives its last direction: the next one on the same fd finds it, and the core spares the kernel the coming and
 * going (rule 5 of core.h).  It ends when a transport claims the number, and with the loop.
 */
#include "fd_registry.h"

#include "errors.h"
#include "handle.h"
#include "loop.h"

#include <errno.h>
#include <fcntl.h>

struct fd_side {
    fd_ready run;
    PyObject *object; /* NULL: this direction isn't watched */
};

struct fd_watch {
    struct loop *loop;
    struct core_watch *core_watch;
    struct fd_side sides[2]; /* reading, writing */
    PyObject *fileobj; /* what the user named the fd by, when not by its number: found again after it was closed */
    bool is_delivering;
    bool is_dropped; /* while delivering: free it afterwards */
};

static struct fd_side *
watch_side(struct fd_watch *watch, unsigned direction)
{
    return &watch->sides[direction == CORE_READABLE ? 0 : 1];
}

static unsigned
watch_interest(const struct fd_watch *watch)
{
    return (watch->sides[0].object != NULL ? CORE_READABLE : 0) | (watch->sides[1].object != NULL ? CORE_WRITABLE : 0);
}

/* Take a direction away; the reference goes to the caller. */
static PyObject *
watch_take(struct fd_watch *watch, unsigned direction)
{
    struct fd_side *side = watch_side(watch, direction);
    PyObject *object = side->object;
    if (object != NULL) {
        side->object = NULL;
        watch->loop->core->watch_set(watch->core_watch, watch_interest(watch));
    }
    return object;
}

static void
watch_cancel(struct loop *loop, const struct fd_side *side)
{
    if (side->object != NULL && side->run == handle_run && handle_cancel(loop, side->object) < 0) {
        PyErr_WriteUnraisable(side->object);
    }
}

static void
watch_drop(struct fd_watch *watch)
{
    watch->loop->core->watch_close(watch->core_watch);
    for (size_t i = 0; i < 2; i++) {
        watch_cancel(watch->loop, &watch->sides[i]);
        Py_CLEAR(watch->sides[i].object);
    }
    Py_CLEAR(watch->fileobj);
    if (watch->is_delivering) {
        watch->is_dropped = true;
    }
    else {
        PyMem_Free(watch);
    }
}

/* Run one direction's callback.  A handle that its owner cancelled is taken out, as asyncio does. */
static int
watch_deliver(struct fd_watch *watch, unsigned direction)
{
    struct fd_side side = *watch_side(watch, direction);
    struct loop *loop = watch->loop;
    if (side.object == NULL) {
        return 0;
    }
    if (side.run == handle_run && handle_is_cancelled(handle_of(side.object))) {
        Py_DECREF(watch_take(watch, direction));
        return 0;
    }
    Py_INCREF(side.object);
    int result = side.run(loop, side.object);
    if (result < 0) {
        loop_fail(loop);
    }
    Py_DECREF(side.object);
    loop_end_callback(loop);
    return result;
}

static void
watch_on_ready(void *owner, unsigned ready)
{
    struct fd_watch *watch = owner;
    watch->is_delivering = true;
    int result = 0;
    if (ready & CORE_READABLE) {
        result = watch_deliver(watch, CORE_READABLE);
    }
    if (result == 0 && !watch->is_dropped && (ready & CORE_WRITABLE)) {
        watch_deliver(watch, CORE_WRITABLE);
    }
    watch->is_delivering = false;
    if (watch->is_dropped) {
        PyMem_Free(watch);
    }
}

/* --- entries */

static struct fd_entry *
registry_find(struct loop *loop, int fd)
{
    struct fd_registry *fds = &loop->fds;
    return fd >= 0 && (size_t)fd < fds->capacity ? &fds->entries[fd] : NULL;
}

static struct fd_entry *
registry_entry(struct loop *loop, int fd)
{
    struct fd_registry *fds = &loop->fds;
    assert(fd >= 0);
    if ((size_t)fd >= fds->capacity) {
        if (fcntl(fd, F_GETFD) < 0) { /* no table of gigabytes for a number that names no file */
            errors_set(-errno);
            return NULL;
        }
        size_t capacity = fds->capacity ? fds->capacity : 64;
        while (capacity <= (size_t)fd) {
            capacity *= 2;
        }
        struct fd_entry *entries = fds->entries;
        PyMem_Resize(entries, struct fd_entry, capacity);
        if (entries == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(entries + fds->capacity, 0, (capacity - fds->capacity) * sizeof *entries);
        fds->entries = entries;
        fds->capacity = capacity;
    }
    return &fds->entries[fd];
}

static struct fd_watch *
registry_open_watch(struct loop *loop, struct fd_entry *entry, int fd)
{
    if (loop_check_closed(loop) < 0) { /* by code of the user's that ran since the caller looked */
        return NULL;
    }
    struct fd_watch *watch = PyMem_Calloc(1, sizeof *watch);
    if (watch == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    watch->loop = loop;
    int result = loop->core->watch_open(loop->core_loop, fd, watch_on_ready, watch, &watch->core_watch);
    if (result < 0) {
        PyMem_Free(watch);
        errors_set(result);
        return NULL;
    }
    entry->watch = watch;
    return watch;
}

static void
registry_drop_watch(struct fd_entry *entry)
{
    struct fd_watch *watch = entry->watch;
    entry->watch = NULL;
    watch_drop(watch);
}

int
fd_registry_watch(struct loop *loop, int fd, unsigned direction, fd_ready run, PyObject *object)
{
    struct fd_entry *entry = registry_entry(loop, fd);
    if (entry == NULL || (entry->watch == NULL && registry_open_watch(loop, entry, fd) == NULL)) {
        return -1;
    }
    struct fd_watch *watch = entry->watch;
    struct fd_side *side = watch_side(watch, direction), old = *side;
    *side = (struct fd_side){run, Py_NewRef(object)};
    /* Also for the interest that is there already: what is replaced may have been left by a file that was closed. */
    int result = loop->core->watch_set(watch->core_watch, watch_interest(watch));
    if (result < 0) {
        Py_CLEAR(side->object);
        if (watch_interest(watch) == 0) {
            registry_drop_watch(entry);
        }
    }
    watch_cancel(loop, &old);
    Py_XDECREF(old.object);
    if (result < 0) {
        errors_set(result);
        return -1;
    }
    return 0;
}

PyObject *
fd_registry_unwatch(struct loop *loop, int fd, unsigned direction)
{
    struct fd_entry *entry = registry_find(loop, fd);
    if (entry == NULL || entry->watch == NULL) {
        return NULL;
    }
    PyObject *object = watch_take(entry->watch, direction);
    if (watch_interest(entry->watch) == 0) {
        Py_CLEAR(entry->watch->fileobj);
    }
    return object;
}

PyObject *
fd_registry_watched(struct loop *loop, int fd, unsigned direction)
{
    struct fd_entry *entry = registry_find(loop, fd);
    return entry == NULL || entry->watch == NULL ? NULL : watch_side(entry->watch, direction)->object;
}

/* --- transports */

void
fd_registry_forget(struct loop *loop, int fd)
{
    struct fd_entry *entry = registry_find(loop, fd);
    if (entry != NULL && entry->watch != NULL) {
        registry_drop_watch(entry);
    }
}

int
fd_registry_claim(struct loop *loop, int fd, PyObject *transport)
{
    if (registry_entry(loop, fd) == NULL) {
        return -1;
    }
    fd_registry_forget(loop, fd); /* the end of what was watched may lay the entries anew */
    loop->fds.entries[fd].transport = transport;
    return 0;
}

void
fd_registry_release(struct loop *loop, int fd, PyObject *transport)
{
    struct fd_entry *entry = registry_find(loop, fd);
    if (entry != NULL && entry->transport == transport) {
        entry->transport = NULL;
    }
}

int
fd_registry_check_free(struct loop *loop, int fd, PyObject *fileobj)
{
    struct fd_entry *entry = registry_find(loop, fd);
    if (entry == NULL || entry->transport == NULL) {
        return 0;
    }
    PyObject *transport = Py_NewRef(entry->transport);
    PyObject *is_closing = PyObject_CallMethodNoArgs(transport, loop->state->str_is_closing);
    int closing = is_closing == NULL ? -1 : PyObject_IsTrue(is_closing);
    Py_XDECREF(is_closing);
    if (closing == 0) {
        PyObject *name = fileobj == NULL ? PyLong_FromLong(fd) : Py_NewRef(fileobj);
        if (name != NULL) {
            PyErr_Format(PyExc_RuntimeError, "File descriptor %R is used by transport %R", name, transport);
        }
        Py_XDECREF(name);
    }
    Py_DECREF(transport);
    return closing == 1 ? 0 : -1;
}

/* An fd's number from an int object; like PyLong_AsInt, which only newer Pythons have in public.  What is far below zero is
 * as wrong as -1 is. */
static int
fd_from_long(PyObject *number)
{
    int overflow;
    long value = PyLong_AsLongAndOverflow(number, &overflow);
    if (overflow < 0 || value < INT_MIN) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
        return -1;
    }
    if (overflow > 0 || value > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
        return -1;
    }
    return (int)value;
}

int
fd_registry_fileno(PyObject *fileobj)
{
    if (PyLong_Check(fileobj)) {
        return fd_from_long(fileobj);
    }
    PyObject *fileno = PyObject_CallMethod(fileobj, "fileno", NULL);
    PyObject *number = fileno == NULL ? NULL : PyNumber_Long(fileno);
    Py_XDECREF(fileno);
    if (number != NULL) {
        int fd = fd_from_long(number);
        Py_DECREF(number);
        return fd;
    }
    if (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_TypeError) ||
        PyErr_ExceptionMatches(PyExc_ValueError))
    {
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
    }
    return -1;
}

/* --- the whole */

int
fd_registry_traverse(struct fd_registry *fds, visitproc visit, void *arg)
{
    for (size_t fd = 0; fd < fds->capacity; fd++) {
        struct fd_watch *watch = fds->entries[fd].watch;
        if (watch != NULL) {
            Py_VISIT(watch->sides[0].object);
            Py_VISIT(watch->sides[1].object);
            Py_VISIT(watch->fileobj);
        }
    }
    return 0;
}

void
fd_registry_clear(struct loop *loop)
{
    for (size_t fd = 0; fd < loop->fds.capacity; fd++) {
        if (loop->fds.entries[fd].watch != NULL) {
            registry_drop_watch(&loop->fds.entries[fd]);
        }
    }
}

void
fd_registry_free(struct fd_registry *fds)
{
    PyMem_Free(fds->entries);
    *fds = (struct fd_registry){0};
}

/* --- methods of the Loop */

/* The fd of a user's file object, free of transports; -1 with an exception, or negative without one.  A file object that was
 * closed meanwhile is looked for among the watches, as a selector does. */
static int
user_fileno(struct loop *loop, PyObject *fileobj)
{
    int fd = fd_registry_fileno(fileobj);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    for (size_t i = 0; fd < 0 && i < loop->fds.capacity; i++) {
        if (loop->fds.entries[i].watch != NULL && loop->fds.entries[i].watch->fileobj == fileobj) {
            return (int)i;
        }
    }
    return fd >= 0 && fd_registry_check_free(loop, fd, fileobj) < 0 ? -1 : fd;
}

/* (fd, callback, *args) -> the new handle */
static PyObject *
user_watch(struct loop *loop, int fd, unsigned direction, PyObject *const *args, Py_ssize_t nargs)
{
    if (loop_check_closed(loop) < 0 || loop_check_owner(loop) < 0) {
        return NULL;
    }
    PyObject *handle = handle_new(loop, args[1], args + 2, nargs - 2, NULL);
    if (handle == NULL) {
        return NULL;
    }
    if (fd_registry_watch(loop, fd, direction, handle_run, handle) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    /* The end of the callback that was replaced may have closed the loop. */
    struct fd_watch *watch = loop->fds.entries[fd].watch;
    if (watch != NULL && !PyLong_Check(args[0])) {
        Py_XSETREF(watch->fileobj, Py_NewRef(args[0]));
    }
    return handle;
}

static PyObject *
user_add(PyObject *self, const char *method, unsigned direction, PyObject *const *args, Py_ssize_t nargs,
         bool is_private)
{
    struct loop *loop = (struct loop *)self;
    if (nargs < 2) {
        const char *missing = nargs == 1 ? "1 required positional argument: 'callback'"
                                         : "2 required positional arguments: 'fd' and 'callback'";
        return PyErr_Format(PyExc_TypeError, "BaseSelectorEventLoop.%s() missing %s", method, missing);
    }
    int fd = is_private ? fd_registry_fileno(args[0]) : user_fileno(loop, args[0]);
    if (fd < 0) {
        if (!PyErr_Occurred() && loop_check_closed(loop) == 0) {
            PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        }
        return NULL;
    }
    PyObject *handle = user_watch(loop, fd, direction, args, nargs);
    if (handle == NULL || is_private) {
        return handle;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

static PyObject *
user_remove(PyObject *self, unsigned direction, PyObject *fileobj)
{
    struct loop *loop = (struct loop *)self;
    int fd = loop_check_owner(loop) < 0 ? -1 : user_fileno(loop, fileobj);
    if (fd == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_FALSE; /* no file has such a number */
    }
    if (fd < 0 && !loop->is_closed) {
        return PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
    }
    PyObject *object = loop->is_closed ? NULL : fd_registry_unwatch(loop, fd, direction);
    if (object == NULL) {
        Py_RETURN_FALSE;
    }
    bool is_handle = PyObject_TypeCheck(object, loop->state->Handle_type); /* else one of our own waits there */
    int result = is_handle ? handle_cancel(loop, object) : 0;
    Py_DECREF(object);
    return result < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *
loop_method_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return user_add(self, "add_reader", CORE_READABLE, args, nargs, false);
}

static PyObject *
loop_method_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return user_add(self, "add_writer", CORE_WRITABLE, args, nargs, false);
}

static PyObject *
loop_method_add_reader_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return user_add(self, "_add_reader", CORE_READABLE, args, nargs, true);
}

static PyObject *
loop_method_add_writer_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return user_add(self, "_add_writer", CORE_WRITABLE, args, nargs, true);
}

static PyObject *
loop_method_remove_reader(PyObject *self, PyObject *fileobj)
{
    return user_remove(self, CORE_READABLE, fileobj);
}

static PyObject *
loop_method_remove_writer(PyObject *self, PyObject *fileobj)
{
    return user_remove(self, CORE_WRITABLE, fileobj);
}

/* _relax_reader(fd, is_relaxed): see watch_relax in core.h. */
static PyObject *
loop_method_relax_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct loop *loop = (struct loop *)self;
    assert(nargs == 2);
    (void)nargs;
    int fd = fd_registry_fileno(args[0]);
    struct fd_entry *entry = registry_find(loop, fd);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (entry != NULL && entry->watch != NULL) {
        loop->core->watch_relax(entry->watch->core_watch, args[1] == Py_True);
    }
    Py_RETURN_NONE;
}

/* asyncio: 'File descriptor ... is used by transport ...', for its own Python that works on sockets. */
static PyObject *
loop_method_ensure_fd_no_transport(PyObject *self, PyObject *fileobj)
{
    int fd = fd_registry_fileno(fileobj);
    if ((fd == -1 && PyErr_Occurred()) || fd_registry_check_free((struct loop *)self, fd, fileobj) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

#define FASTCALL(function) _PyCFunction_CAST(function), METH_FASTCALL

PyMethodDef fd_registry_methods[] = {
    {"add_reader", FASTCALL(loop_method_add_reader),
     PyDoc_STR("add_reader($self, fd, callback, /, *args)\n--\n\n"
               "Call callback(*args) whenever fd (a number or a file object) is readable; replaces an earlier one.\n\n"
               "RuntimeError if a transport uses fd, ValueError if it names no file, OSError if it can't be polled\n"
               "(asyncio: Event Loop, add_reader).")},
    {"add_writer", FASTCALL(loop_method_add_writer),
     PyDoc_STR(
         "add_writer($self, fd, callback, /, *args)\n--\n\n"
         "Call callback(*args) whenever fd is writable; errors as add_reader (asyncio: Event Loop, add_writer).")},
    {"remove_reader", loop_method_remove_reader, METH_O,
     PyDoc_STR("remove_reader($self, fd, /)\n--\n\nStop watching for readability; True if it was watched.")},
    {"remove_writer", loop_method_remove_writer, METH_O,
     PyDoc_STR("remove_writer($self, fd, /)\n--\n\nStop watching for writability; True if it was watched.")},
    {"_add_reader", FASTCALL(loop_method_add_reader_private), NULL},
    {"_add_writer", FASTCALL(loop_method_add_writer_private), NULL},
    {"_remove_reader", loop_method_remove_reader, METH_O, NULL},
    {"_remove_writer", loop_method_remove_writer, METH_O, NULL},
    {"_relax_reader", FASTCALL(loop_method_relax_reader), NULL},
    {"_ensure_fd_no_transport", loop_method_ensure_fd_no_transport, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
