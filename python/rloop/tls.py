# SPDX-License-Identifier: MIT
"""TLS: asyncio's SSLProtocol with its hot half in C.

What is cold is asyncio's own code and follows each Python version by itself: the handshake, the shutdown, the limits,
what becomes of errors.  The C half (csrc/tls.h) has the methods that every byte passes, and the fields that both use.
"""

from asyncio import constants, sslproto
from asyncio.streams import StreamReaderProtocol

from rloop._rloop import TLSProtocolBase, TLSTransportBase

try:
    import ssl
except ImportError:  # pragma: no cover
    ssl = None


class SSLTransport(TLSTransportBase, sslproto._SSLProtocolTransport):
    """The user's end of a TLS connection (asyncio: Transports and Protocols).

    Programs recognize such a transport by the "ssl" in its name.
    """


class TLSProtocol(TLSProtocolBase, sslproto.SSLProtocol):
    """Between a lower transport, any, and the user's protocol (asyncio.sslproto.SSLProtocol)."""

    # asyncio's __init__ makes a buffer of this size.  Our own transports need none; when another one asks for it,
    # get_buffer() makes it, of the size that the instance says.
    max_size = 0

    def __init__(self, *args, **kwargs):
        sslproto.SSLProtocol.__init__(self, *args, **kwargs)
        self.max_size = sslproto.SSLProtocol.max_size

    def _get_app_transport(self):
        if not self._app_transport_created:
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return sslproto.SSLProtocol._get_app_transport(self)


class TLSMixin:
    """The loop's methods for TLS."""

    __slots__ = ()

    def _make_ssl_transport(
        self,
        rawsock,
        protocol,
        sslcontext,
        waiter=None,
        *,
        server_side=False,
        server_hostname=None,
        extra=None,
        server=None,
        ssl_handshake_timeout=constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout=constants.SSL_SHUTDOWN_TIMEOUT,
        context=None,
    ):
        self._ensure_fd_no_transport(rawsock)
        tls = TLSProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, tls, extra=extra, server=server, context=context)
        return tls._app_transport

    async def start_tls(
        self,
        transport,
        protocol,
        sslcontext,
        *,
        server_side=False,
        server_hostname=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
    ):
        """Put TLS on an open connection; return the transport to use from now on (asyncio: loop.start_tls).

        Timeouts are in seconds.  What the protocol's StreamReader has buffered is the beginning of the handshake, as on
        the server's side in Python 3.14: plain bytes must not be read as if they had come encrypted.  TypeError when
        `sslcontext` is no ssl.SSLContext or the transport can't carry TLS; what the handshake raises.
        """
        if ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")

        waiter = self.create_future()
        tls = TLSProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        transport.pause_reading()  # nothing may come before connection_made()
        feed_buffered(tls, protocol)
        transport.set_protocol(tls)
        handles = self.call_soon(tls.connection_made, transport), self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            for handle in handles:
                handle.cancel()
            raise
        return tls._app_transport


def feed_buffered(tls, protocol):
    reader = getattr(protocol, "_stream_reader", None) if isinstance(protocol, StreamReaderProtocol) else None
    if reader is not None and reader._buffer:
        tls._feed(reader._buffer)
        reader._buffer.clear()
