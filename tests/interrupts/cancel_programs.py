# SPDX-License-Identifier: MIT
"""Each awaitable that a loop gives, cancelled each time that it waits, in three ways; asyncio's loop is the oracle.

A scene has what the awaitable needs, makes it, and lets come what it waits for.  It is run with a cancellation at the
first suspension, the second, and so on until it ends before that.  `outcomes` has what came of each: the result's type,
or the exception with its text; how many more files are open; and what the exception handler was told.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import itertools
import os
import socket
import subprocess
import tempfile
import threading
import time
import types
import warnings

import interrupt_programs

from support import LOOPS, load, open_fds

LOCAL = "127.0.0.1"
SOON = 0.002
LARGE = bytes(300_000)
HOW = ("at once", "in the next turn", "when it has come")


@types.coroutine
def cancelled(loop, awaitable, number, how, reached, deeds):
    """Await it, and cancel this task at the suspension `number`, before or after what it waits for has come: a while
    after each suspension one of the deeds is done."""
    iterator = awaitable.__await__()
    resume = iterator.send, None
    for count in itertools.count(1):
        try:
            future = resume[0](resume[1])
        except StopIteration as stop:
            return stop.value
        if deeds:
            loop.call_later(SOON, deeds.pop(0))
        if count == number:
            reached.append(number)
            task = asyncio.current_task()
            if how == "at once":
                task.cancel()
            elif how == "in the next turn" or future is None:
                loop.call_soon(task.cancel)
            else:
                future.add_done_callback(lambda future: task.cancel())
        try:
            yield future
            resume = iterator.send, None
        except BaseException as error:
            resume = iterator.throw, error
    return None


# --- scenes: `async with scene(loop, tools) as make`


@contextlib.asynccontextmanager
async def pair(kind=socket.SOCK_STREAM):
    here, there = socket.socketpair(type=kind)
    with here, there:
        for sock in (here, there):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        yield here, there


def receiving(call, kind=socket.SOCK_STREAM):
    @contextlib.asynccontextmanager
    async def scene(loop, tools):
        async with pair(kind) as (here, there):
            tools.deeds = [functools.partial(there.send, b"hello")]
            yield lambda: call(loop, here)
            await asyncio.sleep(2 * SOON)
            with contextlib.suppress(BlockingIOError):
                here.recv(100)
            there.send(b"again")
            assert await loop.sock_recv(here, 100) == b"again"

    return scene


def drain(sock):
    with contextlib.suppress(BlockingIOError):
        sock.recv(100_000)


def draining(call):
    """The peer takes everything, from a while later on."""

    @contextlib.asynccontextmanager
    async def scene(loop, tools):
        async with pair() as (here, there):
            tools.deeds = [functools.partial(loop.add_reader, there, drain, there)]
            yield lambda: call(loop, here, tools)
            await asyncio.sleep(2 * SOON)
            loop.remove_reader(there)
            assert not loop.remove_writer(here)

    return scene


@contextlib.asynccontextmanager
async def listening():
    with socket.create_server((LOCAL, 0)) as listener:
        listener.setblocking(False)
        yield listener, listener.getsockname()


@contextlib.asynccontextmanager
async def sock_connect(loop, tools):
    async with listening() as (listener, address):
        with socket.socket() as sock:
            sock.setblocking(False)
            yield lambda: loop.sock_connect(sock, address)


@contextlib.asynccontextmanager
async def sock_accept(loop, tools):
    async with listening() as (listener, address):
        with socket.socket() as sock:
            sock.setblocking(False)
            tools.deeds = [functools.partial(sock.connect_ex, address)]
            yield lambda: closing(loop.sock_accept(listener), lambda result: result[0].close())
            await asyncio.sleep(2 * SOON)
            assert not loop.remove_reader(listener)


async def closing(awaitable, close):
    result = await awaitable
    close(result)
    return result


async def connected(awaitable):
    """For what gives a transport and a protocol: wait until it is lost, so that nothing of it is left."""
    transport, protocol = await awaitable
    transport.close()
    await asyncio.sleep(0)
    return protocol


@contextlib.asynccontextmanager
async def serving(loop, factory=asyncio.Protocol, **options):
    server = await loop.create_server(factory, LOCAL, 0, **options)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await asyncio.sleep(0.01)  # for accepted connections, and the other end's close


def connecting(call, **options):
    @contextlib.asynccontextmanager
    async def scene(loop, tools):
        server_options = {"ssl": tools.contexts["server_context"]} if options.get("tls") else {}
        async with serving(loop, **server_options) as address:
            yield lambda: connected(call(loop, address, tools))
            if options.get("collects"):
                gc.collect()
                await asyncio.sleep(0.01)

    return scene


def by_tls(loop, address, tools):
    context = tools.contexts["client_context"]
    return loop.create_connection(asyncio.Protocol, *address, ssl=context, server_hostname="localhost")


@contextlib.asynccontextmanager
async def create_unix_connection(loop, tools):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        server = await loop.create_unix_server(asyncio.Protocol, path)
        yield lambda: connected(loop.create_unix_connection(asyncio.Protocol, path))
        server.close()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def start_tls(loop, tools):
    contexts = tools.contexts

    class Upgrading(asyncio.Protocol):
        def connection_made(self, transport):
            self.task = loop.create_task(self.upgrade(transport))

        async def upgrade(self, transport):
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await loop.start_tls(transport, self, contexts["server_context"], server_side=True)

    async with serving(loop, Upgrading) as address:
        transport, protocol = await loop.create_connection(asyncio.Protocol, *address)
        context = contexts["client_context"]
        yield lambda: loop.start_tls(transport, protocol, context, server_hostname="localhost")
        transport.abort()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def sendfile(loop, tools):
    class Draining(asyncio.Protocol):
        def data_received(self, data):
            pass

    async with serving(loop, Draining) as address:
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        yield lambda: loop.sendfile(transport, tools.file)
        transport.abort()
        await asyncio.sleep(0.01)


def piping(method, end):
    @contextlib.asynccontextmanager
    async def scene(loop, tools):
        ends = os.pipe()
        with open(ends[0], "rb", 0) as reader, open(ends[1], "wb", 0) as writer:
            pipe = (reader, writer)[end]
            yield lambda: connected(getattr(loop, method)(asyncio.Protocol, pipe))

    return scene


@contextlib.asynccontextmanager
async def create_subprocess(loop, tools):
    made = []

    async def make():
        made.append(await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    yield make
    for process in made:
        process.stdin.close()
        await process.wait()


def alone(call):
    @contextlib.asynccontextmanager
    async def scene(loop, tools):
        yield lambda: call(loop)

    return scene


def in_executor(call):
    """Its thread has not begun when this suspends."""

    @contextlib.asynccontextmanager
    async def scene(loop, tools):
        executor, gate = concurrent.futures.ThreadPoolExecutor(1), threading.Event()
        executor.submit(gate.wait)
        loop.set_default_executor(executor)
        tools.deeds = [gate.set]
        yield lambda: call(loop)
        gate.set()
        executor.shutdown()

    return scene


@contextlib.asynccontextmanager
async def shutdown_default_executor(loop, tools):
    executor = concurrent.futures.ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    executor.submit(time.sleep, 2 * SOON)
    yield loop.shutdown_default_executor
    executor.shutdown()


def streaming(call, size=0):
    """A StreamReader and a StreamWriter whose peer sends two lines and ends, or takes nothing at first."""

    @contextlib.asynccontextmanager
    async def scene(loop, tools):
        async with pair() as (here, there):
            reader, writer = await asyncio.open_connection(sock=here)
            writer.write(bytes(size))
            if size:
                tools.deeds = [functools.partial(loop.add_reader, there, drain, there)]
            else:
                tools.deeds = [
                    functools.partial(there.send, b"one line\ntwo"),
                    functools.partial(there.send, b" lines\n"),
                    functools.partial(there.shutdown, socket.SHUT_WR),
                ]
            yield lambda: call(reader, writer)
            await asyncio.sleep(2 * SOON)  # for the last deed
            loop.remove_reader(there)
            with contextlib.suppress(AttributeError):  # asyncio's abort() of what is lost already
                writer.transport.abort()
            await asyncio.sleep(SOON)

    return scene


async def close_and_wait(reader, writer):
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def server_wait_closed(loop, tools):
    server = await loop.create_server(asyncio.Protocol, LOCAL, 0)
    here = socket.create_connection(server.sockets[0].getsockname())
    await asyncio.sleep(SOON)
    server.close()
    tools.deeds = [here.close]
    yield server.wait_closed
    here.close()
    await asyncio.sleep(SOON)


@contextlib.asynccontextmanager
async def serve_forever(loop, tools):
    server = await loop.create_server(asyncio.Protocol, LOCAL, 0, start_serving=False)
    tools.deeds = [server.close]
    yield server.serve_forever
    server.close()


AWAITABLES = {
    "sock_recv": receiving(lambda loop, sock: loop.sock_recv(sock, 10)),
    "sock_recv_into": receiving(lambda loop, sock: loop.sock_recv_into(sock, bytearray(10))),
    "sock_recvfrom": receiving(lambda loop, sock: loop.sock_recvfrom(sock, 10), socket.SOCK_DGRAM),
    "sock_recvfrom_into": receiving(lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(10)), socket.SOCK_DGRAM),
    "sock_sendall": draining(lambda loop, sock, tools: loop.sock_sendall(sock, LARGE)),
    "sock_sendfile": draining(lambda loop, sock, tools: loop.sock_sendfile(sock, tools.file)),
    "sock_connect": sock_connect,
    "sock_accept": sock_accept,
    "create_connection": connecting(lambda loop, address, tools: loop.create_connection(asyncio.Protocol, *address)),
    "happy eyeballs": connecting(
        lambda loop, address, tools: loop.create_connection(
            asyncio.Protocol, "localhost", address[1], happy_eyeballs_delay=0.01, interleave=1
        ),
        collects=True,  # the sockets that asyncio's staggered race forgets, before the server is closed
    ),
    "create_connection, TLS": connecting(by_tls, tls=True),
    "create_unix_connection": create_unix_connection,
    "create_datagram_endpoint": alone(
        lambda loop: connected(loop.create_datagram_endpoint(asyncio.DatagramProtocol, (LOCAL, 0)))
    ),
    "start_tls": start_tls,
    "sendfile": sendfile,
    "connect_read_pipe": piping("connect_read_pipe", 0),
    "connect_write_pipe": piping("connect_write_pipe", 1),
    "create_subprocess_exec": create_subprocess,
    "getaddrinfo": in_executor(lambda loop: loop.getaddrinfo("localhost", 80)),
    "getnameinfo": in_executor(lambda loop: loop.getnameinfo((LOCAL, 80), socket.NI_NUMERICHOST)),
    "run_in_executor": in_executor(lambda loop: loop.run_in_executor(None, time.sleep, SOON)),
    "shutdown_default_executor": shutdown_default_executor,
    "read": streaming(lambda reader, writer: reader.read()),
    "read(n)": streaming(lambda reader, writer: reader.read(5)),
    "readline": streaming(lambda reader, writer: reader.readline()),
    "readexactly": streaming(lambda reader, writer: reader.readexactly(15)),
    "readuntil": streaming(lambda reader, writer: reader.readuntil(b"lines")),
    "drain": streaming(lambda reader, writer: writer.drain(), 200_000),
    "writer.wait_closed": streaming(close_and_wait, 200_000),
    "server.wait_closed": server_wait_closed,
    "serve_forever": serve_forever,
    "sleep": alone(lambda loop: asyncio.sleep(SOON)),
    "wait_for": alone(lambda loop: asyncio.wait_for(asyncio.sleep(1), SOON)),
}


# --- running them


def kind_of(result):
    return "a transport" if isinstance(result, asyncio.BaseTransport) else type(result).__name__


async def outcome(loop, name, number, how, tools, reached):
    tools.deeds = []
    async with AWAITABLES[name](loop, tools) as make:

        async def main():
            return await cancelled(loop, make(), number, how, reached, tools.deeds)

        task = loop.create_task(main())
        await asyncio.wait([task], timeout=20)
        if not task.done():
            return "it waits"
        if task.cancelled():
            return "cancelled"
        error = task.exception()
        return f"returns {kind_of(task.result())}" if error is None else f"raises {error!r}"


def outcomes(loop_name, name, how, tools):
    """What came of a cancellation at the first suspension, the second..., and at last without one."""
    with contextlib.closing(load(LOOPS[loop_name])()) as loop, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # files that the collector closes, on asyncio's loop as well
        errors, found = [], []
        loop.set_exception_handler(lambda loop, context: errors.append(context["message"]))
        loop.run_until_complete(loop.getaddrinfo(LOCAL, 0))
        gc.collect()
        before = len(open_fds())
        for number in itertools.count(1):
            reached = []
            end = loop.run_until_complete(outcome(loop, name, number, how, tools, reached))
            gc.collect()
            for _ in range(20):
                if len(open_fds()) > before:  # what a machine at work has not come to yet
                    loop.run_until_complete(asyncio.sleep(0.01))
            found.append((end, len(open_fds()) - before, *errors))
            errors.clear()
            if not reached:
                break
        if loop._default_executor is not None:
            loop.run_until_complete(loop.shutdown_default_executor())
        return found


class Tools(interrupt_programs.Tools):
    def __init__(self):
        super().__init__()
        self.file = tempfile.TemporaryFile()
        self.file.write(LARGE)
        self.file.flush()
        self.of_asyncio = {}

    def close(self):
        self.file.close()


def compare(loop_name, name, tools):
    """How often the awaitable was cancelled; AssertionError where anything else came of it than on asyncio's loop."""
    count = 0
    for how in HOW:
        if (name, how) not in tools.of_asyncio:
            tools.of_asyncio[name, how] = outcomes("asyncio", name, how, tools)
        found = outcomes(loop_name, name, how, tools)
        wanted = tools.of_asyncio[name, how]
        assert found == wanted, f"{name}, cancelled {how}: {found} instead of {wanted}"
        count += len(found) - 1
    return count
