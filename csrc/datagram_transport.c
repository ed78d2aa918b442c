/* SPDX-License-Identifier: MIT
 *
 * The life of a DatagramTransport, for create_datagram_endpoint; see datagram_transport.h.
 *
 * Invariant: while the core knows the socket (t->datagram is not NULL), the loop owns the transport, so that no
 * callback of the core meets a dead one.  A finalizer or a dealloc never calls down into the core.
 */
#include "datagram_transport.h"

#include "errors.h"
#include "socket_info.h"

/* --- ending */

/* Close the core's socket, and with it the fd, which the Python socket must not close once more. */
static void
datagram_close_core(struct datagram_transport *t)
{
    struct core_datagram *datagram = t->datagram;
    if (datagram == NULL) {
        return;
    }
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *result = PyObject_CallMethodNoArgs(t->sock, t->state->str_detach);
    if (result == NULL) {
        PyErr_WriteUnraisable(t->self);
    }
    Py_XDECREF(result);
    PyErr_SetRaisedException(exception);
    datagram_clear_queue(t);
    datagram_unwatch_python(t);
    fd_registry_release(t->loop, t->fd, t->self);
    t->datagram = NULL;
    t->loop->core->datagram_close(datagram);
}

static void
datagram_on_loop_close(PyObject *self)
{
    datagram_close_core(datagram_transport_of(self));
}

/* connection_lost(), then let go of everything: 0, or -1 with the exception of connection_lost().  The caller holds
 * self. */
static int
datagram_lose(struct datagram_transport *t)
{
    struct loop *loop = t->loop;
    PyObject *exception = t->lost_exception == NULL ? Py_NewRef(Py_None) : t->lost_exception;
    t->lost_exception = NULL;
    int result = protocol_connection_lost(&t->protocol, t->state, exception);
    PyObject *raised = PyErr_GetRaisedException();
    Py_DECREF(exception);
    t->is_open = false;
    datagram_close_core(t);
    protocol_clear(&t->protocol);
    Py_CLEAR(t->sock);
    t->loop = NULL;
    loop_disown(&t->owned);
    Py_DECREF(loop);
    PyErr_SetRaisedException(raised);
    return result;
}

static int
datagram_run_lose(struct loop *loop, PyObject *self)
{
    if (datagram_lose(datagram_transport_of(self)) == 0) {
        return 0;
    }
    if (loop_must_leave()) {
        return -1;
    }
    loop_report_exception(loop, "Exception in callback DatagramTransport._call_connection_lost()",
                          loop->state->str_transport, self, NULL);
    return 0;
}

static int
datagram_schedule_loss(struct datagram_transport *t, PyObject *exception)
{
    t->conn_lost++;
    t->lost_exception = Py_XNewRef(exception);
    return loop_defer(t->loop, datagram_run_lose, Py_NewRef(t->self));
}

void
datagram_finish(struct datagram_transport *t)
{
    struct loop *loop = t->loop;
    if (loop->failure != NULL) {
        if (datagram_schedule_loss(t, NULL) < 0) {
            datagram_report(loop, t, "Exception in callback DatagramTransport._sendto_ready()");
        }
        return;
    }
    t->conn_lost++;
    if (datagram_lose(t) < 0) {
        datagram_report(loop, t, "Exception in callback DatagramTransport._sendto_ready()");
    }
}

void
datagram_recv_stop(struct datagram_transport *t)
{
    t->is_receiving = false;
    datagram_unwatch_python(t);
    if (t->datagram != NULL) {
        t->loop->core->datagram_recv_stop(t->datagram);
    }
}

int
datagram_close(struct datagram_transport *t)
{
    if (t->is_closing) {
        return 0;
    }
    t->is_closing = true;
    datagram_recv_stop(t);
    return t->head == NULL ? datagram_schedule_loss(t, NULL) : 0;
}

