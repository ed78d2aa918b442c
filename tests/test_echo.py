# SPDX-License-Identifier: MIT
"""Bytes go out and come back, all of them and in order: TCP and Unix, Protocol, BufferedProtocol and streams."""

import asyncio
import random
import socket

import pytest

from support import BufferedRecorder, Echo, Recorder, connection, one_end, pattern, read_all, until, within

SIZES = [0, 1, 2, 1000, 65535, 65536, 65537, 262144, 262145, 1 << 20, 8 << 20]


class BufferedEcho(BufferedRecorder):
    def buffer_updated(self, count):
        self.transport.write(bytes(memoryview(self.buffer)[:count]))

    pause_writing = Echo.pause_writing
    resume_writing = Echo.resume_writing


@pytest.fixture(params=["tcp", "unix"])
def path(request, tmp_path):
    """Where the Unix socket is to be, or None for TCP."""
    return None if request.param == "tcp" else str(tmp_path / "socket")


@pytest.mark.parametrize("client, server", [(Recorder, Echo), (BufferedRecorder, BufferedEcho)])
@pytest.mark.parametrize("size", SIZES)
async def test_protocols(loop, path, client, server, size):
    data = pattern(size)
    async with connection(client, server, path=path) as pair:
        pair.client.write(data)
        pair.client.write_eof()
        assert await within(pair.client_protocol.lost) is None
        assert pair.client_protocol.data == data
        assert pair.client_protocol.events[-2:] == ["eof", "lost"]


@pytest.mark.parametrize("size", SIZES)
async def test_streams(loop, path, size):
    data = pattern(size)
    done = loop.create_future()

    async def echo(reader, writer):
        while chunk := await reader.read(100_000):
            writer.write(chunk)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        done.set_result(None)

    if path is None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    else:
        server = await asyncio.start_unix_server(echo, path)
        reader, writer = await asyncio.open_unix_connection(path)

    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with server:
        _, echoed = await asyncio.gather(send(), reader.read())
        assert echoed == data
        writer.close()
        await writer.wait_closed()
        await done


async def test_many_small_writes_arrive_in_order(loop, path):
    lines = [b"%d\n" % number for number in range(20000)]
    async with connection(path=path) as pair:
        for number, line in enumerate(lines):
            pair.client.write(line)
            if number % 1000 == 0:
                await asyncio.sleep(0)
        pair.client.close()
        await pair.server_protocol.lost
        assert pair.server_protocol.data == b"".join(lines)


async def test_random_writes_reads_and_pauses(loop, path):
    """Both ways at once, in pieces of any size, with readers that stop now and then."""
    chance = random.Random(7)
    data = {name: pattern(3 << 20, seed) for seed, name in enumerate(("client", "server"))}

    async def send(transport, protocol, data):
        place = 0
        while place < len(data):
            size = chance.choice([1, 10, 1000, 50_000, 300_000])
            transport.write(data[place : place + size])
            place += size
            while protocol.paused:
                await asyncio.sleep(0.001)
            if chance.random() < 0.3:
                await asyncio.sleep(0)

    async def hinder(transport, protocol):
        while len(protocol.data) < 3 << 20:
            transport.pause_reading()
            await asyncio.sleep(chance.random() * 0.002)
            transport.resume_reading()
            await asyncio.sleep(chance.random() * 0.01)

    async with connection(path=path) as pair:
        await asyncio.gather(
            send(pair.client, pair.client_protocol, data["client"]),
            send(pair.server_transport, pair.server_protocol, data["server"]),
            hinder(pair.client, pair.client_protocol),
            hinder(pair.server_transport, pair.server_protocol),
        )
        await until(lambda: len(pair.server_protocol.data) == len(pair.client_protocol.data) == 3 << 20)
        assert pair.client_protocol.data == data["server"]
        assert pair.server_protocol.data == data["client"]


async def test_many_connections_at_once(loop, path):
    """Fifty clients, each with bytes of its own."""

    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def client(number):
        if path is None:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        else:
            reader, writer = await asyncio.open_unix_connection(path)
        for turn in range(50):
            line = b"client %d turn %d %s\n" % (number, turn, b"x" * (number * turn))
            writer.write(line)
            assert await reader.readline() == line
        writer.close()
        await writer.wait_closed()

    server = await (
        asyncio.start_server(echo, "127.0.0.1", 0) if path is None else asyncio.start_unix_server(echo, path)
    )
    async with server:
        await asyncio.gather(*map(client, range(50)))
        await asyncio.sleep(0.05)


# --- what write() takes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("I")])
async def test_write_takes_bytes_like_objects(loop, kind):
    data = pattern(400_000)
    async with one_end() as (transport, protocol, peer):
        transport.write(kind(data))
        transport.write(kind(data))
        transport.write_eof()
        assert await read_all(peer) == data + data


