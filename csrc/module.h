/* SPDX-License-Identifier: MIT
 *
 * module.h - the state of one import of rloop._rloop: its types, the objects of asyncio that C calls, interned names.
 *
 * Each interpreter has its own state.  Every object of ours reaches it through its loop or its type; nothing is static.
 * To use one more name or one more object of the stdlib, add a line to one of the two tables.
 */
#ifndef RLOOP_MODULE_H
#define RLOOP_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#if PY_VERSION_HEX < 0x030D0000 /* there is always a GIL */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* Interned strings: state->str_NAME. */
#define MODULE_STRINGS(X) \
    X(Future) \
    X(LOG_THRESHOLD_FOR_CONNLOST_WRITES) \
    X(Task) \
    X(__kwdefaults__) \
    X(_accept_connection2) \
    X(_args) \
    X(_attach) \
    X(_buffer) \
    X(_callback) \
    X(_call_eof_received) \
    X(_check_callback) \
    X(_check_thread) \
    X(_clients) \
    X(_control_app_writing) \
    X(_control_ssl_reading) \
    X(_detach) \
    X(_do_flush) \
    X(_do_handshake) \
    X(_do_read) \
    X(_do_read__copied) \
    X(_do_shutdown) \
    X(_ensure_resolved) \
    X(_eof) \
    X(_io_refs) \
    X(_limit) \
    X(_paused) \
    X(_ssl_buffer_view) \
    X(_start_shutdown) \
    X(_stream_reader_wr) \
    X(_transport) \
    X(_waiter) \
    X(_write_appdata) \
    X(accept) \
    X(append) \
    X(buffer_updated) \
    X(call_at) \
    X(call_exception_handler) \
    X(call_later) \
    X(call_soon) \
    X(call_soon_threadsafe) \
    X(cancelled) \
    X(close) \
    X(connect) \
    X(connection_lost) \
    X(connection_made) \
    X(context) \
    X(create_future) \
    X(create_task) \
    X(data_received) \
    X(datagram_received) \
    X(debug) \
    X(detach) \
    X(done) \
    X(eof_received) \
    X(error_received) \
    X(exc_info) \
    X(exception) \
    X(family) \
    X(feed_data) \
    X(fileno) \
    X(get_buffer) \
    X(getpeername) \
    X(getsockname) \
    X(gettimeout) \
    X(handle) \
    X(info) \
    X(is_closing) \
    X(loop) \
    X(message) \
    X(name) \
    X(pause_reading) \
    X(pause_writing) \
    X(peername) \
    X(pending) \
    X(pipe) \
    X(proto) \
    X(protocol) \
    X(read) \
    X(recv) \
    X(recv_into) \
    X(recvfrom) \
    X(recvfrom_into) \
    X(resume_writing) \
    X(send) \
    X(sendto) \
    X(set_exception) \
    X(set_result) \
    X(setblocking) \
    X(slow_callback_duration) \
    X(socket) \
    X(sockname) \
    X(source_traceback) \
    X(throw) \
    X(time) \
    X(transport) \
    X(type) \
    X(value) \
    X(write)

/* Objects of the stdlib, imported once: state->NAME = MODULE.ATTRIBUTE. */
#define MODULE_IMPORTS(X) \
    X(futures, "asyncio", "futures") \
    X(tasks, "asyncio", "tasks") \
    X(Future, "asyncio", "Future") \
    X(Handle, "asyncio.events", "Handle") \
    X(TimerHandle, "asyncio.events", "TimerHandle") \
    X(Task, "asyncio.tasks", "Task") \
    X(BaseEventLoop, "asyncio.base_events", "BaseEventLoop") \
    X(BaseSelectorEventLoop, "asyncio.selector_events", "BaseSelectorEventLoop") \
    X(constants, "asyncio", "constants") \
    X(format_callback_source, "asyncio.format_helpers", "_format_callback_source") \
    X(format_handle, "asyncio.base_events", "_format_handle") \
    X(extract_stack, "asyncio.format_helpers", "extract_stack") \
    X(logger, "asyncio.log", "logger") \
    X(TransportSocket, "asyncio.trsock", "TransportSocket") \
    X(socket_type, "socket", "socket") \
    X(raw_socket_type, "_socket", "socket") \
    X(check_ssl_socket, "asyncio.base_events", "_check_ssl_socket") \
    X(FlowControlMixin, "asyncio.transports", "_FlowControlMixin") \
    X(ReadTransport, "asyncio.transports", "ReadTransport") \
    X(DatagramTransport, "asyncio.transports", "DatagramTransport") \
    X(BufferedProtocol, "asyncio.protocols", "BufferedProtocol") \
    X(SSLProtocol, "asyncio.sslproto", "SSLProtocol") \
    X(SSLProtocolState, "asyncio.sslproto", "SSLProtocolState") \
    X(Server, "asyncio.base_events", "Server") \
    X(StreamReader, "asyncio.streams", "StreamReader") \
    X(StreamReaderProtocol, "asyncio.streams", "StreamReaderProtocol") \
    X(WeakSet, "weakref", "WeakSet")

