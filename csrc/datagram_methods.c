/* SPDX-License-Identifier: MIT
 *
 * What Python sees of a DatagramTransport: its methods, attributes and type; see datagram_transport.h.
 *
 * The type extends the two of asyncio's classes that its own datagram transport has among its bases, so that isinstance
 * holds (PEP 697, as handle_types.c says).
 */
#include "datagram_transport.h"

#include "transport_methods.h"

/* --- methods */

static PyObject *
none_or_error(int result)
{
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* May it be sent there?  0, or -1 with asyncio's ValueError. */
static int
datagram_check_address(struct datagram_transport *t, PyObject *address)
{
    if (t->address == NULL || address == Py_None) {
        return 0;
    }
    int is_same = PyObject_RichCompareBool(address, t->address, Py_EQ);
    if (is_same == 0) {
        PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", t->address);
    }
    return is_same == 1 ? 0 : -1;
}

/* sendto(data, addr=None): 0, or -1 with TypeError. */
static int
sendto_parse(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject *values[2])
{
    static const char *const names[] = {"data", "addr"};
    if (nargs > 2) {
        PyErr_Format(PyExc_TypeError, "sendto() takes at most 2 arguments (%zd given)", nargs);
        return -1;
    }
    values[0] = nargs > 0 ? args[0] : NULL;
    values[1] = nargs > 1 ? args[1] : NULL;
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        int place = PyUnicode_CompareWithASCIIString(name, names[0]) == 0 ? 0 : 1;
        if (PyUnicode_CompareWithASCIIString(name, names[place]) != 0) {
            PyErr_Format(PyExc_TypeError, "sendto() got an unexpected keyword argument %R", name);
            return -1;
        }
        if (values[place] != NULL) {
            PyErr_Format(PyExc_TypeError, "sendto() got multiple values for argument %R", name);
            return -1;
        }
        values[place] = args[nargs + i];
    }
    if (values[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "sendto() missing 1 required positional argument: 'data'");
        return -1;
    }
    return 0;
}

/* See loop_check_owner. */
static int
datagram_check_owner(const struct datagram_transport *t)
{
    return t->loop == NULL ? 0 : loop_check_owner(t->loop);
}

static PyObject *
datagram_method_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct datagram_transport *t = datagram_transport_of(self);
    PyObject *values[2];
    if (sendto_parse(args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *data = values[0], *address = values[1] == NULL ? Py_None : values[1];
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
        PyObject *name = PyType_GetName(Py_TYPE(data));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not %R", name);
            Py_DECREF(name);
        }
        return NULL;
    }
    if (!t->state->sends_empty_datagrams) {
        int has_data = PyObject_IsTrue(data);
        if (has_data <= 0) {
            return none_or_error(has_data);
        }
    }
    if (datagram_check_owner(t) < 0 || datagram_check_address(t, address) < 0) {
        return NULL;
    }
    if (t->datagram == NULL || (t->conn_lost > 0 && t->address != NULL)) {
        return none_or_error(loop_warn_lost_write(t->state, &t->conn_lost, "socket.send() raised exception."));
    }
    return none_or_error(datagram_send(t, data, t->address == NULL ? address : t->address));
}

static PyObject *
datagram_method_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct datagram_transport *t = datagram_transport_of(self);
    return none_or_error(datagram_check_owner(t) < 0 ? -1 : datagram_close(t));
}

static PyObject *
datagram_method_abort(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct datagram_transport *t = datagram_transport_of(self);
    return none_or_error(datagram_check_owner(t) < 0 ? -1 : datagram_force_close(t, NULL));
}

static PyObject *
datagram_method_is_closing(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(datagram_transport_of(self)->is_closing);
}

static PyObject *
datagram_method_get_protocol(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *protocol = datagram_transport_of(self)->protocol.object;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

static PyObject *
datagram_method_set_protocol(PyObject *self, PyObject *protocol)
{
    struct datagram_transport *t = datagram_transport_of(self);
    return none_or_error(datagram_check_owner(t) < 0 ? -1 : protocol_set(&t->protocol, t->state, protocol, false));
}

static PyObject *
datagram_method_get_extra_info(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "default", NULL};
    PyObject *name, *fallback = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", names, &name, &fallback)) {
        return NULL;
    }
    PyObject *value = PyDict_GetItemWithError(datagram_transport_of(self)->extra, name);
    if (value == NULL && !PyErr_Occurred()) {
        value = fallback;
    }
    return Py_XNewRef(value);
}

static bool
datagram_is_reading(const struct datagram_transport *t)
{
    return !t->is_closing && !t->is_paused;
}

