/* SPDX-License-Identifier: MIT
 *
 * transport_methods.h - rows for the method and attribute tables of the stream and pipe transports.
 *
 * One text and one function for each method, however many types have it.  The attributes with an underscore are those
 * that asyncio's own Python code reads on transports; they also hide the slots of asyncio's base classes, which stay
 * empty.
 */
#ifndef RLOOP_TRANSPORT_METHODS_H
#define RLOOP_TRANSPORT_METHODS_H

#include "transport.h"

/* What a method table holds for a function with METH_VARARGS | METH_KEYWORDS. */
#define TRANSPORT_KEYWORDS(function) _PyCFunction_CAST(function), METH_VARARGS | METH_KEYWORDS

PyObject *transport_method_close(PyObject *self, PyObject *ignored);
PyObject *transport_method_is_closing(PyObject *self, PyObject *ignored);
PyObject *transport_method_get_protocol(PyObject *self, PyObject *ignored);
PyObject *transport_method_set_protocol(PyObject *self, PyObject *protocol);
PyObject *transport_method_get_extra_info(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *transport_method_fatal_error(PyObject *self, PyObject *args, PyObject *kwargs);

PyObject *transport_method_is_reading(PyObject *self, PyObject *ignored);
PyObject *transport_method_pause_reading(PyObject *self, PyObject *ignored);
PyObject *transport_method_resume_reading(PyObject *self, PyObject *ignored);

PyObject *transport_method_abort(PyObject *self, PyObject *ignored);
PyObject *transport_method_can_write_eof(PyObject *self, PyObject *ignored);
PyObject *transport_method_get_write_buffer_size(PyObject *self, PyObject *ignored);
PyObject *transport_method_get_write_buffer_limits(PyObject *self, PyObject *ignored);
PyObject *transport_method_set_write_buffer_limits(PyObject *self, PyObject *args, PyObject *kwargs);

PyObject *transport_get_loop(PyObject *self, void *closure);
PyObject *transport_get_extra(PyObject *self, void *closure);
PyObject *transport_get_protocol_paused(PyObject *self, void *closure);
PyObject *transport_get_paused(PyObject *self, void *closure);
PyObject *transport_get_high_water(PyObject *self, void *closure);
PyObject *transport_get_low_water(PyObject *self, void *closure);

extern const char transport_close_doc[];
extern const char transport_is_closing_doc[];
extern const char transport_get_protocol_doc[];
extern const char transport_set_protocol_doc[];
extern const char transport_get_extra_info_doc[];
extern const char transport_fatal_error_doc[];
extern const char transport_is_reading_doc[];
extern const char transport_pause_reading_doc[];
extern const char transport_resume_reading_doc[];
extern const char transport_abort_doc[];
extern const char transport_can_write_eof_doc[];
extern const char transport_get_write_buffer_size_doc[];
extern const char transport_get_write_buffer_limits_doc[];
extern const char transport_set_write_buffer_limits_doc[];

#define TRANSPORT_METHODS_OF_ALL \
    {"close", transport_method_close, METH_NOARGS, transport_close_doc}, \
    {"is_closing", transport_method_is_closing, METH_NOARGS, transport_is_closing_doc}, \
    {"get_protocol", transport_method_get_protocol, METH_NOARGS, transport_get_protocol_doc}, \
    {"set_protocol", transport_method_set_protocol, METH_O, transport_set_protocol_doc}, \
    {"get_extra_info", TRANSPORT_KEYWORDS(transport_method_get_extra_info), transport_get_extra_info_doc}, \
    {"_fatal_error", TRANSPORT_KEYWORDS(transport_method_fatal_error), transport_fatal_error_doc}

#define TRANSPORT_METHODS_OF_READERS \
    {"is_reading", transport_method_is_reading, METH_NOARGS, transport_is_reading_doc}, \
    {"pause_reading", transport_method_pause_reading, METH_NOARGS, transport_pause_reading_doc}, \
    {"resume_reading", transport_method_resume_reading, METH_NOARGS, transport_resume_reading_doc}

#define TRANSPORT_METHODS_OF_WRITERS \
    {"abort", transport_method_abort, METH_NOARGS, transport_abort_doc}, \
    {"can_write_eof", transport_method_can_write_eof, METH_NOARGS, transport_can_write_eof_doc}, \
    {"get_write_buffer_size", transport_method_get_write_buffer_size, METH_NOARGS, \
     transport_get_write_buffer_size_doc}, \
    {"get_write_buffer_limits", transport_method_get_write_buffer_limits, METH_NOARGS, \
     transport_get_write_buffer_limits_doc}, \
    {"set_write_buffer_limits", TRANSPORT_KEYWORDS(transport_method_set_write_buffer_limits), \
     transport_set_write_buffer_limits_doc}

#define TRANSPORT_ATTRIBUTES_OF_ALL \
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL}, \
    {"_loop", transport_get_loop, NULL, NULL, NULL}, \
    {"_paused", transport_get_paused, NULL, NULL, NULL}, \
    {"_extra", transport_get_extra, NULL, NULL, NULL}

#define TRANSPORT_ATTRIBUTES_OF_WRITERS \
    {"_protocol_paused", transport_get_protocol_paused, NULL, NULL, NULL}, \
    {"_high_water", transport_get_high_water, NULL, NULL, NULL}, \
    {"_low_water", transport_get_low_water, NULL, NULL, NULL}

/* Make a final type over `base` whose instances begin with a struct transport (`size` bytes are all their own
 * fields), and add it to the module.  `slots` is without members and ends with 0. */
PyTypeObject *transport_add_type(PyObject *module, const char *name, size_t size, const PyType_Slot *slots,
                                 PyObject *base);

#endif