int
datagram_force_close(struct datagram_transport *t, PyObject *exception)
{
    if (t->conn_lost > 0) {
        return 0;
    }
    datagram_drop_pending(t);
    if (!t->is_closing) {
        t->is_closing = true;
        datagram_recv_stop(t);
    }
    return datagram_schedule_loss(t, exception);
}

/* --- errors */

void
datagram_report(struct loop *loop, struct datagram_transport *t, const char *message)
{
    if (loop_is_reportable(loop)) {
        loop_report_exception(loop, message, t->state->str_transport, t->self, t->state->str_protocol,
                              t->protocol.object, NULL);
    }
}

void
datagram_fatal_error(struct datagram_transport *t, const char *message)
{
    PyObject *exception = PyErr_GetRaisedException();
    if (t->loop == NULL) {
        goto done; /* lost meanwhile */
    }
    if (!PyErr_GivenExceptionMatches(exception, PyExc_OSError)) {
        PyErr_SetRaisedException(Py_NewRef(exception));
        datagram_report(t->loop, t, message);
    }
    else if (t->loop->is_debug) {
        loop_log_error(t->loop, t->self, message, exception);
    }
    if (t->loop != NULL && datagram_force_close(t, exception) < 0) {
        PyErr_WriteUnraisable(t->self);
    }
done:
    Py_DECREF(exception);
}

/* --- making */

/* {'socket': ..., 'sockname': ..., 'peername': ...} and what the caller knows already */
static int
datagram_fill_extra(struct datagram_transport *t, PyObject *extra)
{
    module_state *state = t->state;
    PyObject *sock = PyObject_CallOneArg(state->TransportSocket, t->sock);
    PyObject *name = socket_info_name(state, t->fd);
    PyObject *peer = NULL;
    int result = -1;
    t->extra = extra == Py_None ? PyDict_New() : Py_NewRef(extra);
    if (sock == NULL || name == NULL || t->extra == NULL || PyDict_SetItem(t->extra, state->str_socket, sock) < 0 ||
        PyDict_SetItem(t->extra, state->str_sockname, name) < 0)
    {
        goto done;
    }
    result = PyDict_Contains(t->extra, state->str_peername);
    if (result == 0) {
        peer = socket_info_peer(state, t->fd);
        result = peer == NULL ? -1 : PyDict_SetItem(t->extra, state->str_peername, peer);
    }
done:
    Py_XDECREF(sock);
    Py_XDECREF(name);
    Py_XDECREF(peer);
    return result < 0 ? -1 : 0;
}

/* As the kernel has it: the Python socket need not know. */
static void
datagram_find_family(struct datagram_transport *t)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    t->family = getsockname(t->fd, (struct sockaddr *)&address, &len) < 0 ? AF_UNSPEC : address.ss_family;
    len = sizeof address;
    t->is_connected = getpeername(t->fd, (struct sockaddr *)&address, &len) == 0;
}

static PyObject *
datagram_new(struct loop *loop, int fd, PyObject *sock, PyObject *protocol, PyObject *address, PyObject *extra)
{
    PyTypeObject *type = loop->state->DatagramTransport_type;
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    struct datagram_transport *t = datagram_transport_of(self);
    t->self = self;
    t->state = loop->state;
    t->loop = (struct loop *)Py_NewRef(loop);
    t->fd = fd;
    t->wait_fd = t->read_fd = -1;
    t->sock = Py_NewRef(sock);
    flow_control_init(&t->flow);
    datagram_find_family(t);
    int has_address = PyObject_IsTrue(address);
    t->address = has_address == 1 ? Py_NewRef(address) : NULL;
    if (has_address < 0 || datagram_fill_extra(t, extra) < 0 || protocol_set_context(&t->protocol, NULL) < 0 ||
        protocol_set(&t->protocol, t->state, protocol, false) < 0)
    {
        Py_CLEAR(self);
    }
    return self;
}

