# SPDX-License-Identifier: MIT
"""TLS over our transports: protocols and streams, start_tls, certificates, failures, the end of a connection."""

import asyncio
import contextlib
import gc
import socket
import ssl
from asyncio import sslproto

import pytest

from support import LIMIT, Echo, Recorder, connection, pattern, turns, until, within

trustme = pytest.importorskip("trustme")

BIG = pattern(3 << 20)


@pytest.fixture(autouse=True)
def collected():
    """sslproto, asyncio's, makes cycles: let them go before the next test counts what is open."""
    yield
    gc.collect()


async def echo(reader, writer):
    try:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


def address(server):
    return server.sockets[0].getsockname()[:2]


@contextlib.asynccontextmanager
async def echo_server(context, **kwargs):
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context, **kwargs) as server:
        yield address(server)


async def close(writer):
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@pytest.mark.parametrize("size", [1, 1000, 16384, 16385, 200_000, 3 << 20])
async def test_streams(loop, server_context, client_context, size):
    async with echo_server(server_context) as where:
        reader, writer = await asyncio.open_connection(*where, ssl=client_context, server_hostname="localhost")

        async def send():
            writer.write(BIG[:size])
            await writer.drain()

        _, echoed = await asyncio.gather(send(), reader.readexactly(size))
        assert echoed == BIG[:size]
        await close(writer)
        await asyncio.sleep(0.02)


async def test_protocols(loop, server_context, client_context):
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    transport, protocol = await loop.create_connection(
        Recorder, *address(server), ssl=client_context, server_hostname="localhost"
    )
    transport.write(BIG)
    await until(lambda: len(protocol.data) == len(BIG))
    assert protocol.data == BIG
    transport.close()
    await protocol.lost
    server.close()
    await within(server.wait_closed())


async def test_unix_socket(loop, server_context, client_context, tmp_path):
    path = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(echo, path, ssl=server_context):
        reader, writer = await asyncio.open_unix_connection(path, ssl=client_context, server_hostname="localhost")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await close(writer)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_extra_info(loop, server_context, client_context, version):
    client_context.maximum_version = version
    async with echo_server(server_context) as where:
        reader, writer = await asyncio.open_connection(*where, ssl=client_context, server_hostname="localhost")
        assert writer.get_extra_info("sslcontext") is client_context
        assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
        assert ("DNS", "localhost") in writer.get_extra_info("peercert")["subjectAltName"]
        assert writer.get_extra_info("cipher")[1] == version.name.replace("_", ".")
        assert writer.get_extra_info("compression") is None
        assert writer.get_extra_info("peername") == where
        assert writer.get_extra_info("socket").fileno() > 0
        await close(writer)
        await asyncio.sleep(0.02)


async def test_alpn_and_server_name(loop, server_context, client_context):
    names = []
    server_context.set_alpn_protocols(["first", "second"])
    client_context.set_alpn_protocols(["second"])
    server_context.sni_callback = lambda ssl_object, name, context: names.append(name)
    async with echo_server(server_context) as where:
        reader, writer = await asyncio.open_connection(*where, ssl=client_context, server_hostname="localhost")
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "second"
        assert names == ["localhost"]
        await close(writer)
        await asyncio.sleep(0.02)


async def test_both_sides_show_a_certificate(loop, authority, server_context, client_context):
    server_context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_context)
    authority.issue_cert("client.example").configure_cert(client_context)
    seen = []

    async def serve(reader, writer):
        seen.append(writer.get_extra_info("peercert")["subjectAltName"])
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context) as server:
        reader, writer = await asyncio.open_connection(
            *address(server), ssl=client_context, server_hostname="localhost"
        )
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await close(writer)
        await asyncio.sleep(0.02)
    assert seen == [(("DNS", "client.example"),)]


# --- failures


