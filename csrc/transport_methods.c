/* SPDX-License-Identifier: MIT
 *
 * The methods and attributes that stream and pipe transports share, as Python calls them; see transport_methods.h.
 */
#include "transport_methods.h"

#include <stdalign.h>
#include <stddef.h>

static PyObject *
none_or_error(int result)
{
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* --- all */

const char transport_close_doc[] =
    PyDoc_STR("close($self, /)\n--\n\n"
              "Read nothing more, send what is buffered, then call the protocol's connection_lost(None).\n\n"
              "Raises RuntimeError when the event loop is closed.  See asyncio.BaseTransport.close.");

PyObject *
transport_method_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    return none_or_error(transport_check_owner(t) < 0 ? -1 : transport_close(t));
}

const char transport_is_closing_doc[] =
    PyDoc_STR("is_closing($self, /)\n--\n\n"
              "Whether the transport is closing or closed.  See asyncio.BaseTransport.is_closing.");

PyObject *
transport_method_is_closing(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    transport_send_deferred(t);
    return PyBool_FromLong(t->is_closing);
}

const char transport_get_protocol_doc[] =
    PyDoc_STR("get_protocol($self, /)\n--\n\n"
              "The present protocol; None once the connection is lost.  See asyncio.BaseTransport.get_protocol.");

PyObject *
transport_method_get_protocol(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *protocol = transport_of(self)->protocol.object;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

const char transport_set_protocol_doc[] = PyDoc_STR(
    "set_protocol($self, protocol, /)\n--\n\n"
    "Put another protocol, buffered or not, in the place of the present one.  See asyncio.BaseTransport.set_protocol.");

PyObject *
transport_method_set_protocol(PyObject *self, PyObject *protocol)
{
    struct transport *t = transport_of(self);
    if (transport_check_owner(t) < 0) {
        return NULL;
    }
    return none_or_error(protocol_set(&t->protocol, t->state, protocol, t->kind->has_buffered_protocols));
}

static int
extra_make(struct transport *t, PyObject *name)
{
    if (t->extra == NULL && (t->extra = PyDict_New()) == NULL) {
        return -1;
    }
    return t->kind->make_extra == NULL ? 0 : t->kind->make_extra(t, name);
}

static PyObject *
extra_get(struct transport *t, PyObject *name, PyObject *fallback)
{
    if (extra_make(t, name) < 0) {
        return NULL;
    }
    PyObject *value = PyDict_GetItemWithError(t->extra, name);
    if (value == NULL) {
        value = PyErr_Occurred() ? NULL : fallback;
    }
    return Py_XNewRef(value);
}

const char transport_get_extra_info_doc[] = PyDoc_STR(
    "get_extra_info($self, /, name, default=None)\n--\n\n"
    "What is known about the transport under `name`, else `default`: 'socket', 'sockname' and 'peername' of a socket,\n"
    "'pipe' of a pipe.  See asyncio.BaseTransport.get_extra_info.");

PyObject *
transport_method_get_extra_info(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"name", "default", NULL};
    PyObject *name, *fallback = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", keywords, &name, &fallback)) {
        return NULL;
    }
    struct transport *t = transport_of(self);
    transport_send_deferred(t); /* what the caller may do with the socket comes after it */
    PyObject *value;
    Py_BEGIN_CRITICAL_SECTION(self); /* any thread may ask */
    value = extra_get(t, name, fallback);
    Py_END_CRITICAL_SECTION();
    return value;
}

const char transport_fatal_error_doc[] =
    PyDoc_STR("_fatal_error($self, /, exc, message='Fatal error on transport')\n--\n\n"
              "Report `exc` and end the connection with it, for asyncio's own code.");

PyObject *
transport_method_fatal_error(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"exc", "message", NULL};
    PyObject *exception;
    const char *message = "Fatal error on transport";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|s:_fatal_error", keywords, &exception, &message)) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(exception)) {
        return PyErr_Format(PyExc_TypeError, "exc must be an exception, not %.200s", Py_TYPE(exception)->tp_name);
    }
    PyErr_SetRaisedException(Py_NewRef(exception));
    transport_fatal_error(transport_of(self), message);
    Py_RETURN_NONE;
}

PyObject *
transport_get_loop(PyObject *self, void *Py_UNUSED(closure))
{
    struct loop *loop = transport_of(self)->loop;
    return Py_NewRef(loop == NULL ? Py_None : (PyObject *)loop);
}

PyObject *
transport_get_extra(PyObject *self, void *Py_UNUSED(closure))
{
    struct transport *t = transport_of(self);
    return extra_make(t, NULL) < 0 ? NULL : Py_NewRef(t->extra);
}

/* --- readers */

const char transport_is_reading_doc[] =
    PyDoc_STR("is_reading($self, /)\n--\n\n"
              "Whether the transport is neither closing nor paused.  See asyncio.ReadTransport.is_reading.");

PyObject *
transport_method_is_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(transport_is_reading(transport_of(self)));
}

const char transport_pause_reading_doc[] =
    PyDoc_STR("pause_reading($self, /)\n--\n\n"
              "Give the protocol no data until resume_reading().  Does nothing when paused or closing.\n"
              "See asyncio.ReadTransport.pause_reading.");

