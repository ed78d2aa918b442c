/* SPDX-License-Identifier: MIT
 *
 * StreamTransport: what a connected socket adds to transport.h.
 *
 * It behaves as asyncio.selector_events._SelectorSocketTransport, whose messages it uses.  The core owns the fd;
 * stream_socket.c answers what Python asks about it.  A server, if it came from one, counts it until the connection is
 * lost.
 */
#include "stream_transport.h"

#include "errors.h"
#include "socket_info.h"
#include "stream_socket.h"
#include "transport_methods.h"

#include <unistd.h>

/* --- the server that it came from */

/* Server._attach and Server._detach take the transport from Python 3.13 on. */
static int
stream_call_server(struct transport *t, PyObject *server, PyObject *method)
{
    PyObject *args[] = {server, t->self};
    PyObject *result = PyObject_VectorcallMethod(method, args, t->state->does_server_take_transport ? 2 : 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static void
stream_leave_server(struct transport *t)
{
    PyObject *server = stream_of(t)->server;
    stream_of(t)->server = NULL;
    if (server != NULL && stream_call_server(t, server, t->state->str__detach) < 0) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_XDECREF(server);
}

/* --- what the kind says */

static bool
stream_is_quiet(PyObject *exception)
{
    return PyErr_GivenExceptionMatches(exception, PyExc_OSError);
}

static void
stream_on_end(struct transport *t)
{
    struct loop *loop = t->loop;
    if (loop->is_debug) {
        transport_log(t, t->state->str_debug, "%r received EOF");
    }
    int keeps_open = protocol_eof_received(&t->protocol, t->state);
    if (keeps_open < 0) {
        if (loop_is_reportable(loop)) {
            transport_fatal_error(t, "Fatal error: protocol.eof_received() call failed.");
        }
        else {
            transport_read_start(t); /* as in asyncio, it comes again when the loop runs again */
        }
    }
    else if (keeps_open == 0 && transport_close(t) < 0) {
        PyErr_WriteUnraisable(t->self);
    }
}

static void
stream_before_close(struct transport *t)
{
    fd_registry_release(t->loop, t->fd, t->self);
    stream_socket_detach(t);
}

static const struct transport_kind stream_kind = {
    .core_kind = CORE_STREAM_SOCKET,
    .has_buffered_protocols = true,
    .read_error = "Fatal read error on socket transport",
    .write_error = "Fatal write error on socket transport",
    .lost_write_warning = "socket.send() raised exception.",
    .connection_lost_error = "Exception in callback StreamTransport._call_connection_lost()",
    .is_quiet = stream_is_quiet,
    .on_receive_error = transport_fatal_error,
    .on_end = stream_on_end,
    .before_close = stream_before_close,
    .after_lost = stream_leave_server,
    .make_extra = stream_socket_make_extra,
};

/* --- making */

/* Everything from the core on. */
static int
stream_connect(struct loop *loop, struct transport *t, const struct stream_transport_args *args)
{
    if (fd_registry_claim(loop, args->fd, t->self) < 0) {
        return -1;
    }
    if (transport_open(t, args->fd) < 0) {
        fd_registry_release(loop, args->fd, t->self);
        return -1;
    }
    if (args->server != NULL) {
        if (stream_call_server(t, args->server, t->state->str__attach) < 0) {
            goto abandon;
        }
        stream_of(t)->server = Py_NewRef(args->server);
    }
    if (transport_begin(t, true, args->waiter) == 0) {
        return 0;
    }
    PyObject *exception = PyErr_GetRaisedException();
    stream_leave_server(t);
    PyErr_SetRaisedException(exception);
abandon:
    transport_abandon(t);
    return -1;
}

PyObject *
stream_transport_new(struct loop *loop, const struct stream_transport_args *args)
{
    bool owns_fd = args->sock == NULL;
    PyObject *self = transport_new(loop, loop->state->StreamTransport_type, &stream_kind, args->protocol, args->extra,
                                   args->context);
    if (self == NULL) {
        goto error;
    }
    struct transport *t = transport_of(self);
    t->fd = args->fd;
    t->file = Py_XNewRef(args->sock);
    if (stream_socket_init(t, args) < 0) {
        goto error;
    }
    if (stream_connect(loop, t, args) < 0) {
        owns_fd = owns_fd && !t->is_loss_scheduled; /* given up after the core had it: closed */
        goto error;
    }
    if (t->file != NULL) {
        socket_info_hold(t->state, t->file);
    }
    return self;
error:
    if (owns_fd) {
        close(args->fd);
    }
    Py_XDECREF(self);
    return NULL;
}

/* --- methods */

PyDoc_STRVAR(stream_write_doc,
             "write($self, data, /)\n--\n\n"
             "Send `data` (bytes, bytearray or memoryview), or buffer what the kernel does not take now.\n\n"
             "Raises TypeError for anything else, RuntimeError after write_eof() and while sendfile() is in progress.\n"
             "On a lost connection it does nothing, and logs a warning from the fifth time on.\n"
             "See asyncio.WriteTransport.write.");

/* Is writing allowed now?  If not, RuntimeError is set. */
static bool
stream_may_write(const struct transport *t, const char *eof_message, const char *sendfile_message)
{
    if (t->is_eof_written) {
        PyErr_SetString(PyExc_RuntimeError, eof_message);
        return false;
    }
    if (t->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, sendfile_message);
        return false;
    }
    return true;
}

/* The TypeError of asyncio's own write(), which looks at this first: its words are those of the running version. */
static PyObject *
stream_refuse_data(PyObject *self, PyObject *data)
{
    PyObject *module = PyImport_ImportModule("asyncio.selector_events");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "_SelectorSocketTransport");
    PyObject *result = type == NULL ? NULL : PyObject_CallMethod(type, "write", "OO", self, data);
    Py_XDECREF(module);
    Py_XDECREF(type);
    return result;
}

