/* SPDX-License-Identifier: MIT
 *
 * protocol.h - a transport's protocol: its methods, and the context that they run in.
 *
 * The transports' only road to user protocols.  Each call runs in the transport's contextvars context, save
 * pause_writing and protocol_send_failed, which run in that of the caller of write() or sendto().  Where that context
 * is entered already (a loop that runs inside a callback), the call is made as it is.
 */
#ifndef RLOOP_PROTOCOL_H
#define RLOOP_PROTOCOL_H

#include "module.h"

struct loop;

struct protocol {
    PyObject *object; /* NULL before protocol_set and after protocol_clear */
    PyObject *context;
    /* Methods, looked up on first use, so that a protocol may still replace them in connection_made: data_received or
     * get_buffer or datagram_received, and buffer_updated.  Of a method that is bound to `object` only the function is
     * kept, and called with it: a bound method for each connection is 64 bytes. */
    PyObject *receive;
    PyObject *updated;
    bool receive_takes_object;
    bool updated_takes_object;
    bool is_buffered;
    bool feeds_reader; /* `receive` is there, and is the data_received() of asyncio's own streams (stream_reader.h) */
    bool is_filter;    /* TLS, which takes memory as it is (tls.h) */
};

/* The context of all calls; NULL means a copy of the present one.  0, or -1 with the exception set. */
int protocol_set_context(struct protocol *protocol, PyObject *context);
/* Put `object` in the place of the present one.  With `may_buffer`, an asyncio.BufferedProtocol is called as such. */
int protocol_set(struct protocol *protocol, module_state *state, PyObject *object, bool may_buffer);

/* The calls: 0, or -1 with the exception set. */
int protocol_data_received(struct protocol *protocol, module_state *state, PyObject *data);
int protocol_filter_received(struct protocol *protocol, const char *data, Py_ssize_t size);
PyObject *protocol_get_buffer(struct protocol *protocol, module_state *state); /* a new reference, or NULL */
int protocol_buffer_updated(struct protocol *protocol, module_state *state, Py_ssize_t size);
/* 1 when the protocol keeps the transport open, 0 when not, -1 with the exception set. */
int protocol_eof_received(struct protocol *protocol, module_state *state);
int protocol_pause_writing(struct protocol *protocol, module_state *state); /* in the caller's context */
int protocol_resume_writing(struct protocol *protocol, module_state *state);
int protocol_connection_lost(struct protocol *protocol, module_state *state, PyObject *exception);
int protocol_datagram_received(struct protocol *protocol, module_state *state, PyObject *data, PyObject *address);
int protocol_error_received(struct protocol *protocol, module_state *state, PyObject *exception);
/* error_received, for an error of sendto() itself: in the caller's context. */
int protocol_send_failed(struct protocol *protocol, module_state *state, PyObject *exception);

/* The same in a later turn, with call_soon; `argument` may be NULL. */
int protocol_call_soon(struct protocol *protocol, struct loop *loop, PyObject *name, PyObject *argument);

int protocol_traverse(struct protocol *protocol, visitproc visit, void *arg);
void protocol_clear(struct protocol *protocol); /* keeps the context */

#endif
