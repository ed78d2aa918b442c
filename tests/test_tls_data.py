# SPDX-License-Identifier: MIT
"""TLS, byte by byte: a peer that cuts its records anywhere, reads that pause, protocols that fail, lower transports of
all kinds."""

import asyncio
import contextlib
import functools
import gc
import random
import ssl
import sys
import warnings
import weakref

import pytest

from support import BufferedRecorder, Recorder, connection, pattern, turns, until, within

trustme = pytest.importorskip("trustme")

BIG = pattern(300_000)


@pytest.fixture(autouse=True)
def collected():
    """asyncio's SSLProtocol makes cycles: let them go before the next test counts what is open."""
    yield
    gc.collect()


class Peer(asyncio.Protocol):
    """The other side, written out: what it sends goes to the socket in pieces as the test wants them."""

    def __init__(self, context, **kwargs):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **kwargs)
        self.data = bytearray()
        self.is_secure = self.is_closed = self.is_lost = False

    def connection_made(self, transport):
        self.transport = transport
        self.go_on()

    def connection_lost(self, exc):
        self.is_lost = True

    def data_received(self, data):
        self.incoming.write(data)
        self.go_on()

    def go_on(self):
        try:
            if not self.is_secure:
                self.tls.do_handshake()
                self.is_secure = True
            while not self.is_closed:
                data = self.tls.read(1 << 16)
                self.data += data
                self.is_closed = not data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_closed = True
        self.flush()

    def flush(self):
        self.transport.write(self.outgoing.read())

    def encrypt(self, data):
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self.outgoing.read()

    async def send(self, wire, cuts=()):
        start = 0
        for end in [*cuts, len(wire)]:
            self.transport.write(wire[start:end])
            start = end
            await turns(3)


