# SPDX-License-Identifier: MIT
"""What a stranger must not get: past a certificate, below a version, a plain byte into a TLS stream, memory before the
handshake, an open file in a child.  asyncio's own loop says what each of them gets instead."""

import asyncio
import contextlib
import datetime
import gc
import os
import socket
import ssl
import subprocess
import sys

import pytest

from support import Recorder, open_fds, turns, until, within

trustme = pytest.importorskip("trustme")
x509 = pytest.importorskip("cryptography.x509")

from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: E402

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def collected():
    """asyncio's SSLProtocol makes cycles: let them go before the next test counts what is open."""
    yield
    gc.collect()


@pytest.fixture
def quiet(loop_errors):
    """What the server's end logs of refused handshakes is not looked at."""
    yield
    loop_errors.clear()


class Reached(Recorder):
    """A server's protocols, all of them."""

    all = ()

    def __init__(self):
        super().__init__()
        Reached.all = (*Reached.all, self)

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"welcome")


@contextlib.asynccontextmanager
async def tls_server(loop, context, **kwargs):
    Reached.all = ()
    server = await loop.create_server(Reached, "127.0.0.1", 0, ssl=context, **kwargs)
    try:
        yield server.sockets[0].getsockname()
    finally:
        await turns(10)
        for protocol in Reached.all:
            if protocol.transport is not None:
                protocol.transport.abort()
        await turns(10)
        server.close()
        await within(server.wait_closed())
        await asyncio.sleep(0.02)


async def connect(loop, where, context, name="localhost", **kwargs):
    return await loop.create_connection(Recorder, *where, ssl=context, server_hostname=name, **kwargs)


async def refused(loop, where, context, name="localhost"):
    """The exception of a handshake, or of what comes right after it: TLS 1.3's client ends its own half first."""
    try:
        transport, protocol = await connect(loop, where, context, name)
    except (ssl.SSLError, ConnectionError) as error:
        return error
    error = await within(protocol.lost)
    assert protocol.data == b""
    return error


def self_signed(name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), NOW - DAY, NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


# --- certificates

# What OpenSSL calls them (X509_V_ERR_...).
NOT_YET_VALID, EXPIRED, SELF_SIGNED, UNKNOWN_ISSUER, WRONG_HOST, WRONG_ADDRESS = 9, 10, 18, 20, 62, 64

