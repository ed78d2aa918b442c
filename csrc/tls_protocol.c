/* SPDX-License-Identifier: MIT
 *
 * The type that rloop.tls.TLSProtocol derives from, and the way of bytes that come in; see tls.h.
 *
 * Over our own transports it is a protocol that takes the loop's read buffer as it is (protocol.h); over any other it
 * is the BufferedProtocol that asyncio wrote.
 */
#include "tls.h"

#include "flow_control.h"
#include "loop.h"

#include <structmember.h>

/* --- calling asyncio's half */

static int
status_of(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
tls_call(struct tls_protocol *tls, PyObject *name)
{
    return status_of(PyObject_CallMethodNoArgs((PyObject *)tls, name));
}

int
tls_call_base(struct tls_protocol *tls, PyObject *name)
{
    PyObject *function = PyObject_GetAttr(tls->state->SSLProtocol, name);
    PyObject *result = function == NULL ? NULL : PyObject_CallOneArg(function, (PyObject *)tls);
    Py_XDECREF(function);
    return status_of(result);
}

int
tls_fail(struct tls_protocol *tls)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    /* It is being handled while _fatal_error() runs, which logs it with exc_info=True. */
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *outer = PyErr_GetHandledException();
    PyErr_SetHandledException(exception);
    PyObject *result = PyObject_CallMethod((PyObject *)tls, "_fatal_error", "Os", exception,
                                           "Fatal error on SSL protocol");
    PyErr_SetHandledException(outer);
    Py_XDECREF(outer);
    Py_DECREF(exception);
    return status_of(result);
}

int
tls_end_torn(struct tls_protocol *tls)
{
    if (loop_must_leave()) {
        PyObject *interrupt = PyErr_GetRaisedException();
        PyErr_SetString(PyExc_ConnectionAbortedError, "TLS was interrupted");
        if (tls_fail(tls) < 0) {
            PyErr_WriteUnraisable((PyObject *)tls);
        }
        PyErr_SetRaisedException(interrupt);
    }
    return -1;
}

Py_ssize_t
tls_pending(struct tls_protocol *tls, PyObject *bio)
{
    PyObject *pending = PyObject_GetAttr(bio, tls->state->str_pending);
    if (pending == NULL) {
        return -1;
    }
    Py_ssize_t size = PyLong_AsSsize_t(pending);
    Py_DECREF(pending);
    return size;
}

/* --- bytes that come in */

static int
protocol_feed(struct tls_protocol *tls, const char *data, Py_ssize_t size)
{
    tls_framing_feed(&tls->framing, (const unsigned char *)data, (size_t)size);
    tls->is_probing = tls->is_probing || tls->framing.is_lost;
    PyObject *view = PyMemoryView_FromMemory((char *)data, size, PyBUF_READ);
    PyObject *result = NULL;
    if (view != NULL) {
        result = PyObject_CallMethodOneArg(tls->incoming, tls->state->str_write, view);
    }
    Py_XDECREF(view);
    return status_of(result);
}

int
tls_protocol_receive(PyObject *self, const char *data, Py_ssize_t size)
{
    struct tls_protocol *tls = (struct tls_protocol *)self;
    module_state *state = tls->state;
    if (protocol_feed(tls, data, size) < 0) {
        return -1;
    }
    if (tls->phase == state->tls_wrapped) {
        return tls_read(tls);
    }
    if (tls->phase == state->tls_do_handshake) {
        return tls_call(tls, state->str__do_handshake);
    }
    if (tls->phase == state->tls_flushing) {
        return tls_call(tls, state->str__do_flush);
    }
    return tls->phase == state->tls_shutdown ? tls_call(tls, state->str__do_shutdown) : 0;
}

/* --- methods */

