# SPDX-License-Identifier: MIT
"""loop.sendfile and loop.sock_sendfile: whole files and parts, fallbacks, and what the transport is like afterwards."""

import asyncio
import io
import os
import socket

import pytest

from support import one_end, pattern, read_all, turns, until

DATA = pattern(3 << 20)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(path, "rb") as file:
        yield file


@pytest.fixture
def tcp():
    """A connected pair of sockets: non-blocking, blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=30)
        server, _ = listener.accept()
    with client, server:
        server.setblocking(False)
        yield server, client


# --- transports


async def test_whole_file(loop, file):
    async with one_end(small=True) as (transport, protocol, peer):
        reading = asyncio.create_task(read_all(peer))
        assert await loop.sendfile(transport, file) == len(DATA)
        transport.close()
        assert await reading == DATA
        assert file.tell() == len(DATA)


@pytest.mark.parametrize(
    "offset, count", [(0, 1), (1000, 5000), (len(DATA) - 10, None), (0, len(DATA)), (5, 10 * len(DATA))]
)
async def test_part_of_a_file(loop, file, offset, count):
    expected = DATA[offset:][:count]
    async with one_end() as (transport, protocol, peer):
        reading = asyncio.create_task(read_all(peer))
        assert await loop.sendfile(transport, file, offset, count) == len(expected)
        transport.close()
        assert await reading == expected
        assert file.tell() == offset + len(expected)


async def test_between_writes(loop, file):
    async with one_end(small=True) as (transport, protocol, peer):
        reading = asyncio.create_task(read_all(peer))
        transport.write(DATA[:500_000])
        assert await loop.sendfile(transport, file) == len(DATA)
        transport.write(b"the end")
        transport.close()
        assert await reading == DATA[:500_000] + DATA + b"the end"


async def test_twice(loop, file):
    async with one_end() as (transport, protocol, peer):
        reading = asyncio.create_task(read_all(peer))
        for _ in range(2):
            await loop.sendfile(transport, file)
        transport.close()
        assert await reading == DATA * 2


async def test_the_transport_reads_on_afterwards(loop, file):
    async with one_end() as (transport, protocol, peer):
        peer.sendall(b"before ")
        sending = asyncio.create_task(loop.sendfile(transport, file))
        received = 0
        while received < len(DATA):
            received += len(await asyncio.to_thread(peer.recv, 1 << 20))
        await sending
        peer.sendall(b"after")
        await until(lambda: protocol.data == b"before after")
        assert transport.is_reading()
        assert not os.get_blocking(transport.get_extra_info("socket").fileno())


async def test_a_paused_transport_stays_paused(loop, file):
    async with one_end() as (transport, protocol, peer):
        transport.pause_reading()
        reading = asyncio.create_task(read_all(peer))
        await loop.sendfile(transport, file)
        assert not transport.is_reading()
        transport.close()
        assert await reading == DATA


async def test_empty_file(loop, tmp_path):
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as file:
        async with one_end() as (transport, protocol, peer):
            assert await loop.sendfile(transport, file) == 0
            transport.write(b"x")
            transport.close()
            assert await read_all(peer) == b"x"


async def test_file_without_a_descriptor_falls_back(loop):
    async with one_end() as (transport, protocol, peer):
        reading = asyncio.create_task(read_all(peer))
        assert await loop.sendfile(transport, io.BytesIO(DATA), 10, 1000) == 1000
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(transport, io.BytesIO(DATA), fallback=False)
        transport.close()
        assert await reading == DATA[10:1010]


async def test_wrong_arguments(loop, file, tmp_path):
    async with one_end() as (transport, protocol, peer):
        with pytest.raises(ValueError, match="count must be a positive integer"):
            await loop.sendfile(transport, file, 0, -1)
        with pytest.raises(TypeError, match="offset must be a non-negative integer"):
            await loop.sendfile(transport, file, "x")
        with open(tmp_path / "text", "w") as text:
            with pytest.raises(ValueError, match="file should be opened in binary mode"):
                await loop.sendfile(transport, text)
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, file)


async def test_peer_that_leaves(loop, file):
    async with one_end(small=True) as (transport, protocol, peer):
        sending = asyncio.create_task(loop.sendfile(transport, file))
        await asyncio.sleep(0.02)
        peer.close()
        with pytest.raises(ConnectionError):
            await sending
        if not protocol.lost.done():
            transport.close()
        await protocol.lost


async def test_cancelled(loop, file):
    """The transport can be used on."""
    async with one_end(small=True) as (transport, protocol, peer):
        sending = asyncio.create_task(loop.sendfile(transport, file))
        await asyncio.sleep(0.02)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        transport.write(b"the end")
        transport.close()
        received = await read_all(peer)
        assert received.endswith(b"the end")
        assert DATA.startswith(received[: -len(b"the end")])


async def test_over_unix_sockets(loop, file, socket_pair):
    left, right = socket_pair
    transport, protocol = await loop.connect_accepted_socket(asyncio.Protocol, left)
    right.setblocking(True)
    reading = asyncio.create_task(read_all(right))
    assert await loop.sendfile(transport, file) == len(DATA)
    transport.close()
    assert await reading == DATA
    await turns()


# --- sockets


async def test_sock_sendfile(loop, file, tcp):
    server, client = tcp
    reading = asyncio.create_task(read_all(client))
    assert await loop.sock_sendfile(server, file) == len(DATA)
    server.close()
    assert await reading == DATA
    assert file.tell() == len(DATA)


async def test_sock_sendfile_part(loop, file, tcp):
    server, client = tcp
    reading = asyncio.create_task(read_all(client))
    assert await loop.sock_sendfile(server, file, 100, 2000) == 2000
    server.close()
    assert await reading == DATA[100:2100]
    assert file.tell() == 2100


async def test_sock_sendfile_falls_back(loop, tcp):
    server, client = tcp
    reading = asyncio.create_task(read_all(client))
    assert await loop.sock_sendfile(server, io.BytesIO(DATA), 7) == len(DATA) - 7
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await loop.sock_sendfile(server, io.BytesIO(DATA), fallback=False)
    server.close()
    assert await reading == DATA[7:]


async def test_sock_sendfile_cancelled(loop, file, tcp):
    server, client = tcp
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    sending = asyncio.create_task(loop.sock_sendfile(server, file))
    await asyncio.sleep(0.02)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert loop.remove_writer(server) is False
    server.close()
    assert DATA.startswith(await read_all(client))


async def test_sock_sendfile_wants_a_nonblocking_stream(loop, file):
    loop.set_debug(True)
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_sendfile(sock, file)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
            await loop.sock_sendfile(sock, file)
