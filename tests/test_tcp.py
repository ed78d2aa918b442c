# SPDX-License-Identifier: MIT
"""Making TCP connections, and what a transport tells about itself."""

import asyncio
import contextvars
import errno
import socket
import weakref

import pytest

from support import BufferedRecorder, Echo, Recorder, connection, one_end, reset, turns, until

VAR = contextvars.ContextVar("VAR", default="unset")


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def end(transport, protocol):
    transport.abort()
    await protocol.lost


# --- create_connection


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", b"127.0.0.1"])
async def test_hosts(loop, host, listener):
    transport, protocol = await loop.create_connection(Recorder, host, listener.getsockname()[1])
    assert protocol.transport is transport
    listener.accept()[0].close()
    await protocol.lost


async def test_ipv6(loop):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        transport, protocol = await loop.create_connection(Recorder, "::1", listener.getsockname()[1])
        assert transport.get_extra_info("peername")[:2] == listener.getsockname()[:2]
        assert len(transport.get_extra_info("sockname")) == 4
        await end(transport, protocol)


async def test_ports_by_number_and_by_name(loop, listener):
    transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", str(listener.getsockname()[1]))
    await end(transport, protocol)


async def test_refused(loop):
    with pytest.raises(ConnectionRefusedError) as caught:
        await loop.create_connection(Recorder, "127.0.0.1", unused_port())
    assert caught.value.errno == errno.ECONNREFUSED
    assert "Connect call failed ('127.0.0.1', " in str(caught.value)


async def test_refused_on_every_address(loop):
    port = unused_port()
    with pytest.raises(OSError, match="Multiple exceptions|Connect call failed"):
        await loop.create_connection(Recorder, "localhost", port)


async def test_all_errors_in_a_group(loop):
    with pytest.raises(ExceptionGroup) as caught:
        await loop.create_connection(Recorder, "127.0.0.1", unused_port(), all_errors=True)
    assert caught.value.subgroup(ConnectionRefusedError)


async def test_unknown_name(loop):
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "name.invalid", 80)


async def test_contradicting_arguments(loop, listener):
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
            await loop.create_connection(Recorder, "127.0.0.1", 80, sock=sock)
    with pytest.raises(ValueError, match="host and port was not specified and no sock specified"):
        await loop.create_connection(Recorder)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await loop.create_connection(Recorder, sock=sock)
    with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
        await loop.create_connection(Recorder, "127.0.0.1", 80, server_hostname="x")


async def test_connected_socket_is_taken_over(loop, listener):
    sock = socket.create_connection(listener.getsockname())
    name = sock.getsockname()
    transport, protocol = await loop.create_connection(Recorder, sock=sock)
    assert transport.get_extra_info("sockname") == name
    peer, _ = listener.accept()
    peer.sendall(b"hello")
    await until(lambda: protocol.data == b"hello")
    peer.close()
    await protocol.lost
    await turns()
    assert sock.fileno() == -1


async def test_local_address(loop, listener):
    port = unused_port()
    transport, protocol = await loop.create_connection(
        Recorder, *listener.getsockname(), local_addr=("127.0.0.1", port)
    )
    assert transport.get_extra_info("sockname") == ("127.0.0.1", port)
    await end(transport, protocol)


async def test_local_address_in_use(loop, listener):
    with pytest.raises(OSError, match="error while attempting to bind on address"):
        await loop.create_connection(Recorder, *listener.getsockname(), local_addr=listener.getsockname())


async def test_happy_eyeballs(loop, listener):
    """The name stands for ::1 and 127.0.0.1, and only the latter listens."""
    port = listener.getsockname()[1]

    async def getaddrinfo(host, port, **kwargs):
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *stream, ("::1", port, 0, 0)),
            (socket.AF_INET, *stream, ("127.0.0.1", port)),
        ]

    loop.getaddrinfo = getaddrinfo
    transport, protocol = await loop.create_connection(
        Recorder, "two.example", port, happy_eyeballs_delay=0.05, interleave=1
    )
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    await end(transport, protocol)
    del loop.getaddrinfo


async def test_cancelled_connect_leaves_nothing(loop):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        kept = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            kept.append(sock)
        task = asyncio.create_task(loop.create_connection(Recorder, *full.getsockname()))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for sock in kept:
            sock.close()


# --- connect_accepted_socket


async def test_connect_accepted_socket(loop, listener):
    with socket.create_connection(listener.getsockname()) as client:
        accepted, address = listener.accept()
        accepted.setblocking(False)
        transport, protocol = await loop.connect_accepted_socket(Echo, accepted)
        assert transport.get_extra_info("peername") == address
        client.sendall(b"hello")
        assert await asyncio.to_thread(client.recv, 100) == b"hello"
        await end(transport, protocol)


