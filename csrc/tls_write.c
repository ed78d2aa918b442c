/* SPDX-License-Identifier: MIT
 *
 * From write() to the lower transport; see tls.h.  OpenSSL encrypts into the outgoing BIO at once, and what is there
 * goes to the lower transport as one piece, unless that has asked for a pause.
 */
#include "stream_transport.h"
#include "tls.h"

/* --- out of the BIO */

static int
write_lower(struct tls_protocol *tls, PyObject *data)
{
    PyObject *transport = Py_NewRef(tls->transport);
    PyObject *result = stream_transport_is_plain(tls->state, transport)
                           ? stream_transport_write(transport, data)
                           : PyObject_CallMethodOneArg(transport, tls->state->str_write, data);
    Py_DECREF(transport);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
tls_send(struct tls_protocol *tls)
{
    Py_ssize_t pending = tls_pending(tls, tls->outgoing);
    if (pending < 0) {
        return -1;
    }
    if (pending > 0 && !tls->is_ssl_writing_paused) {
        PyObject *data = PyObject_CallMethodNoArgs(tls->outgoing, tls->state->str_read);
        int result = data == NULL ? -1 : write_lower(tls, data);
        Py_XDECREF(data);
        if (result < 0) {
            return -1;
        }
        pending = 0;
    }
    size_t size = (size_t)(pending + tls->backlog_size);
    bool must_act = tls->is_app_writing_paused ? size <= tls->outgoing_low : size >= tls->outgoing_high;
    return must_act ? tls_call_base(tls, tls->state->str__control_app_writing) : 0;
}

/* --- into it */

/* What there is of the data from `done` on, as an object for OpenSSL, which may be the user's and keep it. */
static PyObject *
write_piece(struct tls_protocol *tls, const Py_buffer *view, Py_ssize_t done)
{
    if (done == 0 && PyBytes_CheckExact(view->obj)) {
        return Py_NewRef(view->obj);
    }
    PyObject *loan = tls_loan_of_object(tls, view->obj, PyBUF_SIMPLE);
    PyObject *piece = loan == NULL ? NULL : tls_loan_view(loan, done);
    Py_XDECREF(loan);
    return piece;
}

/* Encrypt view from *done on: 1 when all of it is, 0 when OpenSSL has to read first, -1 with an exception. */
static int
write_encrypt(struct tls_protocol *tls, const Py_buffer *view, Py_ssize_t *done)
{
    while (*done < view->len) {
        PyObject *piece = write_piece(tls, view, *done);
        if (piece == NULL) {
            return -1;
        }
        PyObject *count = PyObject_CallMethodOneArg(tls->ssl_object, tls->state->str_write, piece);
        Py_DECREF(piece);
        if (count == NULL) {
            if (!PyErr_ExceptionMatches(tls->state->tls_again_errors)) {
                return tls_end_torn(tls);
            }
            PyErr_Clear();
            return 0;
        }
        Py_ssize_t written = PyLong_AsSsize_t(count);
        Py_DECREF(count);
        if (written < 0) {
            if (!PyErr_Occurred()) {
                PyErr_Format(PyExc_ValueError, "write() of the SSL object returned %zd", written);
            }
            return -1;
        }
        *done += written;
    }
    return 1;
}

/* Encrypt `data`; of what OpenSSL does not take, *rest is a copy.  0, or -1 with an exception. */
static int
write_data(struct tls_protocol *tls, PyObject *data, PyObject **rest)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    Py_ssize_t done = 0;
    int result = write_encrypt(tls, &view, &done);
    if (result == 0) {
        *rest = PyBytes_FromStringAndSize((char *)view.buf + done, view.len - done);
        result = *rest == NULL ? -1 : 0;
    }
    PyBuffer_Release(&view);
    return result < 0 ? -1 : 0;
}

static int
write_keep(struct tls_protocol *tls, PyObject *rest)
{
    PyObject *result = PyObject_CallMethodOneArg(tls->backlog, tls->state->str_append, rest);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    tls->backlog_size += PyBytes_GET_SIZE(rest);
    return 0;
}

/* The first of the backlog: 1 when it is gone, 0 when a rest had to stay, -1 with an exception. */
static int
write_first(struct tls_protocol *tls)
{
    PyObject *rest = NULL;
    PyObject *data = PySequence_GetItem(tls->backlog, 0);
    Py_ssize_t size = data == NULL ? -1 : PyObject_Size(data);
    int result = size < 0 ? -1 : write_data(tls, data, &rest);
    if (result == 0 && rest != NULL) {
        tls->backlog_size += PyBytes_GET_SIZE(rest) - size;
        result = PySequence_SetItem(tls->backlog, 0, rest);
    }
    else if (result == 0) {
        tls->backlog_size -= size;
        result = PySequence_DelItem(tls->backlog, 0) < 0 ? -1 : 1;
    }
    Py_XDECREF(rest);
    Py_XDECREF(data);
    return result;
}

int
tls_write_backlog(struct tls_protocol *tls)
{
    int result = 1;
    while (result == 1) {
        Py_ssize_t waiting = PyObject_Size(tls->backlog);
        result = waiting > 0 ? write_first(tls) : waiting < 0 ? -1 : 0;
    }
    return result < 0 ? -1 : tls_send(tls);
}

/* asyncio's way: what is not connected (yet, or any more), or behind others in the backlog. */
static int
write_later(struct tls_protocol *tls, PyObject *data)
{
    PyObject *list = PyTuple_Pack(1, data);
    PyObject *result = NULL;
    if (list != NULL) {
        result = PyObject_CallMethodOneArg((PyObject *)tls, tls->state->str__write_appdata, list);
    }
    Py_XDECREF(list);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
tls_write(struct tls_protocol *tls, PyObject *data)
{
    Py_ssize_t waiting = tls->backlog == NULL ? 0 : PyObject_Size(tls->backlog);
    if (waiting != 0 || tls->phase != tls->state->tls_wrapped) {
        return waiting < 0 ? -1 : write_later(tls, data);
    }
    PyObject *rest = NULL;
    int result = write_data(tls, data, &rest);
    if (result == 0 && rest != NULL) {
        result = write_keep(tls, rest);
    }
    Py_XDECREF(rest);
    return result < 0 || tls_send(tls) < 0 ? tls_fail(tls) : 0;
}
