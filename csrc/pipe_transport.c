/* SPDX-License-Identifier: MIT
 *
 * ReadPipeTransport and WritePipeTransport: what one end of a pipe adds to transport.h.
 *
 * They behave as asyncio.unix_events._UnixReadPipeTransport and _UnixWritePipeTransport, whose messages they use.  The
 * core owns a copy of the fd, so that both it and the Python object can be closed; as in asyncio, the pipe's own number
 * is not reserved for the transport.
 */
#include "pipe_transport.h"

#include "errors.h"
#include "transport_methods.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what the kinds say */

static void
pipe_before_close(struct transport *Py_UNUSED(t))
{
    /* the core has a copy of the fd */
}

static void
pipe_close_file(struct transport *t)
{
    PyObject *pipe = t->file;
    t->file = NULL;
    PyObject *result = pipe == NULL ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(pipe, t->state->str_close);
    if (result == NULL) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_XDECREF(result);
    Py_XDECREF(pipe);
}

/* EIO is how a terminal says that nobody is on the other side. */
static bool
read_pipe_is_quiet(PyObject *exception)
{
    if (!PyErr_GivenExceptionMatches(exception, PyExc_OSError)) {
        return false;
    }
    PyObject *number = ((PyOSErrorObject *)exception)->myerrno;
    return number != NULL && PyLong_Check(number) && PyLong_AsLong(number) == EIO;
}

static bool
write_pipe_is_quiet(PyObject *exception)
{
    return PyErr_GivenExceptionMatches(exception, PyExc_OSError);
}

/* As in asyncio, a read pipe survives an exception of data_received(); but not the want of memory for what has been read: what
 * would come next is not the next of what was sent. */
static void
read_pipe_on_receive_error(struct transport *t, const char *Py_UNUSED(message))
{
    if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
        transport_fatal_error(t, t->kind->read_error);
        return;
    }
    transport_report(t, "Exception in callback ReadPipeTransport._read_ready()");
}

static void
read_pipe_on_end(struct transport *t)
{
    if (t->loop->is_debug) {
        transport_log(t, t->state->str_info, "%r was closed by peer");
    }
    t->is_closing = true;
    if (protocol_call_soon(&t->protocol, t->loop, t->state->str_eof_received, NULL) < 0) {
        transport_report(t, "Exception in callback ReadPipeTransport._read_ready()");
    }
    if (transport_schedule_loss(t, NULL) < 0) {
        PyErr_WriteUnraisable(t->self);
    }
}

/* The reader left. */
static void
write_pipe_on_end(struct transport *t)
{
    if (t->loop->is_debug) {
        transport_log(t, t->state->str_info, "%r was closed by peer");
    }
    PyObject *exception = NULL;
    if (!write_buffer_is_empty(&t->buffer)) {
        exception = PyObject_CallNoArgs(PyExc_BrokenPipeError);
    }
    if (PyErr_Occurred() || transport_force_close(t, exception) < 0) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_XDECREF(exception);
}

static const struct transport_kind read_pipe_kind = {
    .core_kind = CORE_STREAM_PIPE_READ,
    .closing_ends_writing = true,
    .read_error = "Fatal read error on pipe transport",
    .connection_lost_error = "Exception in callback ReadPipeTransport._call_connection_lost()",
    .is_quiet = read_pipe_is_quiet,
    .on_receive_error = read_pipe_on_receive_error,
    .on_end = read_pipe_on_end,
    .before_close = pipe_before_close,
    .after_lost = pipe_close_file,
};

static const struct transport_kind write_pipe_kind = {
    .core_kind = CORE_STREAM_PIPE_WRITE,
    .closing_ends_writing = true,
    .read_error = "Fatal read error on pipe transport",
    .write_error = "Fatal write error on pipe transport",
    .lost_write_warning = "pipe closed by peer or os.write(pipe, data) raised exception.",
    .connection_lost_error = "Exception in callback WritePipeTransport._call_connection_lost()",
    .is_quiet = write_pipe_is_quiet,
    .on_end = write_pipe_on_end,
    .before_close = pipe_before_close,
    .after_lost = pipe_close_file,
};

/* --- making */

/* pipe.fileno(), which must be an int; -1 with an exception set. */
static int
pipe_fileno(module_state *state, PyObject *pipe)
{
    PyObject *number = PyObject_CallMethodNoArgs(pipe, state->str_fileno);
    if (number == NULL) {
        return -1;
    }
    int fd = PyObject_AsFileDescriptor(number);
    Py_DECREF(number);
    return fd;
}

/* The kind of file behind the fd, of those that a pipe transport is for; 0 with ValueError for another. */
static mode_t
pipe_file_type(int fd, const char *message)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        errors_set(-errno);
        return 0;
    }
    mode_t type = status.st_mode & S_IFMT;
    if (type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR) {
        PyErr_SetString(PyExc_ValueError, message);
        return 0;
    }
    return type;
}

