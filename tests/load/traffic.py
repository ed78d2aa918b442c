# SPDX-License-Identifier: MIT
"""`traffic.py MODULE:CALLABLE SECONDS [FEATURE...]`: mixed traffic on one loop, and a line of JSON a second with what
the process holds.

Each function below that `feature` marks is a round: it does a bit of one thing, checks what came of it, and leaves
nothing open.  Several workers repeat each.  For a sample they all end their rounds first, so that what is counted is
only what stays: a leak of one object in a hundred rounds shows.  The line also tells of rounds that failed, of what
the exception handler was told, and how busy the loop is with nobody at work.
"""

import asyncio
import collections
import concurrent.futures
import gc
import json
import logging
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import trustme

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import Datagrams, Echo, Recorder, connection, load, one_end, open_fds, pattern, reset, turns, until, within

WORKERS = 2  # of each feature
MORE_WORKERS = 2  # in the first fifth of the time: what the allocators hold at most is then behind us
THREADS = 4
ROUND_SECONDS = 30
DATA = pattern(300_000)
FEATURES = []


def feature(function):
    FEATURES.append(function)
    return function


def some(most=100_000):
    size = random.choice([1, 100, 5000, most])
    start = random.randrange(len(DATA) - size)
    return DATA[start : start + size]


# --- streams and transports


