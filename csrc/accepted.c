/* SPDX-License-Identifier: MIT
 *
 * From an accepted fd to a protocol with a transport, for server.c.
 *
 * A plain connection costs no task, coroutine or socket object: its protocol and transport are made in the turn after
 * it was accepted, which is when asyncio's task makes them.  A TLS connection is left to asyncio's own coroutine.
 * The fd always has exactly one owner: the C frame, then the Accepted object, then the transport or the socket object.
 */
#include "loop.h"
#include "server.h"
#include "socket_info.h"
#include "stream_transport.h"

#include <string.h>
#include <unistd.h>

struct accepted {
    PyObject_HEAD
    struct listener *listener;
    int fd; /* -1 once a transport owns it */
    socklen_t peer_len;
    struct sockaddr_storage peer;
};

/* --- plain connections */

/* A connection that could not be set up is reported in debug mode, otherwise dropped in silence, as in asyncio. */
static void
accepted_report(struct loop *loop, PyObject *protocol)
{
    if (loop->is_debug) {
        loop_report_exception(loop, "Error on transport creation for incoming connection", loop->state->str_protocol,
                              protocol, NULL);
    }
    else {
        PyErr_Clear();
    }
}

static PyObject *
accepted_make_transport(struct loop *loop, struct accepted *accepted, PyObject *protocol, PyObject *context)
{
    bool is_known = socket_info_knows(accepted->peer.ss_family);
    struct stream_transport_args args = {
        .fd = accepted->fd,
        .protocol = protocol,
        .server = accepted->listener->server,
        .context = context,
        .peer = is_known ? (struct sockaddr *)&accepted->peer : NULL,
        .peer_len = accepted->peer_len,
    };
    accepted->fd = -1;
    return stream_transport_new(loop, &args);
}

/* protocol_factory() and the transport, in the connection's own context. */
static int
accepted_set_up(struct loop *loop, struct accepted *accepted, PyObject **protocol)
{
    PyObject *transport = NULL;
    PyObject *context = PyContext_Copy(accepted->listener->context);
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    *protocol = PyObject_CallNoArgs(accepted->listener->protocol_factory);
    if (*protocol != NULL) {
        transport = accepted_make_transport(loop, accepted, *protocol, context);
    }
    bool is_done = PyContext_Exit(context) == 0 && transport != NULL;
    Py_DECREF(context);
    Py_XDECREF(transport);
    return is_done ? 0 : -1;
}

static int
accepted_run(struct loop *loop, PyObject *object)
{
    PyObject *protocol = NULL;
    int result = accepted_set_up(loop, (struct accepted *)object, &protocol);
    if (result < 0 && !loop_must_leave()) {
        accepted_report(loop, protocol);
        result = 0;
    }
    Py_XDECREF(protocol);
    return result;
}

static int
accepted_start_plain(struct listener *listener, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    PyTypeObject *type = listener->loop->state->Accepted_type;
    struct accepted *accepted = (struct accepted *)type->tp_alloc(type, 0);
    if (accepted == NULL) {
        close(fd);
        return -1;
    }
    accepted->listener = (struct listener *)Py_NewRef(listener);
    accepted->fd = fd;
    accepted->peer_len = Py_MIN(peer_len, (socklen_t)sizeof accepted->peer);
    memcpy(&accepted->peer, peer, accepted->peer_len);
    return loop_defer(listener->loop, accepted_run, (PyObject *)accepted);
}

/* --- TLS connections */

/* create_task(BaseSelectorEventLoop._accept_connection2(...)); `context` NULL where asyncio's takes none. */
static int
accepted_create_task(struct listener *listener, PyObject *conn, PyObject *extra, PyObject *context)
{
    PyObject *loop = (PyObject *)listener->loop;
    PyObject *server = listener->server == NULL ? Py_None : listener->server;
    module_state *state = listener->loop->state;
    PyObject *create_task = NULL, *coro = NULL, *task = NULL;
    PyObject *accept = PyObject_GetAttr(state->BaseSelectorEventLoop, state->str__accept_connection2);
    PyObject *kwargs = context == NULL ? PyDict_New() : Py_BuildValue("{OO}", state->str_context, context);
    PyObject *args = Py_BuildValue("(OOOOOOOO)", loop, listener->protocol_factory, conn, extra, listener->sslcontext,
                                   server, listener->handshake_timeout, listener->shutdown_timeout);
    if (accept == NULL || kwargs == NULL || args == NULL ||
        (create_task = PyObject_GetAttr(loop, state->str_create_task)) == NULL ||
        (coro = PyObject_Call(accept, args, kwargs)) == NULL)
    {
        goto done;
    }
    Py_SETREF(args, PyTuple_Pack(1, coro));
    task = args == NULL ? NULL : PyObject_Call(create_task, args, kwargs);
done:
    Py_XDECREF(create_task);
    Py_XDECREF(coro);
    Py_XDECREF(accept);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(task);
    return task == NULL ? -1 : 0;
}

