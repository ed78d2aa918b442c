/* SPDX-License-Identifier: MIT
 *
 * datagram_transport.h - DatagramTransport: a UDP or AF_UNIX datagram socket, as asyncio's users see it.
 *
 * datagram_transport.c has its life, datagram_io.c the way of datagrams in and out, datagram_methods.c what Python
 * sees.
 *
 * Life, as of a stream: open (the core knows it, the loop owns it) -> closing (receives nothing any more) -> its loss
 * is scheduled (buffers nothing any more; connection_lost() comes in a later turn) -> lost (no loop, no protocol, no
 * fd).
 */
#ifndef RLOOP_DATAGRAM_TRANSPORT_H
#define RLOOP_DATAGRAM_TRANSPORT_H

#include "flow_control.h"
#include "loop.h"
#include "module.h"
#include "protocol.h"

#include <sys/socket.h>
#include <sys/uio.h>

/* A datagram on its way out. */
struct datagram_item {
    struct datagram_item *next;
    PyObject *data;    /* bytes; iov is of it */
    PyObject *address; /* for the Python socket's sendto(), which makes sense of it; or NULL */
    struct iovec iov;
    socklen_t to_len; /* 0: the peer of a connected socket */
    struct sockaddr_storage to;
};

/* Our fields, behind those of asyncio's class. */
struct datagram_transport {
    struct loop *loop;              /* NULL once lost */
    struct core_datagram *datagram; /* NULL unless open */
    PyObject *self;                 /* borrowed: where all this lies */
    module_state *state;
    struct loop_owned owned;
    struct protocol protocol; /* without object once lost */
    struct flow_control flow;
    PyObject *sock;           /* the Python socket; it shares the fd with the core; NULL once lost */
    PyObject *extra;          /* dict */
    PyObject *address;        /* the only one that may be sent to, or NULL */
    PyObject *lost_exception; /* for connection_lost(), or NULL */
    /* What the kernel did not take at once, oldest first.  The head stays there while the core sends it. */
    struct datagram_item *head, *tail;
    size_t buffer_size;
    int fd; /* kept for repr when closed */
    int family;
    int wait_fd;        /* a copy of the fd, watched until the Python socket can send on; -1 when it isn't */
    int read_fd;        /* another, watched while the Python socket is to receive; -1 when it isn't */
    unsigned conn_lost; /* > 0: the loss is scheduled; counts on with each lost write, as asyncio does */
    bool is_connected;
    bool is_receiving;
    bool is_in_flight;
    bool is_flushing; /* what is appended goes out too */
    bool is_open;     /* to the protocol: from the beginning to connection_lost(), even when the loop has been closed */
    bool is_closing;
    bool is_paused; /* receiving, by pause_reading() */
};

/* Our type is final, so that the data of the object's type is ours. */
static inline struct datagram_transport *
datagram_transport_of(PyObject *self)
{
    return PyObject_GetTypeData(self, Py_TYPE(self));
}

/* --- datagram_transport.c */

/* close(): flush, then connection_lost(None).  0, or -1 with RuntimeError when the loop is closed. */
int datagram_close(struct datagram_transport *t);
/* Drop what is unsent, then connection_lost(exception), which may be NULL; the result as above. */
int datagram_force_close(struct datagram_transport *t, PyObject *exception);
/* Start, unless it is closing or paused. */
void datagram_recv_start(struct datagram_transport *t);
void datagram_recv_stop(struct datagram_transport *t);

/* The exception that is set is fatal: log or report it, and close with it. */
void datagram_fatal_error(struct datagram_transport *t, const char *message);
/* The exception that is set left a call of the protocol: report it, or let it leave run_forever. */
void datagram_report(struct loop *loop, struct datagram_transport *t, const char *message);
/* The last datagram of a closing transport went out: connection_lost(None). */
void datagram_finish(struct datagram_transport *t);

/* Methods of Loop: _make_datagram_transport. */
extern PyMethodDef datagram_transport_loop_methods[];

/* --- datagram_io.c */

extern const struct core_datagram_events datagram_core_events;

/* sendto(), once its arguments were found right: 0, or -1 with an exception for the caller. */
int datagram_send(struct datagram_transport *t, PyObject *data, PyObject *address);
/* Receiving for a family whose addresses only the Python socket can make: 0, or -1 with an exception. */
int datagram_watch_python(struct datagram_transport *t);
void datagram_unwatch_python(struct datagram_transport *t);
/* After the limits or the buffer changed: pause_writing() if it is too full.  0, or -1 with an exception that must
 * leave run_forever. */
int datagram_maybe_pause(struct datagram_transport *t);
/* Forget what is not sent, save what the core is sending. */
void datagram_drop_pending(struct datagram_transport *t);
/* Forget everything; the core has closed the socket or is about to. */
void datagram_clear_queue(struct datagram_transport *t);

#endif
