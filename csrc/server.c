/* SPDX-License-Identifier: MIT
 *
 * Listening sockets: a Listener each, watched in the fd registry.  asyncio.Server calls the two methods of the loop at
 * the end of this file; what is accepted goes to accepted.c.
 *
 * A listener is active while the registry watches its fd on its behalf: stopping a server means taking the watch away.
 */
#include "server.h"

#include "errors.h"
#include "loop.h"
#include "server_clients.h"
#include "socket_info.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections in one readiness.  The watch is level-triggered, so the rest comes in the next turn, and a flood of
 * clients does not starve everybody else. */
enum { SERVER_MAX_BATCH = 64 };

/* --- the system call */

/* The new fd, non-blocking and close-on-exec, or -errno. */
static int
accept_one(int listening_fd, struct sockaddr_storage *peer, socklen_t *peer_len)
{
    *peer_len = sizeof *peer;
#ifdef SOCK_NONBLOCK
    int fd = accept4(listening_fd, (struct sockaddr *)peer, peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
#else
    int fd = accept(listening_fd, (struct sockaddr *)peer, peer_len);
    if (fd < 0) {
        return -errno;
    }
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
        int result = -errno;
        close(fd);
        return result;
    }
    return fd;
#endif
}

/* Nobody is there (any more), or another process that shares the listener was faster. */
static bool
is_end_of_batch(int result)
{
    return result == -EAGAIN || result == -EWOULDBLOCK || result == -EINTR || result == -ECONNABORTED;
}

static bool
is_out_of_resources(int result)
{
    return result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM;
}

/* --- the listener */

/* logger.debug("%r got a new connection from %r: %r", server, address, socket) */
static int
listener_log(struct listener *listener, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    module_state *state = listener->loop->state;
    PyObject *logged = NULL, *detached = NULL;
    PyObject *address = socket_info_accepted(state, fd, peer, peer_len);
    PyObject *conn = address == NULL ? NULL : socket_info_socket(state, fd, -1, -1, -1);
    if (conn != NULL) {
        logged = PyObject_CallMethod(state->logger, "debug", "sOOO", "%r got a new connection from %r: %r",
                                     listener->server == NULL ? Py_None : listener->server, address, conn);
        PyObject *exception = PyErr_GetRaisedException();
        detached = PyObject_CallMethodNoArgs(conn, state->str_detach);
        if (exception != NULL) {
            PyErr_SetRaisedException(exception);
        }
    }
    int result = logged == NULL || detached == NULL ? -1 : 0;
    Py_XDECREF(address);
    Py_XDECREF(conn);
    Py_XDECREF(logged);
    Py_XDECREF(detached);
    return result;
}

/* Takes the fd over, on failure too. */
static int
listener_take(struct listener *listener, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    if (listener->loop->is_debug && listener_log(listener, fd, peer, peer_len) < 0) {
        close(fd);
        return -1;
    }
    return accepted_start(listener, fd, peer, peer_len);
}

static bool
listener_is_watched(struct listener *listener)
{
    return fd_registry_watched(listener->loop, listener->fd, CORE_READABLE) == (PyObject *)listener;
}

/* call_exception_handler with the exception that is set and the listening socket. */
static void
listener_report(struct listener *listener, const char *message)
{
    module_state *state = listener->loop->state;
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *sock = PyObject_CallOneArg(state->TransportSocket, listener->sock);
    if (sock == NULL) {
        PyErr_Clear(); /* the report is worth more than its detail */
    }
    PyErr_SetRaisedException(exception);
    loop_report_exception(listener->loop, message, state->str_socket, sock, NULL);
    Py_XDECREF(sock);
}