/* A task copies the context that it is made in; only newer versions of asyncio hand one over. */
static int
accepted_create_task_in_context(struct listener *listener, PyObject *conn, PyObject *extra)
{
    int result = -1;
    PyObject *outer = PyContext_Copy(listener->context);
    PyObject *context = NULL;
    if (outer == NULL || (listener->loop->state->accept_takes_context && (context = PyContext_Copy(outer)) == NULL) ||
        PyContext_Enter(outer) < 0)
    {
        goto done;
    }
    result = accepted_create_task(listener, conn, extra, context);
    if (PyContext_Exit(outer) < 0) {
        result = -1;
    }
done:
    Py_XDECREF(outer);
    Py_XDECREF(context);
    return result;
}

static int
accepted_start_tls(struct listener *listener, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    module_state *state = listener->loop->state;
    int result = -1;
    PyObject *conn = NULL, *extra = NULL;
    PyObject *address = socket_info_accepted(state, fd, peer, peer_len);
    if (address == NULL || (extra = Py_BuildValue("{sO}", "peername", address)) == NULL ||
        (conn = socket_info_socket(state, fd, -1, -1, -1)) == NULL)
    {
        close(fd);
        goto done;
    }
    result = accepted_create_task_in_context(listener, conn, extra);
done:
    Py_XDECREF(address);
    Py_XDECREF(extra);
    Py_XDECREF(conn);
    return result;
}

int
accepted_start(struct listener *listener, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    return (listener->sslcontext == NULL ? accepted_start_plain : accepted_start_tls)(listener, fd, peer, peer_len);
}

/* --- the type */

static int
accepted_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((struct accepted *)self)->listener);
    return 0;
}

static void
accepted_dealloc(PyObject *self)
{
    struct accepted *accepted = (struct accepted *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (accepted->listener != NULL && accepted->fd >= 0) {
        close(accepted->fd);
    }
    Py_XDECREF(accepted->listener);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot accepted_slots[] = {
    {Py_tp_doc, (void *)"A connection that was accepted and has no transport yet."},
    {Py_tp_dealloc, accepted_dealloc},
    {Py_tp_traverse, accepted_traverse},
    {0, NULL},
};

static PyType_Spec accepted_spec = {
    .name = "rloop._rloop.Accepted",
    .basicsize = sizeof(struct accepted),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = accepted_slots,
};

/* Does asyncio's coroutine take context=?  (From Python 3.15 on.) */
static int
accepted_probe_context(module_state *state)
{
    int result = -1;
    PyObject *signature = NULL, *parameters = NULL;
    PyObject *inspect = PyImport_ImportModule("inspect");
    PyObject *accept = PyObject_GetAttr(state->BaseSelectorEventLoop, state->str__accept_connection2);
    if (inspect != NULL && accept != NULL &&
        (signature = PyObject_CallMethod(inspect, "signature", "O", accept)) != NULL &&
        (parameters = PyObject_GetAttrString(signature, "parameters")) != NULL)
    {
        result = PySequence_Contains(parameters, state->str_context);
        state->accept_takes_context = result == 1;
    }
    Py_XDECREF(inspect);
    Py_XDECREF(accept);
    Py_XDECREF(signature);
    Py_XDECREF(parameters);
    return result < 0 ? -1 : 0;
}

int
accepted_setup_types(PyObject *module, module_state *state)
{
    state->Accepted_type = module_add_type(module, &accepted_spec, NULL);
    return state->Accepted_type == NULL ? -1 : accepted_probe_context(state);
}
