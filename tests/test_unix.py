# SPDX-License-Identifier: MIT
"""Unix-domain stream sockets: paths, sockets given, clean-up, credentials.  (test_echo.py sends the bytes.)"""

import asyncio
import inspect
import os
import pathlib
import socket

import pytest

from support import Recorder, connection, until


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


async def test_extra_info(loop, path):
    async with connection(path=path) as pair:
        assert pair.client.get_extra_info("peername") == path
        assert pair.server_transport.get_extra_info("sockname") == path
        assert pair.client.get_extra_info("sockname") == ""
        assert pair.client.get_extra_info("socket").family == socket.AF_UNIX


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fsencode])
async def test_kinds_of_paths(loop, path, kind):
    server = await loop.create_unix_server(Recorder, kind(path))
    transport, protocol = await loop.create_unix_connection(Recorder, kind(path))
    transport.close()
    await protocol.lost
    server.close()
    await server.wait_closed()


async def test_path_is_there_after_create(loop, path):
    server = await loop.create_unix_server(Recorder, path)
    assert os.path.exists(path)
    assert server.sockets[0].getsockname() == path
    server.close()
    await server.wait_closed()


CLEANS_UP = "cleanup_socket" in inspect.signature(asyncio.SelectorEventLoop.create_unix_server).parameters  # 3.13


async def test_path_when_the_server_closes(loop, path):
    server = await loop.create_unix_server(Recorder, path)
    server.close()
    await server.wait_closed()
    assert os.path.exists(path) != CLEANS_UP


async def test_path_is_kept_on_demand(loop, path):
    server = await loop.create_unix_server(Recorder, path, **({"cleanup_socket": False} if CLEANS_UP else {}))
    server.close()
    await server.wait_closed()
    assert os.path.exists(path)


async def test_path_that_belongs_to_another_server_by_now_is_left_alone(loop, path):
    server = await loop.create_unix_server(Recorder, path)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        server.close()
        await server.wait_closed()
        assert os.path.exists(path)


async def test_stale_path_is_replaced(loop, path):
    """The socket file that a killed server left."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    async with connection(path=path) as pair:
        pair.client.write(b"x")
        await until(lambda: pair.server_protocol.data == b"x")


async def test_path_in_use_by_a_file(loop, path):
    pathlib.Path(path).touch()
    with pytest.raises(OSError, match="Address .* is already in use"):
        await loop.create_unix_server(Recorder, path)
    assert os.path.exists(path)


async def test_missing_path(loop, path):
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, path)


async def test_nobody_listens(loop, path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)


async def test_sockets_given(loop, path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    client = socket.socket(socket.AF_UNIX)
    protocols = []

    def accept():
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_unix_server(accept, sock=listener)
    client.connect(path)
    transport, protocol = await loop.create_unix_connection(Recorder, sock=client)
    transport.write(b"x")
    await until(lambda: protocols and protocols[0].data == b"x")
    transport.close()
    await protocol.lost
    await protocols[0].lost
    server.close()
    await server.wait_closed()


async def test_contradicting_arguments(loop, path):
    with socket.socket(socket.AF_UNIX) as sock, socket.socket() as tcp:
        for method in (loop.create_unix_connection, loop.create_unix_server):
            with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                await method(Recorder, path, sock=sock)
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                await method(Recorder, sock=tcp)
            with pytest.raises(ValueError, match="path (was|was not)|no path and sock"):
                await method(Recorder)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="no SO_PEERCRED, and no abstract names")
async def test_abstract_names_and_credentials(loop):
    name = f"\0rloop-{os.getpid()}-{id(loop)}"
    async with connection(path=name) as pair:
        assert pair.client.get_extra_info("peername") == name.encode()
        sock = pair.server_transport.get_extra_info("socket")
        assert int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little") == os.getpid()


async def test_socketpair(loop, socket_pair):
    left, right = (sock.dup() for sock in socket_pair)
    for sock in (left, right):
        sock.setblocking(False)
    one, first = await loop.connect_accepted_socket(Recorder, left)
    two, second = await loop.create_unix_connection(Recorder, sock=right)
    one.write(b"ping")
    two.write(b"pong")
    await until(lambda: (first.data, second.data) == (b"pong", b"ping"))
    one.close()
    two.close()
    await first.lost
    await second.lost


async def test_peer_that_has_gone(loop, path):
    async with connection(path=path) as pair:
        pair.server_transport.pause_reading()
        pair.client.write(b"unread")
        await asyncio.sleep(0.01)
        pair.server_transport.abort()
        exception = await pair.client_protocol.lost
        assert exception is None or isinstance(exception, (ConnectionResetError, BrokenPipeError))