async def echo(reader, writer):
    """A server's end, for streams."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(reader, writer):
    for _ in range(3):
        data = some()
        writer.write(data)
        await writer.drain()
        assert await reader.readexactly(len(data)) == data
    writer.close()
    await writer.wait_closed()


@feature
async def streams(world):
    await talk(*await asyncio.open_connection(*world.address))


@feature
async def tls(world):
    await talk(
        *await asyncio.open_connection(*world.tls_address, ssl=world.client_context, server_hostname="localhost")
    )


@feature
async def start_tls(world):
    """A connection that becomes TLS on the way."""

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go on\n")
        await writer.start_tls(world.server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go on\n"
        await writer.start_tls(world.client_context, server_hostname="localhost")
        await talk(reader, writer)


@feature
async def tls_that_fails(world):
    """The client trusts nobody; or hangs up in its hello."""
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(
            Recorder, *world.tls_address, ssl=ssl.create_default_context(), server_hostname="localhost"
        )
    except ssl.SSLCertVerificationError:
        pass
    else:
        raise AssertionError("the certificate passed")
    with socket.create_connection(world.tls_address) as sock:
        sock.send(b"\x16\x03\x01\x02\x00\x01")
        await turns()
        reset(sock)


@feature
async def unix(world):
    path = os.path.join(world.folder, f"{random.random()}")
    server = await asyncio.start_unix_server(echo, path)
    await talk(*await asyncio.open_unix_connection(path))
    server.close()
    await server.wait_closed()
    if os.path.exists(path):  # until 3.13
        os.unlink(path)


@feature
async def protocols(world):
    """A server of its own, flow control, half-closing."""
    async with connection(Recorder, Echo) as pair:
        pair.client.write(DATA)
        pair.client.writelines([some(), some()])
        pair.client.write_eof()
        await pair.client_protocol.lost
        assert pair.client_protocol.data[: len(DATA)] == DATA


@feature
async def kept_connections(world):
    """Those that live as long as the process."""
    for reader, writer in world.kept:
        async with world.kept_lock:
            data = some()
            writer.write(data)
            assert await reader.readexactly(len(data)) == data


@feature
async def resets(world):
    """In the middle of a write, or with nothing to do."""
    async with one_end(small=True) as (transport, protocol, peer):
        if random.random() < 0.5:
            transport.write(DATA)
        await turns()
        reset(peer)
        assert isinstance(await protocol.lost, (ConnectionResetError, BrokenPipeError))


@feature
async def servers_closed_with_clients(world):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    ends = [await loop.create_connection(Recorder, *server.sockets[0].getsockname()) for _ in range(5)]
    ends[0][0].write(DATA)
    server.close()
    for transport, protocol in ends:
        transport.abort() if random.random() < 0.5 else transport.close()
        assert await protocol.lost is None
    await server.wait_closed()


@feature
async def sendfile(world):
    async with connection() as pair:
        with open(world.file, "rb") as file:
            await asyncio.get_running_loop().sendfile(pair.client, file)
        await until(lambda: pair.server_protocol.data == DATA)


@feature
async def pipes(world):
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    _, reader = await loop.connect_read_pipe(Recorder, open(read, "rb", 0))
    writing, writer = await loop.connect_write_pipe(Recorder, open(write, "wb", 0))
    writing.write(DATA)
    writing.close()
    await reader.lost
    await writer.lost
    assert reader.data == DATA


# --- datagrams, sockets, watches


@feature
async def udp(world):
    loop = asyncio.get_running_loop()
    server, received = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    client, answered = await loop.create_datagram_endpoint(Datagrams, remote_addr=server.get_extra_info("sockname"))
    for i in range(10):
        client.sendto(b"%d" % i)
        await until(lambda i=i: len(received.received) == i + 1)
        server.sendto(*received.received[-1])
    await until(lambda: len(answered.received) == 10)
    assert answered.data == received.data
    for transport, protocol in ((client, answered), (server, received)):
        transport.close()
        await protocol.lost


@feature
async def sockets(world):
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        (peer, _), _ = await asyncio.gather(
            loop.sock_accept(listener), loop.sock_connect(client, listener.getsockname())
        )
        with peer:
            sending = asyncio.create_task(loop.sock_sendall(client, DATA))
            got = bytearray()
            while len(got) < len(DATA):
                got += await loop.sock_recv(peer, 65536)
            await sending
            assert got == DATA
            waiting = asyncio.create_task(loop.sock_recv(peer, 10))
            await turns()
            waiting.cancel()
            await asyncio.wait([waiting])
            into = bytearray(4)
            await loop.sock_sendall(client, b"1234")
            assert await loop.sock_recv_into(peer, into) == 4


@feature
async def watches(world):
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        readable, writable = loop.create_future(), loop.create_future()
        loop.add_reader(left, lambda: readable.done() or readable.set_result(left.recv(10)))
        loop.add_writer(left, lambda: writable.done() or writable.set_result(None))
        right.send(b"x")
        assert await readable == b"x"
        await writable
        assert loop.remove_reader(left) and loop.remove_writer(left)


# --- processes, signals, threads


@feature
async def subprocesses(world):
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if random.random() < 0.7:
        assert await process.communicate(DATA) == (DATA, None)
    else:
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        process.stdin.close()
        await process.stdout.read()
    await asyncio.sleep(0.2)  # they cost so much more than the rest


@feature
async def signals(world):
    async with world.signal_lock:
        loop, got = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, got.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await got.wait()
        loop.remove_signal_handler(signal.SIGUSR1)


@feature
async def threads(world):
    """Jobs for the executor; calls from other threads; names resolved."""
    loop = asyncio.get_running_loop()
    got, done = [], asyncio.Event()

    def produce():
        for i in range(100):
            loop.call_soon_threadsafe(got.append, i)
        loop.call_soon_threadsafe(done.set)
        return len(DATA)

    assert await loop.run_in_executor(None, produce) == len(DATA)
    await done.wait()
    assert got == list(range(100))
    assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0, 5), loop)) == 5
    await loop.getaddrinfo("localhost", 80)


# --- callbacks, timers, tasks


@feature
async def timers(world):
    loop, fired = asyncio.get_running_loop(), []
    handles = [loop.call_later(random.random() * 0.02, fired.append, i) for i in range(100)]
    handles += [loop.call_later(1000, fired.append, None) for _ in range(100)]
    for handle in handles[50:]:
        handle.cancel()
    await until(lambda: len(fired) == 50)
    assert None not in fired


@feature
async def cancellations(world):
    """Of tasks that wait for each kind of thing; timeouts; a group that fails."""
    reader, writer = await asyncio.open_connection(*world.address)
    queue, lock = asyncio.Queue(), asyncio.Lock()
    await lock.acquire()
    waits = [reader.read(10), queue.get(), lock.acquire(), asyncio.sleep(1000), asyncio.to_thread(time.sleep, 0.001)]
    tasks = [asyncio.create_task(wait) for wait in waits]
    await turns(random.randrange(3))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    try:
        async with asyncio.timeout(0.005):
            await reader.read(10)
    except TimeoutError:
        pass
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(reader.read(10))
            group.create_task(queue.get())
            group.create_task(asyncio.wait_for(asyncio.sleep(1000), 0.002))
    except* TimeoutError:
        pass
    writer.close()
    await writer.wait_closed()


# --- the world


class World:
    def __init__(self, folder):
        self.folder = folder
        self.file = os.path.join(folder, "file")
        Path(self.file).write_bytes(DATA)
        authority = trustme.CA()
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server_context)
        self.client_context = ssl.create_default_context()
        authority.configure_trust(self.client_context)
        self.signal_lock, self.kept_lock = asyncio.Lock(), asyncio.Lock()
        self.errors, self.rounds = [], collections.Counter()
        self.may_work, self.working = asyncio.Event(), 0

    async def start(self, functions):
        self.server = await asyncio.start_server(echo, "127.0.0.1", 0)
        self.tls_server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=self.server_context)
        self.address = self.server.sockets[0].getsockname()
        self.tls_address = self.tls_server.sockets[0].getsockname()
        self.kept = [await asyncio.open_connection(*self.address) for _ in range(10)]
        self.kept += [
            await asyncio.open_connection(*self.tls_address, ssl=self.client_context, server_hostname="localhost")
            for _ in range(10)
        ]
        executor = concurrent.futures.ThreadPoolExecutor(THREADS)
        asyncio.get_running_loop().set_default_executor(executor)
        barrier = threading.Barrier(THREADS)
        await asyncio.gather(*(asyncio.to_thread(barrier.wait) for _ in range(THREADS)))  # each has its thread now
        self.may_work.set()
        count = WORKERS + MORE_WORKERS
        self.workers = [asyncio.create_task(self.work(function)) for _ in range(count) for function in functions]
        self.fewer = len(functions) * WORKERS

    async def work(self, function):
        while True:
            await self.may_work.wait()
            self.working += 1
            try:
                await within(function(self), ROUND_SECONDS)
                self.rounds[function.__name__] += 1
            except Exception as error:
                self.errors.append(f"{function.__name__}: {error!r}")
            self.working -= 1
            await asyncio.sleep(random.random() * 0.02)

    async def dismiss(self):
        """The workers that are more than WORKERS of a feature."""
        self.may_work.clear()
        await until(lambda: self.working == 0)
        await self.cancel(self.workers[self.fewer :])
        del self.workers[self.fewer :]
        self.may_work.set()

    async def cancel(self, workers):
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)

    async def sample(self, is_quiet_measured):
        """What the process holds with nobody at work; the share of a core that it takes then."""
        self.may_work.clear()
        await until(lambda: self.working == 0)
        await asyncio.sleep(0.02)  # servers' ends
        gc.collect()
        quiet = None
        if is_quiet_measured:
            before = time.process_time()
            await asyncio.sleep(0.5)
            quiet = (time.process_time() - before) / 0.5
        process = psutil.Process()
        sample = {
            "rss": process.memory_info().rss,
            "fds": len(open_fds()),
            "objects": len(gc.get_objects()),
            "blocks": sys.getallocatedblocks(),
            "threads": process.num_threads(),
            "quiet": quiet,
            "rounds": dict(self.rounds),
            "errors": self.errors[:10],
        }
        self.may_work.set()
        return sample

    async def end(self):
        await self.cancel(self.workers)
        for _, writer in self.kept:
            writer.close()
            await writer.wait_closed()
        for server in (self.server, self.tls_server):
            server.close()
            await server.wait_closed()


async def soak(seconds, functions, folder):
    loop = asyncio.get_running_loop()
    world = World(folder)
    loop.set_exception_handler(
        lambda loop, context: world.errors.append(f"{context['message']}: {context.get('exception')!r}")
    )
    await world.start(functions)
    start = time.monotonic()
    for second in range(1, seconds + 1):
        if len(world.workers) > world.fewer and time.monotonic() - start >= seconds / 5:
            await world.dismiss()
        await asyncio.sleep(max(0, start + second - time.monotonic()))
        sample = await world.sample(second % 10 == 0)
        print(json.dumps({"time": time.monotonic() - start, **sample}), flush=True)
    await world.end()


def main():
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="rloop-soak-") as folder:
        with asyncio.Runner(loop_factory=load(sys.argv[1])) as runner:
            functions = [function for function in FEATURES if function.__name__ in (sys.argv[3:] or function.__name__)]
            runner.run(soak(int(sys.argv[2]), functions, folder))


if __name__ == "__main__":
    main()
