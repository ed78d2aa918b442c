/* SPDX-License-Identifier: MIT
 *
 * pipe_transport.h - ReadPipeTransport and WritePipeTransport: one end of a pipe, a FIFO, a character device, or a
 * socket used as such.
 *
 * Made by connect_read_pipe and connect_write_pipe, subprocesses' too.  The core works on a copy of the pipe's fd; the
 * Python object is closed by the transport when the connection is lost.
 */
#ifndef RLOOP_PIPE_TRANSPORT_H
#define RLOOP_PIPE_TRANSPORT_H

#include "module.h"

/* Methods of Loop: _make_read_pipe_transport, _make_write_pipe_transport.  When one raises (asyncio's ValueError for a
 * file of another kind, or OSError), the pipe stays open. */
extern PyMethodDef pipe_transport_loop_methods[];

#endif
