# SPDX-License-Identifier: MIT
"""The sock_* family: on plain sockets, where ours make system calls, and on other objects, whose methods are called."""

import array
import asyncio
import collections.abc
import errno
import gc
import inspect
import os
import socket
import ssl
import struct
import sys
import traceback
import warnings
import weakref

import pytest

from support import LIMIT, Echo, connection, pattern, reset, turns, until

HAS_IPV6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")


class OtherSocket(socket.socket):
    """Not the class itself: its methods are what has to be called."""


def other(sock):
    converted = OtherSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    converted.setblocking(False)
    return converted


def nonblocking(*socks):
    for sock in socks:
        sock.setblocking(False)
    return socks


@pytest.fixture(params=["plain", "other"])
def convert(request):
    return other if request.param == "other" else lambda sock: sock


@pytest.fixture
def make_pair(convert):
    """Connected non-blocking sockets, the first of the class under test."""
    made = []

    def make_pair(kind=socket.SOCK_STREAM):
        pair = nonblocking(*socket.socketpair(socket.AF_UNIX, kind))
        pair = (convert(pair[0]), pair[1])
        made.extend(pair)
        return pair

    yield make_pair
    for sock in made:
        sock.close()


@pytest.fixture
def pair(make_pair):
    return make_pair()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def fill(sock):
    """Send until no more fits; returns the number of bytes."""
    count = 0
    for size in (65536, 1):
        try:
            while True:
                count += sock.send(bytes(size))
        except BlockingIOError:
            pass
    return count


async def receive(loop, sock, size):
    data = bytearray()
    while len(data) < size:
        piece = await loop.sock_recv(sock, 1 << 16)
        assert piece != b""
        data += piece
    return bytes(data)


async def pending(coroutine):
    task = asyncio.ensure_future(coroutine)
    await turns()
    assert not task.done()
    return task


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def finish_at_once(operation):
    """The result of an operation that needs no loop."""
    with pytest.raises(StopIteration) as stop:
        operation.send(None)
    return stop.value.value


# --- receiving


async def test_recv_of_what_is_there_does_not_wait(loop, pair):
    sock, peer = pair
    peer.send(b"hello")
    assert finish_at_once(loop.sock_recv(sock, 100)) == b"hello"


async def test_recv_waits(loop, pair):
    sock, peer = pair
    task = await pending(loop.sock_recv(sock, 100))
    peer.send(b"hello")
    assert await task == b"hello"


async def test_recv_takes_at_most_n(loop, pair):
    sock, peer = pair
    peer.send(b"hello")
    assert await loop.sock_recv(sock, 2) == b"he"
    assert await loop.sock_recv(sock, 0) == b""
    assert await loop.sock_recv(sock, 100) == b"llo"


async def test_recv_of_nothing_asks_nobody(loop, pair):
    assert await loop.sock_recv(pair[0], 0) == b""


async def test_recv_at_the_end(loop, pair):
    sock, peer = pair
    task = await pending(loop.sock_recv(sock, 100))
    peer.close()
    assert await task == b""
    assert await loop.sock_recv(sock, 100) == b""


@pytest.mark.parametrize("size", [1, 65536, 256 * 1024, 256 * 1024 + 1, 1 << 22])
async def test_recv_sizes(loop, pair, size):
    sock, peer = pair
    data = pattern(100_000)
    task = asyncio.ensure_future(loop.sock_sendall(peer, data))
    got = b""
    while len(got) < len(data):
        piece = await loop.sock_recv(sock, size if size > 1 else 4096)
        assert len(piece) <= max(size, 4096)
        got += piece
    await task
    assert got == data


async def test_recv_passes_an_index_object(loop, pair):
    class Index:
        def __index__(self):
            return 3

    sock, peer = pair
    peer.send(b"hello")
    assert await loop.sock_recv(sock, Index()) == b"hel"


async def test_recv_into(loop, pair):
    sock, peer = pair
    buffer = bytearray(8)
    peer.send(b"hello")
    assert await loop.sock_recv_into(sock, buffer) == 5
    task = await pending(loop.sock_recv_into(sock, memoryview(buffer)[5:]))
    peer.send(b"world")
    assert await task == 3
    assert buffer == b"hellowor"
    assert await loop.sock_recv_into(sock, bytearray()) == 0


async def test_recv_into_does_not_hold_the_buffer(loop, pair):
    sock, peer = pair
    buffer = bytearray(8)
    task = await pending(loop.sock_recv_into(sock, buffer))
    buffer += b"12345678"
    peer.send(b"0123456789")
    assert await task == 10
    assert buffer == b"0123456789345678"


async def test_recv_into_needs_a_writable_buffer(loop, pair):
    sock, peer = pair
    peer.send(b"hello")
    for wrong in (b"12345", 5, "12345"):
        with pytest.raises(TypeError, match="recv_into"):
            await loop.sock_recv_into(sock, wrong)
    assert await loop.sock_recv(sock, 10) == b"hello"


@pytest.mark.parametrize(
    ("n", "error"), [(-1, ValueError), ("1", TypeError), (None, TypeError), (1 << 80, OverflowError)]
)
async def test_recv_with_a_wrong_size(loop, pair, n, error):
    with pytest.raises(error) as expected:
        pair[0].recv(n)
    with pytest.raises(error) as raised:
        await loop.sock_recv(pair[0], n)
    assert str(raised.value) == str(expected.value)


async def test_reset_while_receiving(loop, listener, convert):
    client = socket.create_connection(listener.getsockname())
    sock = convert((await loop.sock_accept(listener))[0])
    with sock:
        task = await pending(loop.sock_recv(sock, 10))
        reset(client)
        with pytest.raises(ConnectionResetError):
            await task


# --- datagrams


def datagram_sockets(kind, tmp_path):
    if kind == "unix":
        socks = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        for name, sock in zip("ab", socks):
            sock.bind(str(tmp_path / name))
    else:
        family, host = (socket.AF_INET6, "::1") if kind == "inet6" else (socket.AF_INET, "127.0.0.1")
        socks = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for sock in socks:
            sock.bind((host, 0))
    return nonblocking(*socks)


@pytest.fixture(params=["inet", "unix"] + ["inet6"] * HAS_IPV6)
def datagram_pair(request, convert, tmp_path):
    a, b = datagram_sockets(request.param, tmp_path)
    a = convert(a)
    with a, b:
        yield a, b


async def test_datagrams(loop, datagram_pair):
    a, b = datagram_pair
    for data in (b"hello", b"", pattern(30_000)):
        assert await loop.sock_sendto(b, data, a.getsockname()) == len(data)
        assert await loop.sock_recvfrom(a, 65536) == (data, b.getsockname())
        task = await pending(loop.sock_recvfrom(b, 65536))
        assert await loop.sock_sendto(a, bytearray(data), b.getsockname()) == len(data)
        assert await task == (data, a.getsockname())


