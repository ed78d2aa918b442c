# SPDX-License-Identifier: MIT
"""Datagram endpoints: IPv4, IPv6 and Unix, connected or not, empty datagrams, errors, flow control."""

import asyncio
import errno
import os
import socket
import sys

import pytest

from support import Datagrams, pattern, turns, until


async def endpoint(loop, local="127.0.0.1", factory=Datagrams, **kwargs):
    if local is not None:
        kwargs["local_addr"] = (local, 0)
    transport, protocol = await loop.create_datagram_endpoint(factory, **kwargs)
    return transport, protocol


async def end(*protocols):
    for protocol in protocols:
        protocol.transport.close()
        assert await protocol.lost is None


def name(transport):
    return transport.get_extra_info("sockname")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_not_connected(loop, host):
    one, first = await endpoint(loop, host)
    two, second = await endpoint(loop, host)
    one.sendto(b"hello", name(two))
    await until(lambda: second.received)
    assert second.received == [(b"hello", name(one))]
    two.sendto(b"answer", second.received[0][1])
    await until(lambda: first.received)
    assert first.received == [(b"answer", name(two))]
    await end(first, second)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_connected(loop, host):
    two, second = await endpoint(loop, host)
    one, first = await endpoint(loop, host, remote_addr=name(two)[:2])
    assert one.get_extra_info("peername") == name(two)
    assert two.get_extra_info("peername") is None
    one.sendto(b"without an address")
    one.sendto(b"with None", None)
    one.sendto(b"with the peer's", name(two))
    await until(lambda: len(second.received) == 3)
    assert second.data == [b"without an address", b"with None", b"with the peer's"]
    with pytest.raises(ValueError, match="Invalid address: must be None or"):
        one.sendto(b"with another's", (host, 1))
    two.sendto(b"answer", name(one))
    await until(lambda: first.data == [b"answer"])
    await end(first, second)


async def test_without_a_local_address(loop):
    two, second = await endpoint(loop)
    one, first = await endpoint(loop, None, remote_addr=name(two))
    one.sendto(b"x")
    await until(lambda: second.data == [b"x"])
    await end(first, second)


@pytest.mark.parametrize("size", [1, 100, 1472, 9000, 65507])
async def test_sizes(loop, size):
    one, first = await endpoint(loop)
    two, second = await endpoint(loop)
    one.sendto(pattern(size), name(two))
    await until(lambda: second.received)
    assert second.data == [pattern(size)]
    await end(first, second)


async def test_empty_datagram_arrives(loop):
    two, second = await endpoint(loop)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", name(two))
        sock.sendto(b"x", name(two))
        await until(lambda: len(second.received) == 2)
        assert second.received == [(b"", ("127.0.0.1", sock.getsockname()[1])), (b"x", second.received[1][1])]
    await end(second)


async def test_empty_datagram_is_sent_where_asyncio_sends_it(loop):
    """Since 3.13: before that, sendto of nothing does nothing."""
    one, first = await endpoint(loop)
    two, second = await endpoint(loop)
    one.sendto(b"", name(two))
    one.sendto(b"x", name(two))
    await until(lambda: b"x" in second.data)
    assert second.data == ([b"", b"x"] if sys.version_info >= (3, 13) else [b"x"])
    await end(first, second)


async def test_burst_in_order(loop):
    one, first = await endpoint(loop)
    two, second = await endpoint(loop)
    for batch in range(10):
        for number in range(50):
            one.sendto(b"%d" % (batch * 50 + number), name(two))
        await until(lambda: len(second.received) == batch * 50 + 50)
    assert second.data == [b"%d" % number for number in range(500)]
    await end(first, second)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sendto_takes_bytes_like_objects(loop, kind):
    one, first = await endpoint(loop)
    one.sendto(kind(b"x"), name(one))
    await until(lambda: first.data == [b"x"])
    assert type(first.data[0]) is bytes
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            one.sendto(wrong, name(one))
    await end(first)


async def test_received_objects_are_independent(loop):
    """Each datagram is an object of its own, whatever comes after it."""
    one, first = await endpoint(loop)
    for number in range(3):
        one.sendto(b"%d" % number * 10, name(one))
    await until(lambda: len(first.received) == 3)
    assert first.data == [b"0" * 10, b"1" * 10, b"2" * 10]
    await end(first)


# --- errors


