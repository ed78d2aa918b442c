/* SPDX-License-Identifier: MIT
 *
 * The type that rloop.tls.SSLTransport derives from: the methods of the user's end that are called for every piece of
 * data.  All others are asyncio's, on the fields that are here.
 */
#include "tls.h"

#include <structmember.h>

struct tls_transport {
    PyObject *loop;
    PyObject *protocol; /* a struct tls_protocol; None after the second close(), as in asyncio */
    char is_closed;
};

static struct tls_transport *
transport_of(PyObject *self)
{
    module_state *state = module_state_of_type(Py_TYPE(self));
    return PyObject_GetTypeData(self, state->TLSTransportBase_type);
}

PyDoc_STRVAR(write_doc, "write($self, data, /)\n--\n\n"
                        "Encrypt and send `data` (bytes, bytearray or memoryview).\n\n"
                        "Raises TypeError for anything else.  See asyncio.WriteTransport.write.");

static PyObject *
transport_write(PyObject *self, PyObject *data)
{
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
        PyObject *name = PyType_GetName(Py_TYPE(data));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "data: expecting a bytes-like instance, got %U", name);
            Py_DECREF(name);
        }
        return NULL;
    }
    int has_data = PyObject_IsTrue(data);
    if (has_data <= 0) {
        return has_data < 0 ? NULL : Py_NewRef(Py_None);
    }
    module_state *state = module_state_of_type(Py_TYPE(self));
    PyObject *protocol = transport_of(self)->protocol;
    if (protocol == NULL || !PyObject_TypeCheck(protocol, state->TLSProtocolBase_type)) {
        return PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute '_write_appdata'",
                            protocol == NULL ? "NoneType" : Py_TYPE(protocol)->tp_name);
    }
    Py_INCREF(protocol);
    int result = tls_write((struct tls_protocol *)protocol, data);
    Py_DECREF(protocol);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\n"
                             "Whether the transport is closing or closed.  See asyncio.BaseTransport.is_closing.");

static PyObject *
transport_is_closing(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct tls_transport *transport = transport_of(self);
    module_state *state = module_state_of_type(Py_TYPE(self));
    PyObject *protocol = transport->protocol;
    if (transport->is_closed || !state->does_tls_closing_tell_lower || protocol == NULL ||
        !PyObject_TypeCheck(protocol, state->TLSProtocolBase_type))
    {
        return PyBool_FromLong(transport->is_closed);
    }
    PyObject *lower = ((struct tls_protocol *)protocol)->transport;
    if (lower == NULL || lower == Py_None) {
        Py_RETURN_FALSE;
    }
    Py_INCREF(lower);
    PyObject *result = PyObject_CallMethodNoArgs(lower, state->str_is_closing);
    Py_DECREF(lower);
    return result;
}

static PyMethodDef transport_methods[] = {
    {"write", transport_write, METH_O, write_doc},
    {"is_closing", transport_is_closing, METH_NOARGS, is_closing_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef transport_members[] = {
    {"_loop", T_OBJECT, offsetof(struct tls_transport, loop), Py_RELATIVE_OFFSET, NULL},
    {"_ssl_protocol", T_OBJECT, offsetof(struct tls_transport, protocol), Py_RELATIVE_OFFSET, NULL},
    {"_closed", T_BOOL, offsetof(struct tls_transport, is_closed), Py_RELATIVE_OFFSET, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
transport_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct tls_transport *transport = transport_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(transport->loop);
    Py_VISIT(transport->protocol);
    return 0;
}

static int
transport_clear(PyObject *self)
{
    struct tls_transport *transport = transport_of(self);
    Py_CLEAR(transport->loop);
    Py_CLEAR(transport->protocol);
    return 0;
}

static void
transport_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    transport_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot transport_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The hot half of asyncio's transport for TLS; see rloop.tls.")},
    {Py_tp_dealloc, transport_dealloc},
    {Py_tp_traverse, transport_traverse},
    {Py_tp_clear, transport_clear},
    {Py_tp_methods, transport_methods},
    {Py_tp_members, transport_members},
    {0, NULL},
};

static PyType_Spec transport_spec = {
    .name = "rloop._rloop.TLSTransportBase",
    .basicsize = -(int)sizeof(struct tls_transport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = transport_slots,
};

int
tls_transport_setup_types(PyObject *module, module_state *state)
{
    state->TLSTransportBase_type = module_add_type(module, &transport_spec, state->FlowControlMixin);
    state->does_tls_closing_tell_lower = PyObject_HasAttrString(state->SSLProtocol, "_is_transport_closing");
    return state->TLSTransportBase_type == NULL ? -1 : 0;
}
