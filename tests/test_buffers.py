# SPDX-License-Identifier: MIT
"""Objects whose buffer is asked for and given back by Python (PEP 688): in there somebody ends the transport, or closes
the loop.  asyncio's own Python stumbles over some of that, with one exception or another; nobody may crash."""

import asyncio
import contextlib
import functools
import gc
import importlib.util
import os
import socket

import pytest

from support import Datagrams, Recorder, until


class Asked(bytearray):
    """`act` is called when the buffer is asked for the first time."""

    def __buffer__(self, flags):
        act, self.act = self.act, bool
        act()
        return super().__buffer__(flags)


class Failing(Asked):
    """And after that there is none."""

    def __buffer__(self, flags):
        super().__buffer__(flags).release()
        raise OSError("no buffer")


class GivenBack(bytearray):
    """`act` is called when the buffer is given back for the first time."""

    def __buffer__(self, flags):
        return super().__buffer__(flags)

    def __release_buffer__(self, view):
        act, self.act = self.act, bool
        act()
        super().__release_buffer__(view)


# --- writing: where such an object is given to a transport; the transport, and what takes the object


async def a_write(loop, stack, fixture):
    ours, peer = socket.socketpair()
    stack.enter_context(peer)
    transport, _ = await loop.create_connection(Recorder, sock=ours)
    return transport, transport.write


async def a_write_behind_others(loop, stack, fixture):
    transport, write = await a_write(loop, stack, fixture)
    write(bytes(2**20))
    return transport, write


async def writelines(loop, stack, fixture):
    transport, _ = await a_write(loop, stack, fixture)
    return transport, lambda data: transport.writelines([b"before", data, b"behind"])


async def a_pipe(loop, stack, fixture):
    read, write = os.pipe()
    stack.callback(os.close, read)
    transport, _ = await loop.connect_write_pipe(Recorder, open(write, "wb", 0))
    return transport, transport.write


async def sendto(loop, stack, fixture):
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    address = transport.get_extra_info("sockname")
    return transport, lambda data: transport.sendto(data, address)


async def sendto_of_one_peer(loop, stack, fixture):
    peer = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    peer.bind(("127.0.0.1", 0))
    transport, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=peer.getsockname())
    return transport, transport.sendto


async def a_write_over_tls(loop, stack, fixture):
    ours, peer = socket.socketpair()
    (transport, _), _ = await asyncio.gather(
        loop.create_connection(Recorder, sock=ours, ssl=fixture("client_context"), server_hostname="localhost"),
        loop.connect_accepted_socket(Recorder, peer, ssl=fixture("server_context")),
    )
    return transport, transport.write


TLS = pytest.mark.skipif(importlib.util.find_spec("trustme") is None, reason="needs trustme")
PLACES = [a_write, a_write_behind_others, writelines, a_pipe, sendto, sendto_of_one_peer]
PLACES += [pytest.param(a_write_over_tls, marks=TLS)]


# What happens meanwhile.


def abort(loop, transport):
    transport.abort()


def close(loop, transport):
    transport.close()


def write(loop, transport):
    if hasattr(transport, "write"):
        transport.write(b"meanwhile")


def abort_and_go_on(loop, transport):
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0.01))


def close_the_loop(loop, transport):
    loop.close()


def abort_go_on_and_close_the_loop(loop, transport):
    abort_and_go_on(loop, transport)
    loop.close()


ACTS = [abort, close, write, abort_and_go_on, close_the_loop, abort_go_on_and_close_the_loop]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("kind", [Asked, Failing, GivenBack])
@pytest.mark.parametrize("place", PLACES)
def test_writing(loop_factory, no_leaks, place, kind, act, request):
    loop = loop_factory()
    loop.set_exception_handler(lambda *args: None)
    with contextlib.ExitStack() as stack:
        transport, take = loop.run_until_complete(place(loop, stack, request.getfixturevalue))
        protocol = transport.get_protocol()
        data = kind(30_000)
        data.act = functools.partial(act, loop, transport)
        with contextlib.suppress(Exception):
            take(data)
        if not loop.is_closed():
            if "lost" not in protocol.events:
                transport.abort()
            loop.run_until_complete(asyncio.sleep(0.01))
            assert protocol.events.count("lost") == 1
            loop.close()
    del transport, take, protocol
    gc.collect()


# --- reading


class Reader(Recorder, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.data += bytes(count)


def pause(loop, transport):
    transport.pause_reading()
    loop.call_later(0.01, transport.resume_reading)


@pytest.mark.parametrize("act", [abort, close, pause])
@pytest.mark.parametrize("kind", [Asked, Failing, GivenBack])
async def test_reading(loop, loop_errors, kind, act):
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await loop.create_connection(Reader, sock=ours)
        protocol.buffer = kind(10)
        protocol.buffer.act = functools.partial(act, loop, transport)
        peer.send(bytes(100))
        await until(lambda: len(protocol.data) == 100 or transport.is_closing())
        transport.abort()
        await protocol.lost
    assert protocol.events == ["made", "lost"]
    loop_errors.clear()


# --- loop.sock_*


def cancel(task, sock):
    task.cancel()


def close_the_socket(task, sock):
    sock.close()


def close_the_coroutine(task, sock):
    with pytest.raises((ValueError, RuntimeError)):
        task.get_coro().close()


CALLS = {
    "sock_recv_into": lambda loop, sock, data: loop.sock_recv_into(sock, data),
    "sock_recvfrom_into": lambda loop, sock, data: loop.sock_recvfrom_into(sock, data),
    "sock_sendall": lambda loop, sock, data: loop.sock_sendall(sock, data),
    "sock_sendto": lambda loop, sock, data: loop.sock_sendto(sock, data, sock.getsockname()),
}


@pytest.mark.parametrize("act", [cancel, close_the_socket, close_the_coroutine])
@pytest.mark.parametrize("kind", [Asked, Failing, GivenBack])
@pytest.mark.parametrize("call", CALLS)
async def test_calls(loop, call, kind, act):
    async def main():
        return await CALLS[call](loop, sock, data)

    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        sock.connect(address)
        sock.send(bytes(10))
        data = kind(100)
        task = loop.create_task(main())
        data.act = functools.partial(act, task, sock)
        (result,) = await asyncio.gather(task, return_exceptions=True)
    done = {"sock_recv_into": 10, "sock_recvfrom_into": (10, address), "sock_sendall": None, "sock_sendto": 100}
    if kind is Failing:
        assert isinstance(result, TypeError if "into" in call else OSError)
    elif act is cancel:
        assert isinstance(result, asyncio.CancelledError)
    elif kind is Asked and act is close_the_socket:
        assert isinstance(result, OSError)
    else:
        assert result == done[call]