async def test_connect_accepted_socket_wants_a_stream(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await loop.connect_accepted_socket(Recorder, sock)


@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket"])
async def test_a_transports_socket_is_refused(loop, method):
    class Copy(socket.socket):
        def close(self):  # newer Pythons close what they refuse; but the fd is the transport's
            self.detach()

    async with one_end() as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")
        copy = Copy(fileno=sock.fileno())
        try:
            with pytest.raises(RuntimeError, match="is used by transport"):
                if method == "create_connection":
                    await loop.create_connection(Recorder, sock=copy)
                else:
                    await loop.connect_accepted_socket(Recorder, copy)
        finally:
            copy.detach()


# --- what a transport tells


async def test_extra_info(loop):
    async with connection() as pair:
        client, server = pair.client, pair.server_transport
        sock = client.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.fileno() > 0 and sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
        assert client.get_extra_info("sockname") == sock.getsockname() == server.get_extra_info("peername")
        assert client.get_extra_info("peername") == sock.getpeername() == server.get_extra_info("sockname")
        assert client.get_extra_info("unknown") is None
        assert client.get_extra_info("unknown", 5) == 5
        assert client.get_extra_info("sslcontext") is None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_names_stay_after_the_close(loop):
    async with connection() as pair:
        name = pair.client.get_extra_info("sockname")
        pair.client.close()
        await pair.client_protocol.lost
        assert pair.client.get_extra_info("sockname") == name


async def test_nodelay_is_set(loop):
    async with connection() as pair:
        for transport in (pair.client, pair.server_transport):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            assert sock.gettimeout() == 0


async def test_types(loop):
    async with connection() as pair:
        for transport in (pair.client, pair.server_transport):
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.ReadTransport)
            assert isinstance(transport, asyncio.WriteTransport)
            assert weakref.ref(transport)() is transport


async def test_repr(loop):
    async with one_end() as (transport, protocol, peer):
        number = transport.get_extra_info("socket").fileno()
        assert f"fd={number}" in repr(transport)
        assert "closing" not in repr(transport)
        transport.write(bytes(8 << 20))
        transport.close()
        assert "closing" in repr(transport)
        transport.abort()
        await protocol.lost
        await turns()
        assert "closed" in repr(transport)


async def test_loop_can_be_read(loop):
    """asyncio.StreamWriter's users look at transport._loop."""
    async with one_end() as (transport, protocol, peer):
        assert transport._loop is loop


# --- protocols


async def test_connection_made_is_called_before_create_connection_returns(loop, listener):
    transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
    assert protocol.events == ["made"]
    await end(transport, protocol)


async def test_get_and_set_protocol(loop):
    async with one_end() as (transport, protocol, peer):
        assert transport.get_protocol() is protocol
        peer.sendall(b"to the first")
        await until(lambda: protocol.data)
        second = Recorder()
        second.events.append("set")
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.sendall(b"to the second")
        await until(lambda: second.data)
        assert (protocol.data, second.data) == (b"to the first", b"to the second")
        transport.close()
        await second.lost
        protocol.lost.set_result(None)