/* A non-blocking copy of the fd (the flag is common to both); -1 with OSError. */
static int
pipe_copy_fd(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    int copy = -1;
    if (flags >= 0 && ((flags & O_NONBLOCK) || fcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0)) {
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    if (copy < 0) {
        errors_set(-errno);
    }
    return copy;
}

/* Everything from the core on; `has_events`: the core may read, or see the reader leave. */
static int
pipe_connect(struct transport *t, bool has_events, PyObject *waiter)
{
    int copy = pipe_copy_fd(t->fd);
    if (copy < 0) {
        return -1;
    }
    fd_registry_forget(t->loop, copy);
    if (transport_open(t, copy) < 0) {
        close(copy);
        return -1;
    }
    if (transport_begin(t, has_events, waiter) < 0) {
        transport_abandon(t);
        return -1;
    }
    return 0;
}

static PyObject *
pipe_transport_new(struct loop *loop, const struct transport_kind *kind, PyObject *pipe, PyObject *protocol,
                   PyObject *waiter, PyObject *extra)
{
    bool is_reader = kind == &read_pipe_kind;
    PyTypeObject *type = is_reader ? loop->state->ReadPipeTransport_type : loop->state->WritePipeTransport_type;
    PyObject *self = transport_new(loop, type, kind, protocol, extra, NULL);
    if (self == NULL) {
        return NULL;
    }
    struct transport *t = transport_of(self);
    if ((t->extra == NULL && (t->extra = PyDict_New()) == NULL) ||
        PyDict_SetItem(t->extra, t->state->str_pipe, pipe) < 0 || (t->fd = pipe_fileno(t->state, pipe)) < 0)
    {
        goto error;
    }
    const char *message = is_reader ? "Pipe transport is for pipes/sockets only."
                                    : "Pipe transport is only for pipes, sockets and character devices";
    mode_t file_type = pipe_file_type(t->fd, message);
    if (file_type == 0) {
        goto error;
    }
    t->file = Py_NewRef(pipe);
    if (pipe_connect(t, is_reader || file_type != S_IFCHR, waiter) < 0) {
        goto error;
    }
    return self;
error:
    Py_DECREF(self);
    return NULL;
}

/* --- methods */

PyDoc_STRVAR(write_pipe_write_doc,
             "write($self, data, /)\n--\n\n"
             "Send `data` (bytes, bytearray or memoryview), or buffer what the pipe does not take now.\n\n"
             "Raises AssertionError for anything else.  On a closing pipe it does nothing, and logs a warning from\n"
             "the sixth time on.  See asyncio.WriteTransport.write.");

static PyObject *
write_pipe_write(PyObject *self, PyObject *data)
{
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
        return PyErr_Format(PyExc_AssertionError, "%R", data);
    }
    struct transport *t = transport_of(self);
    return transport_check_owner(t) < 0 || transport_write(t, data) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(write_pipe_write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Close the pipe once everything that is buffered has been sent: the same as close().\n"
             "See asyncio.WriteTransport.write_eof.");

static PyMethodDef read_pipe_methods[] = {
    TRANSPORT_METHODS_OF_ALL,
    TRANSPORT_METHODS_OF_READERS,
    {NULL, NULL, 0, NULL},
};

static PyMethodDef write_pipe_methods[] = {
    {"write", write_pipe_write, METH_O, write_pipe_write_doc},
    {"write_eof", transport_method_close, METH_NOARGS, write_pipe_write_eof_doc},
    TRANSPORT_METHODS_OF_ALL,
    TRANSPORT_METHODS_OF_WRITERS,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef read_pipe_attributes[] = {
    TRANSPORT_ATTRIBUTES_OF_ALL,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef write_pipe_attributes[] = {
    TRANSPORT_ATTRIBUTES_OF_ALL,
    TRANSPORT_ATTRIBUTES_OF_WRITERS,
    {NULL, NULL, NULL, NULL, NULL},
};

/* --- the objects */

/* <NAME [closed|closing] fd=FD STATE>, where `details` is the state of one that is not closed. */
static PyObject *
pipe_repr(struct transport *t, const char *name, PyObject *details)
{
    if (details == NULL) {
        return NULL;
    }
    const char *closing = t->is_closing ? " closing" : "";
    PyObject *repr = t->file == NULL ? PyUnicode_FromFormat("<%s closed fd=%d closed>", name, t->fd)
                                     : PyUnicode_FromFormat("<%s%s fd=%d %U>", name, closing, t->fd, details);
    Py_DECREF(details);
    return repr;
}

static PyObject *
read_pipe_repr(PyObject *self)
{
    struct transport *t = transport_of(self);
    return pipe_repr(t, "ReadPipeTransport", PyUnicode_FromString(t->is_read_started ? "polling" : "idle"));
}

static PyObject *
write_pipe_repr(PyObject *self)
{
    struct transport *t = transport_of(self);
    const char *state = write_buffer_is_in_flight(&t->buffer) ? "polling" : "idle";
    return pipe_repr(t, "WritePipeTransport", PyUnicode_FromFormat("%s bufsize=%zu", state, transport_unsent(t)));
}

static int
pipe_traverse(PyObject *self, visitproc visit, void *arg)
{
    return transport_traverse(transport_of(self), visit, arg);
}

static int
pipe_clear(PyObject *self)
{
    transport_clear(transport_of(self));
    return 0;
}

static void
pipe_finalize(PyObject *self)
{
    struct transport *t = transport_of(self);
    if (transport_warn_unclosed(t)) {
        PyObject *exception = PyErr_GetRaisedException();
        pipe_close_file(t);
        PyErr_SetRaisedException(exception);
    }
}

static void
pipe_dealloc(PyObject *self)
{
    if (transport_begin_dealloc(self)) {
        transport_end_dealloc(self);
    }
}

static const PyType_Slot read_pipe_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The transport of a pipe's read end, as connect_read_pipe() gives it.\n"
                                  "See asyncio.ReadTransport.")},
    {Py_tp_dealloc, pipe_dealloc},
    {Py_tp_finalize, pipe_finalize},
    {Py_tp_traverse, pipe_traverse},
    {Py_tp_clear, pipe_clear},
    {Py_tp_repr, read_pipe_repr},
    {Py_tp_methods, read_pipe_methods},
    {Py_tp_getset, read_pipe_attributes},
    {0, NULL},
};