async def test_recvfrom_into(loop, datagram_pair):
    a, b = datagram_pair
    buffer = bytearray(b".......")
    task = await pending(loop.sock_recvfrom_into(a, buffer))
    b.sendto(b"hello", a.getsockname())
    assert await task == (5, b.getsockname())
    assert buffer == b"hello.."
    b.sendto(b"world", a.getsockname())
    assert await loop.sock_recvfrom_into(a, buffer, 2) == (2, b.getsockname())
    assert buffer == b"wollo.."
    b.sendto(b"again", a.getsockname())
    assert await loop.sock_recvfrom_into(a, buf=buffer, nbytes=0) == (5, b.getsockname())
    assert buffer == b"again.."


async def test_recvfrom_into_checks_its_size(loop, datagram_pair):
    a, b = datagram_pair
    for size, error in ((8, ValueError), (-1, ValueError), ("1", TypeError)):
        with pytest.raises(error) as expected:
            a.recvfrom_into(bytearray(7), size)
        with pytest.raises(error) as raised:
            await loop.sock_recvfrom_into(a, bytearray(7), size)
        assert str(raised.value) == str(expected.value)


async def test_recvfrom_a_connected_stream_has_no_address(loop, pair):
    sock, peer = pair
    peer.send(b"hello")
    expected = peer.getsockname() if sys.platform != "linux" else None
    assert await loop.sock_recvfrom(sock, 10) == (b"hello", expected)


async def test_sendto_waits_for_room(loop, convert, tmp_path):
    a, b = datagram_sockets("unix", tmp_path)
    a = convert(a)
    with a, b:
        address, sent = b.getsockname(), 0
        try:
            while True:
                a.sendto(b"%d" % sent, address)
                sent += 1
        except BlockingIOError:
            pass
        task = await pending(loop.sock_sendto(a, b"last", address))
        got = [(await loop.sock_recvfrom(b, 100))[0] for _ in range(sent)]
        assert await task == 4
        assert got == [b"%d" % number for number in range(sent)]
        assert await loop.sock_recvfrom(b, 100) == (b"last", a.getsockname())


async def test_sendto_reports_what_python_says_about_the_address(loop, datagram_pair):
    a, _ = datagram_pair
    host = "::1" if a.family == socket.AF_INET6 else "127.0.0.1"
    for address in (None, 5, (host,), (host, 70000)):
        with pytest.raises((TypeError, OverflowError)) as expected:
            a.sendto(b"x", address)
        with pytest.raises(expected.type) as raised:
            await loop.sock_sendto(a, b"x", address)
        assert str(raised.value) == str(expected.value)


INET = [
    ("127.0.0.1", -1),
    ("127.0.0.1", 1 << 70),
    ("127.0.0.1", 65536),
    ("127.0.0.1", 1.5),
    ("127.0.0.1", 9, 0),
    ("127.0.0.1\0", 9),
    ("\udc80", 9),
    (5, 9),
    (None, 9),
    (),
    "text",
]
INET6 = [
    ("::1", 9, -1),
    ("::1", 9, 1 << 21),
    ("::1", 9, "x"),
    ("::1", 9, 0, "x"),
    ("::1", 9, 0, 0, 0),
    (5, 9),
]
UNIX = [
    "",
    "x" * 200,
    b"x" * 109,
    "a\0b",
    b"a\0b",
    "\ud800",
    ("a",),
    5,
    None,
    bytearray(b"/nothing/here"),
    "/nothing/here",
]
ADDRESSES = [(socket.AF_INET, address) for address in INET] + [(socket.AF_UNIX, address) for address in UNIX]
if HAS_IPV6:
    ADDRESSES += [(socket.AF_INET6, address) for address in INET6]


@pytest.mark.parametrize("family, address", ADDRESSES, ids=ascii)
async def test_sendto_what_is_no_address(loop, convert, family, address):
    """Python's socket, which does not wait here, has the same to say."""
    with socket.socket(family, socket.SOCK_DGRAM) as plain:
        with pytest.raises((OSError, TypeError, ValueError, OverflowError)) as expected:
            plain.sendto(b"x", address)
    with convert(nonblocking(socket.socket(family, socket.SOCK_DGRAM))[0]) as sock:
        with pytest.raises(type(expected.value)) as raised:
            await loop.sock_sendto(sock, b"x", address)
        assert str(raised.value) == str(expected.value)


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="a family of Linux")
async def test_an_unusual_family(loop, convert):
    """Netlink: the kernel's answer about the loopback interface, see rtnetlink(7)."""
    get_link, request, loopback = 18, 1, 1
    question = struct.pack("=IHHIIBxHiII", 32, get_link, request, 7, 0, socket.AF_UNSPEC, 0, loopback, 0, 0)
    buffer = bytearray(1 << 16)
    with convert(nonblocking(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE))[0]) as sock:
        sock.bind((0, 0))
        await loop.sock_connect(sock, (0, 0))
        assert await loop.sock_sendto(sock, question, (0, 0)) == 32
        answer, address = await loop.sock_recvfrom(sock, 1 << 16)
        assert address == (0, 0)
        assert struct.unpack_from("=IHHI", answer)[3] == 7
        await loop.sock_sendall(sock, question)
        assert await loop.sock_recvfrom_into(sock, buffer) == (len(answer), (0, 0))
        with pytest.raises(TypeError):
            await loop.sock_sendto(sock, question, ("127.0.0.1", 9))


@pytest.mark.parametrize("kind, proto", [(socket.SOCK_DGRAM, 136), (socket.SOCK_STREAM, 262)], ids=["udplite", "mptcp"])
async def test_connect_of_an_unusual_protocol(loop, convert, kind, proto):
    """A look-up has to know it, be the address numeric or not."""
    try:
        plain = nonblocking(socket.socket(socket.AF_INET, kind, proto))[0]
    except OSError:
        pytest.skip("the kernel does not know it")
    with convert(plain) as sock, socket.socket(socket.AF_INET, kind, proto) as peer:
        peer.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            peer.listen()
        try:
            socket.getaddrinfo(*peer.getsockname(), socket.AF_INET, kind, proto)
        except socket.gaierror as error:
            with pytest.raises(socket.gaierror) as raised:
                await loop.sock_connect(sock, peer.getsockname())
            assert raised.value.errno == error.errno
        else:
            await loop.sock_connect(sock, peer.getsockname())
            assert sock.getpeername() == peer.getsockname()