/* The kernel keeps reporting a connection that nobody has a descriptor for: stop listening to it for a while. */
static int
listener_pause(struct listener *listener, int result)
{
    module_state *state = listener->loop->state;
    errors_set(result);
    listener_report(listener, "socket.accept() out of system resource");
    if (!listener_is_watched(listener)) {
        return 0; /* the exception handler closed the server */
    }
    Py_XDECREF(fd_registry_unwatch(listener->loop, listener->fd, CORE_READABLE));
    PyObject *delay = PyObject_GetAttrString(state->constants, "ACCEPT_RETRY_DELAY");
    PyObject *resume = delay == NULL ? NULL : PyObject_GetAttrString((PyObject *)listener, "resume");
    PyObject *timer = NULL;
    if (resume != NULL) {
        timer = PyObject_CallMethodObjArgs((PyObject *)listener->loop, state->str_call_later, delay, resume, NULL);
    }
    Py_XDECREF(delay);
    Py_XDECREF(resume);
    Py_XDECREF(timer);
    return timer == NULL ? -1 : 0;
}

static int
listener_accept_batch(struct listener *listener)
{
    /* What runs on the way (a log handler, a task factory) may stop the server. */
    for (int i = 0; i < listener->batch && listener_is_watched(listener); i++) {
        struct sockaddr_storage peer;
        socklen_t peer_len;
        int fd = accept_one(listener->fd, &peer, &peer_len);
        if (fd >= 0) {
            if (listener_take(listener, fd, (struct sockaddr *)&peer, peer_len) < 0) {
                return -1;
            }
        }
        else if (is_end_of_batch(fd)) {
            return 0;
        }
        else if (is_out_of_resources(fd)) {
            return listener_pause(listener, fd);
        }
        else {
            errors_set(fd);
            return -1;
        }
    }
    return 0;
}

static int
listener_on_ready(struct loop *Py_UNUSED(loop), PyObject *object)
{
    int result = listener_accept_batch((struct listener *)object);
    if (result < 0 && !loop_must_leave()) {
        listener_report((struct listener *)object, "Exception in callback _accept_connection()");
        result = 0;
    }
    return result;
}