async def test_unknown_authority(loop, loop_errors, server_context):
    async with echo_server(server_context) as where:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(*where, ssl=ssl.create_default_context(), server_hostname="localhost")
        await asyncio.sleep(0.05)
    loop_errors.clear()


async def test_wrong_name(loop, loop_errors, server_context, client_context):
    async with echo_server(server_context) as where:
        with pytest.raises(ssl.SSLCertVerificationError, match="other.example"):
            await asyncio.open_connection(*where, ssl=client_context, server_hostname="other.example")
        await asyncio.sleep(0.05)
    loop_errors.clear()


async def test_client_without_a_certificate_is_refused(loop, loop_errors, authority, server_context, client_context):
    server_context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_context)
    async with echo_server(server_context) as where:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            reader, writer = await asyncio.open_connection(*where, ssl=client_context, server_hostname="localhost")
            try:
                writer.write(b"x")
                await reader.readexactly(1)
            except asyncio.IncompleteReadError:
                raise ConnectionError from None
            finally:
                await close(writer)
        await asyncio.sleep(0.05)
    loop_errors.clear()


async def test_peer_that_does_not_speak_tls(loop, loop_errors, client_context):
    async def serve(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(*address(server), ssl=client_context, server_hostname="localhost")
        await asyncio.sleep(0.05)
    loop_errors.clear()


async def test_client_that_does_not_speak_tls(loop, loop_errors, server_context):
    """The server goes on."""
    async with echo_server(server_context) as where:
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await close(writer)
        await asyncio.sleep(0.05)
    loop_errors.clear()


async def test_peer_that_leaves_during_the_handshake(loop, loop_errors, client_context):
    async def serve(reader, writer):
        await reader.read(10)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await asyncio.open_connection(*address(server), ssl=client_context, server_hostname="localhost")
        await asyncio.sleep(0.05)
    loop_errors.clear()


async def test_handshake_timeout(loop, loop_errors, client_context):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 0.1 seconds"):
            await loop.create_connection(
                Recorder, *silent.getsockname(), ssl=client_context, server_hostname="x", ssl_handshake_timeout=0.1
            )
        await turns()
    loop_errors.clear()


async def test_cancelled_handshake(loop, client_context):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        task = asyncio.create_task(
            loop.create_connection(Recorder, *silent.getsockname(), ssl=client_context, server_hostname="x")
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)


async def test_wrong_arguments(loop, client_context):
    with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful with ssl"):
        await loop.create_connection(Recorder, "127.0.0.1", 1, ssl_handshake_timeout=1)
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="You must set server_hostname when using ssl without a host"):
            await loop.create_connection(Recorder, sock=sock, ssl=client_context)


# --- start_tls


async def test_start_tls_of_streams(loop, server_context, client_context):
    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"ready\n")
        await writer.drain()
        await writer.start_tls(server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*address(server))
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"ready\n"
        await writer.start_tls(client_context, server_hostname="localhost")
        assert writer.get_extra_info("cipher")
        _, echoed = await asyncio.gather(send(writer, BIG), reader.readexactly(len(BIG)))
        assert echoed == BIG
        await close(writer)
        await asyncio.sleep(0.02)


async def send(writer, data):
    writer.write(data)
    await writer.drain()


async def test_start_tls_of_protocols(loop, server_context, client_context):
    async with connection() as pair:
        plain = pair.client, pair.server_transport
        secured = await asyncio.gather(
            loop.start_tls(plain[0], pair.client_protocol, client_context, server_hostname="localhost"),
            loop.start_tls(plain[1], pair.server_protocol, server_context, server_side=True),
        )
        assert all(isinstance(transport, asyncio.Transport) for transport in secured)
        secured[0].write(BIG)
        secured[1].write(b"answer")
        await until(lambda: len(pair.server_protocol.data) == len(BIG))
        await until(lambda: pair.client_protocol.data == b"answer")
        assert pair.server_protocol.data == BIG
        secured[0].close()
        await pair.client_protocol.lost
        await pair.server_protocol.lost