async def test_refused_datagram_reaches_error_received(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = sock.getsockname()
    transport, protocol = await endpoint(loop, remote_addr=nobody)
    transport.sendto(b"x")
    await until(lambda: protocol.errors)
    assert isinstance(protocol.errors[0], ConnectionRefusedError)
    assert not transport.is_closing()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(nobody)
        sock.setblocking(False)
        transport.sendto(b"again")
        transport.sendto(b"again")
        assert await loop.sock_recv(sock, 100) == b"again"
    await end(protocol)


async def test_too_large_datagram(loop):
    one, first = await endpoint(loop)
    one.sendto(bytes(70000), name(one))
    await turns()
    assert [error.errno for error in first.errors] == [errno.EMSGSIZE]
    assert not one.is_closing()
    await end(first)


async def test_datagram_received_that_raises(loop, loop_errors):
    class Failing(Datagrams):
        def datagram_received(self, data, address):
            raise ZeroDivisionError

    one, first = await endpoint(loop, factory=Failing)
    one.sendto(b"x", name(one))
    await until(lambda: loop_errors)
    assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)
    one.abort()
    await first.lost


@pytest.mark.parametrize("wrong", [("127.0.0.1",), "text", 5, ("127.0.0.1", "port")])
async def test_wrong_address_is_fatal(loop, loop_errors, wrong):
    one, first = await endpoint(loop)
    one.sendto(b"x", wrong)
    assert isinstance(await first.lost, TypeError)
    [context] = loop_errors
    loop_errors.clear()
    assert context["message"] == "Fatal write error on datagram transport"
    assert context["exception"] is first.lost.result()
    assert context["transport"] is one and context["protocol"] is first


async def test_unreachable_address_is_not(loop):
    """Broadcasting without allow_broadcast is the kernel's error, which the protocol hears of."""
    one, first = await endpoint(loop)
    one.sendto(b"x", ("255.255.255.255", 9))
    await turns()
    assert [type(error) for error in first.errors] == [PermissionError]
    await end(first)


# --- closing


async def test_close_and_abort(loop):
    one, first = await endpoint(loop)
    assert not one.is_closing()
    one.close()
    one.close()
    assert one.is_closing()
    assert await first.lost is None
    assert first.events == ["made", "lost"]
    two, second = await endpoint(loop)
    two.abort()
    assert await second.lost is None
    assert second.events == ["made", "lost"]


async def test_nothing_is_delivered_after_close(loop):
    class Closing(Datagrams):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            self.transport.close()

    one, first = await endpoint(loop, factory=Closing)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        for _ in range(3):
            sock.sendto(b"x", name(one))
    await first.lost
    await turns()
    assert first.data == [b"x"]


async def test_send_after_close_does_nothing(loop):
    one, first = await endpoint(loop)
    where = name(one)
    one.abort()
    for _ in range(3):
        one.sendto(b"x", where)
    assert await first.lost is None


