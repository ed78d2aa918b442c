/* SPDX-License-Identifier: MIT
 *
 * What StreamReaderProtocol.data_received() and StreamReader.feed_data() do, in C; see stream_reader.h.
 *
 * Only for asyncio's own two classes as they are: a subclass, a replaced method, and every unusual state (after feed_eof(),
 * a limit that is no int) go through Python.  All state stays where asyncio has it, in the attributes of the reader.
 */
#include "stream_reader.h"

#include <string.h>

/* A method as the stdlib wrote it, or NULL without an exception when somebody has put another into the class. */
static int
own_method(PyObject **slot, PyObject *type, const char *name)
{
    PyObject *method = PyObject_GetAttrString(type, name);
    PyObject *home = PyImport_ImportModule("asyncio.streams");
    if (method != NULL && home != NULL && PyFunction_Check(method) &&
        PyFunction_GET_GLOBALS(method) == PyModule_GetDict(home))
    {
        *slot = Py_NewRef(method);
    }
    int result = method == NULL || home == NULL ? -1 : 0;
    Py_XDECREF(method);
    Py_XDECREF(home);
    return result;
}

int
stream_reader_setup(module_state *state)
{
    if (own_method(&state->feed_data, state->StreamReader, "feed_data") < 0) {
        return -1;
    }
    return own_method(&state->stream_data_received, state->StreamReaderProtocol, "data_received");
}

/* Is `method` the function `wanted`, bound to `object`? */
static bool
is_bound(PyObject *method, PyObject *object, PyObject *wanted)
{
    return PyMethod_Check(method) && PyMethod_GET_SELF(method) == object && PyMethod_GET_FUNCTION(method) == wanted;
}

bool
stream_reader_is_fed_by(PyObject *protocol, PyObject *receive, module_state *state)
{
    return (PyObject *)Py_TYPE(protocol) == state->StreamReaderProtocol && receive == state->stream_data_received;
}

/* The object that the protocol's weak reference is to, or NULL. */
static PyObject *
protocol_reader(PyObject *protocol, module_state *state)
{
    PyObject *weak = PyObject_GetAttr(protocol, state->str__stream_reader_wr);
    PyObject *reader = weak != NULL && PyWeakref_CheckRefExact(weak) ? PyObject_CallNoArgs(weak) : NULL;
    Py_XDECREF(weak);
    return reader;
}

static bool
reader_is_plain(PyObject *reader, module_state *state)
{
    if ((PyObject *)Py_TYPE(reader) != state->StreamReader) {
        return false;
    }
    PyObject *feed = PyObject_GetAttr(reader, state->str_feed_data);
    bool is_plain = feed != NULL && is_bound(feed, reader, state->feed_data);
    Py_XDECREF(feed);
    PyObject *eof = PyObject_GetAttr(reader, state->str__eof);
    Py_XDECREF(eof);
    return is_plain && eof == Py_False;
}

bool
stream_reader_hold(struct stream_reader *held, PyObject *protocol, module_state *state)
{
    PyObject *limit = NULL;
    *held = (struct stream_reader){.reader = protocol_reader(protocol, state)};
    if (held->reader == NULL || !reader_is_plain(held->reader, state)) {
        goto none;
    }
    held->buffer = PyObject_GetAttr(held->reader, state->str__buffer);
    limit = PyObject_GetAttr(held->reader, state->str__limit);
    if (held->buffer == NULL || !PyByteArray_CheckExact(held->buffer) || limit == NULL || !PyLong_CheckExact(limit)) {
        goto none;
    }
    held->limit = PyLong_AsSsize_t(limit);
    if (held->limit == -1 && PyErr_Occurred()) {
        goto none;
    }
    held->size = PyByteArray_GET_SIZE(held->buffer);
    Py_DECREF(limit);
    return true;
none:
    PyErr_Clear();
    Py_XDECREF(limit);
    stream_reader_release(held);
    return false;
}

void
stream_reader_release(struct stream_reader *held)
{
    Py_CLEAR(held->buffer);
    Py_CLEAR(held->reader);
}

/* --- what feed_data() does once the bytes are in the buffer */

static int
reader_wake(PyObject *reader, module_state *state)
{
    PyObject *waiter = PyObject_GetAttr(reader, state->str__waiter);
    PyObject *cancelled = NULL, *result = NULL;
    if (waiter == NULL || waiter == Py_None) {
        Py_XDECREF(waiter);
        return waiter == NULL ? -1 : 0;
    }
    if (PyObject_SetAttr(reader, state->str__waiter, Py_None) == 0 &&
        (cancelled = PyObject_CallMethodNoArgs(waiter, state->str_cancelled)) != NULL)
    {
        int is_cancelled = PyObject_IsTrue(cancelled);
        result = is_cancelled < 0   ? NULL
                 : is_cancelled > 0 ? Py_NewRef(Py_None)
                                    : PyObject_CallMethodOneArg(waiter, state->str_set_result, Py_None);
    }
    Py_DECREF(waiter);
    Py_XDECREF(cancelled);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
reader_pause(PyObject *reader, module_state *state)
{
    PyObject *transport = PyObject_GetAttr(reader, state->str__transport);
    PyObject *paused = PyObject_GetAttr(reader, state->str__paused);
    int is_paused = transport == NULL || paused == NULL ? -1 : PyObject_IsTrue(paused);
    int result = is_paused < 0 ? -1 : 0;
    if (is_paused == 0 && transport != Py_None) {
        PyObject *done = PyObject_CallMethodNoArgs(transport, state->str_pause_reading);
        if (done != NULL) {
            Py_DECREF(done);
            result = PyObject_SetAttr(reader, state->str__paused, Py_True);
        }
        else if (PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
            PyErr_Clear();
            result = PyObject_SetAttr(reader, state->str__transport, Py_None);
        }
        else {
            result = -1;
        }
    }
    Py_XDECREF(transport);
    Py_XDECREF(paused);
    return result;
}

static int
reader_has_been_fed(struct stream_reader *held, module_state *state)
{
    if (reader_wake(held->reader, state) < 0) {
        return -1;
    }
    bool is_full = held->limit < PY_SSIZE_T_MAX / 2 && PyByteArray_GET_SIZE(held->buffer) > 2 * held->limit;
    return is_full ? reader_pause(held->reader, state) : 0;
}

int
stream_reader_feed(struct stream_reader *held, module_state *state, const char *data, Py_ssize_t size)
{
    if (PyByteArray_Resize(held->buffer, held->size + size) < 0) {
        return -1;
    }
    memcpy(PyByteArray_AS_STRING(held->buffer) + held->size, data, (size_t)size);
    return reader_has_been_fed(held, state);
}

char *
stream_reader_reserve(struct stream_reader *held, Py_ssize_t size)
{
    if (PyByteArray_Resize(held->buffer, held->size + size) < 0) {
        PyErr_Clear(); /* somebody has a view of it; feed_data() will say so */
        return NULL;
    }
    return PyByteArray_AS_STRING(held->buffer) + held->size;
}

int
stream_reader_commit(struct stream_reader *held, module_state *state, Py_ssize_t size)
{
    if (PyByteArray_Resize(held->buffer, held->size + size) < 0) {
        return -1;
    }
    return size == 0 ? 0 : reader_has_been_fed(held, state);
}
