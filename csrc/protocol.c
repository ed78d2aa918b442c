/* SPDX-License-Identifier: MIT
 *
 * Calls into user protocols; see protocol.h.  A call may replace the protocol or end the transport, so that everything
 * it needs is held while it runs.
 */
#include "protocol.h"

#include "loop.h"
#include "stream_reader.h"
#include "tls.h"

int
protocol_set_context(struct protocol *protocol, PyObject *context)
{
    PyObject *own = context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (own == NULL) {
        return -1;
    }
    Py_XSETREF(protocol->context, own);
    return 0;
}

int
protocol_set(struct protocol *protocol, module_state *state, PyObject *object, bool may_buffer)
{
    bool is_filter = may_buffer && PyObject_TypeCheck(object, state->TLSProtocolBase_type);
    int is_buffered = may_buffer && !is_filter ? PyObject_IsInstance(object, state->BufferedProtocol) : 0;
    if (is_buffered < 0) {
        return -1;
    }
    struct protocol old = *protocol;
    protocol->object = Py_NewRef(object);
    protocol->receive = protocol->updated = NULL;
    protocol->feeds_reader = false;
    protocol->is_buffered = is_buffered;
    protocol->is_filter = is_filter;
    protocol_clear(&old); /* what ends with it finds the new one in its place */
    return 0;
}

/* --- calling */