async def test_flow_control(loop, tmp_path):
    """A Unix datagram socket whose reader is slow: UDP never makes its sender wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as slow:
        slow.bind(str(tmp_path / "slow"))
        slow.settimeout(20)
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams, family=socket.AF_UNIX, remote_addr=str(tmp_path / "slow")
        )
        sent = 0
        while "pause" not in protocol.events:
            transport.sendto(b"%d " % sent + bytes(20000))
            sent += 1
            assert sent < 5000
        assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
        transport.close()
        assert transport.is_closing() and not protocol.lost.done()

        def read():
            return [int(slow.recv(30000).split()[0]) for _ in range(sent)]

        assert await asyncio.to_thread(read) == list(range(sent))
        assert await protocol.lost is None
        assert protocol.events == ["made", "pause", "resume", "lost"]


async def test_write_buffer_limits(loop):
    one, first = await endpoint(loop)
    assert one.get_write_buffer_limits() == (16384, 65536)
    one.set_write_buffer_limits(high=1000, low=10)
    assert one.get_write_buffer_limits() == (10, 1000)
    assert one.get_write_buffer_size() == 0
    await end(first)


# --- making endpoints


async def test_unix_datagrams(loop, tmp_path):
    paths = [str(tmp_path / "one"), str(tmp_path / "two")]
    one, first = await loop.create_datagram_endpoint(Datagrams, family=socket.AF_UNIX, local_addr=paths[0])
    two, second = await loop.create_datagram_endpoint(
        Datagrams, family=socket.AF_UNIX, local_addr=paths[1], remote_addr=paths[0]
    )
    two.sendto(b"hello")
    await until(lambda: first.received == [(b"hello", paths[1])])
    one.sendto(b"answer", paths[1])
    await until(lambda: second.received == [(b"answer", paths[0])])
    await end(first, second)


@pytest.mark.skipif(not os.path.exists("/proc"), reason="abstract names are Linux's")
async def test_abstract_unix_datagrams(loop):
    address = f"\0rloop-udp-{os.getpid()}-{id(loop)}"
    one, first = await loop.create_datagram_endpoint(Datagrams, family=socket.AF_UNIX, local_addr=address)
    two, second = await loop.create_datagram_endpoint(Datagrams, family=socket.AF_UNIX, local_addr=address + "x")
    two.sendto(b"hello", address)
    await until(lambda: first.received == [(b"hello", (address + "x").encode())])
    await end(first, second)


async def test_socket_given(loop):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    reuse = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
    assert name(transport) == sock.getsockname()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == reuse
    transport.sendto(b"x", name(transport))
    await until(lambda: protocol.data == [b"x"])
    await end(protocol)
    await turns()
    assert sock.fileno() == -1


async def test_port_in_use(loop):
    """Nothing that the loop does on the way lets two endpoints share a port by accident."""
    one, first = await endpoint(loop)
    with pytest.raises(OSError) as caught:
        await loop.create_datagram_endpoint(Datagrams, local_addr=name(one))
    assert caught.value.errno == errno.EADDRINUSE
    await end(first)


async def test_reuse_port(loop):
    one, first = await endpoint(loop, reuse_port=True)
    two, second = await loop.create_datagram_endpoint(Datagrams, local_addr=name(one), reuse_port=True)
    assert name(one) == name(two)
    await end(first, second)


async def test_broadcast(loop):
    one, first = await endpoint(loop, allow_broadcast=True)
    sock = one.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) != 0
    await end(first)


async def test_contradicting_arguments(loop):
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A (UDP|datagram) [Ss]ocket was expected"):
            await loop.create_datagram_endpoint(Datagrams, sock=stream)
        with pytest.raises(ValueError, match="socket modifier keyword arguments can not be used"):
            await loop.create_datagram_endpoint(Datagrams, sock=sock, local_addr=("127.0.0.1", 0))
    with pytest.raises(ValueError, match="unexpected address family"):
        await loop.create_datagram_endpoint(Datagrams)


async def test_extra_info_and_types(loop):
    one, first = await endpoint(loop)
    sock = one.get_extra_info("socket")
    assert isinstance(one, asyncio.DatagramTransport)
    assert isinstance(sock, asyncio.trsock.TransportSocket)
    assert sock.type == socket.SOCK_DGRAM
    assert f"fd={sock.fileno()}" in repr(one)
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(sock.fileno(), int)
    await end(first)


async def test_get_and_set_protocol(loop):
    one, first = await endpoint(loop)
    assert one.get_protocol() is first
    second = Datagrams()
    one.set_protocol(second)
    one.sendto(b"x", name(one))
    await until(lambda: second.data == [b"x"])
    one.close()
    await second.lost


async def test_set_protocol_while_a_method_is_looked_up(loop):
    """The call is made; the next one is the new protocol's."""
    second = Datagrams()

    class First(Datagrams):
        @property
        def datagram_received(self):
            self.transport.set_protocol(second)
            return super().datagram_received

    one, first = await endpoint(loop, factory=First)
    for data in (b"one", b"two"):
        one.sendto(data, name(one))
        await until(lambda: first.data + second.data == [b"one", b"two"][: 1 + (data == b"two")])
    assert (first.data, second.data) == ([b"one"], [b"two"])
    one.close()
    await second.lost


async def test_many_peers_are_told_apart(loop):
    class Echo(Datagrams):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)

    server, protocol = await endpoint(loop, factory=Echo)
    peers = []
    try:
        for _ in range(200):  # more than addresses are remembered
            peers.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            peers[-1].bind(("127.0.0.1", 0))
            peers[-1].settimeout(10)
        for turn in range(3):
            for number, peer in enumerate(peers):
                peer.sendto(b"%d %d" % (turn, number), name(server))
                if number % 20 == 19:
                    await until(lambda n=turn * 200 + number + 1: len(protocol.received) == n)
        for number, peer in enumerate(peers):
            assert [peer.recv(100) for _ in range(3)] == [b"%d %d" % (turn, number) for turn in range(3)]
        senders = [peer.getsockname() for peer in peers]
        assert [addr for _, addr in protocol.received] == senders * 3
    finally:
        for peer in peers:
            peer.close()
        await end(protocol)