BAD = {
    "expired": (lambda ca: ca.issue_cert("localhost", not_before=NOW - 9 * DAY, not_after=NOW - DAY), EXPIRED),
    "not yet valid": (
        lambda ca: ca.issue_cert("localhost", not_before=NOW + DAY, not_after=NOW + 9 * DAY),
        NOT_YET_VALID,
    ),
    "of another host": (lambda ca: ca.issue_cert("other.example"), WRONG_HOST),
    "of a part of the name": (lambda ca: ca.issue_cert("*.localhost"), WRONG_HOST),
    "of another authority": (lambda ca: trustme.CA().issue_cert("localhost"), UNKNOWN_ISSUER),
    "signed by itself": (lambda ca: None, SELF_SIGNED),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("which", BAD)
async def test_bad_certificate(loop, quiet, authority, client_context, tmp_path, which, version):
    issue, code = BAD[which]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = issue(authority)
    if certificate is not None:
        certificate.configure_cert(context)
    else:
        (tmp_path / "self.pem").write_bytes(self_signed("localhost"))
        context.load_cert_chain(tmp_path / "self.pem")
    client_context.maximum_version = version
    async with tls_server(loop, context) as where:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await connect(loop, where, client_context)
        assert caught.value.verify_code == code
        await turns(10)
    # TLS 1.3's server has its half before the client has looked; nothing is ever received
    assert all(protocol.data == b"" for protocol in Reached.all)


async def test_certificate_of_an_address(loop, quiet, authority, client_context):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with tls_server(loop, context) as where:
        _, protocol = await connect(loop, where, client_context, None)
        await until(lambda: protocol.data == b"welcome")
        protocol.transport.abort()
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await connect(loop, where, client_context, "127.0.0.2")
        assert caught.value.verify_code == WRONG_ADDRESS


async def test_name_is_not_looked_at_when_told_so(loop, quiet, server_context, client_context):
    client_context.check_hostname = False
    async with tls_server(loop, server_context) as where:
        _, protocol = await connect(loop, where, client_context, "other.example")
        await until(lambda: protocol.data == b"welcome")
        protocol.transport.abort()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("which", ["none", "expired", "of another authority"])
async def test_bad_certificate_of_a_client(loop, quiet, authority, server_context, client_context, which, version):
    if which in BAD:
        BAD[which][0](authority).configure_cert(client_context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_context)
    client_context.maximum_version = version
    async with tls_server(loop, server_context) as where:
        error = await refused(loop, where, client_context)
        # asyncio drops the connection before OpenSSL's alert is sent; TLS 1.3's client has ended its handshake by then
        assert isinstance(error, ConnectionError) or (error is None and version == ssl.TLSVersion.TLSv1_3)
        assert all(protocol.transport is None for protocol in Reached.all)


# --- what is agreed on


async def test_minimum_version(loop, quiet, server_context, client_context):
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with tls_server(loop, server_context) as where:
        assert isinstance(await refused(loop, where, client_context), ConnectionError)
    assert all(protocol.transport is None for protocol in Reached.all)


async def test_sni_callback(loop, quiet, authority, server_context, client_context):
    asked = []
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(other)

    def choose(connection, name, context):
        asked.append(name)
        if name == "none.example":
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = other if name == "other.example" else context
        return None

    server_context.sni_callback = choose
    async with tls_server(loop, server_context) as where:
        for name in ("localhost", "other.example"):
            _, protocol = await connect(loop, where, client_context, name)
            peer = protocol.transport.get_extra_info("peercert")
            assert ("DNS", name) in peer["subjectAltName"]
            protocol.transport.abort()
        assert isinstance(await refused(loop, where, client_context, "none.example"), ConnectionError)
    assert asked == ["localhost", "other.example", "none.example"]


@pytest.mark.parametrize(
    "ours, theirs, chosen",
    [(["h2", "http/1.1"], ["http/1.1"], "http/1.1"), (["h2"], ["spdy"], None), ([], ["h2"], None)],
)
async def test_alpn(loop, quiet, server_context, client_context, ours, theirs, chosen):
    if ours:
        server_context.set_alpn_protocols(ours)
    client_context.set_alpn_protocols(theirs)
    async with tls_server(loop, server_context) as where:
        _, protocol = await connect(loop, where, client_context)
        assert protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        protocol.transport.abort()


# --- plain bytes


@pytest.mark.ours
async def test_plain_bytes_before_start_tls_of_a_server(loop, quiet, server_context, client_context):
    """A command in the segment of STARTTLS is not one that came encrypted (asyncio: from Python 3.14 on)."""
    got = loop.create_future()

    async def serve(reader, writer):
        await reader.readline()
        try:
            await writer.start_tls(server_context)
            got.set_result(await reader.read(100))
        except (ssl.SSLError, ConnectionError) as error:
            got.set_result(error)
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\nDELETE everything\n")
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.start_tls(client_context, server_hostname="localhost")
        assert not isinstance(await within(got), bytes)
        writer.transport.abort()
        await asyncio.sleep(0.02)


@pytest.mark.ours
async def test_plain_bytes_before_start_tls_of_a_client(loop, quiet, server_context, client_context):
    """Nor an answer in the segment of the server's consent; asyncio's reader gives it as one that came encrypted."""

    async def serve(reader, writer):
        await reader.readline()
        writer.write(b"ready\nan answer from somebody between\n")
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.start_tls(server_context)
            writer.write(b"the server's answer\n")
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"ready\n"
        with pytest.raises(ssl.SSLError):
            await writer.start_tls(client_context, server_hostname="localhost")
        writer.transport.abort()
        await asyncio.sleep(0.02)


async def test_plain_bytes_after_the_handshake(loop, quiet, server_context, client_context):
    async with tls_server(loop, server_context) as where:
        _, protocol = await connect(loop, where, client_context)
        await until(lambda: protocol.data == b"welcome")
        (server,) = Reached.all
        lower = os.dup(protocol.transport.get_extra_info("socket").fileno())
        os.write(lower, b"DELETE everything\n" * 10)
        os.close(lower)
        assert isinstance(await within(server.lost), ssl.SSLError)
        assert server.data == b""
        protocol.transport.abort()


# --- before the handshake ends

HELLO_OF_16_MB = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16380)
FLOODS = {
    "zeros": bytes(1 << 16),
    "text": b"GET / HTTP/1.1\r\n\r\n" * 4000,
    "a message of 16 MB": HELLO_OF_16_MB + (b"\x16\x03\x01\x40\x00" + bytes(16384)) * 8,
    "data": (b"\x17\x03\x03\x40\x00" + bytes(16384)) * 4,
    "alerts": b"\x15\x03\x01\x00\x02\x01\x5a" * 8000,
    "empty records": b"\x16\x03\x01\x00\x00" * 10_000,
}