static PyObject *
datagram_method_is_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(datagram_is_reading(datagram_transport_of(self)));
}

/* In debug mode: logger.debug(format, self) */
static int
datagram_log(struct datagram_transport *t, const char *format)
{
    if (!t->loop->is_debug) {
        return 0;
    }
    PyObject *result = PyObject_CallMethod(t->state->logger, "debug", "sO", format, t->self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *
datagram_method_pause_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct datagram_transport *t = datagram_transport_of(self);
    if (datagram_check_owner(t) < 0) {
        return NULL;
    }
    if (!datagram_is_reading(t)) {
        Py_RETURN_NONE;
    }
    t->is_paused = true;
    datagram_recv_stop(t);
    return none_or_error(datagram_log(t, "%r pauses reading"));
}

static PyObject *
datagram_method_resume_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct datagram_transport *t = datagram_transport_of(self);
    if (datagram_check_owner(t) < 0) {
        return NULL;
    }
    if (t->is_closing || !t->is_paused) {
        Py_RETURN_NONE;
    }
    t->is_paused = false;
    datagram_recv_start(t);
    return none_or_error(datagram_log(t, "%r resumes reading"));
}

static size_t
datagram_unsent(const struct datagram_transport *t)
{
    return t->conn_lost > 0 ? 0 : t->buffer_size;
}

static PyObject *
datagram_method_get_write_buffer_size(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(datagram_unsent(datagram_transport_of(self)));
}

static PyObject *
datagram_method_get_write_buffer_limits(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return flow_control_get_limits(&datagram_transport_of(self)->flow);
}

static PyObject *
datagram_method_set_write_buffer_limits(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"high", "low", NULL};
    struct datagram_transport *t = datagram_transport_of(self);
    PyObject *high = Py_None, *low = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:set_write_buffer_limits", names, &high, &low) ||
        datagram_check_owner(t) < 0 || flow_control_set_limits(&t->flow, high, low) < 0)
    {
        return NULL;
    }
    return none_or_error(datagram_maybe_pause(t));
}

static PyObject *
datagram_repr(PyObject *self)
{
    struct datagram_transport *t = datagram_transport_of(self);
    const char *life = t->loop == NULL ? "closed " : t->is_closing ? "closing " : "";
    if (t->loop == NULL || t->loop->is_closed) {
        return PyUnicode_FromFormat("<DatagramTransport %sfd=%d>", life, t->fd);
    }
    return PyUnicode_FromFormat("<DatagramTransport %sfd=%d read=%s write=<%s, bufsize=%zu>>", life, t->fd,
                                t->is_receiving ? "polling" : "idle", t->head != NULL ? "polling" : "idle",
                                datagram_unsent(t));
}

/* --- attributes: they hide the slots of asyncio's classes, which stay empty */

static PyObject *
datagram_get_extra(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(datagram_transport_of(self)->extra);
}

static PyObject *
datagram_get_loop(PyObject *self, void *Py_UNUSED(closure))
{
    struct loop *loop = datagram_transport_of(self)->loop;
    return Py_NewRef(loop == NULL ? Py_None : (PyObject *)loop);
}

static PyObject *
datagram_get_protocol_paused(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(datagram_transport_of(self)->flow.is_paused);
}

static PyObject *
datagram_get_high_water(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(datagram_transport_of(self)->flow.high_bytes);
}

static PyObject *
datagram_get_low_water(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(datagram_transport_of(self)->flow.low_bytes);
}

/* --- the type */

/* The socket is not visited: the collector must find it in use, and neither finalize nor close it, as long as the core
 * uses its fd.  A socket that refers to its transport in turn lives until the transport is closed. */
static int
datagram_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct datagram_transport *t = datagram_transport_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)t->loop);
    Py_VISIT(t->extra);
    Py_VISIT(t->address);
    Py_VISIT(t->lost_exception);
    return protocol_traverse(&t->protocol, visit, arg);
}

/* Keeps the loop and the socket: the loop closes what the collector finds in a cycle with us (on_loop_close), which
 * needs both. */
static int
datagram_clear(PyObject *self)
{
    struct datagram_transport *t = datagram_transport_of(self);
    Py_CLEAR(t->address);
    Py_CLEAR(t->lost_exception);
    protocol_clear(&t->protocol);
    Py_CLEAR(t->protocol.context);
    return 0;
}