async def test_close_amid_a_burst(loop):
    class Closing(Datagrams):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"close":
                self.transport.close()

    server, protocol = await endpoint(loop, factory=Closing)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for turn in range(3):
            for number in range(10):
                peer.sendto(b"%d" % number, name(server))
            await until(lambda n=10 * (turn + 1): len(protocol.received) == n)
        for data in [b"one", b"close", b"lost", b"lost"]:
            peer.sendto(data, name(server))
        assert await protocol.lost is None
    assert protocol.data[30:] == [b"one", b"close"]


async def test_same_address_object_on_sockets_of_two_families(loop):
    target = ("::1", 9)
    six, first = await endpoint(loop, "::1")
    six.sendto(b"discarded", target)
    four, second = await endpoint(loop)
    four.sendto(b"no such address", target)
    assert [type(error) for error in second.errors] == [socket.gaierror]
    await end(first, second)


def test_interrupted_burst_goes_on(loop_factory):
    class Interrupting(Datagrams):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"interrupt":
                raise KeyboardInterrupt

    loop = loop_factory()
    try:
        server, protocol = loop.run_until_complete(endpoint(loop, factory=Interrupting))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for turn in range(3):
                for number in range(10):
                    peer.sendto(b"%d" % number, name(server))
                loop.run_until_complete(until(lambda n=10 * (turn + 1): len(protocol.received) == n))
            for data in [b"one", b"interrupt", b"two", b"three"]:
                peer.sendto(data, name(server))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(until(lambda: len(protocol.received) == 34))
        assert protocol.data[30:] == [b"one", b"interrupt"]
        loop.run_until_complete(until(lambda: len(protocol.received) == 34))
        assert protocol.data[32:] == [b"two", b"three"]
        loop.run_until_complete(end(protocol))
    finally:
        loop.close()


async def test_reading_can_be_paused(loop, caplog):
    one, first = await endpoint(loop)
    two, second = await endpoint(loop)
    loop.set_debug(True)
    caplog.set_level("DEBUG", logger="asyncio")
    assert two.is_reading()
    two.pause_reading()
    two.pause_reading()
    assert not two.is_reading()
    one.sendto(b"kept", name(two))
    await turns()
    assert second.received == []
    two.resume_reading()
    two.resume_reading()
    assert two.is_reading()
    await until(lambda: second.data == [b"kept"])
    said = [record.getMessage() for record in caplog.records]
    assert [text.rpartition("> ")[2] for text in said if "reading" in text] == ["pauses reading", "resumes reading"]
    await end(first, second)
    assert not two.is_reading()
    two.resume_reading()
    two.pause_reading()
    assert not two.is_reading()


async def test_limits_of_the_write_buffer(loop):
    transport, protocol = await endpoint(loop)
    assert transport.get_write_buffer_limits() == (16384, 65536)
    for given, completed in [
        ({"high": 1000}, (250, 1000)),
        ({"low": 10}, (10, 40)),
        ({"high": 7, "low": 7}, (7, 7)),
        ({"high": 0}, (0, 0)),
        ({"high": 10.0}, (2.0, 10.0)),
        ({"low": 4.0}, (4.0, 16.0)),
        ({}, (16384, 65536)),
    ]:
        transport.set_write_buffer_limits(**given)
        assert transport.get_write_buffer_limits() == completed
    for low, high in [(2, 1), (-1, 1), (-2, -1)]:
        with pytest.raises(ValueError, match=rf"^high \({high}\) must be >= low \({low}\) must be >= 0$"):
            transport.set_write_buffer_limits(high=high, low=low)
    for given in ({"high": "many"}, {"low": object()}, {"high": 1, "low": "few"}):
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == (16384, 65536)
    assert transport.get_write_buffer_size() == 0
    await end(protocol)


async def test_sending_on_a_lost_connection_warns_from_the_fifth_time_on(loop, caplog):
    two, second = await endpoint(loop)
    one, first = await endpoint(loop, None, remote_addr=name(two))
    one.abort()
    for sent in range(8):
        one.sendto(b"nowhere")
        assert [record.getMessage() for record in caplog.records] == ["socket.send() raised exception."] * max(
            sent - 3, 0
        )
    await first.lost
    await end(second)


async def test_reprs(loop):
    transport, protocol = await endpoint(loop)
    assert "fd=" in repr(transport)
    assert "read=polling" in repr(transport)
    assert "write=<idle, bufsize=0>" in repr(transport)
    transport.pause_reading()
    assert "read=idle" in repr(transport)
    assert transport.get_protocol() is protocol
    transport.close()
    assert "closing" in repr(transport)
    await protocol.lost
    assert "closed" in repr(transport)
    assert transport.get_protocol() is None
