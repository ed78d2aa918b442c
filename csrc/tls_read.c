/* SPDX-License-Identifier: MIT
 *
 * From the incoming BIO to the protocol; see tls.h.
 *
 * One data_received() gets all that is there, decrypted straight into its bytes object.  OpenSSL is asked as often as
 * there are whole records; only where that is not known (after the handshake, or when a count can't be had) is it asked
 * until it raises SSLWantReadError, as asyncio does each time.  A read with room for more than it returns has used a
 * record up: OpenSSL never joins two.  An SSLObject with a read() of the user's is left to asyncio's own code.
 */
#include "loop.h"
#include "stream_reader.h"
#include "tls.h"

/* May OpenSSL have something for us? */
static bool
read_is_promising(const struct tls_protocol *tls)
{
    return tls->is_probing || tls->framing.whole > 0;
}

/* OpenSSL has taken in all that there was. */
static void
read_set_drained(struct tls_protocol *tls)
{
    tls->is_probing = false;
    tls_framing_forget(&tls->framing);
}

/* ssl_object.read() into the memory of a loan from `start` on, in which there is `room`: how many bytes, 0 at the end of the
 * peer's data, or -1 with an exception. */
static Py_ssize_t
read_record(struct tls_protocol *tls, PyObject *loan, Py_ssize_t start, Py_ssize_t room)
{
    PyObject *size = PyLong_FromSsize_t(room);
    PyObject *view = size == NULL ? NULL : tls_loan_view(loan, start);
    Py_ssize_t count = -1;
    if (view != NULL) {
        PyObject *args[] = {tls->ssl_object, size, view};
        PyObject *result = PyObject_VectorcallMethod(tls->state->str_read, args, 3, NULL);
        count = result == NULL ? -1 : PyLong_AsSsize_t(result);
        Py_XDECREF(result);
    }
    Py_XDECREF(size);
    Py_XDECREF(view);
    if (count > room || (count < 0 && !PyErr_Occurred())) {
        PyErr_Format(PyExc_ValueError, "read() of the SSL object returned %zd, with room for %zd", count, room);
        return -1;
    }
    return count;
}

/* Fill the memory of a loan as far as it goes.  *filled counts; *is_end says that the peer has closed.
 * 0, or -1 with an exception. */
static int
read_records(struct tls_protocol *tls, PyObject *loan, Py_ssize_t *filled, bool *is_end)
{
    Py_ssize_t room = tls_loan_memory(loan)->len;
    while (*filled < room && read_is_promising(tls)) {
        Py_ssize_t count = read_record(tls, loan, *filled, room - *filled);
        if (count < 0) {
            if (!PyErr_ExceptionMatches(tls->state->tls_again_errors)) {
                return tls_end_torn(tls);
            }
            PyErr_Clear();
            read_set_drained(tls);
            return 0;
        }
        if (count == 0) {
            *is_end = true;
            return 0;
        }
        *filled += count;
        if (*filled == room) {
            tls->is_probing = true; /* there may be more of this record */
        }
        else if (tls->framing.whole > 0) {
            tls->framing.whole--;
            tls->framing.whole_size = tls->framing.whole == 0 ? 0 : tls->framing.whole_size;
        }
    }
    return 0;
}

/* The end of the peer's data, by its close_notify. */
static int
read_end(struct tls_protocol *tls)
{
    return tls_call(tls, tls->state->str__call_eof_received) < 0 ? -1 : tls_call(tls, tls->state->str__start_shutdown);
}

/* --- plain protocols */

/* No fewer bytes than what can be read now, and room for one record at least. */
static Py_ssize_t
read_estimate(struct tls_protocol *tls)
{
    if (!tls->is_probing) {
        return (Py_ssize_t)tls->framing.whole_size + 1; /* a record is longer than what is in it */
    }
    Py_ssize_t pending = tls_pending(tls, tls->incoming);
    return pending < 0 ? -1 : pending + TLS_PLAIN_MAX + 1;
}

/* Go on filling *data, or a copy of it when somebody has kept a view, who could change what nobody may: 0, or -1 with an
 * exception. */
static int
read_into_bytes(struct tls_protocol *tls, PyObject **data, Py_ssize_t *filled, bool *is_end)
{
    PyObject *loan = tls_loan_of_bytes(tls, *data);
    if (loan == NULL) {
        return -1;
    }
    int result = read_records(tls, loan, filled, is_end);
    if (tls_loan_end(loan, *data)) {
        Py_SETREF(*data,
                  result < 0 ? NULL : PyBytes_FromStringAndSize(PyBytes_AS_STRING(*data), PyBytes_GET_SIZE(*data)));
    }
    return *data == NULL ? -1 : result;
}

