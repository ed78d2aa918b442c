/* SPDX-License-Identifier: MIT
 *
 * ServerClients: the set of a server's transports, a circular list through the transports themselves.
 *
 * It does what asyncio.Server does with its `_clients`: add, discard, len, copy, iteration.  It holds nobody: a
 * transport leaves when it is lost, and at the latest when it is freed.  What is not a StreamTransport goes to the
 * WeakSet that was there before.
 */
#include "server_clients.h"

#include "stream_socket.h"

#include <stddef.h>

struct server_clients {
    PyObject_HEAD
    struct server_client head;
    Py_ssize_t count;
    PyObject *others; /* a WeakSet ... */
    bool is_alone;    /* ... that nobody was ever in */
};

/* The transport's place, or NULL for any other object. */
static struct server_client *
client_of(PyObject *self, PyObject *transport)
{
    module_state *state = PyType_GetModuleState(Py_TYPE(self)); /* a final type */
    return Py_IS_TYPE(transport, state->StreamTransport_type) ? &stream_of(transport_of(transport))->client : NULL;
}

/* Borrowed. */
static PyObject *
client_transport(struct server_client *client)
{
    struct stream_transport *t = (struct stream_transport *)((char *)client -
                                                             offsetof(struct stream_transport, client));
    return t->base.self;
}

void
server_client_leave(struct server_client *client)
{
    if (client->clients == NULL) {
        return;
    }
    client->previous->next = client->next;
    client->next->previous = client->previous;
    client->clients->count--;
    *client = (struct server_client){0};
}

/* --- methods */

static PyObject *
clients_add(PyObject *self, PyObject *transport)
{
    struct server_clients *clients = (struct server_clients *)self;
    struct server_client *client = client_of(self, transport);
    if (client == NULL || (client->clients != NULL && client->clients != clients)) {
        clients->is_alone = false;
        return PyObject_CallMethod(clients->others, "add", "O", transport);
    }
    if (client->clients == NULL) {
        client->clients = clients;
        client->previous = clients->head.previous;
        client->next = &clients->head;
        client->previous->next = client;
        client->next->previous = client;
        clients->count++;
    }
    Py_RETURN_NONE;
}

static PyObject *
clients_discard(PyObject *self, PyObject *transport)
{
    struct server_clients *clients = (struct server_clients *)self;
    struct server_client *client = client_of(self, transport);
    if (client == NULL || client->clients != clients) {
        return PyObject_CallMethod(clients->others, "discard", "O", transport);
    }
    server_client_leave(client);
    Py_RETURN_NONE;
}

static Py_ssize_t
clients_length(PyObject *self)
{
    struct server_clients *clients = (struct server_clients *)self;
    Py_ssize_t others = clients->is_alone ? 0 : PyObject_Size(clients->others);
    return others < 0 ? -1 : clients->count + others;
}

static int
clients_contains(PyObject *self, PyObject *transport)
{
    struct server_clients *clients = (struct server_clients *)self;
    struct server_client *client = client_of(self, transport);
    return client != NULL && client->clients == clients ? 1 : PySequence_Contains(clients->others, transport);
}

static PyObject *
clients_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct server_clients *clients = (struct server_clients *)self;
    PyObject *copy = PySet_New(clients->others);
    /* Adding makes no transport come or go: they are compared by identity. */
    for (struct server_client *client = clients->head.next; copy != NULL && client != &clients->head;
         client = client->next)
    {
        if (PySet_Add(copy, client_transport(client)) < 0) {
            Py_CLEAR(copy);
        }
    }
    return copy;
}

static PyObject *
clients_iter(PyObject *self)
{
    PyObject *copy = clients_copy(self, NULL);
    PyObject *iterator = copy == NULL ? NULL : PyObject_GetIter(copy);
    Py_XDECREF(copy);
    return iterator;
}

/* --- the type */

static int
clients_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((struct server_clients *)self)->others);
    return 0;
}

static void
clients_dealloc(PyObject *self)
{
    struct server_clients *clients = (struct server_clients *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    while (clients->head.next != &clients->head) {
        server_client_leave(clients->head.next);
    }
    Py_XDECREF(clients->others);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef clients_methods[] = {
    {"add", clients_add, METH_O,
     PyDoc_STR("add($self, transport, /)\n--\n\nAdd a transport, without keeping it alive.")},
    {"discard", clients_discard, METH_O,
     PyDoc_STR("discard($self, transport, /)\n--\n\nRemove a transport, if it is there.")},
    {"copy", clients_copy, METH_NOARGS, PyDoc_STR("copy($self, /)\n--\n\nReturn the transports, as a set.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot clients_slots[] = {
    {Py_tp_doc, (void *)"The transports of a server, as its _clients; none is kept alive by it."},
    {Py_tp_dealloc, clients_dealloc},
    {Py_tp_traverse, clients_traverse},
    {Py_tp_methods, clients_methods},
    {Py_tp_iter, clients_iter},
    {Py_sq_length, clients_length},
    {Py_sq_contains, clients_contains},
    {0, NULL},
};

static PyType_Spec clients_spec = {
    .name = "rloop._rloop.ServerClients",
    .basicsize = sizeof(struct server_clients),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = clients_slots,
};

int
server_clients_setup_types(PyObject *module, module_state *state)
{
    state->ServerClients_type = module_add_type(module, &clients_spec, NULL);
    return state->ServerClients_type == NULL ? -1 : 0;
}

/* --- into a server */

/* Takes over `others`. */
static PyObject *
clients_new(module_state *state, PyObject *others)
{
    PyTypeObject *type = state->ServerClients_type;
    struct server_clients *clients = (struct server_clients *)type->tp_alloc(type, 0);
    if (clients == NULL) {
        Py_DECREF(others);
        return NULL;
    }
    clients->head.previous = clients->head.next = &clients->head;
    clients->others = others;
    Py_ssize_t count = PyObject_Size(others);
    if (count < 0) {
        Py_CLEAR(clients);
        return NULL;
    }
    clients->is_alone = count == 0;
    return (PyObject *)clients;
}

int
server_clients_install(module_state *state, PyObject *server)
{
    if (!Py_IS_TYPE(server, (PyTypeObject *)state->Server)) {
        return 0;
    }
    PyObject *present = PyObject_GetAttr(server, state->str__clients);
    if (present == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear(); /* Python 3.12 has but their number */
        return 0;
    }
    if (!Py_IS_TYPE(present, (PyTypeObject *)state->WeakSet)) {
        Py_DECREF(present);
        return 0;
    }
    PyObject *clients = clients_new(state, present);
    int result = clients == NULL ? -1 : PyObject_SetAttr(server, state->str__clients, clients);
    Py_XDECREF(clients);
    return result;
}
