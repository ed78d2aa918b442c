# SPDX-License-Identifier: MIT
"""The end of a connection: close, abort, half-close, reset, and protocols that raise."""

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import warnings
import weakref

import pytest

from support import BufferedRecorder, Recorder, one_end, pattern, read_all, reset, turns, until

BIG = pattern(4 << 20)


async def test_close_flushes_what_was_written(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.write(BIG)
        transport.close()
        assert transport.is_closing()
        assert await read_all(peer) == BIG
        assert await protocol.lost is None
        assert protocol.events[-1] == "lost"


async def test_connection_lost_comes_later_and_once(loop):
    async with one_end() as (transport, protocol, peer):
        transport.close()
        transport.close()
        assert not protocol.lost.done()
        assert await protocol.lost is None
        transport.close()
        await turns()
        assert protocol.events == ["made", "lost"]
        assert peer.recv(10) == b""


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
async def test_nothing_is_delivered_after_close(loop, factory):
    """Neither bytes nor the end of file, whether they were there before or come while the transport flushes."""
    async with one_end(factory, small=True) as (transport, protocol, peer):
        transport.write(BIG)
        peer.sendall(b"too late")
        transport.close()
        await turns()
        peer.sendall(b"later still")
        peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # the kernel's answer to bytes that nobody read
            await read_all(peer)
        await protocol.lost
        assert "data" not in protocol.events and "eof" not in protocol.events


async def test_nothing_is_delivered_after_close_in_data_received(loop):
    class Closing(Recorder):
        def data_received(self, data):
            super().data_received(data[:1])
            self.transport.close()

    async with one_end(Closing) as (transport, protocol, peer):
        peer.sendall(bytes(100_000))
        peer.shutdown(socket.SHUT_WR)
        await protocol.lost
        assert protocol.data == b"\0"
        assert protocol.events == ["made", "data", "lost"]


async def test_abort_drops_what_was_written(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.write(BIG)
        transport.abort()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert not protocol.lost.done()
        assert await protocol.lost is None
        with contextlib.suppress(ConnectionResetError):
            assert len(await read_all(peer)) < len(BIG)


async def test_abort_after_close(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.write(BIG)
        transport.close()
        await turns()
        assert not protocol.lost.done()
        transport.abort()
        assert await protocol.lost is None


@pytest.mark.ours("asyncio raises AttributeError")
async def test_everything_after_the_end(loop):
    async with one_end() as (transport, protocol, peer):
        transport.close()
        await protocol.lost
        await turns()
        transport.abort()
        transport.close()
        transport.write(b"x")
        transport.pause_reading()
        transport.resume_reading()
        transport.write_eof()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert repr(transport)
        assert transport.get_extra_info("peername")
        await turns()
        assert protocol.events == ["made", "lost"]


async def test_write_after_close_is_dropped(loop, caplog):
    """Five times in silence, then with a warning; it never raises."""
    async with one_end() as (transport, protocol, peer):
        transport.abort()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                transport.write(b"x")
            assert caplog.records == []
            for _ in range(3):
                transport.write(b"x")
        assert "socket.send() raised exception." in {record.getMessage() for record in caplog.records}
        await protocol.lost


async def test_write_to_a_reset_connection_warns(loop, caplog):
    async with one_end() as (transport, protocol, peer):
        reset(peer)
        await protocol.lost
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(10):
                transport.write(b"x")
        assert any(record.getMessage() == "socket.send() raised exception." for record in caplog.records)


# --- half-close


async def test_write_eof_closes_one_way_only(loop):
    async with one_end() as (transport, protocol, peer):
        assert transport.can_write_eof()
        transport.write(b"request")
        transport.write_eof()
        assert await read_all(peer) == b"request"
        peer.sendall(b"response")
        await until(lambda: protocol.data == b"response")
        assert not transport.is_closing()


async def test_write_eof_after_pending_bytes(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.write(BIG)
        transport.write_eof()
        transport.write_eof()
        assert await read_all(peer) == BIG
        peer.sendall(b"thanks")
        await until(lambda: protocol.data == b"thanks")


async def test_write_after_write_eof_raises(loop):
    async with one_end() as (transport, protocol, peer):
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match=r"Cannot call writelines\(\) after write_eof\(\)"):
            transport.writelines([b"x"])


async def test_end_of_file_closes_the_transport(loop):
    async with one_end() as (transport, protocol, peer):
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.lost is None
        assert protocol.events == ["made", "data", "eof", "lost"]
        assert peer.recv(10) == b""


class KeepsOpen(Recorder):
    def eof_received(self):
        super().eof_received()
        return True


async def test_eof_received_that_returns_true_keeps_the_other_way(loop):
    async with one_end(KeepsOpen) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: "eof" in protocol.events)
        await asyncio.sleep(0.02)
        assert not transport.is_closing()
        transport.write(BIG)
        transport.close()
        assert await read_all(peer) == BIG
        assert await protocol.lost is None
        assert protocol.events.count("eof") == 1


async def test_write_in_eof_received_is_sent(loop):
    class Answering(Recorder):
        def eof_received(self):
            super().eof_received()
            self.transport.write(BIG)

    async with one_end(Answering, small=True) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        assert await read_all(peer) == BIG
        assert await protocol.lost is None


# --- resets and other errors


async def test_reset_is_reported(loop):
    async with one_end() as (transport, protocol, peer):
        reset(peer)
        exception = await protocol.lost
        assert type(exception) is ConnectionResetError
        assert exception.errno == errno.ECONNRESET
        assert protocol.events == ["made", "lost"]


async def test_reset_while_writing_is_reported(loop):
    async with one_end(KeepsOpen, small=True) as (transport, protocol, peer):
        transport.pause_reading()
        transport.write(BIG)
        await asyncio.sleep(0.02)
        reset(peer)
        assert isinstance(await protocol.lost, (ConnectionResetError, BrokenPipeError))
        assert transport.is_closing()


async def test_stream_reader_gets_the_reset(loop):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        peer, _ = listener.accept()
        reading = asyncio.create_task(reader.read(10))
        await turns()
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await reading
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


# --- protocols that raise


class Failing(Recorder):
    fails_in = None

    def fail(self, place):
        if place == self.fails_in:
            raise ZeroDivisionError(place)

    def data_received(self, data):
        self.fail("data_received")
        super().data_received(data)

    def eof_received(self):
        self.fail("eof_received")

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self.fail("connection_lost")


class BufferedFailing(BufferedRecorder, Failing):
    def get_buffer(self, sizehint):
        self.fail("get_buffer")
        return bytearray() if self.fails_in == "empty" else self.buffer

    def buffer_updated(self, count):
        self.fail("buffer_updated")
        super().buffer_updated(count)


@pytest.mark.parametrize(
    "factory, place, message",
    [
        (Failing, "data_received", "Fatal error: protocol.data_received() call failed."),
        (Failing, "eof_received", "Fatal error: protocol.eof_received() call failed."),
        (BufferedFailing, "get_buffer", "Fatal error: protocol.get_buffer() call failed."),
        (BufferedFailing, "buffer_updated", "Fatal error: protocol.buffer_updated() call failed."),
    ],
)
async def test_protocol_that_raises_loses_its_connection(loop, loop_errors, factory, place, message):
    async with one_end(factory) as (transport, protocol, peer):
        protocol.fails_in = place
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        exception = await protocol.lost
        assert isinstance(exception, ZeroDivisionError) and exception.args == (place,)
        [context] = loop_errors
        loop_errors.clear()
        assert context["message"] == message
        assert context["exception"] is exception
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        assert transport.is_closing()


async def test_empty_buffer_is_an_error(loop, loop_errors):
    async with one_end(BufferedFailing) as (transport, protocol, peer):
        protocol.fails_in = "empty"
        peer.sendall(b"x")
        assert isinstance(await protocol.lost, RuntimeError)
        [context] = loop_errors
        loop_errors.clear()
        assert context["message"] == "Fatal error: protocol.get_buffer() call failed."
        assert str(context["exception"]) == "get_buffer() returned an empty buffer"


@pytest.mark.parametrize("wrong", [None, "text", b"read only"])
async def test_wrong_buffer_is_an_error(loop, loop_errors, wrong):
    async with one_end(BufferedFailing) as (transport, protocol, peer):
        protocol.get_buffer = lambda sizehint: wrong
        peer.sendall(b"x")
        assert isinstance(await protocol.lost, (TypeError, BufferError))
        assert loop_errors
        loop_errors.clear()


async def test_connection_lost_that_raises(loop, loop_errors):
    async with one_end(Failing) as (transport, protocol, peer):
        protocol.fails_in = "connection_lost"
        transport.close()
        await protocol.lost
        await until(lambda: loop_errors)
        assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)
        assert peer.recv(10) == b""


async def test_connection_made_that_raises(loop, loop_errors):
    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ZeroDivisionError

    async with one_end(Protocol) as (transport, protocol, peer):
        await until(lambda: loop_errors)
        assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)