/* All there is, in one bytes object (empty: NULL, without an exception). */
static PyObject *
read_bytes(struct tls_protocol *tls, bool *is_end)
{
    PyObject *data = NULL;
    Py_ssize_t filled = 0, room = 0;
    while (read_is_promising(tls) && !*is_end) {
        Py_ssize_t more = read_estimate(tls);
        if (more < 0) {
            goto error;
        }
        room += more;
        if (data == NULL ? (data = PyBytes_FromStringAndSize(NULL, room)) == NULL : _PyBytes_Resize(&data, room) < 0) {
            return NULL;
        }
        if (read_into_bytes(tls, &data, &filled, is_end) < 0) {
            goto error;
        }
    }
    if (filled == 0) {
        goto error;
    }
    if (_PyBytes_Resize(&data, filled) == 0) {
        return data;
    }
error:
    Py_XDECREF(data);
    return NULL;
}

static int
status_of(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* `method`, which is a field of tls, may put another one there while it runs. */
static PyObject *
read_call(PyObject *method, PyObject *argument)
{
    Py_INCREF(method);
    PyObject *result = PyObject_CallOneArg(method, argument);
    Py_DECREF(method);
    return result;
}

static int
read_call_receive(struct tls_protocol *tls, PyObject *data)
{
    struct stream_reader reader;
    if (tls->feeds_reader && stream_reader_hold(&reader, tls->app_protocol, tls->state)) {
        int result = stream_reader_feed(&reader, tls->state, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
        stream_reader_release(&reader);
        return result;
    }
    return status_of(read_call(tls->receive, data));
}

/* Looking it up may put another protocol in the place: then this call is the old one's, and the next looks again. */
static PyObject *
read_bind_receive(struct tls_protocol *tls)
{
    PyObject *protocol = Py_NewRef(tls->app_protocol);
    PyObject *receive = PyObject_GetAttr(protocol, tls->state->str_data_received);
    if (receive != NULL && tls->app_protocol == protocol) {
        Py_XSETREF(tls->receive, Py_NewRef(receive));
        tls->feeds_reader = PyMethod_Check(receive) && PyMethod_GET_SELF(receive) == protocol &&
                            stream_reader_is_fed_by(protocol, PyMethod_GET_FUNCTION(receive), tls->state);
    }
    Py_DECREF(protocol);
    return receive;
}

static int
read_give(struct tls_protocol *tls, PyObject *data)
{
    if (tls->receive != NULL) {
        return read_call_receive(tls, data);
    }
    PyObject *receive = read_bind_receive(tls);
    if (receive == NULL) {
        return -1;
    }
    int result = receive == tls->receive ? read_call_receive(tls, data) : status_of(PyObject_CallOneArg(receive, data));
    Py_DECREF(receive);
    return result;
}

/* Can the object's read() fill memory, as ssl.SSLObject's own can?  One of the user's may know read(len) only, which is all
 * that asyncio asks of it for a plain protocol. */
static bool
read_can_fill(const struct tls_protocol *tls)
{
    const module_state *state = tls->state;
    if ((PyObject *)Py_TYPE(tls->ssl_object) == state->ssl_object_type) {
        return true;
    }
    PyObject *method = PyObject_GetAttr(tls->ssl_object, state->str_read);
    bool is_own = method != NULL && PyMethod_Check(method) && PyMethod_GET_FUNCTION(method) == state->ssl_object_read;
    PyErr_Clear(); /* asyncio's code will say it */
    Py_XDECREF(method);
    return is_own;
}

static int
read_copied_by_base(struct tls_protocol *tls)
{
    read_set_drained(tls); /* it asks until OpenSSL wants more */
    return tls_call_base(tls, tls->state->str__do_read__copied);
}

static int
read_copied(struct tls_protocol *tls)
{
    if (!read_can_fill(tls)) {
        return read_copied_by_base(tls);
    }
    bool is_end = false;
    PyObject *data = read_bytes(tls, &is_end);
    if (data == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (data != NULL) {
        int result = read_give(tls, data);
        Py_DECREF(data);
        if (result < 0) {
            return -1;
        }
    }
    return is_end ? read_end(tls) : 0;
}

/* --- buffered ones */

static PyObject *
read_ask_buffer(struct tls_protocol *tls)
{
    Py_ssize_t pending = tls_pending(tls, tls->incoming);
    PyObject *hint = pending < 0 ? NULL : PyLong_FromSsize_t(pending);
    PyObject *buffer = hint == NULL ? NULL : read_call(tls->get_buffer, hint);
    Py_XDECREF(hint);
    return buffer;
}

static int
read_tell_updated(struct tls_protocol *tls, Py_ssize_t filled)
{
    PyObject *size = PyLong_FromSsize_t(filled);
    PyObject *result = size == NULL ? NULL : read_call(tls->buffer_updated, size);
    Py_XDECREF(size);
    return status_of(result);
}

/* The rest comes in a later turn. */
static int
read_again_soon(struct tls_protocol *tls)
{
    PyObject *method = PyObject_GetAttr((PyObject *)tls, tls->state->str__do_read);
    PyObject *result = NULL;
    if (method != NULL) {
        result = PyObject_CallMethodOneArg(tls->loop, tls->state->str_call_soon, method);
    }
    Py_XDECREF(method);
    return status_of(result);
}

static int
read_buffered(struct tls_protocol *tls)
{
    Py_ssize_t filled = 0;
    bool is_end = false;
    int result = -1;
    PyObject *buffer = read_ask_buffer(tls);
    PyObject *loan = buffer == NULL ? NULL : tls_loan_of_object(tls, buffer, PyBUF_WRITABLE);
    if (loan != NULL) {
        Py_ssize_t room = tls_loan_memory(loan)->len;
        is_end = room == 0; /* reading nothing reads like an end, in asyncio too */
        result = read_records(tls, loan, &filled, &is_end);
        if (result == 0 && filled > 0 && filled == room) {
            result = read_again_soon(tls); /* the protocol's buffer is full */
        }
    }
    Py_XDECREF(loan);
    Py_XDECREF(buffer);
    if (result == 0 && filled > 0) {
        result = read_tell_updated(tls, filled);
    }
    return result == 0 && is_end ? read_end(tls) : result;
}

/* --- all */

static int
read_deliver(struct tls_protocol *tls)
{
    if (!read_is_promising(tls)) {
        return 0;
    }
    return tls->is_app_buffered ? read_buffered(tls) : read_copied(tls);
}

static int
read_and_send(struct tls_protocol *tls)
{
    if (read_deliver(tls) < 0) {
        return -1;
    }
    Py_ssize_t waiting = PyObject_Size(tls->backlog);
    return waiting < 0 ? -1 : waiting > 0 ? tls_write_backlog(tls) : tls_send(tls);
}

/* An interrupt goes to the loop, and what it left undone is done soon: the bytes in the BIO, which nothing else would come
 * back to before the peer sends more, and asyncio's half of a shutdown, which calls us and would be torn. */
static int
read_fail(struct tls_protocol *tls)
{
    if (!loop_must_leave() || !loop_check(tls->loop, tls->state)) {
        return tls_fail(tls);
    }
    loop_fail((struct loop *)tls->loop);
    return read_again_soon(tls);
}

int
tls_read(struct tls_protocol *tls)
{
    module_state *state = tls->state;
    if (tls->phase != state->tls_wrapped && tls->phase != state->tls_flushing) {
        return 0;
    }
    if (!tls->is_app_reading_paused && read_and_send(tls) < 0) {
        return read_fail(tls);
    }
    return tls_control_ssl_reading(tls) < 0 ? read_fail(tls) : 0;
}

int
tls_control_ssl_reading(struct tls_protocol *tls)
{
    Py_ssize_t pending = tls_pending(tls, tls->incoming);
    if (pending < 0) {
        return -1;
    }
    size_t limit = tls->is_ssl_reading_paused ? tls->incoming_low + 1 : tls->incoming_high;
    if (pending > 0 && (size_t)pending >= limit && !tls->is_app_reading_paused && !read_is_promising(tls) &&
        (tls->phase == tls->state->tls_wrapped || tls->phase == tls->state->tls_flushing))
    {
        /* The part of a record that we left there would stop the lower transport, and the rest would never come. */
        tls->is_probing = true;
        if (read_deliver(tls) < 0 || (pending = tls_pending(tls, tls->incoming)) < 0) {
            return -1;
        }
    }
    bool must_act = tls->is_ssl_reading_paused ? (size_t)pending <= tls->incoming_low
                                               : (size_t)pending >= tls->incoming_high;
    return must_act ? tls_call_base(tls, tls->state->str__control_ssl_reading) : 0;
}