static void
datagram_finalize(PyObject *self)
{
    if (!datagram_transport_of(self)->is_open) {
        return;
    }
    PyObject *exception = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(self, 1, "unclosed transport %R", self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    PyErr_SetRaisedException(exception);
}

static void
datagram_dealloc(PyObject *self)
{
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    struct datagram_transport *t = datagram_transport_of(self);
    PyTypeObject *type = Py_TYPE(self);
    assert(t->datagram == NULL && t->head == NULL);
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    datagram_clear(self);
    Py_CLEAR(t->extra);
    Py_CLEAR(t->sock);
    Py_CLEAR(t->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static const char datagram_sendto_doc[] = PyDoc_STR(
    "sendto($self, /, data, addr=None)\n--\n\n"
    "Send one datagram, to addr or to the peer the transport was made for.\n\n"
    "What the kernel does not take now is buffered.  Errors of the network go to the protocol's error_received().\n"
    "Raises TypeError when data is not bytes, a bytearray or a memoryview, ValueError when the transport has another\n"
    "peer.  See asyncio.DatagramTransport.sendto.");

static PyMethodDef datagram_methods[] = {
    {"sendto", _PyCFunction_CAST(datagram_method_sendto), METH_FASTCALL | METH_KEYWORDS, datagram_sendto_doc},
    {"close", datagram_method_close, METH_NOARGS, transport_close_doc},
    {"abort", datagram_method_abort, METH_NOARGS, transport_abort_doc},
    {"is_closing", datagram_method_is_closing, METH_NOARGS, transport_is_closing_doc},
    {"get_protocol", datagram_method_get_protocol, METH_NOARGS, transport_get_protocol_doc},
    {"set_protocol", datagram_method_set_protocol, METH_O, transport_set_protocol_doc},
    {"get_extra_info", TRANSPORT_KEYWORDS(datagram_method_get_extra_info), transport_get_extra_info_doc},
    {"is_reading", datagram_method_is_reading, METH_NOARGS, transport_is_reading_doc},
    {"pause_reading", datagram_method_pause_reading, METH_NOARGS, transport_pause_reading_doc},
    {"resume_reading", datagram_method_resume_reading, METH_NOARGS, transport_resume_reading_doc},
    {"get_write_buffer_size", datagram_method_get_write_buffer_size, METH_NOARGS, transport_get_write_buffer_size_doc},
    {"get_write_buffer_limits", datagram_method_get_write_buffer_limits, METH_NOARGS,
     transport_get_write_buffer_limits_doc},
    {"set_write_buffer_limits", TRANSPORT_KEYWORDS(datagram_method_set_write_buffer_limits),
     transport_set_write_buffer_limits_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef datagram_getset[] = {
    {"_extra", datagram_get_extra, NULL, NULL, NULL},
    {"_loop", datagram_get_loop, NULL, NULL, NULL},
    {"_protocol_paused", datagram_get_protocol_paused, NULL, NULL, NULL},
    {"_high_water", datagram_get_high_water, NULL, NULL, NULL},
    {"_low_water", datagram_get_low_water, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, (void *)"The transport of a datagram socket (see asyncio.DatagramTransport)."},
    {Py_tp_dealloc, datagram_dealloc},
    {Py_tp_finalize, datagram_finalize},
    {Py_tp_traverse, datagram_traverse},
    {Py_tp_clear, datagram_clear},
    {Py_tp_repr, datagram_repr},
    {Py_tp_methods, datagram_methods},
    {Py_tp_getset, datagram_getset},
    {0, NULL},
};

static PyType_Spec datagram_spec = {
    .name = "rloop._rloop.DatagramTransport",
    .basicsize = -(int)sizeof(struct datagram_transport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_MANAGED_WEAKREF | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = datagram_slots,
};

/* Does asyncio's sendto() return at once when there is nothing to send, or does it look at the transport, which is None
 * here? */
static int
datagram_probe_empty(module_state *state)
{
    PyObject *module = PyImport_ImportModule("asyncio.selector_events");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "_SelectorDatagramTransport");
    PyObject *sendto = type == NULL ? NULL : PyObject_GetAttr(type, state->str_sendto);
    PyObject *result = sendto == NULL ? NULL : PyObject_CallFunction(sendto, "Oy", Py_None, "");
    if (sendto != NULL && result == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        state->sends_empty_datagrams = true;
    }
    Py_XDECREF(module);
    Py_XDECREF(type);
    Py_XDECREF(sendto);
    Py_XDECREF(result);
    return PyErr_Occurred() ? -1 : 0;
}

int
datagram_transport_setup_types(PyObject *module, module_state *state)
{
    PyObject *bases = PyTuple_Pack(2, state->FlowControlMixin, state->DatagramTransport);
    if (bases == NULL) {
        return -1;
    }
    state->DatagramTransport_type = module_add_type(module, &datagram_spec, bases);
    Py_DECREF(bases);
    return state->DatagramTransport_type == NULL ? -1 : datagram_probe_empty(state);
}