@pytest.mark.parametrize(
    "host",
    [b"127.0.0.1", bytearray(b"127.0.0.1"), type("Host", (str,), {})("127.0.0.1"), "localhost"],
    ids=lambda host: type(host).__name__,
)
async def test_sendto_a_host_of_another_type(loop, convert, host):
    a, b = datagram_sockets("inet", None)
    a = convert(a)
    with a, b:
        for port in (b.getsockname()[1], type("Port", (int,), {})(b.getsockname()[1])):
            for _ in range(2):
                await loop.sock_sendto(a, b"hello", (host, port))
                assert (await loop.sock_recvfrom(b, 10)) == (b"hello", a.getsockname())


async def test_sendto_needs_bytes(loop, datagram_pair):
    a, b = datagram_pair
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
        await loop.sock_sendto(a, "hello", b.getsockname())


async def test_sendto_looks_a_name_up(loop, convert):
    a, b = datagram_sockets("inet", None)
    a = convert(a)
    with a, b:
        await loop.sock_sendto(a, b"hello", ("localhost", b.getsockname()[1]))
        assert (await loop.sock_recvfrom(b, 10))[0] == b"hello"


# --- sending


async def test_sendall_of_what_fits_does_not_wait(loop, pair):
    sock, peer = pair
    assert finish_at_once(loop.sock_sendall(sock, b"hello")) is None
    assert peer.recv(10) == b"hello"
    assert finish_at_once(loop.sock_sendall(sock, b"")) is None
    with pytest.raises(BlockingIOError):
        peer.recv(10)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sendall_of_much(loop, pair, kind):
    sock, peer = pair
    data = pattern(3_000_001)
    task = asyncio.ensure_future(loop.sock_sendall(sock, kind(data)))
    assert await receive(loop, peer, len(data)) == data
    assert await task is None


@pytest.mark.ours  # asyncio mixes items with bytes and never ends
async def test_sendall_counts_in_bytes(loop, pair):
    sock, peer = pair
    numbers = array.array("I", range(500_000))
    task = asyncio.ensure_future(loop.sock_sendall(sock, numbers))
    assert await receive(loop, peer, 2_000_000) == numbers.tobytes()
    assert await task is None


async def test_sendall_in_both_directions_at_once(loop, pair):
    data = [pattern(1_000_000, seed) for seed in range(2)]
    sending = [asyncio.ensure_future(loop.sock_sendall(sock, piece)) for sock, piece in zip(pair, data)]
    got = await asyncio.gather(*(receive(loop, sock, 1_000_000) for sock in pair))
    await asyncio.gather(*sending)
    assert got == data[::-1]


async def test_sendall_holds_the_buffer_while_it_waits(loop, pair):
    sock, peer = pair
    fill(sock)
    data = bytearray(b"hello")
    task = await pending(loop.sock_sendall(sock, data))
    with pytest.raises(BufferError):
        data.append(1)
    await cancel(task)
    del task
    gc.collect()
    data.append(1)


async def test_a_cancelled_sendall_sends_no_more(loop, pair):
    sock, peer = pair
    filled = fill(sock)
    await cancel(await pending(loop.sock_sendall(sock, b"cancelled")))
    task = await pending(loop.sock_sendall(sock, b"sent"))
    assert await receive(loop, peer, filled + 4) == bytes(filled) + b"sent"
    await task


@pytest.mark.parametrize("wrong", ["hello", 5, None])
async def test_sendall_needs_bytes(loop, pair, wrong):
    with pytest.raises(TypeError) as expected:
        pair[0].send(wrong)
    with pytest.raises(TypeError) as raised:
        await loop.sock_sendall(pair[0], wrong)
    assert str(raised.value) == str(expected.value)


async def test_sendall_to_nobody(loop, pair):
    sock, peer = pair
    fill(sock)
    task = await pending(loop.sock_sendall(sock, b"hello"))
    peer.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await task
    with pytest.raises(BrokenPipeError):
        await loop.sock_sendall(sock, b"hello")


# --- connecting


async def connect_and_check(loop, sock, address, listener):
    assert await loop.sock_connect(sock, address) is None
    conn, peer = await loop.sock_accept(listener)
    with conn:
        assert peer == sock.getsockname()
        await loop.sock_sendall(sock, b"hello")
        assert await loop.sock_recv(conn, 10) == b"hello"


@pytest.fixture
def client(convert):
    sock = convert(nonblocking(socket.socket())[0])
    with sock:
        yield sock


async def test_connect(loop, client, listener):
    await connect_and_check(loop, client, listener.getsockname(), listener)


async def test_connect_with_an_address_in_a_list(loop, client, listener):
    await connect_and_check(loop, client, list(listener.getsockname()), listener)


async def test_connect_with_the_port_in_a_str(loop, client, listener):
    host, port = listener.getsockname()
    await connect_and_check(loop, client, (host, str(port)), listener)