@pytest.mark.parametrize("which", FLOODS)
async def test_flood_before_the_handshake(loop, quiet, server_context, which):
    """The connection ends before much of it is taken."""
    sent = 0
    async with tls_server(loop, server_context) as where:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, where)
            with contextlib.suppress(ConnectionError):
                while sent < 64 << 20:
                    await within(loop.sock_sendall(sock, FLOODS[which]))
                    sent += len(FLOODS[which])
                    await asyncio.sleep(0)
        assert all(protocol.transport is None for protocol in Reached.all)
    assert sent < 16 << 20


async def test_silent_client_is_cut(loop, loop_errors, server_context):
    async with tls_server(loop, server_context, ssl_handshake_timeout=0.1) as where:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, where)
            await loop.sock_sendall(sock, b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
            with contextlib.suppress(ConnectionError):
                assert await within(loop.sock_recv(sock, 100)) == b""
    assert all(protocol.transport is None for protocol in Reached.all)
    loop_errors.clear()


async def test_peer_that_does_not_answer_close_notify_is_cut(loop, quiet, server_context, client_context):
    async with tls_server(loop, server_context) as where:
        _, protocol = await connect(loop, where, client_context, ssl_shutdown_timeout=0.1)
        await until(lambda: protocol.data == b"welcome")
        (server,) = Reached.all
        server.transport.pause_reading()
        protocol.transport.write(b"x" * 1_000_000)
        protocol.transport.close()
        assert isinstance(await within(protocol.lost), (TimeoutError, type(None)))
        server.transport.abort()


# --- children


async def test_nothing_open_goes_to_children(loop, quiet, server_context, client_context, tmp_path):
    """Not even to one that is started without closing what it inherits."""
    before = {fd for fd in open_fds() if os.get_inheritable(fd)}
    async with contextlib.AsyncExitStack() as stack:
        where = await stack.enter_async_context(tls_server(loop, server_context))
        _, secure = await connect(loop, where, client_context)
        stack.callback(secure.transport.abort)
        unix = await loop.create_unix_server(Recorder, str(tmp_path / "s"))
        stack.callback(unix.close)
        _, client = await loop.create_unix_connection(Recorder, str(tmp_path / "s"))
        stack.callback(client.transport.abort)
        udp, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        stack.callback(udp.abort)
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1, stderr=-1)
        read, write = os.pipe()
        pipe, _ = await loop.connect_read_pipe(Recorder, os.fdopen(read, "rb", 0))
        stack.callback(pipe.close)
        stack.callback(os.close, write)
        loop.call_soon_threadsafe(lambda: None)
        await asyncio.sleep(0.01)
        program = "import os; print(*sorted(int(n) for n in os.listdir('/dev/fd')))"
        child = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], close_fds=False, stdout=subprocess.PIPE, check=True
        )
        seen = {int(fd) for fd in child.stdout.split()}
        ours = set(open_fds()) - before
        assert len(ours) > 10
        process.stdin.close()
        await process.wait()
        # one number is the child's own, of its listdir
        assert len(seen - before - {0, 1, 2}) <= 1
        assert [fd for fd in ours if fd in open_fds() and os.get_inheritable(fd)] == []