@contextlib.asynccontextmanager
async def secure_pair(loop, server_context, client_context, factory=Recorder, version=None):
    """A protocol on the loop's TLS, as the client, and a Peer; both after the handshake."""
    if version is not None:
        client_context.maximum_version = version
    peer = Peer(server_context, server_side=True)
    server = await loop.create_server(lambda: peer, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(
        factory, *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
    )
    await until(lambda: peer.is_secure)
    try:
        yield protocol, peer
    finally:
        transport.abort()
        peer.transport.abort()
        await until(lambda: peer.is_lost)
        server.close()
        await within(server.wait_closed())
        await turns()


class Viewed(BufferedRecorder):
    """Hands out a view of its buffer: asyncio loses data in a bytearray that one record does not fill."""

    def get_buffer(self, sizehint):
        return memoryview(self.buffer)


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
BUFFERS = 7, 16384, 100_000
FACTORIES_OF_BUFFERS = pytest.mark.parametrize(
    "factory",
    [functools.partial(Viewed, size) for size in BUFFERS],
    ids=[f"buffer of {size}" for size in BUFFERS],
)
FACTORIES = pytest.mark.parametrize(
    "factory",
    [Recorder, *FACTORIES_OF_BUFFERS.args[1]],
    ids=["plain", *FACTORIES_OF_BUFFERS.kwargs["ids"]],
)


# --- records in pieces


@VERSIONS
@FACTORIES
async def test_records_cut_anywhere(loop, server_context, client_context, factory, version):
    generator = random.Random(7)
    sizes = [1, 5, 6, 7, 100, 16383, 16384, 16385, 40_000]
    async with secure_pair(loop, server_context, client_context, factory, version) as (protocol, peer):
        sent = b""
        for size in sizes:
            data = generator.randbytes(size)
            wire = peer.encrypt(data)
            cuts = sorted(generator.randrange(len(wire)) for _ in range(generator.randrange(8)))
            await peer.send(wire, cuts)
            sent += data
            await until(lambda: len(protocol.data) >= len(sent))
            assert protocol.data == sent


@FACTORIES
async def test_every_cut_of_two_records(loop, server_context, client_context, factory):
    async with secure_pair(loop, server_context, client_context, factory) as (protocol, peer):
        sent = b""
        for cut in range(1, 60):
            wire = peer.encrypt(b"first") + peer.encrypt(b"second")
            await peer.send(wire, [cut])
            sent += b"firstsecond"
            await until(lambda: len(protocol.data) >= len(sent))
        assert protocol.data == sent


async def test_byte_by_byte(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        wire = peer.encrypt(b"slowly")
        for i in range(len(wire)):
            assert protocol.data == b""
            await peer.send(wire[i : i + 1])
        await until(lambda: protocol.data == b"slowly")


@FACTORIES
async def test_part_of_a_record_with_low_read_limits(loop, server_context, client_context, factory):
    """What can't be decrypted yet must not stop the reading of the rest."""
    async with secure_pair(loop, server_context, client_context, factory) as (protocol, peer):
        for high, low in [(10, 0), (10, 5), (1, 1)]:
            protocol.transport.set_read_buffer_limits(high, low)
            assert protocol.transport.get_read_buffer_limits() == (low, high)
            before = len(protocol.data)
            await peer.send(peer.encrypt(BIG[:50_000]), [3, 4000, 20_000, 20_001, 49_000])
            await until(lambda: len(protocol.data) == before + 50_000)
            protocol.transport.set_read_buffer_limits()
            wire = peer.encrypt(b"z" * 3000)
            await peer.send(wire[:2000])
            protocol.transport.set_read_buffer_limits(high, low)
            await peer.send(wire[2000:])
            await until(lambda: len(protocol.data) == before + 53_000)
        assert protocol.data == (BIG[:50_000] + b"z" * 3000) * 3


@VERSIONS
@pytest.mark.parametrize("junk", [b"\x80" * 40, b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\xff\xff" + b"x" * 100])
async def test_no_record(loop, loop_errors, server_context, client_context, junk, version):
    async with secure_pair(loop, server_context, client_context, version=version) as (protocol, peer):
        await peer.send(peer.encrypt(b"good") + junk)
        assert isinstance(await within(protocol.lost), ssl.SSLError)
    loop_errors.clear()  # SSLError is an OSError: reported to nobody


async def test_forged_record(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        wire = bytearray(peer.encrypt(b"good") + peer.encrypt(b"bad"))
        wire[-1] ^= 1
        await peer.send(wire)
        assert isinstance(await within(protocol.lost), ssl.SSLError)


async def test_end_within_a_record(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        await peer.send(peer.encrypt(b"whole") + peer.encrypt(b"cut off")[:-3])
        peer.transport.close()
        await within(protocol.lost)
        assert protocol.data == b"whole"


async def test_data_and_close_notify_at_once(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        wire = peer.encrypt(b"last words")
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.tls.unwrap()
        await peer.send(wire + peer.outgoing.read())
        assert await within(protocol.lost) is None
        assert protocol.data == b"last words"
        assert protocol.events == ["made", "data", "eof", "lost"]


async def test_certificate_asked_for_later(loop, authority, server_context, client_context):
    """What OpenSSL answers by itself, while we only read, is sent."""
    authority.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    client_context.post_handshake_auth = True
    authority.issue_cert("client").configure_cert(client_context)
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        peer.tls.verify_client_post_handshake()
        await peer.send(peer.encrypt(b"who?"))
        await until(lambda: protocol.data == b"who?")
        await until(lambda: peer.tls.getpeercert())


# --- pausing


@FACTORIES
async def test_pause_in_the_middle(loop, server_context, client_context, factory):
    async with secure_pair(loop, server_context, client_context, factory) as (protocol, peer):
        transport = protocol.transport
        await peer.send(peer.encrypt(b"before"))
        await until(lambda: protocol.data == b"before")
        transport.pause_reading()
        assert not transport.is_reading()
        await peer.send(peer.encrypt(b" and ") + peer.encrypt(b"after"), [8])
        await asyncio.sleep(0.02)
        assert protocol.data == b"before"
        assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        transport.resume_reading()
        assert transport.is_reading()
        await until(lambda: protocol.data == b"before and after")


async def test_pause_stops_the_peer(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        protocol.transport.pause_reading()
        peer.transport.write(peer.encrypt(BIG * 40))
        await asyncio.sleep(0.05)
        assert peer.transport.get_write_buffer_size() > 0
        protocol.transport.resume_reading()
        await until(lambda: len(protocol.data) == 40 * len(BIG))
        assert protocol.data == BIG * 40


async def test_pause_in_each_data_received(loop, server_context, client_context):
    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_later(0.001, self.transport.resume_reading)

    async with secure_pair(loop, server_context, client_context, Pausing) as (protocol, peer):
        await peer.send(peer.encrypt(BIG), range(1000, len(BIG), 9_999))
        await until(lambda: len(protocol.data) == len(BIG))
        assert protocol.data == BIG


async def test_another_protocol_in_data_received(loop, server_context, client_context):
    second = Viewed()

    class First(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(second)

    async with secure_pair(loop, server_context, client_context, First) as (protocol, peer):
        second.events.append("made")
        await peer.send(peer.encrypt(b"one"))
        await until(lambda: protocol.data == b"one")
        assert protocol.transport.get_protocol() is second
        await peer.send(peer.encrypt(b"two"))
        await until(lambda: second.data == b"two")
        protocol.transport.set_protocol(protocol)
        await peer.send(peer.encrypt(b"three"))
        await until(lambda: protocol.data == b"onethree")


async def test_another_protocol_while_data_received_is_looked_up(loop, server_context, client_context):
    """The call is made; the next one is the new protocol's."""
    second = Recorder()

    class First(Recorder):
        @property
        def data_received(self):
            self.transport.set_protocol(second)
            return super().data_received

    async with secure_pair(loop, server_context, client_context, First) as (protocol, peer):
        second.events.append("made")
        await peer.send(peer.encrypt(b"one"))
        await until(lambda: protocol.data + second.data == b"one")
        await peer.send(peer.encrypt(b"two"))
        await until(lambda: len(protocol.data + second.data) == 6)
        assert (protocol.data, second.data) == (b"one", b"two")
        protocol.transport.set_protocol(protocol)


def reading(reader):
    return lambda: asyncio.StreamReaderProtocol(reader)


@pytest.mark.ours
async def test_a_stream_reader_is_fed_without_python(loop, server_context, client_context):
    """As over TCP.  Nothing else would tell if it were not so any more."""
    reader, called = asyncio.StreamReader(), []
    async with secure_pair(loop, server_context, client_context, reading(reader)) as (_, peer):
        sys.setprofile(lambda frame, event, argument: called.append(frame.f_code.co_name))
        try:
            await peer.send(peer.encrypt(b"some"))
            data = await reader.readexactly(4)
        finally:
            sys.setprofile(None)
    assert data == b"some"
    assert "readexactly" in called and "feed_data" not in called


@pytest.mark.parametrize("limit", [1000, 2**16])
async def test_a_stream_reader_that_fills_up(loop, server_context, client_context, limit):
    reader, received = asyncio.StreamReader(limit), bytearray()
    async with secure_pair(loop, server_context, client_context, reading(reader)) as (_, peer):
        sending = asyncio.create_task(peer.send(peer.encrypt(BIG)))
        await until(lambda: reader._paused)
        while len(received) < len(BIG):
            received += await reader.read(5000)
        await sending
    assert received == BIG


async def test_feed_data_replaced_on_a_reader_in_use_is_called(loop, server_context, client_context):
    reader = asyncio.StreamReader()
    async with secure_pair(loop, server_context, client_context, reading(reader)) as (_, peer):
        await peer.send(peer.encrypt(b"one"))
        assert await reader.readexactly(3) == b"one"
        original, reader.feed_data = reader.feed_data, lambda data: original(data.upper())
        await peer.send(peer.encrypt(b"two"))
        assert await reader.readexactly(3) == b"TWO"
        del reader.feed_data


# --- writing


async def test_what_can_be_written(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        transport = protocol.transport
        mutable = bytearray(b"bytearray ")
        transport.write(mutable)
        mutable[:] = b"x" * len(mutable)
        transport.write(b"")
        transport.write(memoryview(b"memoryview "))
        transport.write(memoryview(b"every_ _other__")[0:0])
        transport.writelines([b"lines ", bytearray(b"of "), memoryview(b"text "), b""])
        transport.writelines(word for word in (b"gene", b"rated"))
        transport.write(BIG)
        wanted = b"bytearray memoryview lines of text generated" + BIG
        await until(lambda: len(peer.data) == len(wanted))
        assert peer.data == wanted
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("data", ["text", 5, None, [b"list"]])
async def test_what_can_not(loop, server_context, client_context, data):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        with pytest.raises(TypeError, match=f"data: expecting a bytes-like instance, got {type(data).__name__}"):
            protocol.transport.write(data)
        assert not protocol.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            protocol.transport.write_eof()


async def test_view_with_gaps_ends_the_connection(loop, loop_errors, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        protocol.transport.write(memoryview(b"abcdef")[::2])
        assert isinstance(await within(protocol.lost), BufferError)
    (context,) = loop_errors
    loop_errors.clear()
    assert context["message"] == "Fatal error on SSL protocol"


async def test_write_limits(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        transport = protocol.transport
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        peer.transport.pause_reading()
        written = 0
        while not protocol.paused:
            transport.write(BIG)
            written += 1
        assert transport.get_write_buffer_size() >= 1000
        peer.transport.resume_reading()
        await until(lambda: not protocol.paused)
        await until(lambda: len(peer.data) == written * len(BIG))
        assert peer.data == BIG * written


async def test_write_and_close(loop, server_context, client_context):
    class Last(Recorder):
        def data_received(self, data):
            self.transport.write(BIG)
            self.transport.close()

    async with secure_pair(loop, server_context, client_context, Last) as (protocol, peer):
        await peer.send(peer.encrypt(b"?"))
        await until(lambda: peer.is_closed)
        assert peer.data == BIG
        assert protocol.transport.is_closing()
        for _ in range(7):
            protocol.transport.write(b"too late")
        peer.transport.close()
        await within(protocol.lost)
        protocol.transport.close()
        with pytest.raises(AttributeError):
            protocol.transport.write(b"much too late")


async def test_write_and_abort(loop, server_context, client_context):
    class Last(Recorder):
        def data_received(self, data):
            self.transport.write(b"bye")
            self.transport.abort()

    async with secure_pair(loop, server_context, client_context, Last) as (protocol, peer):
        await peer.send(peer.encrypt(b"?"))
        assert await within(protocol.lost) is None
        await until(lambda: peer.data == b"bye")


async def test_write_in_connection_made(loop, server_context, client_context):
    class Eager(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")

    async with secure_pair(loop, server_context, client_context, Eager) as (protocol, peer):
        await until(lambda: peer.data == b"hello")


# --- protocols that fail


@pytest.mark.parametrize("base, method", [(Recorder, "data_received"), (Viewed, "get_buffer"),
                                          (Viewed, "buffer_updated")])  # fmt: skip
async def test_failing_protocol(loop, loop_errors, server_context, client_context, base, method):
    class Failing(base):
        fails = False

    def fail(self, argument):
        if self.fails:
            raise ZeroDivisionError(method)
        return getattr(super(Failing, self), method)(argument)

    setattr(Failing, method, fail)
    async with secure_pair(loop, server_context, client_context, Failing) as (protocol, peer):
        protocol.fails = True
        await peer.send(peer.encrypt(b"?"))
        assert isinstance(await within(protocol.lost), ZeroDivisionError)
    (context,) = loop_errors
    loop_errors.clear()
    assert context["message"] == "Fatal error on SSL protocol"
    assert isinstance(context["exception"], ZeroDivisionError)
    assert set(context) == {"message", "exception", "transport", "protocol"}


def test_keyboard_interrupt(loop, loop_errors, run, server_context, client_context):
    class Interrupted(Recorder):
        def data_received(self, data):
            raise KeyboardInterrupt

    async def exchange():
        async with secure_pair(loop, server_context, client_context, Interrupted) as (protocol, peer):
            await peer.send(peer.encrypt(b"?"))
            await within(protocol.lost)

    with pytest.raises(KeyboardInterrupt):
        run(exchange())


@pytest.mark.ours("asyncio leaves the bytes in the BIO until the peer sends more")
def test_interrupted_get_buffer_is_asked_again(loop, run, server_context, client_context):
    interrupts = [KeyboardInterrupt]

    class Interrupted(BufferedRecorder):
        def get_buffer(self, sizehint):
            if interrupts:
                raise interrupts.pop()
            return memoryview(self.buffer)

    received = []

    async def exchange():
        async with secure_pair(loop, server_context, client_context, Interrupted) as (protocol, peer):
            await peer.send(peer.encrypt(b"once"))
            await until(lambda: protocol.data)
            received.append(bytes(protocol.data))

    task = loop.create_task(exchange())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    run(task)
    assert received == [b"once"]


class TornTLS(ssl.SSLObject):
    """Interrupted when OpenSSL has done its work, and the caller does not hear of it."""

    torn = None

    def call(self, name, *args):
        result = getattr(super(), name)(*args)
        if TornTLS.torn == name:
            TornTLS.torn = None
            raise KeyboardInterrupt
        return result

    def read(self, *args):
        return self.call("read", *args)

    def write(self, *args):
        return self.call("write", *args)


@pytest.mark.ours("asyncio goes on, with a hole in what is read, or twice what was written")
@pytest.mark.parametrize("method", ["read", "write"])
def test_an_interrupt_inside_openssl_ends_the_connection(loop, run, server_context, client_context, method):
    client_context.sslobject_class = TornTLS
    client, server = [], []

    def accept():
        server.append(Recorder())
        return server[-1]

    async def connect():
        listener = await loop.create_server(accept, "127.0.0.1", 0, ssl=server_context)
        address = listener.sockets[0].getsockname()
        _, protocol = await loop.create_connection(
            BufferedRecorder, *address, ssl=client_context, server_hostname="localhost"
        )
        client.append(protocol)
        await until(lambda: server and server[0].transport)
        return listener

    listener = run(connect())
    TornTLS.torn = method
    with pytest.raises(KeyboardInterrupt):
        if method == "write":
            client[0].transport.write(b"once")
        server[0].transport.write(BIG)
        loop.run_until_complete(client[0].lost)
    error = run(client[0].lost)
    assert isinstance(error, ConnectionAbortedError)
    assert BIG.startswith(client[0].data)
    assert server[0].data in (b"", b"once")
    run(server[0].lost)
    listener.close()


async def test_error_is_logged_in_debug_mode(loop, server_context, client_context, caplog):
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        loop.set_debug(True)
        with caplog.at_level("DEBUG", logger="asyncio"):
            await peer.send(b"no TLS here")
            await within(protocol.lost)
        loop.set_debug(False)
    (record,) = [record for record in caplog.records if "Fatal error on SSL protocol" in record.message]
    assert record.exc_info[0] is ssl.SSLError


async def test_unclosed(loop, server_context, client_context):
    """A transport that is forgotten after its connection's end is collected; a live one warns."""
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        reference = weakref.ref(protocol.transport.get_extra_info("ssl_object"))
        protocol.transport.abort()
        await protocol.lost
        protocol.transport = None
        protocol.made = protocol.lost = None
        await turns()
        gc.collect()
        assert reference() is not None  # the generator still holds the transport
    gc.collect()
    assert reference() is None


def test_unclosed_warns(loop_factory, server_context, client_context):
    loop = loop_factory()

    async def forget():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context)
        await loop.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
        )
        server.close()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(within(forget()))
        loop.close()
        gc.collect()
    assert any("unclosed transport <asyncio._SSLProtocolTransport" in str(warning.message) for warning in caught)


# --- contexts, sessions, names


async def test_context_class_of_the_user(loop, authority, server_context):
    wrapped = []

    class Context(ssl.SSLContext):
        def wrap_bio(self, *args, **kwargs):
            wrapped.append(kwargs)
            return super().wrap_bio(*args, **kwargs)

    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    async with secure_pair(loop, server_context, context) as (protocol, peer):
        protocol.transport.write(b"hello")
        await until(lambda: peer.data == b"hello")
    assert wrapped[0]["server_hostname"] == "localhost"


async def test_object_class_of_the_user(loop, server_context, client_context):
    """The objects' own methods are called."""
    calls = []

    class Object(ssl.SSLObject):
        def read(self, *args):
            calls.append("read")
            return super().read(*args)

        def write(self, data):
            calls.append("write")
            return super().write(data)

    client_context.sslobject_class = Object
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        protocol.transport.write(b"hello")
        await until(lambda: peer.data == b"hello")
        assert "write" in calls
        calls.clear()
        await peer.send(peer.encrypt(b"answer"))
        await until(lambda: protocol.data == b"answer")
        assert "read" in calls


async def test_object_that_does_not_take_everything(loop, server_context, client_context):
    """What write() has not taken waits until the peer has been heard, as when OpenSSL has to read first."""
    refusals = []

    class Choosy(ssl.SSLObject):
        is_choosy = False

        def write(self, data):
            if self.is_choosy and len(refusals) < 10 and len(data) % 3 == 0:
                refusals.append(len(data))
                raise ssl.SSLWantReadError
            return super().write(data[:1000] if self.is_choosy else data)

    client_context.sslobject_class = Choosy
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        protocol.transport.get_extra_info("ssl_object").is_choosy = True
        for start in range(0, 30_000, 10_000):
            protocol.transport.write(BIG[start : start + 10_000])
        assert refusals and protocol.transport.get_write_buffer_size() > 0
        while len(peer.data) < 30_000:
            await peer.send(peer.encrypt(b"go on"))
            await turns()
        assert peer.data == BIG[:30_000] and len(refusals) > 1
        await until(lambda: protocol.transport.get_write_buffer_size() == 0)


@FACTORIES
async def test_views_that_an_object_keeps(loop, server_context, client_context, factory):
    """What a method of the user's object has seen lives as long as its views, and what comes is not theirs."""
    kept = []

    class Keeping(ssl.SSLObject):
        def read(self, len=1024, buffer=None):
            result = super().read(len, buffer)
            if buffer is not None:
                kept.append((memoryview(buffer)[:result], bytes(buffer[:result])))
            return result

        def write(self, data):
            view = memoryview(data)
            kept.append((view, bytes(view)))
            return super().write(view[:1000])

    client_context.sslobject_class = Keeping
    async with secure_pair(loop, server_context, client_context, factory) as (protocol, peer):
        sent = bytearray(BIG[:5000])
        protocol.transport.write(sent)
        await until(lambda: peer.data == BIG[:5000])
        for start in range(0, 100_000, 20_000):
            await peer.send(peer.encrypt(BIG[start : start + 20_000]))
        await until(lambda: len(protocol.data) == 100_000)
        assert protocol.data == BIG[:100_000]
        received = bytes(protocol.data)
        if not isinstance(protocol, BufferedRecorder):  # its buffer is the protocol's own, and is used again
            assert [bytes(view) for view, _ in kept] == [data for _, data in kept]
            for view, _ in kept:
                if not view.readonly:
                    view[:] = bytes(len(view))
            assert protocol.data == received
        kept.clear()


async def test_object_whose_read_takes_no_buffer(loop, server_context, client_context):
    """For a plain protocol asyncio asks for bytes, and that is all such a class may know."""
    sizes = []

    class Object(ssl.SSLObject):
        def read(self, len=1024):
            sizes.append(len)
            return super().read(len)

    client_context.sslobject_class = Object
    async with secure_pair(loop, server_context, client_context) as (protocol, peer):
        sizes.clear()
        for start in range(0, 100_000, 20_000):
            await peer.send(peer.encrypt(BIG[start : start + 20_000]))
        await until(lambda: len(protocol.data) == 100_000)
        assert protocol.data == BIG[:100_000]
        assert set(sizes) == {256 * 1024}
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.tls.unwrap()
        peer.flush()
        await within(protocol.lost)
        assert protocol.events == ["made", "data", "eof", "lost"]


async def test_bytes_are_not_what_a_debugger_can_change_later(loop, server_context, client_context):
    """Frames of read() may live on, with what they were given to fill."""
    kept, received = [], []

    def look(frame, event, argument):
        if event == "call" and frame.f_code is ssl.SSLObject.read.__code__ and frame.f_locals["buffer"] is not None:
            kept.append(memoryview(frame.f_locals["buffer"]))

    class Receiver(Recorder):
        def data_received(self, data):
            received.append(data)

    async with secure_pair(loop, server_context, client_context, Receiver) as (_, peer):
        sys.setprofile(look)
        try:
            await peer.send(peer.encrypt(b"as it came"))
            await until(lambda: received)
        finally:
            sys.setprofile(None)
        for view in kept:
            view[:] = bytes(view.nbytes)
        assert received == [b"as it came"]
        kept.clear()


@pytest.mark.ours
@FACTORIES_OF_BUFFERS
async def test_object_that_tells_of_more_than_it_read(loop, loop_errors, server_context, client_context, factory):
    """asyncio's own reads go wrong with it in other ways."""
    is_wrong = False

    class Wrong(ssl.SSLObject):
        def read(self, len=1024, buffer=None):
            result = super().read(len, buffer)
            return len + 1 if is_wrong else result

    client_context.sslobject_class = Wrong
    async with secure_pair(loop, server_context, client_context, factory) as (protocol, peer):
        is_wrong = True
        await peer.send(peer.encrypt(b"hello"))
        error = await within(protocol.lost)
        assert isinstance(error, ValueError)
        assert not protocol.data
    assert [type(context["exception"]) for context in loop_errors] == [ValueError]
    loop_errors.clear()


@pytest.mark.ours
async def test_object_that_tells_of_less_than_nothing(loop, loop_errors, server_context, client_context):
    class Wrong(ssl.SSLObject):
        def read(self, len=1024, buffer=None):
            super().read(len, buffer)
            return -1

        def write(self, data):
            return -1

    client_context.sslobject_class = Wrong
    for is_reader in True, False:
        async with secure_pair(loop, server_context, client_context, lambda: Viewed(7)) as (protocol, peer):
            if is_reader:
                await peer.send(peer.encrypt(b"hello"))
            else:
                protocol.transport.write(b"hello")
            assert isinstance(await within(protocol.lost), ValueError)
    assert [type(context["exception"]) for context in loop_errors] == [ValueError, ValueError]
    loop_errors.clear()


async def test_session(loop, server_context, client_context):
    async with secure_pair(loop, server_context, client_context, version=ssl.TLSVersion.TLSv1_2) as (protocol, _):
        session = protocol.transport.get_extra_info("ssl_object").session

    class Resuming(ssl.SSLContext):
        def wrap_bio(self, *args, **kwargs):
            return super().wrap_bio(*args, session=session, **kwargs)

    assert session is not None
    client_context.__class__ = Resuming
    async with secure_pair(loop, server_context, client_context) as (protocol, _):
        assert protocol.transport.get_extra_info("ssl_object").session_reused


# --- other lower transports


async def both_sides(loop, lower, contexts):
    server_context, client_context = contexts
    upper = Recorder(), Recorder()
    secured = await asyncio.gather(
        loop.start_tls(lower[0], upper[0], client_context, server_hostname="localhost"),
        loop.start_tls(lower[1], upper[1], server_context, server_side=True),
    )
    for protocol, transport in zip(upper, secured, strict=True):
        protocol.events.append("made")
        protocol.transport = transport
    return upper, secured


async def check_exchange(upper, secured):
    for sent in (b"x", BIG):
        before = [len(protocol.data) for protocol in upper]
        for transport in secured:
            transport.write(sent)
        for protocol, start in zip(upper, before, strict=True):
            await until(lambda protocol=protocol, start=start: len(protocol.data) == start + len(sent))
    assert [protocol.data for protocol in upper] == [b"x" + BIG] * 2
    secured[0].close()
    assert await within(upper[0].lost) is None
    assert await within(upper[1].lost) is None


async def test_tls_in_tls(loop, server_context, client_context):
    contexts = server_context, client_context
    async with connection() as pair:
        _, outer = await both_sides(loop, (pair.client, pair.server_transport), contexts)
        upper, secured = await both_sides(loop, outer, contexts)
        assert secured[0].get_extra_info("peername") == pair.client.get_extra_info("peername")
        await check_exchange(upper, secured)
        for protocol in (pair.client_protocol, pair.server_protocol):
            if not protocol.lost.done():
                protocol.lost.set_result(None)


class Joint(asyncio.Transport):
    """One end of a pipe in memory, written in Python."""

    _start_tls_compatible = True

    def __init__(self, loop):
        super().__init__()
        self.loop, self.other, self.protocol, self.waiting = loop, None, None, []
        self.is_paused = self.is_ended = False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def pause_reading(self):
        self.is_paused = True

    def resume_reading(self):
        self.is_paused = False
        self.deliver()

    def write(self, data):
        self.other.waiting.append(bytes(data))
        self.loop.call_soon(self.other.deliver)

    def deliver(self):
        while self.waiting and not self.is_paused and not self.is_ended:
            data = self.waiting.pop(0)
            while data:
                buffer = self.protocol.get_buffer(len(data))
                size = min(len(buffer), len(data))
                buffer[:size] = data[:size]
                data = data[size:]
                self.protocol.buffer_updated(size)

    def is_closing(self):
        return self.is_ended

    def close(self):
        self._force_close(None)

    def _force_close(self, exc):
        for end in (self, self.other):
            if not end.is_ended:
                end.is_ended = True
                self.loop.call_soon(end.protocol.connection_lost, exc)


async def test_lower_transport_in_python(loop, server_context, client_context):
    lower = Joint(loop), Joint(loop)
    lower[0].other, lower[1].other = reversed(lower)
    await check_exchange(*await both_sides(loop, lower, (server_context, client_context)))


@pytest.mark.ours  # Python 3.14's rule, which we follow everywhere
async def test_start_tls_takes_what_the_reader_has(loop, server_context, client_context):
    served = loop.create_future()

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        await until(lambda: len(reader._buffer) > 100)
        await writer.start_tls(server_context)
        served.set_result(await reader.readline())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        peer = Peer(client_context, server_hostname="localhost")

        def connection_made(transport):
            transport.write(b"STARTTLS\n")
            Peer.connection_made(peer, transport)

        peer.connection_made = connection_made
        await loop.create_connection(lambda: peer, *server.sockets[0].getsockname())
        await until(lambda: peer.is_secure)
        peer.transport.write(peer.encrypt(b"secret\n"))
        assert await within(served) == b"secret\n"
        await until(lambda: peer.is_closed)
        peer.transport.close()
        await until(lambda: peer.is_lost)
        await turns()
