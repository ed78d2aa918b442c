# SPDX-License-Identifier: MIT
"""The transport of a datagram endpoint: what it queues, how it ends, whom it tells.  Datagrams: test_udp.py."""

import asyncio
import gc
import os
import socket
import struct
import warnings

import pytest

from support import Datagrams, turns, until

# asyncio takes a datagram out of its count when it tries to send it, and does not put it back when the kernel refuses.
counted = pytest.mark.ours(
    "asyncio's count of what waits is wrong, even negative, once the kernel has refused a datagram"
)
KINDS = [str, os.fsencode, lambda path: bytearray(os.fsencode(path))]  # the last only Python's socket takes


@pytest.fixture
def slow(tmp_path):
    """A Unix datagram socket that nobody reads from, and its path: unlike UDP, it makes its senders wait."""
    path = str(tmp_path / "slow")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        yield sock, path


async def unix_endpoint(loop, factory=Datagrams, **kwargs):
    return await loop.create_datagram_endpoint(factory, family=socket.AF_UNIX, **kwargs)


def fill(transport, address, count=100):
    """Send so many numbered datagrams; some of them wait."""
    for number in range(count):
        transport.sendto(b"%d" % number, address)
    assert transport.get_write_buffer_size() > 0


def read(sock):
    numbers = []
    try:
        while True:
            numbers.append(int(sock.recv(100)))
    except BlockingIOError:
        return numbers


async def read_all(sock, count):
    numbers = []

    def has_all():
        numbers.extend(read(sock))
        return len(numbers) >= count

    await until(has_all)
    return numbers


@counted
@pytest.mark.parametrize("kind", KINDS)
async def test_what_waits_is_sent_in_order(loop, slow, kind):
    sock, path = slow
    transport, protocol = await unix_endpoint(loop)
    fill(transport, kind(path))
    assert await read_all(sock, 100) == list(range(100))
    await until(lambda: transport.get_write_buffer_size() == 0)
    transport.sendto(b"100", kind(path))
    assert read(sock) == [100]
    transport.close()
    assert await protocol.lost is None


@counted
@pytest.mark.parametrize("kind", KINDS)
async def test_close_sends_what_waits_and_abort_drops_it(loop, slow, kind):
    sock, path = slow
    transport, protocol = await unix_endpoint(loop)
    fill(transport, kind(path))
    transport.close()
    await turns()
    assert not protocol.lost.done()
    assert await read_all(sock, 100) == list(range(100))
    assert await protocol.lost is None
    transport, protocol = await unix_endpoint(loop)
    fill(transport, kind(path))
    transport.abort()
    assert transport.get_write_buffer_size() == 0
    assert await protocol.lost is None
    assert len(read(sock)) < 100


@counted
@pytest.mark.parametrize("kind", KINDS)
async def test_receiver_that_goes_while_datagrams_wait(loop, slow, kind):
    sock, path = slow
    transport, protocol = await unix_endpoint(loop)
    fill(transport, kind(path))
    sock.close()
    await until(lambda: protocol.errors)
    await until(lambda: transport.get_write_buffer_size() == 0)
    assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
    assert not transport.is_closing()
    transport.close()
    assert await protocol.lost is None


@pytest.mark.parametrize("kind", KINDS)
async def test_abort_while_what_waits_is_sent(loop, slow, kind):
    """error_received() is called amid the sending, and ends it."""
    sock, path = slow

    class Aborting(Datagrams):
        def error_received(self, error):
            super().error_received(error)
            self.transport.abort()

    transport, protocol = await unix_endpoint(loop, Aborting)
    fill(transport, kind(path))
    sock.close()
    assert await protocol.lost is None
    assert len(protocol.errors) == 1


@counted
@pytest.mark.parametrize("kind", KINDS)
async def test_datagrams_sent_while_others_wait_come_after_them(loop, slow, kind):
    sock, path = slow

    class Eager(Datagrams):
        def resume_writing(self):
            super().resume_writing()
            self.transport.sendto(b"1000", kind(path))

    transport, protocol = await unix_endpoint(loop, Eager)
    transport.set_write_buffer_limits(high=10)
    fill(transport, kind(path))
    assert protocol.events == ["made", "pause"]
    assert await read_all(sock, 101) == [*range(100), 1000]
    assert protocol.events == ["made", "pause", "resume"]
    transport.close()
    assert await protocol.lost is None