PyObject *
stream_transport_write(PyObject *self, PyObject *data)
{
    struct transport *t = transport_of(self);
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
        return stream_refuse_data(self, data);
    }
    if (transport_check_owner(t) < 0 ||
        !stream_may_write(t, "Cannot call write() after write_eof()", "unable to write; sendfile is in progress") ||
        transport_write(t, data) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

bool
stream_transport_is_plain(module_state *state, PyObject *transport)
{
    return Py_IS_TYPE(transport, state->StreamTransport_type) && transport_of(transport)->dict == NULL;
}

PyDoc_STRVAR(stream_writelines_doc, "writelines($self, list_of_data, /)\n--\n\n"
                                    "Send an iterable of bytes-like objects, as one write.\n\n"
                                    "Raises as write() does.  See asyncio.WriteTransport.writelines.");

static PyObject *
stream_writelines(PyObject *self, PyObject *list_of_data)
{
    struct transport *t = transport_of(self);
    if (transport_check_owner(t) < 0 ||
        !stream_may_write(t, "Cannot call writelines() after write_eof()",
                          "unable to writelines; sendfile is in progress") ||
        transport_writelines(t, list_of_data) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Close the write end once everything that is buffered has been sent; reading goes on.\n\n"
             "Raises OSError when the kernel refuses.  See asyncio.WriteTransport.write_eof and shutdown(2).");

static PyObject *
stream_write_eof(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    if (transport_check_owner(t) < 0) {
        return NULL;
    }
    transport_send_deferred(t);
    if (t->is_closing || t->is_eof_written) {
        Py_RETURN_NONE;
    }
    t->is_eof_written = true;
    if (t->stream != NULL && write_buffer_is_empty(&t->buffer)) {
        int result = t->loop->core->stream_shutdown(t->stream);
        if (result < 0) {
            return errors_set(result);
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_force_close_doc, "_force_close($self, exc, /)\n--\n\n"
                                     "abort(), with the exception for connection_lost(); for asyncio's own code.");

static PyObject *
stream_force_close(PyObject *self, PyObject *exception)
{
    struct transport *t = transport_of(self);
    if (transport_check_owner(t) < 0 || transport_force_close(t, exception == Py_None ? NULL : exception) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_make_empty_waiter_doc,
             "_make_empty_waiter($self, /)\n--\n\n"
             "A future that is done when nothing is buffered any more; until _reset_empty_waiter(), write() raises.\n"
             "For sendfile().  Raises RuntimeError when there is one already.");

static PyObject *
stream_make_empty_waiter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    if (t->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    if (t->loop == NULL) {
        PyErr_SetString(PyExc_AttributeError, "'NoneType' object has no attribute 'create_future'");
        return NULL;
    }
    transport_send_deferred(t);
    t->empty_waiter = PyObject_CallMethodNoArgs((PyObject *)t->loop, t->state->str_create_future);
    if (t->empty_waiter != NULL && write_buffer_is_empty(&t->buffer)) {
        transport_wake_empty_waiter(t, NULL);
    }
    return Py_XNewRef(t->empty_waiter);
}

PyDoc_STRVAR(stream_reset_empty_waiter_doc, "_reset_empty_waiter($self, /)\n--\n\nAllow writing again.");

static PyObject *
stream_reset_empty_waiter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(transport_of(self)->empty_waiter);
    Py_RETURN_NONE;
}

static PyMethodDef stream_methods[] = {
    {"write", stream_transport_write, METH_O, stream_write_doc},
    {"writelines", stream_writelines, METH_O, stream_writelines_doc},
    {"write_eof", stream_write_eof, METH_NOARGS, stream_write_eof_doc},
    {"_force_close", stream_force_close, METH_O, stream_force_close_doc},
    {"_make_empty_waiter", stream_make_empty_waiter, METH_NOARGS, stream_make_empty_waiter_doc},
    {"_reset_empty_waiter", stream_reset_empty_waiter, METH_NOARGS, stream_reset_empty_waiter_doc},
    TRANSPORT_METHODS_OF_ALL,
    TRANSPORT_METHODS_OF_READERS,
    TRANSPORT_METHODS_OF_WRITERS,
    {NULL, NULL, 0, NULL},
};

/* --- attributes that asyncio's own code reads */

static PyObject *
stream_get_sock(PyObject *self, void *Py_UNUSED(closure))
{
    struct transport *t = transport_of(self);
    transport_send_deferred(t);
    return t->stream == NULL ? Py_NewRef(Py_None) : stream_socket_object(t);
}

static PyObject *
stream_get_sock_fd(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(transport_of(self)->fd);
}

static PyObject *
stream_get_server(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *server = stream_of(transport_of(self))->server;
    return Py_NewRef(server == NULL ? Py_None : server);
}

static PyGetSetDef stream_attributes[] = {
    {"_sock", stream_get_sock, NULL, NULL, NULL},
    {"_sock_fd", stream_get_sock_fd, NULL, NULL, NULL},
    {"_server", stream_get_server, NULL, NULL, NULL},
    TRANSPORT_ATTRIBUTES_OF_ALL,
    TRANSPORT_ATTRIBUTES_OF_WRITERS,
    {NULL, NULL, NULL, NULL, NULL},
};

/* --- the object */

static PyObject *
stream_repr(PyObject *self)
{
    struct transport *t = transport_of(self);
    const char *life = !t->is_open ? " closed" : t->is_closing ? " closing" : "";
    if (t->loop == NULL || t->loop->is_closed) {
        return PyUnicode_FromFormat("<StreamTransport%s fd=%d>", life, t->fd);
    }
    return PyUnicode_FromFormat("<StreamTransport%s fd=%d read=%s write=<%s, bufsize=%zu>>", life, t->fd,
                                t->is_read_started ? "polling" : "idle",
                                write_buffer_is_in_flight(&t->buffer) ? "polling" : "idle", transport_unsent(t));
}

static int
stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct transport *t = transport_of(self);
    Py_VISIT(stream_of(t)->server);
    return transport_traverse(t, visit, arg);
}

static int
stream_clear(PyObject *self)
{
    struct transport *t = transport_of(self);
    Py_CLEAR(stream_of(t)->server);
    transport_clear(t);
    return 0;
}

static void
stream_finalize(PyObject *self)
{
    struct transport *t = transport_of(self);
    if (transport_warn_unclosed(t)) {
        PyObject *exception = PyErr_GetRaisedException();
        stream_socket_detach(t); /* the fd is the core's, which closes it with the loop */
        stream_leave_server(t);
        PyErr_SetRaisedException(exception);
    }
}

static void
stream_dealloc(PyObject *self)
{
    /* First of all, so that nobody finds it there any more.  If it is still open, the finalizer leaves the server too. */
    server_client_leave(&stream_of(transport_of(self))->client);
    if (transport_begin_dealloc(self)) {
        stream_clear(self);
        stream_socket_free(transport_of(self));
        transport_end_dealloc(self);
    }
}

static const PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The transport of a connected socket, of create_connection() or a server.\n"
                                  "See asyncio.Transport.")},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_finalize, stream_finalize},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_repr, stream_repr},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_attributes},
    {0, NULL},
};