async def test_write_takes_nothing_else(loop):
    async with one_end() as (transport, protocol, peer):
        for wrong in ("text", 1, None, [b"x"]):
            with pytest.raises(TypeError):
                transport.write(wrong)
        transport.write(b"fine")
        transport.write_eof()
        assert await read_all(peer) == b"fine"


@pytest.mark.ours("since 3.12 asyncio keeps the caller's object until the kernel takes it")
async def test_bytearray_changed_after_write(loop):
    """The transport takes the bytes as they are at the call: the caller may use the buffer again."""
    async with one_end(small=True) as (transport, protocol, peer):
        buffer = bytearray(pattern(2 << 20))
        expected = bytes(buffer)
        transport.write(buffer)
        assert transport.get_write_buffer_size() > 0
        buffer[:] = bytes(len(buffer))
        view = bytearray(b"x" * 1000)
        transport.write(memoryview(view))
        view[:] = b"y" * 1000
        transport.write_eof()
        assert await read_all(peer) == expected + b"x" * 1000


async def test_empty_writes(loop):
    async with one_end() as (transport, protocol, peer):
        transport.write(b"")
        transport.write(bytearray())
        transport.writelines([])
        transport.writelines([b"", b""])
        transport.write(b"x")
        transport.write_eof()
        assert await read_all(peer) == b"x"


@pytest.mark.parametrize("count, size", [(1, 10), (10, 10), (2000, 10), (100, 60_000), (1500, 3000)])
async def test_writelines(loop, count, size):
    """More pieces than one system call takes, and more than the kernel takes at once."""
    pieces = [pattern(size, seed) for seed in range(count)]
    async with one_end(small=True) as (transport, protocol, peer):
        transport.writelines(pieces)
        transport.writelines(iter(pieces))
        transport.write_eof()
        assert await read_all(peer) == b"".join(pieces) * 2


async def test_writelines_after_pending_writes_keeps_order(loop):
    async with one_end(small=True) as (transport, protocol, peer):
        first = pattern(1 << 20)
        transport.write(first)
        transport.writelines([b"second", bytearray(b"third"), memoryview(b"fourth")])
        transport.write(b"fifth")
        transport.write_eof()
        assert await read_all(peer) == first + b"secondthirdfourthfifth"


async def test_write_sends_at_once_when_nothing_is_pending(loop):
    """Without giving the loop a turn."""
    async with one_end() as (transport, protocol, peer):
        transport.write(b"now")
        assert peer.recv(100) == b"now"
        assert transport.get_write_buffer_size() == 0


# --- BufferedProtocol


async def test_buffers_of_one_byte(loop):
    async with one_end(lambda: BufferedRecorder(1)) as (transport, protocol, peer):
        peer.sendall(b"abcdefgh")
        await until(lambda: protocol.data == b"abcdefgh")


async def test_buffer_at_a_place_of_its_own(loop):
    class Parser(BufferedRecorder):
        """Gives a different part of its buffer each time."""

        place = 0

        def get_buffer(self, sizehint):
            return memoryview(self.buffer)[self.place : self.place + 7]

        def buffer_updated(self, count):
            assert 0 < count <= 7
            self.place += count

    data = pattern(5000)
    async with one_end(lambda: Parser(10000)) as (transport, protocol, peer):
        peer.sendall(data)
        await until(lambda: protocol.place == len(data))
        assert bytes(protocol.buffer[: len(data)]) == data


async def test_sizehint_is_a_number(loop):
    seen = []

    class Noting(BufferedRecorder):
        def get_buffer(self, sizehint):
            seen.append(sizehint)
            return self.buffer

    async with one_end(Noting) as (transport, protocol, peer):
        peer.sendall(b"x")
        await until(lambda: protocol.data)
    assert all(isinstance(hint, int) for hint in seen)


async def test_protocol_may_resize_its_buffer_after_the_read(loop):
    """No reference to the buffer is kept after buffer_updated: a bytearray that is exported can't be resized."""

    class Resizing(BufferedRecorder):
        def buffer_updated(self, count):
            super().buffer_updated(count)
            self.buffer = self.buffer if len(self.data) % 2 else bytearray(100)
            self.waiting = True

    async with one_end(lambda: Resizing(100)) as (transport, protocol, peer):
        for number in range(1, 20):
            peer.sendall(b"x")
            await until(lambda: len(protocol.data) == number)
            protocol.buffer.extend(b"more")


async def test_peer_that_sends_out_of_band_bytes(loop):
    """Urgent data is not part of the stream and must not disturb it."""
    async with one_end() as (transport, protocol, peer):
        peer.sendall(b"before")
        peer.send(b"!", socket.MSG_OOB)
        peer.sendall(b"after")
        await until(lambda: len(protocol.data) >= 11)
        assert protocol.data == b"beforeafter"