PyObject *
transport_method_pause_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    if (transport_check_owner(t) < 0) {
        return NULL;
    }
    if (transport_is_reading(t)) {
        t->is_paused = true;
        transport_read_stop(t);
        if (t->loop->is_debug) {
            transport_log(t, t->state->str_debug, "%r pauses reading");
        }
    }
    Py_RETURN_NONE;
}

const char transport_resume_reading_doc[] = PyDoc_STR(
    "resume_reading($self, /)\n--\n\n"
    "Undo pause_reading().  Does nothing when not paused or closing.  See asyncio.ReadTransport.resume_reading.");

PyObject *
transport_method_resume_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    if (transport_check_owner(t) < 0) {
        return NULL;
    }
    if (!t->is_closing && t->is_paused) {
        t->is_paused = false;
        transport_read_start(t);
        if (t->loop->is_debug) {
            transport_log(t, t->state->str_debug, "%r resumes reading");
        }
    }
    Py_RETURN_NONE;
}

/* --- writers */

const char transport_abort_doc[] =
    PyDoc_STR("abort($self, /)\n--\n\n"
              "Close without sending what is buffered; connection_lost(None) is called in a later turn of the loop.\n\n"
              "Raises RuntimeError when the event loop is closed.  See asyncio.WriteTransport.abort.");

PyObject *
transport_method_abort(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    return none_or_error(transport_check_owner(t) < 0 ? -1 : transport_force_close(t, NULL));
}

const char transport_can_write_eof_doc[] =
    PyDoc_STR("can_write_eof($self, /)\n--\n\n"
              "True: write_eof() is supported.  See asyncio.WriteTransport.can_write_eof.");

PyObject *
transport_method_can_write_eof(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

const char transport_get_write_buffer_size_doc[] =
    PyDoc_STR("get_write_buffer_size($self, /)\n--\n\n"
              "Bytes that have been written to the transport and are not with the kernel yet.\n"
              "See asyncio.WriteTransport.get_write_buffer_size.");

PyObject *
transport_method_get_write_buffer_size(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transport *t = transport_of(self);
    transport_send_deferred(t);
    return PyLong_FromSize_t(transport_unsent(t));
}

const char transport_get_write_buffer_limits_doc[] =
    PyDoc_STR("get_write_buffer_limits($self, /)\n--\n\n"
              "The limits (low, high) of flow control, in bytes.  See asyncio.WriteTransport.get_write_buffer_limits.");

PyObject *
transport_method_get_write_buffer_limits(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return flow_control_get_limits(&transport_of(self)->flow);
}

const char transport_set_write_buffer_limits_doc[] = PyDoc_STR(
    "set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
    "Above `high` buffered bytes the protocol's pause_writing() is called, at `low` or below its resume_writing().\n\n"
    "Defaults: 64 KiB for high, or four times low; a quarter of high for low.  Raises ValueError unless\n"
    "high >= low >= 0.  See asyncio.WriteTransport.set_write_buffer_limits.");

PyObject *
transport_method_set_write_buffer_limits(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"high", "low", NULL};
    struct transport *t = transport_of(self);
    PyObject *high = Py_None, *low = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:set_write_buffer_limits", keywords, &high, &low) ||
        transport_check_owner(t) < 0)
    {
        return NULL;
    }
    return none_or_error(transport_set_limits(t, high, low));
}

PyObject *
transport_get_protocol_paused(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(transport_of(self)->flow.is_paused);
}

PyObject *
transport_get_paused(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(transport_of(self)->is_paused);
}

PyObject *
transport_get_high_water(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(transport_of(self)->flow.high_bytes);
}

PyObject *
transport_get_low_water(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(transport_of(self)->flow.low_bytes);
}

/* --- types */

enum { MAX_SLOTS = 16 };

PyTypeObject *
transport_add_type(PyObject *module, const char *name, size_t size, const PyType_Slot *slots, PyObject *base)
{
    /* Programs and tests replace methods of a transport and set attributes on it, as they can on asyncio's; so it has a
     * dict.  Its offset counts from the object's beginning (Python 3.12 has no relative one for it), and PEP 697 puts
     * our fields behind the base's, aligned. */
    size_t alignment = alignof(max_align_t);
    size_t data_offset = ((size_t)((PyTypeObject *)base)->tp_basicsize + alignment - 1) / alignment * alignment;
    Py_ssize_t dict_offset = (Py_ssize_t)(data_offset + offsetof(struct transport, dict));
    PyMemberDef members[] = {
        {"__dictoffset__", Py_T_PYSSIZET, dict_offset, Py_READONLY, NULL},
        {NULL, 0, 0, 0, NULL},
    };
    PyType_Slot all_slots[MAX_SLOTS] = {{Py_tp_members, members}};
    for (size_t i = 0; slots[i].slot != 0; i++) {
        assert(i + 2 < MAX_SLOTS);
        all_slots[i + 1] = slots[i];
    }
    PyType_Spec spec = {
        .name = name,
        .basicsize = -(int)size,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_MANAGED_WEAKREF |
                 Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = all_slots,
    };
    PyTypeObject *type = module_add_type(module, &spec, base);
    assert(type == NULL || module_type_data_offset(type) == (Py_ssize_t)data_offset);
    return type;
}