# --- what is left


async def test_closed_transport_lets_go_of_its_protocol(loop):
    async with one_end() as (transport, protocol, peer):
        transport.close()
        await protocol.lost
    gone = weakref.ref(protocol), weakref.ref(transport)
    del protocol, transport
    await turns()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_unclosed_transport_of_a_dropped_loop_warns(loop_factory, no_leaks):
    async def main(sock):
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Recorder, sock)
        await turns()
        return weakref.ref(transport)

    left, right = socket.socketpair()
    left.setblocking(False)
    loop = loop_factory()
    gone = loop.run_until_complete(main(left))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop, left
        gc.collect()
    messages = [str(warning.message) for warning in caught]
    caught.clear()  # a ResourceWarning holds its source, which Python 3.15 leaves its weak references then
    gc.collect()
    assert gone() is None
    assert any(message.startswith("unclosed transport <") for message in messages)
    assert any(message.startswith("unclosed event loop <") for message in messages)
    assert right.recv(10) == b""
    right.close()


@pytest.mark.ours("asyncio's transport, made by half, has a __del__ that fails")
@pytest.mark.parametrize("connect", ["connect_read_pipe", "connect_write_pipe"])
def test_loop_closed_while_a_pipe_is_asked_for_its_number(loop_factory, connect):
    loop = loop_factory()

    class Pipe(socket.socket):
        def fileno(self):
            loop.close()
            return super().fileno()

    ours, peer = socket.socketpair()
    with Pipe(fileno=ours.detach()) as pipe, peer:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            getattr(loop, connect)(asyncio.Protocol, pipe).send(None)