/* Types of this module: state->NAME_type, set by the *_setup_types functions.  ThreadSafeHandle is NULL before Python 3.14. */
#define MODULE_TYPES(X) \
    X(LoopBase) \
    X(Handle) \
    X(TimerHandle) \
    X(ThreadSafeHandle) \
    X(StreamTransport) \
    X(ReadPipeTransport) \
    X(WritePipeTransport) \
    X(DatagramTransport) \
    X(Accepted) \
    X(Listener) \
    X(ServerClients) \
    X(SockOperation) \
    X(TLSLoan) \
    X(TLSProtocolBase) \
    X(TLSTransportBase)

/* Memory of dead objects of one type, for the next ones (see handle.c). */
struct handle_pool {
    PyObject **objects; /* made on first use */
    size_t count;
    bool is_closed;
};

enum { MODULE_SOCK_POOL_SIZE = 16 };

typedef struct module_state {
#define X(name) PyTypeObject *name##_type;
    MODULE_TYPES(X)
#undef X
    /* Names of keyword arguments, for vectorcall. */
    PyObject *no_args;           /* () */
    PyObject *raw_socket_fileno; /* _socket.socket.fileno */
    PyObject *feed_data;         /* StreamReader.feed_data and StreamReaderProtocol.data_received, NULL if they are */
    PyObject *stream_data_received;      /* not the stdlib's own (see stream_reader.c) */
    PyObject *kwnames_loop;              /* loop */
    PyObject *kwnames_loop_name_context; /* loop, name, context */
    PyObject *kwnames_context;           /* context, as its last caller had it, or NULL */
    PyObject *kwnames_debug;             /* debug, or NULL where format_callback_source takes none */
    bool does_server_take_transport;     /* Server._attach(transport), or _attach() without an argument (Python 3.12) */
    bool sends_empty_datagrams;          /* asyncio's sendto() does not drop them (Python 3.13) */
    bool accept_takes_context;           /* asyncio's _accept_connection2 takes context= (Python 3.15) */
    PyObject *sock_pool[MODULE_SOCK_POOL_SIZE]; /* memory for SockOperations (see sock_coroutine.c) */
    int sock_pool_count;
    size_t context_vars_offset; /* where a context keeps its variables, or 0 (see context_snapshot.c) */
    struct handle_pool handle_pool, timer_handle_pool, threadsafe_handle_pool;
#define X(name) PyObject *str_##name;
    MODULE_STRINGS(X)
#undef X
#define X(name, module, attribute) PyObject *name;
    MODULE_IMPORTS(X)
#undef X
    bool does_tls_closing_tell_lower; /* is_closing() over TLS is that of the lower transport, too (late Python 3.13) */
    /* asyncio.sslproto: the states that C tells apart, and a tuple of exceptions. */
    PyObject *tls_do_handshake, *tls_wrapped, *tls_flushing, *tls_shutdown;
    PyObject *tls_again_errors;
    PyObject *ssl_object_type, *ssl_object_read; /* ssl.SSLObject and its read(), or NULL without ssl */
} module_state;

extern struct PyModuleDef rloop_module_def;

/* The state, from any type made by this module or derived from one. */
module_state *module_state_of_type(PyTypeObject *type);

/* Make a heap type and add it to the module; `bases` may be NULL.  NULL with an exception set on failure. */
PyTypeObject *module_add_type(PyObject *module, PyType_Spec *spec, PyObject *bases);

/* Add methods that live in another room to a type (descriptors over the static table). */
int module_add_methods(PyTypeObject *type, PyMethodDef *methods);

/* A type of ours that extends asyncio's `base`: the bytes from an instance to our own fields. */
Py_ssize_t module_type_data_offset(PyTypeObject *type);

/* Each room adds its types to the module. */
int loop_setup_types(PyObject *module, module_state *state);
int handle_setup_types(PyObject *module, module_state *state);
int context_snapshot_setup(module_state *state);
int stream_reader_setup(module_state *state);
int stream_transport_setup_types(PyObject *module, module_state *state);
int pipe_transport_setup_types(PyObject *module, module_state *state);
int datagram_transport_setup_types(PyObject *module, module_state *state);
int server_setup_types(PyObject *module, module_state *state);
int sock_ops_setup_types(PyObject *module, module_state *state);
int tls_setup_types(PyObject *module, module_state *state);
/* While the type is there still. */
void sock_ops_clear_pool(module_state *state);

#endif