/* Listen again after a pause, unless the server was stopped or started anew in between. */
static PyObject *
listener_resume(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct listener *listener = (struct listener *)self;
    PyObject *fileno = PyObject_CallMethodNoArgs(listener->sock, listener->loop->state->str_fileno);
    long fd = fileno == NULL ? -1 : PyLong_AsLong(fileno);
    Py_XDECREF(fileno);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (fd == listener->fd && fd_registry_watched(listener->loop, listener->fd, CORE_READABLE) == NULL &&
        fd_registry_watch(listener->loop, listener->fd, CORE_READABLE, listener_on_ready, self) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- types */

static int
listener_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct listener *listener = (struct listener *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(listener->loop);
    Py_VISIT(listener->protocol_factory);
    Py_VISIT(listener->sock);
    Py_VISIT(listener->sslcontext);
    Py_VISIT(listener->server);
    Py_VISIT(listener->handshake_timeout);
    Py_VISIT(listener->shutdown_timeout);
    Py_VISIT(listener->context);
    return 0;
}

/* A listener never changes, so others break the cycles that it is in: the loop's registry and queues. */
static void
listener_dealloc(PyObject *self)
{
    struct listener *listener = (struct listener *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(listener->loop);
    Py_XDECREF(listener->protocol_factory);
    Py_XDECREF(listener->sock);
    Py_XDECREF(listener->sslcontext);
    Py_XDECREF(listener->server);
    Py_XDECREF(listener->handshake_timeout);
    Py_XDECREF(listener->shutdown_timeout);
    Py_XDECREF(listener->context);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef listener_methods[] = {
    {"resume", listener_resume, METH_NOARGS, PyDoc_STR("resume($self, /)\n--\n\nWatch the listening socket again.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot listener_slots[] = {
    {Py_tp_doc, (void *)"A listening socket of a server, and what its connections need."},
    {Py_tp_dealloc, listener_dealloc},
    {Py_tp_traverse, listener_traverse},
    {Py_tp_methods, listener_methods},
    {0, NULL},
};

static PyType_Spec listener_spec = {
    .name = "rloop._rloop.Listener",
    .basicsize = sizeof(struct listener),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = listener_slots,
};

int
server_setup_types(PyObject *module, module_state *state)
{
    state->Listener_type = module_add_type(module, &listener_spec, NULL);
    if (state->Listener_type == NULL || server_clients_setup_types(module, state) < 0) {
        return -1;
    }
    return accepted_setup_types(module, state);
}

/* --- methods of Loop */

/* -1 with an exception, for a closed socket too. */
static int
listening_fileno(PyObject *sock)
{
    int fd = fd_registry_fileno(sock);
    if (fd < 0 && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
    }
    return fd;
}

static PyObject *
listener_new(struct loop *loop, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "protocol_factory",     "sock",    "sslcontext", "server", "backlog", "ssl_handshake_timeout",
        "ssl_shutdown_timeout", "context", NULL};
    PyObject *protocol_factory, *sock, *sslcontext = Py_None, *server = Py_None;
    PyObject *handshake_timeout = Py_None, *shutdown_timeout = Py_None, *context = Py_None;
    int backlog = 100;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOiOOO:_start_serving", names, &protocol_factory, &sock,
                                     &sslcontext, &server, &backlog, &handshake_timeout, &shutdown_timeout, &context) ||
        loop_check_owner(loop) < 0)
    {
        return NULL;
    }
    int is_tls = PyObject_IsTrue(sslcontext);
    int fd = is_tls < 0 ? -1 : listening_fileno(sock);
    if (fd < 0) {
        return NULL;
    }
    struct listener *listener = (struct listener *)loop->state->Listener_type->tp_alloc(loop->state->Listener_type, 0);
    if (listener == NULL) {
        return NULL;
    }
    listener->loop = (struct loop *)Py_NewRef(loop);
    listener->protocol_factory = Py_NewRef(protocol_factory);
    listener->sock = Py_NewRef(sock);
    listener->sslcontext = is_tls ? Py_NewRef(sslcontext) : NULL;
    listener->server = server == Py_None ? NULL : Py_NewRef(server);
    listener->handshake_timeout = Py_NewRef(handshake_timeout); /* None stands for asyncio's default */
    listener->shutdown_timeout = Py_NewRef(shutdown_timeout);
    listener->fd = fd;
    listener->batch = Py_MAX(1, Py_MIN(backlog, SERVER_MAX_BATCH));
    listener->context = context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (listener->context == NULL) {
        Py_CLEAR(listener);
    }
    return (PyObject *)listener;
}

static PyObject *
server_start_serving(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct loop *loop = (struct loop *)self;
    if (loop_check_closed(loop) < 0) {
        return NULL;
    }
    PyObject *listener = listener_new(loop, args, kwargs);
    if (listener == NULL) {
        return NULL;
    }
    PyObject *server = ((struct listener *)listener)->server;
    int result = server == NULL ? 0 : server_clients_install(loop->state, server);
    if (result == 0) {
        int fd = ((struct listener *)listener)->fd;
        result = fd_registry_watch(loop, fd, CORE_READABLE, listener_on_ready, listener);
    }
    Py_DECREF(listener);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
server_stop_serving(PyObject *self, PyObject *sock)
{
    struct loop *loop = (struct loop *)self;
    if (!loop->is_closed) {
        int fd = loop_check_owner(loop) < 0 ? -1 : listening_fileno(sock);
        if (fd < 0) {
            return NULL;
        }
        Py_XDECREF(fd_registry_unwatch(loop, fd, CORE_READABLE));
    }
    return PyObject_CallMethodNoArgs(sock, loop->state->str_close);
}

PyMethodDef server_loop_methods[] = {
    {"_start_serving", (PyCFunction)(void (*)(void))server_start_serving, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("_start_serving($self, protocol_factory, sock, sslcontext=None, server=None, backlog=100,\n"
               "               ssl_handshake_timeout=None, ssl_shutdown_timeout=None, context=None)\n"
               "--\n\n"
               "Accept connections on a listening, non-blocking socket, for asyncio.Server.\n\n"
               "Each connection gets protocol_factory() and a transport, in a copy of context (default: the\n"
               "caller's).  The timeouts are in seconds; None stands for asyncio's defaults.")},
    {"_stop_serving", server_stop_serving, METH_O,
     PyDoc_STR("_stop_serving($self, sock, /)\n--\n\nStop accepting on sock and close it, for asyncio.Server.")},
    {NULL, NULL, 0, NULL},
};