static PyObject *
protocol_call(struct protocol *protocol, PyObject *method, bool takes_object, PyObject *argument, PyObject *second)
{
    PyObject *context = Py_NewRef(protocol->context);
    PyObject *object = Py_XNewRef(protocol->object);
    PyObject *args[] = {NULL, object, argument, second};
    PyObject **first = takes_object ? args + 1 : args + 2;
    size_t count = (size_t)takes_object + (argument != NULL) + (second != NULL);
    Py_INCREF(method);
    bool is_entered = PyContext_Enter(context) == 0;
    if (!is_entered) {
        PyErr_Clear();
    }
    PyObject *result = PyObject_Vectorcall(method, first, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (is_entered && PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    Py_DECREF(method);
    Py_XDECREF(object);
    Py_DECREF(context);
    return result;
}

/* Looking a method up may run code of the user's, which may put another protocol in this one's place. */
static PyObject *
protocol_look_up(struct protocol *protocol, PyObject *name)
{
    PyObject *object = Py_NewRef(protocol->object == NULL ? Py_None : protocol->object); /* lost: as asyncio */
    PyObject *method = PyObject_GetAttr(object, name);
    Py_DECREF(object);
    return method;
}

/* The method, for this call.  It is kept for the next ones, unless its protocol has just been replaced. */
static PyObject *
protocol_bind(struct protocol *protocol, PyObject **kept, bool *takes_object, PyObject *name)
{
    PyObject *object = Py_NewRef(protocol->object);
    PyObject *method = PyObject_GetAttr(object, name);
    if (method != NULL && protocol->object == object) {
        *takes_object = PyMethod_Check(method) && PyMethod_GET_SELF(method) == object;
        Py_XSETREF(*kept, Py_NewRef(*takes_object ? PyMethod_GET_FUNCTION(method) : method));
    }
    Py_DECREF(object);
    return method;
}

static PyObject *
protocol_call_kept(struct protocol *protocol, PyObject **kept, bool *takes_object, PyObject *name, PyObject *argument,
                   PyObject *second)
{
    if (*kept != NULL) {
        return protocol_call(protocol, *kept, *takes_object, argument, second);
    }
    PyObject *method = protocol_bind(protocol, kept, takes_object, name);
    PyObject *result = method == NULL ? NULL : protocol_call(protocol, method, false, argument, second);
    Py_XDECREF(method);
    return result;
}

static PyObject *
protocol_call_receive(struct protocol *protocol, PyObject *name, PyObject *argument, PyObject *second)
{
    return protocol_call_kept(protocol, &protocol->receive, &protocol->receive_takes_object, name, argument, second);
}

/* Call a method that is not worth keeping. */
static PyObject *
protocol_call_by_name(struct protocol *protocol, PyObject *name, PyObject *argument)
{
    PyObject *method = protocol_look_up(protocol, name);
    PyObject *result = method == NULL ? NULL : protocol_call(protocol, method, false, argument, NULL);
    Py_XDECREF(method);
    return result;
}

static int
status_of(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
protocol_data_received(struct protocol *protocol, module_state *state, PyObject *data)
{
    if (protocol->receive != NULL) {
        return status_of(protocol_call(protocol, protocol->receive, protocol->receive_takes_object, data, NULL));
    }
    PyObject *method = protocol_bind(protocol, &protocol->receive, &protocol->receive_takes_object,
                                     state->str_data_received);
    if (method == NULL) {
        return -1;
    }
    protocol->feeds_reader = protocol->receive != NULL && protocol->receive_takes_object &&
                             stream_reader_is_fed_by(protocol->object, protocol->receive, state);
    PyObject *result = protocol_call(protocol, method, false, data, NULL);
    Py_DECREF(method);
    return status_of(result);
}

int
protocol_filter_received(struct protocol *protocol, const char *data, Py_ssize_t size)
{
    PyObject *context = Py_NewRef(protocol->context);
    PyObject *filter = Py_NewRef(protocol->object);
    bool is_entered = PyContext_Enter(context) == 0;
    if (!is_entered) {
        PyErr_Clear();
    }
    int result = tls_protocol_receive(filter, data, size);
    if (is_entered && PyContext_Exit(context) < 0) {
        result = -1;
    }
    Py_DECREF(filter);
    Py_DECREF(context);
    return result;
}

PyObject *
protocol_get_buffer(struct protocol *protocol, module_state *state)
{
    PyObject *hint = PyLong_FromLong(-1);
    PyObject *result = hint == NULL ? NULL : protocol_call_receive(protocol, state->str_get_buffer, hint, NULL);
    Py_XDECREF(hint);
    return result;
}

int
protocol_buffer_updated(struct protocol *protocol, module_state *state, Py_ssize_t size)
{
    PyObject *count = PyLong_FromSsize_t(size);
    PyObject *result = NULL;
    if (count != NULL) {
        result = protocol_call_kept(protocol, &protocol->updated, &protocol->updated_takes_object,
                                    state->str_buffer_updated, count, NULL);
    }
    Py_XDECREF(count);
    return status_of(result);
}

int
protocol_eof_received(struct protocol *protocol, module_state *state)
{
    PyObject *result = protocol_call_by_name(protocol, state->str_eof_received, NULL);
    if (result == NULL) {
        return -1;
    }
    int keeps_open = PyObject_IsTrue(result);
    Py_DECREF(result);
    return keeps_open;
}

int
protocol_pause_writing(struct protocol *protocol, module_state *state)
{
    PyObject *method = protocol_look_up(protocol, state->str_pause_writing);
    PyObject *result = method == NULL ? NULL : PyObject_CallNoArgs(method);
    Py_XDECREF(method);
    return status_of(result);
}

int
protocol_resume_writing(struct protocol *protocol, module_state *state)
{
    return status_of(protocol_call_by_name(protocol, state->str_resume_writing, NULL));
}

int
protocol_connection_lost(struct protocol *protocol, module_state *state, PyObject *exception)
{
    return status_of(protocol_call_by_name(protocol, state->str_connection_lost, exception));
}

int
protocol_datagram_received(struct protocol *protocol, module_state *state, PyObject *data, PyObject *address)
{
    return status_of(protocol_call_receive(protocol, state->str_datagram_received, data, address));
}

int
protocol_error_received(struct protocol *protocol, module_state *state, PyObject *exception)
{
    return status_of(protocol_call_by_name(protocol, state->str_error_received, exception));
}

int
protocol_send_failed(struct protocol *protocol, module_state *state, PyObject *exception)
{
    PyObject *method = protocol_look_up(protocol, state->str_error_received);
    PyObject *result = method == NULL ? NULL : PyObject_CallOneArg(method, exception);
    Py_XDECREF(method);
    return status_of(result);
}

int
protocol_call_soon(struct protocol *protocol, struct loop *loop, PyObject *name, PyObject *argument)
{
    PyObject *method = protocol_look_up(protocol, name);
    if (method == NULL) {
        return -1;
    }
    int result = loop_call_soon(loop, method, &argument, argument != NULL, protocol->context);
    Py_DECREF(method);
    return result;
}

/* --- life */

int
protocol_traverse(struct protocol *protocol, visitproc visit, void *arg)
{
    Py_VISIT(protocol->object);
    Py_VISIT(protocol->context);
    Py_VISIT(protocol->receive);
    Py_VISIT(protocol->updated);
    return 0;
}

void
protocol_clear(struct protocol *protocol)
{
    Py_CLEAR(protocol->receive);
    Py_CLEAR(protocol->updated);
    Py_CLEAR(protocol->object);
    protocol->feeds_reader = false;
}
