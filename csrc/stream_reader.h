/* SPDX-License-Identifier: MIT
 *
 * stream_reader.h - feeding an asyncio.StreamReader without the Python between it and the transport.
 */
#ifndef RLOOP_STREAM_READER_H
#define RLOOP_STREAM_READER_H

#include "module.h"

/* A reader that can be fed from C, held for one delivery. */
struct stream_reader {
    PyObject *reader; /* NULL: none */
    PyObject *buffer; /* its bytearray */
    Py_ssize_t size;  /* of what is unread, before this delivery */
    Py_ssize_t limit;
};

/* Does `receive`, the function of `protocol`'s bound data_received(), do what asyncio.StreamReaderProtocol's own does? */
bool stream_reader_is_fed_by(PyObject *protocol, PyObject *receive, module_state *state);

/* The reader behind such a protocol.  False, with no exception, when there is none now, or when it is in any state or of any
 * kind in which data_received() itself has to be called. */
bool stream_reader_hold(struct stream_reader *reader, PyObject *protocol, module_state *state);
void stream_reader_release(struct stream_reader *reader);

/* feed_data(): 0, or -1 with the exception that it would raise. */
int stream_reader_feed(struct stream_reader *reader, module_state *state, const char *data, Py_ssize_t size);

/* The same in two steps, without a copy: room for `size` bytes behind the unread ones (NULL without an exception when
 * there is none), and then the number of bytes that have come (0 undoes the first step).  No Python runs in between. */
char *stream_reader_reserve(struct stream_reader *reader, Py_ssize_t size);
int stream_reader_commit(struct stream_reader *reader, module_state *state, Py_ssize_t size);

#endif
