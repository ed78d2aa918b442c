# SPDX-License-Identifier: MIT
"""connect_read_pipe and connect_write_pipe: pipes, FIFOs, sockets, terminals, devices."""

import asyncio
import contextlib
import os
import pty
import socket
import threading
import time

import pytest

from support import Recorder, pattern, turns, until

BIG = pattern(4 << 20)


def pipe():
    read, write = os.pipe()
    return open(read, "rb", 0), open(write, "wb", 0)


async def read_end(loop, file, factory=Recorder):
    return await loop.connect_read_pipe(factory, file)


async def write_end(loop, file, factory=Recorder):
    return await loop.connect_write_pipe(factory, file)


def drain(fd):
    """Everything from a file descriptor until its end, on another thread."""
    os.set_blocking(fd, True)

    def read():
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)

    return asyncio.to_thread(read)


# --- reading


async def test_read_pipe(loop):
    read, write = pipe()
    transport, protocol = await read_end(loop, read)
    assert protocol.events == ["made"]
    write.write(b"hello")
    await until(lambda: protocol.data == b"hello")
    write.close()
    assert await protocol.lost is None
    assert protocol.events == ["made", "data", "eof", "lost"]
    await turns()
    assert read.closed


async def test_read_pipe_big(loop):
    read, write = pipe()
    transport, protocol = await read_end(loop, read)

    def send():
        with write:
            view = memoryview(BIG)
            while view:
                view = view[write.write(view) :]

    await asyncio.gather(asyncio.to_thread(send), protocol.lost)
    assert protocol.data == BIG


async def test_read_pipe_pause(loop):
    read, write = pipe()
    transport, protocol = await read_end(loop, read)
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    write.write(b"x")
    await asyncio.sleep(0.03)
    assert protocol.data == b""
    transport.resume_reading()
    await until(lambda: protocol.data == b"x")
    transport.pause_reading()
    write.close()
    before = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - before < 0.15
    assert protocol.events == ["made", "data"]
    transport.resume_reading()
    await protocol.lost


async def test_read_pipe_close(loop):
    read, write = pipe()
    transport, protocol = await read_end(loop, read)
    write.write(b"too late")
    transport.close()
    assert transport.is_closing()
    assert await protocol.lost is None
    assert protocol.events == ["made", "lost"]
    await turns()
    with pytest.raises(BrokenPipeError):
        write.write(b"x")
    write.close()


async def test_stream_reader_on_a_pipe(loop):
    read, write = pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), read)
    write.write(b"one\ntwo\n")
    write.close()
    assert await reader.readline() == b"one\n"
    assert await reader.read() == b"two\n"
    transport.close()
    await turns()


# --- writing


async def test_write_pipe(loop):
    read, write = pipe()
    transport, protocol = await write_end(loop, write)
    transport.write(b"hello")
    assert read.read(100) == b"hello"
    transport.writelines([b" and", b" more"])
    transport.close()
    assert await protocol.lost is None
    assert read.read(100) == b" and more"
    assert read.read(100) == b""
    read.close()
    await turns()
    assert write.closed


async def test_write_pipe_big(loop):
    read, write = pipe()
    transport, protocol = await write_end(loop, write)
    transport.write(BIG)
    assert protocol.paused
    assert transport.get_write_buffer_size() > 0
    assert transport.can_write_eof()
    transport.write_eof()
    assert await drain(read.fileno()) == BIG
    assert await protocol.lost is None
    assert protocol.events[:2] == ["made", "pause"] and protocol.events[-1] == "lost"
    read.close()


async def test_write_pipe_abort(loop):
    read, write = pipe()
    transport, protocol = await write_end(loop, write)
    transport.write(BIG)
    transport.abort()
    assert await protocol.lost is None
    assert len(await drain(read.fileno())) < len(BIG)
    read.close()