@pytest.mark.ours("a transport of asyncio's does not end what was watched before")
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_loop_closed_by_the_end_of_what_a_transport_replaces(loop_factory, kind):
    loop = loop_factory()

    class Watching:
        def __call__(self):
            pass

        def __del__(self):
            loop.close()

    ours, peer = socket.socketpair(socket.AF_UNIX, kind)
    make = loop._make_socket_transport if kind == socket.SOCK_STREAM else loop._make_datagram_transport
    with ours, peer:
        loop.add_reader(ours, Watching())
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            make(ours, asyncio.Protocol())


@pytest.mark.ours("asyncio's sock_recv() watches the socket before it waits")
def test_loop_closed_while_a_socket_begins_to_wait(loop_factory):
    loop = loop_factory()

    class Closing(asyncio.Future):
        def __await__(self):
            loop.close()
            return super().__await__()

    loop.create_future = lambda: Closing(loop=loop)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer, pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(ours, 100).send(None)


async def test_file_descriptor_is_closed_only_once(loop):
    """After close its number may belong to somebody else at once."""
    async with one_end() as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")
        number = sock.fileno()
        transport.close()
        await protocol.lost
        await turns()
        assert sock.fileno() == -1
        left, right = socket.socketpair()
        assert number in (left.fileno(), right.fileno())
        transport.close()
        del sock, transport, protocol
        gc.collect()
        left.send(b"still open")
        assert right.recv(100) == b"still open"
        left.close()
        right.close()


async def test_what_a_lost_transport_tells(loop):
    left, right = socket.socketpair()
    with right:
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        sock = transport.get_extra_info("socket")
        transport.close()
        await protocol.lost
        assert sock.fileno() == -1 and transport.get_extra_info("socket").fileno() == -1
        assert transport.get_extra_info("sockname") == ""
        assert transport.is_closing() and transport.get_write_buffer_size() == 0
        transport.write(b"nobody hears this")
        transport.close()
        transport.abort()


async def test_the_waiter_for_an_empty_buffer(loop):
    """_make_empty_waiter() is what asyncio's sendfile() calls."""
    left, right = socket.socketpair()
    with right:
        right.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        assert transport._make_empty_waiter().done()
        with pytest.raises(RuntimeError, match="Empty waiter is already set"):
            transport._make_empty_waiter()
        transport._reset_empty_waiter()
        transport.write(bytes(1 << 20))
        waiter = transport._make_empty_waiter()
        assert not waiter.done()
        with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
            transport.write(b"x")
        received = 0
        while received < 1 << 20:
            received += len(await loop.sock_recv(right, 1 << 20))
        await waiter
        transport._reset_empty_waiter()
        transport.write(bytes(1 << 22))
        waiter = transport._make_empty_waiter()
        transport.abort()
        await protocol.lost
        with pytest.raises(ConnectionError, match="Connection is closed by peer"):
            await waiter
        transport._reset_empty_waiter()
        with pytest.raises(AttributeError):
            transport._make_empty_waiter()


async def test_fatal_error_as_other_transports_call_it(loop, loop_errors):
    left, right = socket.socketpair()
    with right:
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        error = ZeroDivisionError("on purpose")
        transport._fatal_error(error, "A message")
        assert await protocol.lost is error
        (context,) = loop_errors
        assert context["message"] == "A message" and context["exception"] is error
        assert context["transport"] is transport and context["protocol"] is protocol
        loop_errors.clear()
    left, right = socket.socketpair()
    with right:
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        transport._fatal_error(OSError(errno.EIO, "on purpose"))
        assert (await protocol.lost).errno == errno.EIO