@counted
@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
async def test_flow_control_that_raises_is_reported(loop, slow, loop_errors, method):
    sock, path = slow

    def fail(self):
        raise ZeroDivisionError("on purpose")

    transport, protocol = await unix_endpoint(loop, type("Failing", (Datagrams,), {method: fail}))
    transport.set_write_buffer_limits(high=10)
    fill(transport, path)
    assert await read_all(sock, 100) == list(range(100))
    await until(lambda: loop_errors)
    (context,) = loop_errors
    loop_errors.clear()
    assert context["message"] == f"protocol.{method}() failed"
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["transport"] is transport and context["protocol"] is protocol
    transport.close()
    assert await protocol.lost is None


@counted
@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_that_is_interrupted(loop, slow, method):
    sock, path = slow

    def interrupt(self):
        raise KeyboardInterrupt

    async def main():
        transport, protocol = await unix_endpoint(loop, type("Interrupted", (Datagrams,), {method: interrupt}))
        transport.set_write_buffer_limits(high=10)
        opened.append((transport, protocol))
        fill(transport, path)
        sent = await read_all(sock, 100)
        await asyncio.sleep(0.01)
        return sent

    opened = []
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    ((transport, protocol),) = opened
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    read(sock)
    assert loop.run_until_complete(asyncio.wait_for(protocol.lost, 10)) is None


@pytest.mark.parametrize(
    "args, kwargs",
    [((), {}), ((b"x", None, None), {}), ((b"x",), {"data": b"y"}), ((), {"addr": None}), ((b"x",), {"where": None})],
)
async def test_wrong_arguments_of_sendto(loop, args, kwargs):
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    with pytest.raises(TypeError):
        transport.sendto(*args, **kwargs)
    name = transport.get_extra_info("sockname")
    transport.sendto(data=b"by keyword", addr=name)
    transport.sendto(b"half", addr=name)
    await until(lambda: protocol.data == [b"by keyword", b"half"])
    assert not transport.is_closing()
    transport.close()
    assert await protocol.lost is None


@pytest.mark.parametrize("data", ["text", 5, None])
async def test_data_of_another_kind(loop, data):
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    with pytest.raises(TypeError) as caught:
        transport.sendto(data, transport.get_extra_info("sockname"))
    assert str(caught.value) == f"data argument must be a bytes-like object, not {type(data).__name__!r}"
    transport.close()
    assert await protocol.lost is None


async def test_attributes_that_programs_read(loop):
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    assert transport._extra["sockname"] == transport.get_extra_info("sockname")
    assert transport.get_extra_info("nothing", "default") == "default"
    assert transport._loop is loop
    assert transport._protocol_paused is False
    assert (transport._low_water, transport._high_water) == transport.get_write_buffer_limits()
    transport.close()
    assert await protocol.lost is None


def test_loop_closed_before_the_transport(loop_factory, no_leaks):
    loop = loop_factory()
    coroutine = loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    transport, _ = loop.run_until_complete(coroutine)
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, coroutine
        gc.collect()
    assert any(str(warning.message).startswith("unclosed transport <") for warning in caught)


async def test_connection_lost_that_raises(loop, loop_errors):
    class Failing(Datagrams):
        def connection_lost(self, error):
            super().connection_lost(error)
            raise ZeroDivisionError("on purpose")

    transport, protocol = await loop.create_datagram_endpoint(Failing, local_addr=("127.0.0.1", 0))
    transport.close()
    assert await protocol.lost is None
    await turns()
    assert [str(context["exception"]) for context in loop_errors] == ["on purpose"]
    loop_errors.clear()


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="a family of Linux")
async def test_addresses_of_an_unusual_family(loop):
    """What the kernel says of the loopback interface, when it is asked over netlink: rtnetlink(7)."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
    sock.setblocking(False)
    sock.bind((0, 0))
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
    assert transport.get_extra_info("sockname") == sock.getsockname()
    assert transport.get_extra_info("peername") == (0, 0)
    get_link, request, loopback = 18, 1, 1
    question = struct.pack("=IHHIIBxHiII", 32, get_link, request, 7, 0, socket.AF_UNSPEC, 0, loopback, 0, 0)
    transport.sendto(question, (0, 0))
    await until(lambda: protocol.received)
    ((answer, address),) = protocol.received
    assert address == (0, 0)
    assert struct.unpack_from("=IHHI", answer)[3] == 7
    transport.pause_reading()
    transport.sendto(question, (0, 0))
    await turns()
    assert len(protocol.received) == 1
    transport.resume_reading()
    await until(lambda: len(protocol.received) == 2)
    transport.close()
    assert await protocol.lost is None