async def test_set_protocol_that_drops_the_old_one(loop):
    """What the old one's end finds is the new one, which it may replace itself."""
    found, third = [], Recorder()

    class Ending(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def __del__(self):
            found.append(self.transport.get_protocol())
            self.transport.set_protocol(third)

    ours, peer = socket.socketpair()
    transport = (await loop.create_connection(Ending, sock=ours))[0]
    await turns()
    second = Recorder()
    third.events.append("set")
    transport.set_protocol(second)
    assert found == [second]
    assert transport.get_protocol() is third
    peer.sendall(b"x")
    await until(lambda: third.data == b"x")
    reference = weakref.ref(second)
    found.clear()
    second.made = second.lost = second = None
    assert reference() is None
    transport.close()
    await third.lost
    peer.close()


async def test_set_protocol_between_the_kinds(loop):
    """From Protocol to BufferedProtocol and back, in the middle of the stream."""
    async with one_end() as (transport, protocol, peer):
        kinds = [protocol, BufferedRecorder(), Recorder(), BufferedRecorder(3)]
        for number, current in enumerate(kinds):
            if number:
                current.events.append("set")
                transport.set_protocol(current)
            peer.sendall(b"part %d" % number)
            await until(lambda: len(current.data) == 6)
            assert current.data == b"part %d" % number
        transport.close()
        await kinds[-1].lost
        protocol.lost.set_result(None)


async def test_set_protocol_in_data_received(loop):
    class First(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(second)

    async with one_end(First) as (transport, protocol, peer):
        second = Recorder()
        second.events.append("set")
        peer.sendall(bytes(1 << 20))
        await until(lambda: len(protocol.data) + len(second.data) == 1 << 20)
        assert 0 < len(protocol.data) < 1 << 20
        transport.set_protocol(protocol)


def replaced_when_asked(kind, name, second):
    """A Recorder that puts `second` in its place when asked for its method `name`, which is another one each time."""

    class First(kind):
        def __getattribute__(self, asked):
            if asked == name and self.transport.get_protocol() is self:
                self.transport.set_protocol(second)
                return lambda *args: getattr(kind, name)(self, *args)
            return super().__getattribute__(asked)

    return First


@pytest.mark.parametrize(
    "first, name, kind",
    [
        (Recorder, "data_received", Recorder),
        (Recorder, "data_received", BufferedRecorder),
        (BufferedRecorder, "get_buffer", BufferedRecorder),
        (BufferedRecorder, "buffer_updated", BufferedRecorder),
        (BufferedRecorder, "buffer_updated", Recorder),
    ],
)
async def test_set_protocol_while_a_method_is_looked_up(loop, first, name, kind):
    """The call is made; the next one is the new protocol's."""
    second = kind()
    async with one_end(replaced_when_asked(first, name, second)) as (transport, protocol, peer):
        second.events.append("set")
        peer.sendall(b"one")
        await until(lambda: len(protocol.data) + len(second.data) == 3)
        if name != "get_buffer":
            assert protocol.data == b"one"
        peer.sendall(b"two")
        await until(lambda: len(protocol.data) + len(second.data) == 6)
        assert second.data.endswith(b"two")
        transport.set_protocol(protocol)


async def test_a_protocol_without_base_class(loop):
    class Bare:
        def connection_made(self, transport):
            self.data = b""

        def data_received(self, data):
            self.data += data

        def eof_received(self):
            pass

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    def factory():
        protocol = Bare()
        protocol.lost = loop.create_future()
        return protocol

    async with one_end(factory) as (transport, protocol, peer):
        peer.sendall(b"x")
        await until(lambda: protocol.data == b"x")


async def test_each_connection_has_its_own_context(loop):
    """A variable set while one connection is made is not seen by another."""
    seen = {}

    class Marking(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            seen[id(self)] = [VAR.get()]
            VAR.set(str(id(self)))

        def data_received(self, data):
            super().data_received(data)
            seen[id(self)].append(VAR.get())

    server = await loop.create_server(Marking, "127.0.0.1", 0)
    clients = []
    for _ in range(5):
        clients.append(await loop.create_connection(Recorder, *server.sockets[0].getsockname()))
        clients[-1][0].write(b"x")
    await until(lambda: [len(values) for values in seen.values()] == [2] * 5)
    for transport, protocol in clients:
        transport.close()
        await protocol.lost
    server.close()
    await server.wait_closed()
    assert VAR.get() == "unset"
    assert [made for made, _ in seen.values()] == ["unset"] * 5
    for identity, (_, received) in seen.items():
        assert received in (str(identity), "unset")  # its own, or that of the accepting; never another's


@pytest.mark.ours
async def test_the_owner_closes_the_socket_that_it_handed_over(loop, listener):
    """asyncio's transport is cut off; ours keeps the socket open until it is done with it."""
    sock = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    with peer:
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        sock.close()
        transport.write(b"still here")
        assert peer.recv(100) == b"still here"
        transport.close()
        await protocol.lost
        assert peer.recv(100) == b""
    assert sock.fileno() == -1


async def test_debug_mode_logs_a_reset_and_the_pauses(loop, caplog):
    async with one_end() as (transport, protocol, peer):
        loop.set_debug(True)
        caplog.set_level("DEBUG", logger="asyncio")
        transport.pause_reading()
        transport.resume_reading()
        said = [record.getMessage().rpartition("> ")[2] for record in caplog.records]
        assert said == ["pauses reading", "resumes reading"]
        caplog.clear()
        reset(peer)
        assert isinstance(await protocol.lost, ConnectionResetError)
        loop.set_debug(False)
        said = [record for record in caplog.records if record.exc_info]
        assert [record.getMessage().rpartition(": ")[2] for record in said] == ["Fatal read error on socket transport"]
        assert [(record.levelname, record.exc_info[0]) for record in said] == [("DEBUG", ConnectionResetError)]


async def test_what_asyncio_itself_reads_of_a_transport(loop):
    async with connection() as pair:
        transport = pair.server_transport
        assert transport._sock_fd == transport._sock.fileno() == transport.get_extra_info("socket").fileno()
        assert transport._server is pair.server
        assert pair.client._server is None
        transport.set_write_buffer_limits(high=40)
        assert (transport._low_water, transport._high_water) == (10, 40)
        assert transport._extra["peername"] == pair.client.get_extra_info("sockname")