/* How many arguments, self included, does Server._attach take? */
static int
stream_probe_server(module_state *state)
{
    PyObject *method = PyObject_GetAttr(state->Server, state->str__attach);
    PyObject *code = method == NULL ? NULL : PyObject_GetAttrString(method, "__code__");
    PyObject *count = code == NULL ? NULL : PyObject_GetAttrString(code, "co_argcount");
    if (count != NULL) {
        state->does_server_take_transport = PyLong_AsLong(count) > 1;
    }
    Py_XDECREF(method);
    Py_XDECREF(code);
    Py_XDECREF(count);
    return PyErr_Occurred() ? -1 : 0;
}

/* What start_tls() and sendfile() of asyncio ask a transport's type. */
static int
stream_add_marks(module_state *state)
{
    PyObject *type = (PyObject *)state->StreamTransport_type;
    PyObject *modes = PyObject_GetAttrString(state->constants, "_SendfileMode");
    PyObject *mode = modes == NULL ? NULL : PyObject_GetAttrString(modes, "TRY_NATIVE");
    int result = -1;
    if (mode != NULL && PyObject_SetAttrString(type, "_sendfile_compatible", mode) == 0) {
        result = PyObject_SetAttrString(type, "_start_tls_compatible", Py_True);
    }
    Py_XDECREF(modes);
    Py_XDECREF(mode);
    return result;
}