static PyObject *
none_or_error(int result)
{
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(feed_doc, "_feed($self, data, /)\n--\n\n"
                       "What the peer sent before anybody expected TLS, as the first bytes of the handshake.");

static PyObject *
protocol_method_feed(PyObject *self, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int result = protocol_feed((struct tls_protocol *)self, view.buf, view.len);
    PyBuffer_Release(&view);
    return none_or_error(result);
}

PyDoc_STRVAR(buffer_updated_doc,
             "buffer_updated($self, nbytes, /)\n--\n\n"
             "See asyncio.BufferedProtocol.buffer_updated; for lower transports that are not ours.");

static PyObject *
protocol_method_buffer_updated(PyObject *self, PyObject *nbytes)
{
    struct tls_protocol *tls = (struct tls_protocol *)self;
    Py_ssize_t size = PyNumber_AsSsize_t(nbytes, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *buffer = PyObject_GetAttr(self, tls->state->str__ssl_buffer_view);
    Py_buffer view;
    int result = buffer == NULL ? -1 : PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE);
    if (result == 0) {
        result = tls_protocol_receive(self, view.buf, size < view.len ? size : view.len);
        PyBuffer_Release(&view);
    }
    Py_XDECREF(buffer);
    return none_or_error(result);
}

#define PROTOCOL_METHOD(method, function) \
    static PyObject *method(PyObject *self, PyObject *Py_UNUSED(ignored)) \
    { \
        return none_or_error(function((struct tls_protocol *)self)); \
    }

PROTOCOL_METHOD(protocol_method_do_read, tls_read)
PROTOCOL_METHOD(protocol_method_do_write, tls_write_backlog)
PROTOCOL_METHOD(protocol_method_process_outgoing, tls_send)
PROTOCOL_METHOD(protocol_method_control_ssl_reading, tls_control_ssl_reading)

static PyMethodDef protocol_methods[] = {
    {"_feed", protocol_method_feed, METH_O, feed_doc},
    {"buffer_updated", protocol_method_buffer_updated, METH_O, buffer_updated_doc},
    {"_do_read", protocol_method_do_read, METH_NOARGS, NULL},
    {"_do_write", protocol_method_do_write, METH_NOARGS, NULL},
    {"_process_outgoing", protocol_method_process_outgoing, METH_NOARGS, NULL},
    {"_control_ssl_reading", protocol_method_control_ssl_reading, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* --- attributes that are shared with asyncio's half */

static PyMemberDef protocol_members[] = {
    {"_state", T_OBJECT, offsetof(struct tls_protocol, phase), 0, NULL},
    {"_loop", T_OBJECT, offsetof(struct tls_protocol, loop), 0, NULL},
    {"_transport", T_OBJECT, offsetof(struct tls_protocol, transport), 0, NULL},
    {"_app_protocol_get_buffer", T_OBJECT, offsetof(struct tls_protocol, get_buffer), 0, NULL},
    {"_app_protocol_buffer_updated", T_OBJECT, offsetof(struct tls_protocol, buffer_updated), 0, NULL},
    {"_app_protocol_is_buffer", T_BOOL, offsetof(struct tls_protocol, is_app_buffered), 0, NULL},
    {"_sslobj", T_OBJECT, offsetof(struct tls_protocol, ssl_object), 0, NULL},
    {"_incoming", T_OBJECT, offsetof(struct tls_protocol, incoming), 0, NULL},
    {"_outgoing", T_OBJECT, offsetof(struct tls_protocol, outgoing), 0, NULL},
    {"_write_backlog", T_OBJECT, offsetof(struct tls_protocol, backlog), 0, NULL},
    {"_write_buffer_size", T_PYSSIZET, offsetof(struct tls_protocol, backlog_size), 0, NULL},
    {"_app_reading_paused", T_BOOL, offsetof(struct tls_protocol, is_app_reading_paused), 0, NULL},
    {"_app_writing_paused", T_BOOL, offsetof(struct tls_protocol, is_app_writing_paused), 0, NULL},
    {"_ssl_reading_paused", T_BOOL, offsetof(struct tls_protocol, is_ssl_reading_paused), 0, NULL},
    {"_ssl_writing_paused", T_BOOL, offsetof(struct tls_protocol, is_ssl_writing_paused), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static size_t *
protocol_limit(PyObject *self, void *offset)
{
    return (size_t *)((char *)self + (size_t)offset);
}

static PyObject *
protocol_get_limit(PyObject *self, void *offset)
{
    return PyLong_FromSize_t(*protocol_limit(self, offset));
}

static int
protocol_set_limit(PyObject *self, PyObject *value, void *offset)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "a limit can't be deleted");
        return -1;
    }
    return flow_control_size(value, protocol_limit(self, offset));
}

static PyObject *
protocol_get_app_protocol(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *object = ((struct tls_protocol *)self)->app_protocol;
    return Py_NewRef(object == NULL ? Py_None : object);
}

static int
protocol_set_app_protocol(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    struct tls_protocol *tls = (struct tls_protocol *)self;
    tls->feeds_reader = false;
    Py_CLEAR(tls->receive);
    Py_XSETREF(tls->app_protocol, Py_XNewRef(value));
    return 0;
}

#define LIMIT(name, field) \
    {name, protocol_get_limit, protocol_set_limit, NULL, (void *)offsetof(struct tls_protocol, field)}

static PyGetSetDef protocol_attributes[] = {
    {"_app_protocol", protocol_get_app_protocol, protocol_set_app_protocol, NULL, NULL},
    LIMIT("_incoming_high_water", incoming_high),
    LIMIT("_incoming_low_water", incoming_low),
    LIMIT("_outgoing_high_water", outgoing_high),
    LIMIT("_outgoing_low_water", outgoing_low),
    {NULL, NULL, NULL, NULL, NULL},
};

/* --- the object */

static PyObject *
protocol_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    module_state *state = module_state_of_type(type);
    struct tls_protocol *tls = state == NULL ? NULL : (struct tls_protocol *)type->tp_alloc(type, 0);
    if (tls != NULL) {
        tls->state = state;
        tls->is_probing = true;
    }
    return (PyObject *)tls;
}

static int
protocol_traverse_tls(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((struct tls_protocol *)self)->app_protocol);
    Py_VISIT(((struct tls_protocol *)self)->receive);
    for (const PyMemberDef *member = protocol_members; member->name != NULL; member++) {
        if (member->type == T_OBJECT) {
            Py_VISIT(*(PyObject **)((char *)self + member->offset));
        }
    }
    return 0;
}