@pytest.mark.parametrize("pending", [False, True])
async def test_write_pipe_learns_that_its_reader_left(loop, pending):
    read, write = pipe()
    transport, protocol = await write_end(loop, write)
    if pending:
        transport.write(BIG)
    await turns()
    read.close()
    exception = await protocol.lost
    assert exception is None or isinstance(exception, BrokenPipeError)
    assert isinstance(exception, BrokenPipeError) or not pending
    assert transport.is_closing()


async def test_write_pipe_that_waits_costs_no_cpu(loop):
    read, write = pipe()
    transport, protocol = await write_end(loop, write)
    transport.write(BIG)
    before = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - before < 0.15
    transport.abort()
    await protocol.lost
    read.close()


async def test_write_pipe_keeps_the_bytes_of_the_call(loop):
    read, write = pipe()
    transport, protocol = await write_end(loop, write)
    buffer = bytearray(BIG)
    transport.write(buffer)
    buffer[:] = bytes(len(buffer))
    transport.close()
    assert await drain(read.fileno()) == BIG
    await protocol.lost
    read.close()


async def test_both_ends_on_the_loop(loop):
    read, write = pipe()
    reading, reader = await read_end(loop, read)
    writing, writer = await write_end(loop, write)
    writing.write(BIG)
    writing.write_eof()
    assert await reader.lost is None
    assert await writer.lost is None
    assert reader.data == BIG


# --- other kinds of files