static int
datagram_open(struct datagram_transport *t)
{
    struct loop *loop = t->loop;
    if (fd_registry_claim(loop, t->fd, t->self) < 0) {
        return -1;
    }
    if (loop_check_closed(loop) < 0) { /* by code of the user's that ran since datagram_make() looked */
        goto release;
    }
    int result = loop->core->datagram_open(loop->core_loop, t->fd, &datagram_core_events, t, &t->datagram);
    if (result < 0) {
        errors_set(result);
        goto release;
    }
    t->owned.on_loop_close = datagram_on_loop_close;
    loop_own(loop, &t->owned, t->self);
    t->is_open = true;
    return 0;
release:
    fd_registry_release(loop, t->fd, t->self);
    return -1;
}

void
datagram_recv_start(struct datagram_transport *t)
{
    if (t->datagram == NULL || t->is_closing || t->is_paused) {
        return;
    }
    int result = 0;
    if (!socket_info_knows(t->family)) {
        result = datagram_watch_python(t);
    }
    else if ((result = t->loop->core->datagram_recv_start(t->datagram)) < 0) {
        errors_set(result);
    }
    if (result < 0) {
        datagram_fatal_error(t, "Fatal read error on datagram transport");
        return;
    }
    t->is_receiving = true;
}

static int
datagram_run_recv_start(struct loop *Py_UNUSED(loop), PyObject *self)
{
    datagram_recv_start(datagram_transport_of(self));
    return 0;
}

/* connection_made(), start receiving, wake the waiter: in this order, in the next turn. */
static int
datagram_begin(struct datagram_transport *t, PyObject *waiter)
{
    if (protocol_call_soon(&t->protocol, t->loop, t->state->str_connection_made, t->self) < 0 ||
        loop_defer(t->loop, datagram_run_recv_start, Py_NewRef(t->self)) < 0)
    {
        return -1;
    }
    return waiter == Py_None ? 0 : loop_wake_waiter(t->loop, waiter);
}

/* Undo datagram_open, closing the fd, and call nobody; keeps the exception that is set. */
static void
datagram_abandon(struct datagram_transport *t)
{
    t->is_open = false;
    t->is_closing = true;
    t->conn_lost++;
    datagram_close_core(t);
    loop_disown(&t->owned);
}

static PyObject *
datagram_make(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"sock", "protocol", "address", "waiter", "extra", NULL};
    struct loop *loop = (struct loop *)self;
    PyObject *sock, *protocol, *address = Py_None, *waiter = Py_None, *extra = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOO:_make_datagram_transport", names, &sock, &protocol, &address,
                                     &waiter, &extra))
    {
        return NULL;
    }
    if (extra != Py_None && !PyDict_Check(extra)) {
        return PyErr_Format(PyExc_TypeError, "extra must be a dict or None, not %.200s", Py_TYPE(extra)->tp_name);
    }
    int fd = fd_registry_fileno(sock);
    if (fd < 0 && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
    }
    if (fd < 0 || fd_registry_check_free(loop, fd, sock) < 0 || loop_check_closed(loop) < 0) {
        return NULL;
    }
    PyObject *transport = datagram_new(loop, fd, sock, protocol, address, extra);
    if (transport == NULL || datagram_open(datagram_transport_of(transport)) < 0) {
        Py_CLEAR(transport);
    }
    else if (datagram_begin(datagram_transport_of(transport), waiter) < 0) {
        datagram_abandon(datagram_transport_of(transport));
        Py_CLEAR(transport);
    }
    else {
        socket_info_hold(loop->state, sock);
    }
    return transport;
}

PyMethodDef datagram_transport_loop_methods[] = {
    {"_make_datagram_transport", (PyCFunction)(void (*)(void))datagram_make, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("_make_datagram_transport($self, /, sock, protocol, address=None, waiter=None, extra=None)\n--\n\n"
               "The transport of a non-blocking datagram socket, for create_datagram_endpoint().\n\n"
               "With address, a datagram can be sent nowhere else.  Raises RuntimeError when another transport\n"
               "uses the socket, OSError when it can't be watched.")},
    {NULL, NULL, 0, NULL},
};
