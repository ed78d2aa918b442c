# SPDX-License-Identifier: MIT
"""Back pressure both ways: watermarks, pause_writing and resume_writing, pause_reading and resume_reading."""

import asyncio
import contextvars
import time
from fractions import Fraction

import pytest

from support import Recorder, one_end, pattern, read_all, reset, turns, until

VAR = contextvars.ContextVar("VAR", default="unset")
BIG = pattern(4 << 20)


# --- writing


async def test_pause_and_resume_writing(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.write(BIG)
        assert protocol.paused
        assert transport.get_write_buffer_size() > 1 << 20
        transport.write(b"end")
        assert protocol.events.count("pause") == 1
        transport.write_eof()
        assert await read_all(peer) == BIG + b"end"
        await until(lambda: not protocol.paused)
        assert transport.get_write_buffer_size() == 0
        assert protocol.events.count("pause") == protocol.events.count("resume") == 1


async def test_pause_writing_is_called_inside_write(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.write(BIG)
        assert protocol.events[-1] == "pause"


async def test_nothing_is_paused_below_the_high_mark(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100 << 20)
        transport.write(BIG)
        assert not protocol.paused
        assert transport.get_write_buffer_size() > 1 << 20
        transport.write_eof()
        assert await read_all(peer) == BIG
        assert "pause" not in protocol.events


async def test_resume_comes_at_the_low_mark(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=1 << 20, low=1 << 19)
        transport.write(BIG)
        sizes = []
        resume = protocol.resume_writing
        protocol.resume_writing = lambda: (sizes.append(transport.get_write_buffer_size()), resume())
        transport.write_eof()
        assert await read_all(peer) == BIG
        await until(lambda: sizes)
        assert sizes[0] <= 1 << 19


async def test_low_mark_zero_resumes_when_all_is_written(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        transport.write(BIG)
        assert protocol.paused
        transport.write_eof()
        assert await read_all(peer) == BIG
        await until(lambda: not protocol.paused)


async def test_limits(loop):
    async with one_end() as (transport, protocol, peer):
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=1000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        transport.set_write_buffer_limits(high=10, low=5)
        assert transport.get_write_buffer_limits() == (5, 10)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        with pytest.raises(ValueError, match=r"high \(5\) must be >= low \(10\) must be >= 0"):
            transport.set_write_buffer_limits(high=5, low=10)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=5, low=-1)
        assert transport.get_write_buffer_limits() == (16384, 65536)


@pytest.mark.parametrize("high", [1 << 80, 1e30, float("inf"), Fraction(1 << 80)], ids=str)
async def test_a_limit_beyond_all_memory(loop, high):
    async with one_end(small=True) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=high, low=0)
        transport.write(BIG)
        assert not protocol.paused
        transport.set_write_buffer_limits(high=high, low=high)
        transport.write(b"end")
        transport.write_eof()
        assert await read_all(peer) == BIG + b"end"
        assert "pause" not in protocol.events


@pytest.mark.parametrize(
    "limits", [{"high": "x"}, {"high": 5, "low": "x"}, {"low": "x"}, {"high": 1j}, {"high": []}], ids=str
)
async def test_limits_that_are_no_numbers(loop, limits):
    async with one_end() as (transport, protocol, peer):
        before = transport.get_write_buffer_limits()
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits(**limits)
        assert transport.get_write_buffer_limits() == before


async def test_a_protocol_that_does_not_say_what_it_is(loop):
    """Its class is asked for; the protocol before it stays."""

    class Shy:
        @property
        def __class__(self):
            raise ZeroDivisionError("no class")

    async with one_end() as (transport, protocol, peer):
        with pytest.raises(ZeroDivisionError, match="no class"):
            transport.set_protocol(Shy())
        assert transport.get_protocol() is protocol
        peer.send(b"x")
        await until(lambda: protocol.data == b"x")


async def test_drain_waits(loop):
    async def serve(reader, writer):
        await gate.wait()
        received.append(await reader.read())
        writer.close()

    gate, received = asyncio.Event(), []
    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        data = BIG * 5
        writer.write(data)
        drain = asyncio.create_task(writer.drain())
        await asyncio.sleep(0.05)
        assert not drain.done()
        gate.set()
        await drain
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert received == [data]


async def test_pause_writing_that_raises(loop, loop_errors):
    class Failing(Recorder):
        def pause_writing(self):
            raise ZeroDivisionError

        def resume_writing(self):
            raise ZeroDivisionError

    async with one_end(Failing, small=True) as (transport, protocol, peer):
        transport.write(BIG)
        [context] = loop_errors
        assert context["message"] == "protocol.pause_writing() failed"
        assert isinstance(context["exception"], ZeroDivisionError)
        assert context["transport"] is transport and context["protocol"] is protocol
        transport.write_eof()
        assert await read_all(peer) == BIG
        await until(lambda: len(loop_errors) == 2)
        assert loop_errors[1]["message"] == "protocol.resume_writing() failed"
        loop_errors.clear()


async def test_pause_writing_runs_in_the_context_of_the_writer(loop):
    seen = []

    class Noting(Recorder):
        def pause_writing(self):
            seen.append(VAR.get())

    async with one_end(Noting, small=True) as (transport, protocol, peer):
        VAR.set("the writer's")
        transport.write(BIG)
        assert seen == ["the writer's"]


# --- reading


async def test_paused_reading_delivers_nothing(loop):
    async with one_end() as (transport, protocol, peer):
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendall(b"waits")
        await asyncio.sleep(0.05)
        assert protocol.data == b""
        transport.resume_reading()
        assert transport.is_reading()
        await until(lambda: protocol.data == b"waits")


async def test_pause_and_resume_may_be_repeated(loop):
    async with one_end() as (transport, protocol, peer):
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        peer.sendall(b"x")
        await asyncio.sleep(0.02)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        await until(lambda: protocol.data == b"x")


async def test_pause_in_data_received_ends_delivery_at_once(loop):
    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.calls = getattr(self, "calls", 0) + 1
            self.transport.pause_reading()

    async with one_end(Pausing) as (transport, protocol, peer):
        writing = asyncio.create_task(asyncio.to_thread(peer.sendall, BIG))
        await until(lambda: protocol.data)
        await asyncio.sleep(0.05)
        assert protocol.calls == 1
        while len(protocol.data) < len(BIG):
            seen = protocol.calls
            transport.resume_reading()
            await until(lambda: protocol.calls > seen)
        await writing
        assert protocol.data == BIG


async def test_pause_in_connection_made(loop):
    class Pausing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async with one_end(Pausing) as (transport, protocol, peer):
        peer.sendall(b"x")
        await asyncio.sleep(0.03)
        assert protocol.data == b"" and not transport.is_reading()
        transport.resume_reading()
        await until(lambda: protocol.data)


async def test_end_of_file_waits_while_paused(loop):
    async with one_end() as (transport, protocol, peer):
        transport.pause_reading()
        peer.sendall(b"last")
        peer.close()
        await asyncio.sleep(0.05)
        assert protocol.events == ["made"]
        transport.resume_reading()
        await protocol.lost
        assert protocol.data == b"last"
        assert protocol.events == ["made", "data", "eof", "lost"]


async def test_a_paused_reader_slows_the_sender(loop):
    async with one_end() as (transport, protocol, peer):
        transport.pause_reading()
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                peer.send(BIG)
        await asyncio.sleep(0.02)
        with pytest.raises(BlockingIOError):
            while True:
                peer.send(BIG)
        assert protocol.data == b""


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_what_happens_to_a_paused_transport_costs_no_cpu(loop, how):
    """Also an RST, which the kernel reports whether one asks or not."""
    async with one_end() as (transport, protocol, peer):
        transport.pause_reading()
        await turns()
        peer.sendall(b"x")
        reset(peer) if how == "reset" else peer.close()
        before = time.process_time()
        await asyncio.sleep(0.4)
        used = time.process_time() - before
        assert protocol.events == ["made"]
        transport.resume_reading()
        await protocol.lost
    if how == "reset":
        assert isinstance(protocol.lost.result(), ConnectionResetError)
    assert used < 0.2


async def test_pause_and_resume_after_close(loop):
    async with one_end() as (transport, protocol, peer):
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        await protocol.lost


async def test_a_fast_sender_does_not_starve_the_others(loop):
    """One connection that has always something to read, and still timers, callbacks and the others have their turn."""
    async with one_end() as (_, flooded, flooder), one_end() as (transport, protocol, peer):
        stop = asyncio.Event()

        def flood():
            flooder.settimeout(0.2)
            while not stop.is_set():
                try:
                    flooder.send(BIG)
                except TimeoutError:
                    pass

        thread = asyncio.create_task(asyncio.to_thread(flood))
        await until(lambda: flooded.data)
        for number in range(1, 50):
            peer.sendall(b"x")
            await until(lambda: len(protocol.data) == number)
            del flooded.data[:]
        stop.set()
        await thread