async def test_start_tls_that_fails(loop, loop_errors, client_context):
    async with connection() as pair:
        starting = asyncio.create_task(
            loop.start_tls(pair.client, pair.client_protocol, client_context, server_hostname="localhost")
        )
        await turns()
        pair.server_transport.write(b"this is not TLS at all\n" * 10)
        with pytest.raises(ssl.SSLError):
            await starting
        for protocol in (pair.client_protocol, pair.server_protocol):
            if not protocol.lost.done():
                protocol.lost.set_result(None)
        pair.server_transport.abort()
        await asyncio.sleep(0.02)
    loop_errors.clear()


async def test_start_tls_of_something_else(loop, client_context):
    with pytest.raises(TypeError, match="is not supported by start_tls"):
        await loop.start_tls(asyncio.Transport(), asyncio.Protocol(), client_context)
    async with connection() as pair:
        with pytest.raises(TypeError, match="sslcontext is expected to be an instance of ssl.SSLContext"):
            await loop.start_tls(pair.client, pair.client_protocol, None)


# --- the end


async def test_close_sends_close_notify(loop, server_context, client_context):
    """A blocking client sees a clean end, no truncation."""

    async def serve(reader, writer):
        writer.write(BIG)
        await close(writer)

    def read(where):
        with socket.create_connection(where, timeout=LIMIT) as sock:
            with client_context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
                chunks = []
                while chunk := tls.recv(1 << 16):
                    chunks.append(chunk)
                tls.unwrap()
                return b"".join(chunks)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context) as server:
        assert await asyncio.to_thread(read, address(server)) == BIG


async def test_abort(loop, server_context, client_context):
    server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context)
    transport, protocol = await loop.create_connection(
        Recorder, *address(server), ssl=client_context, server_hostname="localhost"
    )
    transport.abort()
    assert await protocol.lost is None
    server.close()
    await within(server.wait_closed())


async def test_peer_that_leaves_without_close_notify(loop, server_context, client_context):
    accepted = loop.create_future()

    def accept():
        accepted.set_result(Recorder())
        return accepted.result()

    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=server_context)
    transport, protocol = await loop.create_connection(
        Recorder, *address(server), ssl=client_context, server_hostname="localhost"
    )
    other = await accepted
    await until(lambda: other.transport)
    transport.abort()
    await protocol.lost
    await other.lost
    assert other.data == b""
    server.close()
    await within(server.wait_closed())


async def test_flow_control(loop, server_context, client_context):
    """A reader that pauses slows the writer down; nothing is lost."""
    paused = loop.create_future()

    class Pausing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()
            paused.set_result(self)

    server = await loop.create_server(Pausing, "127.0.0.1", 0, ssl=server_context)
    transport, protocol = await loop.create_connection(
        Recorder, *address(server), ssl=client_context, server_hostname="localhost"
    )
    data = BIG * 5
    for _ in range(5):
        transport.write(BIG)
    await until(lambda: protocol.paused)
    other = await paused
    await asyncio.sleep(0.05)
    assert other.data == b""
    other.transport.resume_reading()
    await until(lambda: len(other.data) == len(data))
    assert other.data == data
    await until(lambda: not protocol.paused)
    transport.close()
    await protocol.lost
    await other.lost
    server.close()
    await within(server.wait_closed())


async def test_is_closing_tells_of_the_lower_transport(loop, server_context, client_context):
    """Since late 3.13 and 3.14: a program that looks before it writes then sees a connection that was lost."""
    async with echo_server(server_context) as where:
        transport, protocol = await loop.create_connection(
            Recorder, *where, ssl=client_context, server_hostname="localhost"
        )
        assert not transport.is_closing()
        transport._ssl_protocol._transport.abort()
        assert transport.is_closing() is hasattr(sslproto.SSLProtocol, "_is_transport_closing")
        await protocol.lost
        assert transport.is_closing()