int
stream_transport_setup_types(PyObject *module, module_state *state)
{
    state->StreamTransport_type = transport_add_type(module, "rloop._rloop.StreamTransport",
                                                     sizeof(struct stream_transport), stream_slots,
                                                     state->FlowControlMixin);
    if (state->StreamTransport_type == NULL) {
        return -1;
    }
    return stream_probe_server(state) < 0 || stream_add_marks(state) < 0 ? -1 : 0;
}

/* --- methods of Loop */

PyDoc_STRVAR(make_socket_transport_doc,
             "_make_socket_transport($self, /, sock, protocol, waiter=None, *, extra=None, server=None,\n"
             "                       context=None)\n--\n\n"
             "The transport of a connected, non-blocking socket, for asyncio.BaseEventLoop.\n\n"
             "Raises RuntimeError when an open transport uses the same file descriptor.");

static PyObject *
make_socket_transport(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"sock", "protocol", "waiter", "extra", "server", "context", NULL};
    struct loop *loop = (struct loop *)self;
    struct stream_transport_args new = {0};
    PyObject *optional[4] = {Py_None, Py_None, Py_None, Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$OOO:_make_socket_transport", keywords, &new.sock,
                                     &new.protocol, &optional[0], &optional[1], &optional[2], &optional[3]))
    {
        return NULL;
    }
    new.waiter = optional[0] == Py_None ? NULL : optional[0];
    new.extra = optional[1] == Py_None ? NULL : optional[1];
    new.server = optional[2] == Py_None ? NULL : optional[2];
    new.context = optional[3] == Py_None ? NULL : optional[3];
    new.fd = fd_registry_fileno(new.sock);
    if (new.fd < 0 || fd_registry_check_free(loop, new.fd, new.sock) < 0) {
        return NULL;
    }
    return stream_transport_new(loop, &new);
}

PyMethodDef stream_transport_loop_methods[] = {
    {"_make_socket_transport", TRANSPORT_KEYWORDS(make_socket_transport), make_socket_transport_doc},
    {NULL, NULL, 0, NULL},
};