static const PyType_Slot write_pipe_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The transport of a pipe's write end, as connect_write_pipe() gives it.\n"
                                  "See asyncio.WriteTransport.")},
    {Py_tp_dealloc, pipe_dealloc},
    {Py_tp_finalize, pipe_finalize},
    {Py_tp_traverse, pipe_traverse},
    {Py_tp_clear, pipe_clear},
    {Py_tp_repr, write_pipe_repr},
    {Py_tp_methods, write_pipe_methods},
    {Py_tp_getset, write_pipe_attributes},
    {0, NULL},
};

int
pipe_transport_setup_types(PyObject *module, module_state *state)
{
    state->ReadPipeTransport_type = transport_add_type(module, "rloop._rloop.ReadPipeTransport",
                                                       sizeof(struct transport), read_pipe_slots, state->ReadTransport);
    if (state->ReadPipeTransport_type == NULL) {
        return -1;
    }
    state->WritePipeTransport_type = transport_add_type(module, "rloop._rloop.WritePipeTransport",
                                                        sizeof(struct transport), write_pipe_slots,
                                                        state->FlowControlMixin);
    return state->WritePipeTransport_type == NULL ? -1 : 0;
}

/* --- methods of Loop */

static PyObject *
make_pipe_transport(PyObject *self, const struct transport_kind *kind, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"pipe", "protocol", "waiter", "extra", NULL};
    PyObject *pipe, *protocol, *waiter = Py_None, *extra = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO", keywords, &pipe, &protocol, &waiter, &extra)) {
        return NULL;
    }
    return pipe_transport_new((struct loop *)self, kind, pipe, protocol, waiter == Py_None ? NULL : waiter,
                              extra == Py_None ? NULL : extra);
}

PyDoc_STRVAR(make_read_pipe_transport_doc,
             "_make_read_pipe_transport($self, /, pipe, protocol, waiter=None, extra=None)\n--\n\n"
             "The transport of a pipe's read end, for asyncio.BaseEventLoop.\n\n"
             "Raises ValueError for what is no pipe, socket or character device.");

static PyObject *
make_read_pipe_transport(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return make_pipe_transport(self, &read_pipe_kind, args, kwargs);
}

PyDoc_STRVAR(make_write_pipe_transport_doc,
             "_make_write_pipe_transport($self, /, pipe, protocol, waiter=None, extra=None)\n--\n\n"
             "The transport of a pipe's write end, for asyncio.BaseEventLoop.\n\n"
             "Raises ValueError for what is no pipe, socket or character device.");

static PyObject *
make_write_pipe_transport(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return make_pipe_transport(self, &write_pipe_kind, args, kwargs);
}

PyMethodDef pipe_transport_loop_methods[] = {
    {"_make_read_pipe_transport", TRANSPORT_KEYWORDS(make_read_pipe_transport), make_read_pipe_transport_doc},
    {"_make_write_pipe_transport", TRANSPORT_KEYWORDS(make_write_pipe_transport), make_write_pipe_transport_doc},
    {NULL, NULL, 0, NULL},
};