async def test_fifo(loop, tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    read = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
    write = open(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb", 0)
    reading, reader = await read_end(loop, read)
    writing, writer = await write_end(loop, write)
    writing.write(BIG)
    writing.close()
    assert await reader.lost is None
    assert reader.data == BIG
    assert await writer.lost is None


async def test_socket_as_both_pipes(loop):
    left, right = socket.socketpair()
    reading, reader = await read_end(loop, left)
    writing, writer = await write_end(loop, right)
    writing.write(BIG)
    await until(lambda: len(reader.data) == len(BIG))
    assert reader.data == BIG
    reading.close()
    await reader.lost
    exception = await writer.lost
    assert exception is None or isinstance(exception, (BrokenPipeError, ConnectionResetError))


async def test_terminal(loop):
    ours, theirs = pty.openpty()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, ours)
        stack.callback(os.close, theirs)
        reading, reader = await read_end(loop, open(os.dup(theirs), "rb", 0))
        writing, writer = await write_end(loop, open(os.dup(theirs), "wb", 0))
        os.write(ours, b"typed\n")
        await until(lambda: reader.data == b"typed\n")
        writing.write(b"shown\n")
        shown = b""
        while b"shown" not in shown:
            shown += os.read(ours, 100)
        reading.close()
        writing.close()
        await reader.lost
        await writer.lost


async def test_dev_null_for_writing(loop):
    transport, protocol = await write_end(loop, open("/dev/null", "wb", 0))
    for _ in range(10):
        transport.write(BIG)
    transport.write(b"end")
    await turns()
    assert transport.get_write_buffer_size() == 0
    assert not protocol.lost.done()
    transport.close()
    assert await protocol.lost is None


async def test_regular_files_are_refused(loop, tmp_path):
    with open(tmp_path / "file", "w+b", 0) as file:
        with pytest.raises(ValueError, match="Pipe transport is for pipes/sockets only"):
            await loop.connect_read_pipe(Recorder, file)
        with pytest.raises(ValueError, match="Pipe transport is only for pipes, sockets and character devices"):
            await loop.connect_write_pipe(Recorder, file)
        assert not file.closed


# --- what a transport tells


async def test_extra_info_types_and_repr(loop):
    read, write = pipe()
    reading, reader = await read_end(loop, read)
    writing, writer = await write_end(loop, write)
    assert reading.get_extra_info("pipe") is read
    assert writing.get_extra_info("pipe") is write
    assert isinstance(reading, asyncio.ReadTransport)
    assert isinstance(writing, asyncio.WriteTransport)
    assert f"fd={read.fileno()}" in repr(reading)
    assert f"fd={write.fileno()}" in repr(writing)
    assert reading.get_protocol() is reader and writing.get_protocol() is writer
    assert writing.get_write_buffer_limits() == (16384, 65536)
    writing.close()
    await writer.lost
    await reader.lost
    await turns()
    assert "closed" in repr(reading) and "closed" in repr(writing)


async def test_set_protocol(loop):
    read, write = pipe()
    transport, protocol = await read_end(loop, read)
    second = Recorder()
    second.events.append("set")
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    write.write(b"x")
    write.close()
    await second.lost
    assert second.data == b"x" and protocol.data == b""


async def test_write_after_close_is_dropped(loop, caplog):
    read, write = pipe()
    transport, protocol = await write_end(loop, write)
    transport.abort()
    for _ in range(8):
        transport.write(b"x")
    assert any(
        "pipe closed by peer or os.write(pipe, data) raised exception." in r.getMessage() for r in caplog.records
    )
    await protocol.lost
    read.close()


async def test_data_received_that_raises(loop, loop_errors):
    class Failing(Recorder):
        def data_received(self, data):
            raise ZeroDivisionError

    read, write = pipe()
    transport, protocol = await read_end(loop, read, Failing)
    write.write(b"x")
    await until(lambda: loop_errors)
    assert isinstance(loop_errors[0]["exception"], ZeroDivisionError)
    loop_errors.clear()
    if not protocol.lost.done():
        transport.close()
    await protocol.lost
    write.close()


@pytest.mark.ours("asyncio's goes on behind the bytes that were lost; see docs/differences.md")
async def test_no_memory_for_what_was_read(loop, loop_errors):
    class Failing(Recorder):
        def data_received(self, data):
            raise MemoryError

    read, write = pipe()
    _, protocol = await read_end(loop, read, Failing)
    write.write(b"x")
    assert isinstance(await protocol.lost, MemoryError)
    assert isinstance(loop_errors.pop()["exception"], MemoryError)
    write.close()


async def test_the_other_holders_of_a_pipe_keep_it(loop):
    """Closing the transport closes its own file, not a duplicate of it."""
    read, write = pipe()
    copy = open(os.dup(write.fileno()), "wb", 0)
    transport, protocol = await write_end(loop, write)
    transport.close()
    await protocol.lost
    os.set_blocking(copy.fileno(), True)
    copy.write(b"still open")
    assert read.read(100) == b"still open"
    copy.close()
    read.close()


async def test_pipe_in_a_thread_that_blocks(loop):
    """A blocking writer in a thread, a reader on the loop."""
    read, write = pipe()
    transport, protocol = await read_end(loop, read)
    thread = threading.Thread(
        target=lambda: [write.write(b"%d\n" % number) for number in range(1000)] and write.close()
    )
    thread.start()
    await protocol.lost
    thread.join()
    assert protocol.data == b"".join(b"%d\n" % number for number in range(1000))


@pytest.mark.parametrize("data", ["text", 5, None, [b"x"]])
async def test_what_a_pipe_does_not_take(loop, data):
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0), open(write_end, "wb", 0) as writer:
        transport, protocol = await loop.connect_write_pipe(Recorder, writer)
        with pytest.raises(AssertionError):
            transport.write(data)
        transport.close()
        assert await protocol.lost is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of asyncio's half-made transports
@pytest.mark.parametrize("connect", ["connect_read_pipe", "connect_write_pipe"])
async def test_what_is_no_pipe(loop, connect, tmp_path):
    class NoNumber:
        def fileno(self):
            return "a number"

        def close(self):
            pass

    class Closed(NoNumber):
        def fileno(self):
            return number

    with open(tmp_path / "file", "wb") as file:
        with pytest.raises(ValueError, match="ipe transport is"):
            await getattr(loop, connect)(Recorder, file)
    with pytest.raises(TypeError):
        await getattr(loop, connect)(Recorder, NoNumber())
    with pytest.raises(AttributeError):
        await getattr(loop, connect)(Recorder, object())
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await getattr(loop, connect)(Recorder, Closed())
