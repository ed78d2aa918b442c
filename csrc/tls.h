/* SPDX-License-Identifier: MIT
 *
 * tls.h - TLS: the hot half of asyncio's SSLProtocol, in C.
 *
 * python/rloop/tls.py puts the two halves together: asyncio's own code does what is cold (handshake, shutdown, limits,
 * errors), and what every byte passes is here: from a lower transport's read through ssl.SSLObject to the protocol, and
 * from write() to the lower transport.  Both halves work on the same fields, which asyncio's code sees as attributes.
 * OpenSSL is never called but by the objects that the context's wrap_bio() made.
 *
 * tls_protocol.c has the type and what comes in, tls_read.c decrypts, tls_write.c encrypts, tls_framing.c counts
 * records, tls_loan.c lends memory to OpenSSL, tls_transport.c is the user's end.
 */
#ifndef RLOOP_TLS_H
#define RLOOP_TLS_H

#include "module.h"

#include <stddef.h>

enum {
    TLS_HEADER_SIZE = 5,
    TLS_PLAIN_MAX = 16 * 1024,           /* of one record */
    TLS_BODY_MAX = TLS_PLAIN_MAX + 2048, /* RFC 5246, 6.2.3; TLS 1.3 allows less */
};

/* Where the records of a byte stream begin and end. */
struct tls_framing {
    size_t body_left; /* of the record under way */
    size_t whole;     /* complete records, and their bytes, since tls_framing_forget */
    size_t whole_size;
    unsigned char header[TLS_HEADER_SIZE];
    unsigned char header_size; /* bytes of it that are here */
    bool is_lost;              /* that was no TLS record: nothing is known from here on */
};

void tls_framing_feed(struct tls_framing *framing, const unsigned char *data, size_t size);
void tls_framing_forget(struct tls_framing *framing);

struct tls_protocol {
    PyObject_HEAD
    module_state *state;
    /* asyncio's attributes */
    PyObject *phase; /* _state */
    PyObject *loop;
    PyObject *transport; /* the lower one */
    PyObject *app_protocol;
    PyObject *receive;                     /* its data_received(), bound on first use, or NULL */
    PyObject *get_buffer, *buffer_updated; /* of a buffered one */
    PyObject *ssl_object;
    PyObject *incoming, *outgoing; /* ssl.MemoryBIO */
    PyObject *backlog;             /* a deque: what write() got and OpenSSL did not take */
    Py_ssize_t backlog_size;
    size_t incoming_high, incoming_low, outgoing_high, outgoing_low;
    char is_app_buffered;
    char is_app_reading_paused, is_app_writing_paused;
    char is_ssl_reading_paused, is_ssl_writing_paused;
    /* our own */
    struct tls_framing framing;
    bool feeds_reader; /* `receive` is that of asyncio's own streams (stream_reader.h) */
    bool is_probing;   /* it is not known what OpenSSL can give: read until it wants more */
};

/* All of these: 0, or -1 with the exception set. */

/* Bytes from the lower transport. */
int tls_protocol_receive(PyObject *self, const char *data, Py_ssize_t size);
/* asyncio's _do_read(): give the protocol what is there, send what there is to send, look at the limits. */
int tls_read(struct tls_protocol *tls);
/* asyncio's _control_ssl_reading(): pause or resume the lower transport. */
int tls_control_ssl_reading(struct tls_protocol *tls);
/* write() of the user's end; `data` is a bytes, bytearray or memoryview. */
int tls_write(struct tls_protocol *tls, PyObject *data);
/* asyncio's _do_write() and _process_outgoing(). */
int tls_write_backlog(struct tls_protocol *tls);
int tls_send(struct tls_protocol *tls);
/* If an Exception is set, end the connection with it, as asyncio's _do_read() and _write_appdata() do. */
int tls_fail(struct tls_protocol *tls);
/* A read() or write() of the SSLObject has raised.  After an interrupt nobody knows whether OpenSSL had done its work, and with
 * that how the bytes go on: also end the connection.  Always -1, with the exception still set. */
int tls_end_torn(struct tls_protocol *tls);
/* SSLProtocol.NAME(self), asyncio's. */
int tls_call_base(struct tls_protocol *tls, PyObject *name);
int tls_call(struct tls_protocol *tls, PyObject *name);
/* Bytes in a MemoryBIO, or -1. */
Py_ssize_t tls_pending(struct tls_protocol *tls, PyObject *bio);

/* Memory that a method of the SSLObject may use, of an object with a buffer (flags as for PyObject_GetBuffer) or of a bytes
 * object that is being made.  A loan of bytes ends with tls_loan_end(): true when a view of it lives on; the loan then has
 * the bytes, and nobody else may.  The loan of an object just needs Py_DECREF. */
PyObject *tls_loan_of_object(const struct tls_protocol *tls, PyObject *object, int flags);
PyObject *tls_loan_of_bytes(const struct tls_protocol *tls, PyObject *bytes);
bool tls_loan_end(PyObject *loan, PyObject *bytes);
/* A memoryview of it from `start` on. */
PyObject *tls_loan_view(PyObject *loan, Py_ssize_t start);
const Py_buffer *tls_loan_memory(PyObject *loan);

int tls_loan_setup_types(PyObject *module, module_state *state);
int tls_transport_setup_types(PyObject *module, module_state *state);

#endif