static int
protocol_clear_tls(PyObject *self)
{
    protocol_set_app_protocol(self, NULL, NULL);
    for (const PyMemberDef *member = protocol_members; member->name != NULL; member++) {
        if (member->type == T_OBJECT) {
            Py_CLEAR(*(PyObject **)((char *)self + member->offset));
        }
    }
    return 0;
}

static void
protocol_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    protocol_clear_tls(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot protocol_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The hot half of asyncio.sslproto.SSLProtocol; see rloop.tls.")},
    {Py_tp_new, protocol_new},
    {Py_tp_dealloc, protocol_dealloc},
    {Py_tp_traverse, protocol_traverse_tls},
    {Py_tp_clear, protocol_clear_tls},
    {Py_tp_methods, protocol_methods},
    {Py_tp_members, protocol_members},
    {Py_tp_getset, protocol_attributes},
    {0, NULL},
};

static PyType_Spec protocol_spec = {
    .name = "rloop._rloop.TLSProtocolBase",
    .basicsize = sizeof(struct tls_protocol),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = protocol_slots,
};

/* What is missing where Python has no ssl: asyncio's names for what OpenSSL raises when it wants more, and SSLObject. */
static int
tls_import_ssl(module_state *state)
{
    PyObject *module = PyImport_ImportModule("asyncio.sslproto");
    PyObject *ssl = module == NULL ? NULL : PyObject_GetAttrString(module, "ssl");
    if (ssl == Py_None) {
        state->tls_again_errors = PyTuple_New(0);
    }
    else if (ssl != NULL && (state->ssl_object_type = PyObject_GetAttrString(ssl, "SSLObject")) != NULL &&
             (state->ssl_object_read = PyObject_GetAttr(state->ssl_object_type, state->str_read)) != NULL)
    {
        state->tls_again_errors = PyObject_GetAttrString(module, "SSLAgainErrors");
    }
    Py_XDECREF(module);
    Py_XDECREF(ssl);
    return state->tls_again_errors == NULL ? -1 : 0;
}

int
tls_setup_types(PyObject *module, module_state *state)
{
    PyObject *phases = state->SSLProtocolState;
    if ((state->tls_wrapped = PyObject_GetAttrString(phases, "WRAPPED")) == NULL ||
        (state->tls_do_handshake = PyObject_GetAttrString(phases, "DO_HANDSHAKE")) == NULL ||
        (state->tls_flushing = PyObject_GetAttrString(phases, "FLUSHING")) == NULL ||
        (state->tls_shutdown = PyObject_GetAttrString(phases, "SHUTDOWN")) == NULL || tls_import_ssl(state) < 0 ||
        (state->TLSProtocolBase_type = module_add_type(module, &protocol_spec, NULL)) == NULL)
    {
        return -1;
    }
    return tls_loan_setup_types(module, state) < 0 ? -1 : tls_transport_setup_types(module, state);
}