async def test_connect_looks_a_name_up_on_the_loop(loop, client, listener, monkeypatch):
    asked = []
    real = loop.getaddrinfo

    async def getaddrinfo(host, port, **options):
        asked.append((host, options))
        return await real("127.0.0.1", port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    await connect_and_check(loop, client, ("name.invalid", listener.getsockname()[1]), listener)
    assert asked == [("name.invalid", {"family": client.family, "type": client.type, "proto": 0, "flags": 0})]


async def test_a_failed_lookup(loop, client, monkeypatch):
    async def getaddrinfo(host, port, **options):
        await asyncio.sleep(0)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    with pytest.raises(socket.gaierror, match="no such name"):
        await loop.sock_connect(client, ("name.invalid", 1))


async def test_a_lookup_that_finds_nothing(loop, client, monkeypatch):
    async def getaddrinfo(host, port, **options):
        return []

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    with pytest.raises(IndexError):
        await loop.sock_connect(client, ("name.invalid", 1))


@pytest.mark.parametrize(
    "infos, error, message",
    [
        (5, TypeError, "'int' object is not subscriptable"),
        ([5], TypeError, "cannot unpack non-iterable int object"),
        ([(1, 2)], ValueError, r"not enough values to unpack \(expected 5, got 2\)"),
        ([range(6)], ValueError, r"too many values to unpack \(expected 5"),
    ],
    ids=str,
)
async def test_a_lookup_that_finds_something_else(loop, client, monkeypatch, infos, error, message):
    async def getaddrinfo(host, port, **options):
        return infos

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    with pytest.raises(error, match=message):
        await loop.sock_connect(client, ("name.invalid", 1))


async def test_connect_cancelled_in_its_lookup(loop, client, monkeypatch):
    seen = []

    async def getaddrinfo(host, port, **options):
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    await cancel(await pending(loop.sock_connect(client, ("name.invalid", 1))))
    assert seen == ["cancelled"]


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
@pytest.mark.parametrize("extra", [(), (0,), (0, 0)])
async def test_connect_inet6(loop, convert, extra):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.setblocking(False)
        with convert(nonblocking(socket.socket(socket.AF_INET6))[0]) as sock:
            await connect_and_check(loop, sock, ("::1", listener.getsockname()[1], *extra), listener)


@pytest.mark.parametrize("abstract", [False] + [True] * (sys.platform == "linux"))
async def test_connect_unix(loop, convert, tmp_path, abstract):
    path = b"\0rloop-test-%d" % os.getpid() if abstract else str(tmp_path / "listener")
    with socket.socket(socket.AF_UNIX) as listener, convert(nonblocking(socket.socket(socket.AF_UNIX))[0]) as sock:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        await connect_and_check(loop, sock, path, listener)


@pytest.mark.parametrize("extra", [(), (0, 0)])
async def test_connect_refused(loop, convert, extra):
    family, host = (socket.AF_INET6, "::1") if extra else (socket.AF_INET, "127.0.0.1")
    if extra and not HAS_IPV6:
        pytest.skip("no IPv6 here")
    with socket.socket(family) as unused, convert(nonblocking(socket.socket(family))[0]) as sock:
        unused.bind((host, 0))
        port = unused.getsockname()[1]
        with pytest.raises(ConnectionRefusedError) as refused:
            await loop.sock_connect(sock, (host, port))
        assert refused.value.errno == errno.ECONNREFUSED
        assert str(refused.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {(host, port, *extra)}"


async def test_connect_to_no_socket_file(loop, convert, tmp_path):
    with convert(nonblocking(socket.socket(socket.AF_UNIX))[0]) as sock:
        with pytest.raises(FileNotFoundError):
            await loop.sock_connect(sock, str(tmp_path / "nothing"))


async def test_connect_a_datagram_socket(loop, convert):
    a, b = datagram_sockets("inet", None)
    a = convert(a)
    with a, b:
        await loop.sock_connect(a, b.getsockname())
        assert a.getpeername() == b.getsockname()


async def test_connect_again_after_being_cancelled(loop, client, listener):
    task = asyncio.ensure_future(loop.sock_connect(client, listener.getsockname()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await connect_and_check(loop, client, listener.getsockname(), listener)


@pytest.mark.parametrize("address", [5, None, ("127.0.0.1",)])
async def test_connect_to_no_address(loop, client, address):
    with pytest.raises((TypeError, ValueError)):
        await loop.sock_connect(client, address)


# --- accepting


async def test_accept(loop, listener, convert):
    listener = convert(listener.dup())
    with listener:
        listener.setblocking(False)
        task = await pending(loop.sock_accept(listener))
        with socket.create_connection(listener.getsockname()) as peer:
            conn, address = await task
            with conn:
                assert type(conn) is socket.socket
                assert (conn.family, conn.type, conn.proto) == (listener.family, listener.type, listener.proto)
                assert conn.gettimeout() == 0
                assert os.get_blocking(conn.fileno()) is False
                assert conn.get_inheritable() is False
                assert address == peer.getsockname() == conn.getpeername()
                assert conn.getsockname() == listener.getsockname()
                peer.sendall(b"hello")
                assert await loop.sock_recv(conn, 10) == b"hello"


async def test_accept_unix(loop, convert, tmp_path):
    with convert(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "listener"))
        listener.listen()
        listener.setblocking(False)
        task = await pending(loop.sock_accept(listener))
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(listener.getsockname())
            conn, address = await task
            conn.close()
            assert address == ""


async def test_accept_of_many(loop, listener):
    count = 50
    clients = [socket.create_connection(listener.getsockname()) for _ in range(count)]
    addresses = set()
    for _ in range(count):
        conn, address = await loop.sock_accept(listener)
        addresses.add(address)
        conn.close()
    assert addresses == {sock.getsockname() for sock in clients}
    for sock in clients:
        sock.close()


async def test_a_cancelled_accept_takes_no_connection(loop, listener):
    task = await pending(loop.sock_accept(listener))
    task.cancel()
    with socket.create_connection(listener.getsockname()) as peer:
        with pytest.raises(asyncio.CancelledError):
            await task
        conn, address = await loop.sock_accept(listener)
        conn.close()
        assert address == peer.getsockname()


async def test_accept_on_what_does_not_listen(loop, client):
    with pytest.raises(OSError) as raised:
        await loop.sock_accept(client)
    assert raised.value.errno == errno.EINVAL


# --- cancelling, and who watches the fd


async def test_a_cancelled_recv_takes_nothing(loop, pair):
    sock, peer = pair
    for _ in range(3):
        task = await pending(loop.sock_recv(sock, 100))
        task.cancel()
        peer.send(b"hello")  # it is there before the task hears of its end
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(sock, 100) == b"hello"


async def test_cancelled_and_readable_in_one_turn(loop, pair):
    sock, peer = pair
    task = await pending(loop.sock_recv(sock, 100))
    peer.send(b"hello")
    loop.call_soon(task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        assert await loop.sock_recv(sock, 100) == b"hello"
    else:
        assert task.result() == b"hello"


async def test_a_cancelled_recv_watches_no_more(loop, pair):
    sock, _ = pair
    await cancel(await pending(loop.sock_recv(sock, 100)))
    await turns()
    assert loop.remove_reader(sock) is False


async def test_timeout(loop, pair):
    sock, peer = pair
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.sock_recv(sock, 100), 0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await loop.sock_recv(sock, 100)
    task = await pending(asyncio.wait_for(loop.sock_recv(sock, 100), LIMIT))
    peer.send(b"hello")
    assert await task == b"hello"


async def test_a_second_recv_takes_the_place_of_the_first(loop, pair):
    sock, peer = pair
    first = await pending(loop.sock_recv(sock, 100))
    second = await pending(loop.sock_recv(sock, 100))
    peer.send(b"hello")
    assert await second == b"hello"
    peer.send(b"again")
    await turns()
    assert not first.done()
    assert await loop.sock_recv(sock, 100) == b"again"
    await cancel(first)


async def test_the_end_of_a_replaced_recv_leaves_the_other_alone(loop, pair):
    sock, peer = pair
    first = await pending(loop.sock_recv(sock, 100))
    second = await pending(loop.sock_recv(sock, 100))
    await cancel(first)
    await turns()
    peer.send(b"hello")
    assert await second == b"hello"


async def test_the_end_of_a_recv_leaves_a_later_reader_alone(loop, pair):
    sock, peer = pair
    task = await pending(loop.sock_recv(sock, 100))
    called = asyncio.Event()
    loop.add_reader(sock, called.set)
    await cancel(task)
    await turns()
    peer.send(b"hello")
    await called.wait()
    assert loop.remove_reader(sock) is True


async def test_recv_and_sendall_share_an_fd(loop, pair):
    sock, peer = pair
    filled = fill(sock)
    sending = await pending(loop.sock_sendall(sock, b"hello"))
    receiving = await pending(loop.sock_recv(sock, 100))
    await cancel(receiving)
    assert await receive(loop, peer, filled + 5) == bytes(filled) + b"hello"
    await sending
    receiving = await pending(loop.sock_recv(sock, 100))
    peer.send(b"world")
    assert await receiving == b"world"


@pytest.mark.ours  # asyncio's selector fails: its stale key is no longer in epoll
async def test_a_reused_fd_number_belongs_to_its_new_owner(loop, make_pair):
    sock, peer = make_pair()
    number = sock.fileno()
    stale = await pending(loop.sock_recv(sock, 100))
    sock.close()
    other_sock, other_peer = make_pair()
    assert other_sock.fileno() == number
    other_peer.send(b"first")
    await turns()
    assert stale.done() is False
    assert await loop.sock_recv(other_sock, 100) == b"first"
    task = await pending(loop.sock_recv(other_sock, 100))
    stale.cancel()
    await turns()
    other_peer.send(b"second")
    assert await task == b"second"
    with pytest.raises(asyncio.CancelledError):
        await stale


@pytest.mark.ours  # asyncio's selector fails: its stale key is no longer in epoll
async def test_a_reused_fd_number_is_not_read_for_the_old_owner(loop, make_pair):
    sock, peer = make_pair()
    number = sock.fileno()
    stale = await pending(loop.sock_recv(sock, 100))
    sock.close()
    other_sock, other_peer = make_pair()
    assert other_sock.fileno() == number
    filled = fill(other_sock)
    sending = await pending(loop.sock_sendall(other_sock, b"hello"))  # brings the kernel's watch back to this number
    other_peer.send(b"bytes")
    await turns()
    assert await receive(loop, other_peer, filled + 5) == bytes(filled) + b"hello"
    await sending
    assert await loop.sock_recv(other_sock, 100) == b"bytes"
    stale.cancel()
    with pytest.raises((asyncio.CancelledError, OSError)):
        await stale


async def test_another_file_under_the_same_number(loop, make_pair):
    sock, peer = make_pair()
    other_sock, other_peer = make_pair()
    for message in (b"one", b"two"):
        task = await pending(loop.sock_recv(sock, 100))
        peer.send(message)
        assert await task == message
    os.dup2(other_sock.fileno(), sock.fileno())
    task = await pending(loop.sock_recv(sock, 100))
    other_peer.send(b"three")
    assert await task == b"three"


async def test_a_closed_socket(loop, make_pair, listener):
    sock, _ = make_pair()
    sock.close()
    for operation in (
        loop.sock_recv(sock, 10),
        loop.sock_recv_into(sock, bytearray(10)),
        loop.sock_recvfrom(sock, 10),
        loop.sock_recvfrom_into(sock, bytearray(10)),
        loop.sock_sendall(sock, b"x"),
        loop.sock_sendto(sock, b"x", "/nowhere"),
        loop.sock_connect(sock, "/nowhere"),
        loop.sock_accept(sock),
    ):
        with pytest.raises(OSError) as raised:
            await operation
        assert raised.value.errno == errno.EBADF


async def test_many_pairs_at_once(loop):
    pairs = [nonblocking(*socket.socketpair()) for _ in range(100)]

    async def ping_pong(a, b):
        for number in range(10):
            waiting = asyncio.ensure_future(loop.sock_recv(b, 100))
            await asyncio.sleep(0)
            await loop.sock_sendall(a, b"%d" % number)
            assert await waiting == b"%d" % number

    await asyncio.gather(*(ping_pong(a, b) for a, b in pairs))
    for a, b in pairs:
        a.close()
        b.close()


# --- checks


def every_operation(loop, sock):
    return {
        "sock_recv": loop.sock_recv(sock, 10),
        "sock_recv_into": loop.sock_recv_into(sock, bytearray(10)),
        "sock_recvfrom": loop.sock_recvfrom(sock, 10),
        "sock_recvfrom_into": loop.sock_recvfrom_into(sock, bytearray(10)),
        "sock_sendall": loop.sock_sendall(sock, b"x"),
        "sock_sendto": loop.sock_sendto(sock, b"x", ("127.0.0.1", 1)),
        "sock_connect": loop.sock_connect(sock, ("127.0.0.1", 1)),
        "sock_accept": loop.sock_accept(sock),
    }


@pytest.mark.parametrize("timeout", [None, 5])
async def test_debug_mode_wants_non_blocking_sockets(loop, pair, timeout):
    sock, _ = pair
    loop.set_debug(True)
    sock.settimeout(timeout)
    for operation in every_operation(loop, sock).values():
        with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
            await operation


async def test_debug_mode_works(loop, pair):
    sock, peer = pair
    loop.set_debug(True)
    task = await pending(loop.sock_recv(sock, 10))
    await loop.sock_sendall(peer, b"hello")
    assert await task == b"hello"


async def test_ssl_sockets_are_refused(loop):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    plain, peer = nonblocking(*socket.socketpair())
    with peer, context.wrap_socket(plain, do_handshake_on_connect=False) as sock:
        for operation in every_operation(loop, sock).values():
            with pytest.raises(TypeError, match="^Socket cannot be of type SSLSocket$"):
                await operation


async def test_the_fd_of_a_transport_is_refused(loop, convert):
    async with connection(server_factory=Echo) as ends:
        sock = convert(socket.socket(fileno=ends.client.get_extra_info("socket").fileno()))
        message = f"File descriptor {sock.fileno()} is used by transport"
        try:
            for operation in (loop.sock_recv(sock, 10), loop.sock_recvfrom(sock, 10)):
                with pytest.raises(RuntimeError, match=message):
                    await operation
        finally:
            sock.detach()
        ends.client.write(b"hello")
        await until(lambda: ends.client_protocol.data == b"hello")


def test_on_a_closed_loop(loop, pair):
    loop.close()
    operation = loop.sock_recv(pair[0], 10)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        operation.send(None)


def test_closing_the_loop_under_a_pending_operation(loop, pair):
    sock, peer = pair
    operation = loop.sock_recv(sock, 10)
    operation.send(None)
    loop.close()
    peer.send(b"hello")
    with pytest.raises(ValueError, match="mine"):
        operation.throw(ValueError("mine"))
    assert sock.recv(10) == b"hello"


@pytest.mark.ours  # asyncio's loop would stand still
@pytest.mark.parametrize("timeout", [None, 5])
async def test_a_blocking_socket_does_not_block_the_loop(loop, timeout):
    sock, peer = socket.socketpair()
    with sock, peer:
        sock.settimeout(timeout)
        task = await pending(loop.sock_recv(sock, 10))
        peer.send(b"hello")
        assert await task == b"hello"
        filled = asyncio.ensure_future(loop.sock_sendall(sock, bytes(1 << 21)))
        assert await receive(loop, nonblocking(peer)[0], 1 << 21) == bytes(1 << 21)
        await filled


# --- other objects


class FakeSocket:
    """What asyncio needs of a socket, scripted; `fileno` is that of a real one."""

    family = socket.AF_UNIX

    def __init__(self, real, *answers):
        self.fileno = real.fileno
        self.answers = list(answers)
        self.calls = []

    def answer(self, *call):
        self.calls.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def recv(self, n):
        return self.answer("recv", n)

    def send(self, data):
        return self.answer("send", bytes(data))


async def test_a_fake_socket(loop, pair):
    sock, peer = pair
    fake = FakeSocket(sock, BlockingIOError(), InterruptedError(), b"hello")
    task = await pending(loop.sock_recv(fake, 10))
    peer.send(b"ready")
    assert await task == b"hello"
    assert fake.calls == [("recv", 10)] * 3


async def test_a_fake_socket_sends(loop, pair):
    fake = FakeSocket(pair[0], 2, BlockingIOError(), 1, 2)
    assert await loop.sock_sendall(fake, b"hello") is None
    assert fake.calls == [("send", rest) for rest in (b"hello", b"llo", b"llo", b"lo")]


async def test_an_exception_of_a_socket_reaches_the_awaiter(loop, pair):
    sock, peer = pair
    fake = FakeSocket(sock, ZeroDivisionError("first"), BlockingIOError(), ZeroDivisionError("second"))
    with pytest.raises(ZeroDivisionError, match="first"):
        await loop.sock_recv(fake, 10)
    task = await pending(loop.sock_recv(fake, 10))
    peer.send(b"ready")
    with pytest.raises(ZeroDivisionError, match="second"):
        await task


async def test_stop_iteration_of_a_socket_is_no_result(loop, pair):
    with pytest.raises(RuntimeError, match="^coroutine raised StopIteration$") as raised:
        await loop.sock_recv(FakeSocket(pair[0], StopIteration(5)), 10)
    assert isinstance(raised.value.__cause__, StopIteration)


@pytest.mark.ours  # asyncio hangs: its future refuses the exception
async def test_stop_iteration_of_a_socket_that_was_waited_for(loop, pair):
    sock, peer = pair
    task = await pending(loop.sock_recv(FakeSocket(sock, BlockingIOError(), StopIteration(5)), 10))
    peer.send(b"ready")
    with pytest.raises(RuntimeError, match="^coroutine raised StopIteration$"):
        await task


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_run_forever_and_the_operation_goes_on(loop, pair, kind):
    sock, peer = pair
    fake = FakeSocket(sock, BlockingIOError(), kind(), b"hello")
    task = loop.create_task(loop.sock_recv(fake, 10))
    peer.send(b"ready")
    with pytest.raises(kind):
        loop.run_forever()
    assert not task.done()
    assert loop.run_until_complete(task) == b"hello"


@pytest.mark.parametrize(
    "answer, error, message",
    [
        (5, TypeError, "cannot unpack non-iterable int object"),
        ((5,), ValueError, r"not enough values to unpack \(expected 2, got 1\)"),
        ((5, 5, 5), ValueError, r"too many values to unpack \(expected 2"),
        ((5, 5), AttributeError, "'int' object has no attribute 'setblocking'"),
    ],
    ids=str,
)
async def test_a_fake_socket_accepts_something_else(loop, pair, answer, error, message):
    fake = FakeSocket(pair[0], answer)
    fake.accept = lambda: fake.answer("accept")
    with pytest.raises(error, match=message):
        await loop.sock_accept(fake)


async def test_a_fake_socket_accepts_two_things_of_any_kind(loop, pair):
    fake = FakeSocket(pair[0], BlockingIOError(), iter([pair[1], "from there"]))
    fake.accept = lambda: fake.answer("accept")
    task = await pending(loop.sock_accept(fake))
    pair[1].send(b"ready")
    assert await task == (pair[1], "from there")


@pytest.mark.parametrize("stage", ["asked", "compared"])
async def test_debug_mode_asks_for_a_timeout_that_fails(loop, pair, stage):
    class Timeout:
        def __ne__(self, other):
            raise ZeroDivisionError("compared")

    def gettimeout():
        if stage == "compared":
            return Timeout()
        raise ZeroDivisionError("asked")

    fake = FakeSocket(pair[0], b"not asked for")
    fake.gettimeout = gettimeout
    loop.set_debug(True)
    with pytest.raises(ZeroDivisionError, match=stage):
        await loop.sock_recv(fake, 10)
    assert fake.calls == []


class NotAwaitable:
    """What a program may give in a future's place."""

    def __init__(self, answer=None):
        self.answer = answer

    def add_done_callback(self, callback):
        pass

    def done(self):
        return True


class Awaitable(NotAwaitable):
    def __await__(self):
        if isinstance(self.answer, BaseException):
            raise type(self.answer)(*self.answer.args)  # a new one: it keeps the traceback of each time
        return self.answer


@pytest.mark.parametrize(
    "future, error, message",
    [
        (NotAwaitable(), TypeError, "NotAwaitable"),
        (Awaitable(5), TypeError, "int"),
        (Awaitable(ZeroDivisionError("on purpose")), ZeroDivisionError, "^on purpose$"),
    ],
    ids=["not awaitable", "no iterator", "raises"],
)
def test_a_future_that_can_not_be_awaited(loop, monkeypatch, pair, future, error, message):
    monkeypatch.setattr(loop, "create_future", lambda: future)
    with pytest.raises(error, match=message):
        loop.sock_recv(pair[0], 10).send(None)
    loop.remove_reader(pair[0])


def test_a_future_whose_iterator_has_no_throw(loop, monkeypatch, pair):
    monkeypatch.setattr(loop, "create_future", lambda: Awaitable(iter(["first", "second"])))
    operation = loop.sock_recv(pair[0], 10)
    assert operation.send(None) == "first"
    with pytest.raises(ZeroDivisionError, match="thrown"):
        operation.throw(ZeroDivisionError("thrown"))
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        operation.send(None)
    loop.remove_reader(pair[0])


def test_a_future_that_catches_what_is_thrown(loop, monkeypatch, pair):
    def steps():
        for step in ("first", "second"):
            try:
                yield step
            except ZeroDivisionError:
                pass
        return b"at last"

    monkeypatch.setattr(loop, "create_future", lambda: Awaitable(steps()))
    operation = loop.sock_recv(pair[0], 10)
    assert operation.send(None) == "first"
    assert operation.throw(ZeroDivisionError()) == "second"
    with pytest.raises(StopIteration) as stop:
        operation.throw(ZeroDivisionError())
    assert stop.value.value == b"at last"
    loop.remove_reader(pair[0])


@pytest.mark.parametrize("broken", ["done", "set_result"])
def test_a_future_that_can_not_be_told(loop, loop_errors, pair, broken):
    class Broken(asyncio.Future):
        pass

    def fail(*args):
        raise ZeroDivisionError("on purpose")

    sock, peer = pair
    future = Broken(loop=loop)
    setattr(Broken, broken, fail)
    loop.create_future = lambda: future
    operation = loop.sock_recv(sock, 10)
    assert operation.send(None) is future
    del loop.create_future
    peer.send(b"hello")
    loop.run_until_complete(asyncio.wait_for(until(lambda: loop_errors), LIMIT))
    operation.close()
    loop.remove_reader(sock)
    assert str(loop_errors[0]["exception"]) == "on purpose"
    loop_errors.clear()
    delattr(Broken, broken)
    future.cancel()


async def test_something_that_is_no_socket(loop):
    for operation in every_operation(loop, object()).values():
        with pytest.raises(AttributeError):
            await operation


async def test_transport_sockets_have_no_recv(loop):
    async with connection() as ends:
        with pytest.raises(AttributeError):
            await loop.sock_recv(ends.client.get_extra_info("socket"), 10)


def test_an_overridden_create_future_is_used(loop_factory, no_leaks):
    made = []

    class Loop(loop_factory):
        def create_future(self):
            made.append(asyncio.Future(loop=self))
            return made[-1]

    loop = Loop()
    sock, peer = nonblocking(*socket.socketpair())
    with sock, peer:
        operation = loop.sock_recv(sock, 10)
        assert operation.send(None) is made[0]
        operation.close()
    loop.close()


async def test_a_create_future_set_on_the_loop_is_used(loop, pair):
    sock, peer = pair
    future = asyncio.Future(loop=loop)
    loop.create_future = lambda: future
    operation = loop.sock_recv(sock, 10)
    assert operation.send(None) is future
    operation.close()
    del loop.create_future
    task = await pending(loop.sock_recv(sock, 10))
    peer.send(b"hello")
    assert await task == b"hello"
    assert not future.done()


async def test_a_fake_socket_without_an_fd(loop, pair):
    fake = FakeSocket(pair[0], BlockingIOError())
    fake.fileno = lambda: -1
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        await loop.sock_recv(fake, 10)


async def test_results_that_an_exception_could_be_mistaken_for(loop, pair):
    for answer in ((1, 2), (), ValueError("a result"), StopIteration(3)):
        fake = FakeSocket(pair[0])
        fake.recv = lambda n, answer=answer: answer
        assert await loop.sock_recv(fake, 10) is answer


# --- the coroutine


async def test_it_is_a_coroutine_for_everybody(loop, pair):
    sock, _ = pair
    for name, operation in every_operation(loop, sock).items():
        assert asyncio.iscoroutine(operation)
        assert inspect.isawaitable(operation)
        assert isinstance(operation, collections.abc.Coroutine)
        assert operation.__name__ == name
        assert operation.__qualname__.endswith("." + name)
        assert f"{operation.__qualname__} at 0x" in repr(operation)
        assert operation.cr_running is False
        assert operation.cr_suspended is False
        assert weakref.ref(operation)() is operation
        operation.close()


async def test_its_task_can_be_shown(loop, pair):
    sock, _ = pair
    task = await pending(loop.sock_recv(sock, 10))
    assert ".sock_recv()" in repr(task)
    assert "wait_for=<Future pending" in repr(task)
    with open(os.devnull, "w") as file:
        task.print_stack(file=file)
    await cancel(task)


async def test_who_awaits_it(loop, pair):
    sock, peer = pair

    async def through_a_coroutine():
        return await loop.sock_recv(sock, 1)

    peer.send(b"abcdef")
    assert await asyncio.create_task(loop.sock_recv(sock, 1)) == b"a"
    assert await asyncio.ensure_future(loop.sock_recv(sock, 1)) == b"b"
    assert await asyncio.gather(loop.sock_recv(sock, 1), loop.sock_recv(sock, 1)) == [b"c", b"d"]
    assert await asyncio.wait_for(loop.sock_recv(sock, 1), LIMIT) == b"e"
    assert await through_a_coroutine() == b"f"
    task = await pending(through_a_coroutine())
    peer.send(b"g")
    assert await task == b"g"


def test_run_until_complete(loop, pair):
    sock, peer = pair
    loop.call_later(0.01, peer.send, b"hello")
    assert loop.run_until_complete(loop.sock_recv(sock, 10)) == b"hello"


async def test_from_another_thread(loop, pair):
    sock, peer = pair

    def thread():
        return asyncio.run_coroutine_threadsafe(loop.sock_recv(sock, 10), loop).result(LIMIT)

    task = loop.run_in_executor(None, thread)
    await asyncio.sleep(0.01)
    peer.send(b"hello")
    assert await task == b"hello"


async def test_nothing_happens_before_it_is_awaited(loop, pair):
    sock, peer = pair
    wrong = loop.sock_recv(5, "wrong")
    peer.send(b"hello")
    first = loop.sock_recv(sock, 3)
    second = loop.sock_recv(sock, 3)
    assert await second == b"hel"
    assert await first == b"lo"
    with pytest.raises(AttributeError):
        await wrong


def test_arguments_are_bound_at_once(loop, pair):
    sock, _ = pair
    for wrong in (
        lambda: loop.sock_recv(),
        lambda: loop.sock_recv(sock),
        lambda: loop.sock_recv(sock, 1, 2),
        lambda: loop.sock_recv(sock, n=1, m=2),
        lambda: loop.sock_recv(sock, 1, n=2),
        lambda: loop.sock_sendto(sock, b""),
    ):
        with pytest.raises(TypeError, match=r"sock_\w+\(\)"):
            wrong()


async def test_keywords(loop, pair):
    sock, peer = pair
    await loop.sock_sendall(data=b"hello", sock=peer)
    assert await loop.sock_recv(n=2, sock=sock) == b"he"
    assert await loop.sock_recvfrom(sock, bufsize=2) == (b"ll", None)
    assert await loop.sock_recv_into(sock, buf=bytearray(5)) == 1


def test_the_methods_show_their_signatures(loop):
    assert str(inspect.signature(loop.sock_recv)) == "(sock, n)"
    assert str(inspect.signature(loop.sock_recvfrom_into)) == "(sock, buf, nbytes=0)"
    assert str(inspect.signature(loop.sock_sendto)) == "(sock, data, address)"


def test_never_awaited(loop, pair):
    with pytest.warns(RuntimeWarning, match=r"^coroutine '\w+\.sock_recv' was never awaited"):
        loop.sock_recv(pair[0], 10)
        gc.collect()


def test_never_awaited_where_warnings_are_errors(loop, pair, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.sock_recv(pair[0], 10)
        gc.collect()
    (unraisable,) = told
    assert isinstance(unraisable.exc_value, RuntimeWarning)
    if unraisable.object is not None:  # asyncio's coroutine, from 3.14 on
        unraisable.object.close()  # it lives again
    told.clear()
    del unraisable
    gc.collect()
    assert told == []


def test_closed_and_thrown_into_do_not_warn(loop, pair):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.sock_recv(pair[0], 10).close()
        operation = loop.sock_recv(pair[0], 10)
        with pytest.raises(ZeroDivisionError):
            operation.throw(ZeroDivisionError)
        del operation
        gc.collect()


async def test_awaited_twice(loop, pair):
    sock, peer = pair
    peer.send(b"hello")
    operation = loop.sock_recv(sock, 2)
    await operation
    for _ in range(2):
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            await operation
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        operation.throw(ValueError())
    operation.close()


async def test_awaited_by_two(loop, pair):
    sock, peer = pair
    operation = loop.sock_recv(sock, 10)
    task = await pending(operation)
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        await operation
    peer.send(b"hello")
    assert await task == b"hello"


def test_driven_by_hand(loop, pair):
    sock, peer = pair
    operation = loop.sock_recv(sock, 10)
    with pytest.raises(TypeError, match="^can't send non-None value to a just-started coroutine$"):
        operation.send(5)
    future = operation.send(None)
    assert isinstance(future, asyncio.Future)
    assert future._asyncio_future_blocking is True
    future._asyncio_future_blocking = False
    assert operation.cr_suspended is True
    peer.send(b"hello")
    assert loop.run_until_complete(future) == b"hello"
    with pytest.raises(StopIteration) as stop:
        operation.send(None)
    assert stop.value.value == b"hello"
    assert operation.cr_suspended is False


def test_closed_by_hand(loop, pair):
    sock, peer = pair
    operation = loop.sock_recv(sock, 10)
    future = operation.send(None)
    operation.close()
    operation.close()
    future.cancel()
    peer.send(b"hello")
    loop.run_until_complete(turns())
    assert sock.recv(10) == b"hello"
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        operation.send(None)


def test_throw_by_hand(loop, pair):
    sock, peer = pair
    error = ZeroDivisionError("mine")
    for arguments in ((error,), (ZeroDivisionError,), (ZeroDivisionError, "mine"), (ZeroDivisionError, error, None)):
        operation = loop.sock_recv(sock, 10)
        operation.send(None).cancel()
        with warnings.catch_warnings(), pytest.raises(ZeroDivisionError):
            warnings.simplefilter("ignore", DeprecationWarning)
            operation.throw(*arguments)
    loop.run_until_complete(turns())
    for arguments, message in (
        ((), "throw expected at least 1 argument, got 0"),
        ((error, None, None, None), "throw expected at most 3 arguments, got 4"),
        ((5,), "exceptions must be classes or instances deriving from BaseException, not int"),
        ((int,), "exceptions must be classes or instances deriving from BaseException, not type"),
        ((error, 5), "instance exception may not have a separate value"),
        ((ZeroDivisionError, None, 5), "throw() third argument must be a traceback object"),
    ):
        operation = loop.sock_recv(sock, 10)
        with warnings.catch_warnings(), pytest.raises(TypeError) as raised:
            warnings.simplefilter("ignore", DeprecationWarning)
            operation.throw(*arguments)
        assert str(raised.value) == message
        operation.close()


def test_throw_with_a_traceback(loop, pair):
    def fail():
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError) as raised:
        fail()
    error = raised.value
    for arguments in ((error, None, error.__traceback__), (ZeroDivisionError, error, error.__traceback__)):
        operation = loop.sock_recv(pair[0], 10)
        with warnings.catch_warnings(), pytest.raises(ZeroDivisionError) as again:
            warnings.simplefilter("ignore", DeprecationWarning)
            operation.throw(*arguments)
        assert again.value is error
        assert "fail" in [frame.name for frame in traceback.extract_tb(again.value.__traceback__)]


def test_one_that_is_running_can_not_be_driven(loop, pair):
    operations = []
    seen = []

    class Reenters(FakeSocket):
        def recv(self, n):
            for drive in (lambda: operations[0].send(None), operations[0].close, lambda: operations[0].throw(KeyError)):
                with pytest.raises(ValueError, match="^coroutine already executing$"):
                    drive()
            seen.append((operations[0].cr_running, operations[0].cr_suspended))
            return b"hello"

    operations.append(loop.sock_recv(Reenters(pair[0]), 10))
    assert finish_at_once(operations[0]) == b"hello"
    assert seen == [(True, False)]


def test_a_dropped_coroutine_ends_its_operation(loop, pair):
    sock, peer = pair

    async def waits():
        await loop.sock_recv(sock, 10)

    coroutine = waits()
    future = coroutine.send(None)
    coroutine.close()
    future.cancel()
    loop.run_until_complete(turns())
    assert loop.remove_reader(sock) is False


async def test_no_references_are_left(loop, make_pair):
    class Data(bytearray):
        pass

    sock, peer = make_pair()
    filled = fill(sock)
    data = Data(b"hello")
    gone = [weakref.ref(sock), weakref.ref(data)]
    task = await pending(loop.sock_sendall(sock, data))
    assert await receive(loop, peer, filled + 5) == bytes(filled) + b"hello"
    await task
    receiving = await pending(loop.sock_recv(sock, 10))
    await cancel(receiving)
    await turns()
    references = sys.getrefcount(sock)
    for _ in range(100):
        await loop.sock_sendall(sock, b"x")
        await receive(loop, peer, 1)
        peer.send(b"y")
        await loop.sock_recv(sock, 10)
        await cancel(await pending(loop.sock_recv(sock, 10)))
        with pytest.raises(TypeError):
            await loop.sock_recv(sock, "wrong")
    await turns()
    assert sys.getrefcount(sock) == references
    del task, receiving, data
    gc.collect()
    assert gone[1]() is None


def test_a_dropped_loop_with_a_pending_operation_is_collected(loop_factory):
    sock, peer = nonblocking(*socket.socketpair())
    with sock, peer:
        loop = loop_factory()
        task = loop.create_task(loop.sock_recv(sock, 10))
        loop.run_until_complete(turns())
        gone = [weakref.ref(loop), weakref.ref(task)]
        with pytest.warns(ResourceWarning):
            del loop, task
            gc.collect()
        assert [ref() for ref in gone] == [None, None]
