# SPDX-License-Identifier: MIT
"""Programs whose callbacks can be interrupted: each has all its callbacks of one kind of object say when they are done.

A program is `async def program(loop, hit, tools)`.  Every callback ends with `hit(kind)`, which may raise
KeyboardInterrupt or SystemExit: the callback's own work is done then, so that nothing is the program's loss, and what
the program returns is the same however often it is interrupted.  What the loop loses or does twice shows there, or the
program waits for ever.  The programs await nothing that an interrupt tears in asyncio's own Python.
"""

import asyncio
import collections
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import threading
from types import MappingProxyType

from support import pattern

LOCAL = "127.0.0.1"
LARGE = 400_000

# What an interrupted callback breaks in asyncio's own loop and not in ours.  resume_writing: a writer that is left with
# nothing to write fails for ever.  get_buffer over TLS: what was to go there waits for the next bytes.  The exception
# handler: the transport whose error it was told of is never closed.  A server's factory: neither is the connection.
ASYNCIO_LOSES = {
    "plain": "resume_writing",
    "buffered": "resume_writing",
    "pipes": "resume_writing",
    "tls_buffered": "get_buffer",
    "handlers": "transport_handler",
    "factories": "factory",
}


class Injector:
    """Counts the callbacks by kind, and raises in those that were chosen: {(kind, number): exception}."""

    def __init__(self, chosen=None):
        self.chosen = dict(chosen or {})
        self.counts = collections.Counter()
        self.raised = 0

    def __call__(self, kind):
        self.counts[kind] += 1
        exception = self.chosen.pop((kind, self.counts[kind]), None)
        if exception is not None:
            self.raised += 1
            raise exception(kind)


class Wrong(Exception):
    """A protocol was called out of order, or got other bytes than were sent."""


class Checked(asyncio.Protocol):
    """Knows the order in which a protocol's methods may be called; eof_received comes again when it was interrupted."""

    AFTER = MappingProxyType({"new": {"made"}, "made": {"data", "eof", "lost"}, "eof": {"eof", "lost"}, "lost": set()})

    def __init__(self, name, hit, loop):
        self.name, self.hit = name, hit
        self.state = "new"
        self.is_paused = False
        self.data = bytearray()
        self.ended = loop.create_future()  # by connection_lost
        self.transport = None

    def turn(self, state):
        if state not in self.AFTER[self.state]:
            raise Wrong(f"{self.name}: {state} after {self.state}")
        self.state = state if state != "data" else self.state

    def told(self, kind):
        self.hit(f"{self.name}.{kind}")

    def connection_made(self, transport):
        self.turn("made")
        self.transport = transport
        self.begin()
        self.told("connection_made")

    def data_received(self, data):
        self.turn("data")
        self.take(bytes(data))
        self.told("data_received")

    def eof_received(self):
        self.turn("eof")
        self.told("eof_received")

    def pause_writing(self):
        if self.is_paused:
            raise Wrong(f"{self.name}: paused twice")
        self.is_paused = True
        self.paused()
        self.told("pause_writing")

    def resume_writing(self):
        if not self.is_paused:
            raise Wrong(f"{self.name}: resumed twice")
        self.is_paused = False
        self.resumed()
        self.told("resume_writing")

    def connection_lost(self, error):
        self.turn("lost")
        self.ended.set_result(error)
        self.told("connection_lost")

    def begin(self):
        pass

    def take(self, data):
        self.data += data

    def paused(self):
        pass

    def resumed(self):
        pass


class CheckedBuffered(Checked, asyncio.BufferedProtocol):
    data_received = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.buffer = bytearray(30_000)

    def get_buffer(self, sizehint):
        self.told("get_buffer")
        return memoryview(self.buffer)

    def buffer_updated(self, size):
        self.turn("data")
        self.take(bytes(self.buffer[:size]))
        self.told("buffer_updated")


def narrow(transport, option=socket.SO_SNDBUF):
    """Little goes into the kernel at once, so that there are pauses."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 16_384)


def echoing(base):
    class Echo(base):
        def begin(self):
            narrow(self.transport)

        def take(self, data):
            self.data += data
            self.transport.write(data)

        def paused(self):
            self.transport.pause_reading()

        def resumed(self):
            self.transport.resume_reading()

    return Echo


def sending(base, data, *, half_closes=True):
    """Sends `data` while it may, and ends when all of it has come back."""

    class Sender(base):
        def begin(self):
            narrow(self.transport)
            self.rest = data
            self.go_on()

        def go_on(self):
            while self.rest and not self.is_paused:
                piece, self.rest = self.rest[:25_000], self.rest[25_000:]
                self.transport.write(piece)
            if not self.rest and half_closes and self.transport.can_write_eof():
                self.transport.write_eof()

        def resumed(self):
            self.go_on()

        def take(self, piece):
            self.data += piece
            if len(self.data) == len(data) and not half_closes:
                self.transport.close()

    return Sender


@contextlib.asynccontextmanager
async def serving(loop, factory, **options):
    server = await loop.create_server(factory, LOCAL, 0, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


async def exchange(loop, hit, base, size, *, server_context=None, client_context=None):
    """An echo of `size` bytes, with every pause there is."""
    data = pattern(size, 1)
    servers = []

    def accept():
        servers.append(echoing(base)("server", hit, loop))
        return servers[-1]

    is_tls = server_context is not None
    client = sending(base, data, half_closes=not is_tls)("client", hit, loop)
    security = {"ssl": client_context, "server_hostname": "localhost"} if is_tls else {}
    async with serving(loop, accept, **({"ssl": server_context} if is_tls else {})) as address:
        await loop.create_connection(lambda: client, *address, **security)
        ends = [await client.ended, await servers[0].ended]
    if client.data != data or servers[0].data != data:
        raise Wrong(f"{size} bytes became {len(servers[0].data)} and {len(client.data)}")
    return ends, len(servers), client.state, servers[0].state


async def plain(loop, hit, tools):
    return await exchange(loop, hit, Checked, LARGE)


async def buffered(loop, hit, tools):
    return await exchange(loop, hit, CheckedBuffered, LARGE)


async def tls(loop, hit, tools):
    return await exchange(loop, tls_only(hit), Checked, LARGE, **tools.contexts)


async def tls_buffered(loop, hit, tools):
    return await exchange(loop, tls_only(hit), CheckedBuffered, LARGE, **tools.contexts)


def tls_only(hit):
    """In TLS, asyncio's own Python calls connection_made and eof_received, and is torn by an interrupt: the waiter of
    the handshake is not woken, the shutdown does not begin."""
    return lambda kind: kind.endswith(("connection_made", "eof_received")) or hit(kind)


async def factories(loop, hit, tools):
    """A server's protocol factory: the connection that it was for is closed, and the next ones are served."""
    made = []

    def accept():
        made.append(echoing(Checked)("server", lambda kind: None, loop))
        hit("server.factory")
        return made[-1]

    answered = 0
    async with serving(loop, accept) as address:
        while answered < 5:
            client = sending(Checked, b"hello", half_closes=False)("client", lambda kind: None, loop)
            await loop.create_connection(lambda: client, *address)
            await client.ended
            answered += client.data == b"hello"
    return answered


async def pipes(loop, hit, tools):
    read_end, write_end = os.pipe()
    data = pattern(LARGE, 2)

    class Writer(sending(Checked, data, half_closes=False)):
        def begin(self):
            self.rest = data
            self.go_on()

        def go_on(self):
            super().go_on()
            if not self.rest:
                loop.call_soon(self.transport.write_eof)  # in resume_writing asyncio would drop what is left

    reader, writer = Checked("reader", hit, loop), Writer("writer", hit, loop)
    await loop.connect_read_pipe(lambda: reader, open(read_end, "rb", 0))
    await loop.connect_write_pipe(lambda: writer, open(write_end, "wb", 0))
    ends = [await reader.ended, await writer.ended]
    if reader.data != data:
        raise Wrong(f"{len(reader.data)} bytes out of the pipe")
    return ends, reader.state, writer.state


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name, hit, loop):
        self.name, self.hit = name, hit
        self.received, self.errors, self.lost = [], [], 0
        self.wanted = loop.create_future()
        self.ended = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.hit(f"{self.name}.connection_made")

    def datagram_received(self, data, address):
        self.received.append(data)
        if len(self.received) == 60:
            self.wanted.set_result(None)
        self.hit(f"{self.name}.datagram_received")

    def error_received(self, error):
        self.errors.append(type(error).__name__)
        if len(self.errors) == 3:
            self.wanted.set_result(None)
        self.hit(f"{self.name}.error_received")

    def connection_lost(self, error):
        self.ended.set_result(error)
        self.hit(f"{self.name}.connection_lost")


async def datagrams(loop, hit, tools):
    """Bursts of datagrams, and errors of a peer that is not there, which are read while nothing is sent."""
    receiver = Datagrams("receiver", hit, loop)
    await loop.create_datagram_endpoint(lambda: receiver, (LOCAL, 0))
    with socket.socket(type=socket.SOCK_DGRAM) as sender, socket.socket(type=socket.SOCK_DGRAM) as nobody:
        for number in range(60):
            sender.sendto(b"%d" % number, receiver.transport.get_extra_info("sockname"))
        await receiver.wanted
        nobody.bind((LOCAL, 0))
        address = nobody.getsockname()
    refused = Datagrams("refused", hit, loop)
    await loop.create_datagram_endpoint(lambda: refused, remote_addr=address)
    while not refused.wanted.done():
        before = len(refused.errors)
        refused.transport.sendto(b"?")
        while len(refused.errors) == before:
            await asyncio.sleep(0.001)
    for protocol in (receiver, refused):
        protocol.transport.close()
        await protocol.ended
    return receiver.received, refused.errors


async def handles(loop, hit, tools):
    """Callbacks of every kind run once, and in order; what an interrupted one comes before follows in the next turn."""
    ran = {"soon": [], "later": [], "thread": [], "done": [], "nested": []}
    finished = loop.create_future()

    def run(kind, number):
        ran[kind].append(number)
        if kind == "soon":
            loop.call_soon(run, "nested", number)
        if sum(map(len, ran.values())) == 20 * len(ran):
            finished.set_result(None)
        hit(kind)

    def from_a_thread():
        for number in range(20):
            loop.call_soon_threadsafe(run, "thread", number)

    start = loop.time() + 0.002
    for number in range(20):
        loop.call_soon(run, "soon", number)
        loop.call_at(start + 1e-5 * number, run, "later", number)
        loop.call_at(start, run, "never", number).cancel()
        future = loop.create_future()
        future.add_done_callback(lambda future, number=number: run("done", number))
        loop.call_later(0.0001 * number, future.set_result, None)
    thread = threading.Thread(target=from_a_thread)
    thread.start()
    await finished
    thread.join()
    return {kind: sorted(numbers) if kind == "done" else numbers for kind, numbers in ran.items()}


async def tasks(loop, hit, tools):
    """A task dies of the interrupt in its step; who waits for it, and the others, go on."""
    steps = collections.Counter()

    async def step(number):
        for _ in range(5):
            await asyncio.sleep(0)
            steps[number] += 1
            hit("step")

    made = [loop.create_task(step(number)) for number in range(6)]
    await asyncio.wait(made)
    for task in made:
        number = made.index(task)
        if (steps[number] == 5) < (task.exception() is None):
            raise Wrong(f"task {number} ended after {steps[number]} steps")
    return len(steps)


async def watches(loop, hit, tools):
    read, written, done = [], [], loop.create_future()
    here, there = socket.socketpair()

    def readable():
        read.append(here.recv(1))
        if len(read) == 40:
            loop.remove_reader(here)
            done.set_result(None)
        hit("reader")

    def writable():
        written.append(there.send(b"%d" % (len(written) % 10)))
        if len(written) == 40:
            loop.remove_writer(there)
        hit("writer")

    with here, there:
        loop.add_reader(here, readable)
        loop.add_writer(there, writable)
        await done
        return b"".join(read), len(written), loop.remove_reader(here), loop.remove_writer(there)


async def signals(loop, hit, tools):
    seen = []

    def handler(number):
        seen.append(number)
        arrived.set_result(None)
        hit("signal")

    loop.add_signal_handler(signal.SIGUSR1, handler, 1)
    try:
        for _ in range(5):
            arrived = loop.create_future()
            os.kill(os.getpid(), signal.SIGUSR1)
            await arrived
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
    return seen


async def handlers(loop, hit, tools):
    """The exception handler is interrupted: of a callback's error, and of a transport's."""
    seen = []

    def handler(loop, context):
        seen.append(context["message"].partition(" ")[0])
        hit("handler" if context["message"].startswith("Exception") else "transport_handler")

    class Failing(Checked):
        def take(self, data):
            raise ZeroDivisionError

    before = loop.get_exception_handler()
    loop.set_exception_handler(handler)
    try:
        for _ in range(5):
            loop.call_soon(lambda: 1 / 0)
        for _ in range(2):
            here, there = socket.socketpair()
            with there:
                failing = Failing("failing", lambda kind: None, loop)
                await loop.create_connection(lambda: failing, sock=here)
                there.send(b"!")
                await failing.ended
    finally:
        loop.set_exception_handler(before)
    return sorted(seen)


async def sockets(loop, hit, tools):
    """Tasks and done callbacks around sock_*."""
    data = pattern(LARGE, 3)
    got = bytearray()
    here, there = socket.socketpair()
    with here, there:
        for sock in (here, there):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        sent = loop.create_task(loop.sock_sendall(here, data))
        sent.add_done_callback(lambda task: hit("sent"))
        while len(got) < len(data):
            receiving = loop.create_task(loop.sock_recv(there, 50_000))
            receiving.add_done_callback(lambda task: hit("received"))
            got += await receiving
        await sent
    if got != data:
        raise Wrong(f"{len(got)} bytes")
    return len(got)


class ProcessProtocol(asyncio.SubprocessProtocol):
    def __init__(self, hit, loop):
        self.hit, self.events, self.data = hit, [], bytearray()
        self.ended = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")
        self.hit("process.connection_made")

    def pipe_data_received(self, fd, data):
        self.data += data
        self.hit("process.pipe_data_received")

    def pipe_connection_lost(self, fd, error):
        self.events.append(f"pipe {fd}")
        self.hit("process.pipe_connection_lost")

    def process_exited(self):
        self.events.append("exited")
        self.hit("process.process_exited")

    def connection_lost(self, error):
        self.events.append("lost")
        self.ended.set_result(error)
        self.hit("process.connection_lost")


async def processes(loop, hit, tools):
    protocol = ProcessProtocol(hit, loop)
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None}
    transport, _ = await loop.subprocess_exec(lambda: protocol, "cat", **options)
    stdin = transport.get_pipe_transport(0)
    stdin.write(pattern(LARGE, 4))
    stdin.write_eof()
    await protocol.ended
    transport.close()
    return bytes(protocol.data) == pattern(LARGE, 4), sorted(protocol.events), transport.get_returncode()


PROGRAMS = {
    program.__name__: program
    for program in (
        plain,
        buffered,
        tls,
        tls_buffered,
        factories,
        pipes,
        datagrams,
        handles,
        tasks,
        watches,
        signals,
        handlers,
        sockets,
        processes,
    )
}


class Tools:
    """What the programs share and what is made once: TLS contexts."""

    def __init__(self):
        import trustme

        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        self.contexts = {"server_context": server, "client_context": client}


# --- running them


async def limited(coroutine, seconds):
    async with asyncio.timeout(seconds):
        return await coroutine


def run(loop, program, hit, tools, seconds=20):
    """Run a program to its end, though interrupts leave run_until_complete: (its result, how many there were)."""
    interrupts = 0
    task = loop.create_task(limited(program(loop, hit, tools), seconds))
    while True:
        try:
            return loop.run_until_complete(task), interrupts
        except (KeyboardInterrupt, SystemExit):
            interrupts += 1
            if task.done() and isinstance(task.exception(), (KeyboardInterrupt, SystemExit)):
                raise


def kinds(name, counts, loop_name):
    """What can be interrupted, of what an uninterrupted run of the program counted."""
    lost = ASYNCIO_LOSES.get(name) if loop_name == "asyncio" else None
    return [kind for kind in sorted(counts) if lost is None or not kind.endswith(lost)]


def cases(name, counts, loop_name, limit):
    """(kind, number) for all callbacks, or for `limit` of each kind: the first, the last, and some between."""
    for kind in kinds(name, counts, loop_name):
        count = counts[kind]
        numbers = range(1, count + 1)
        if count > limit:
            numbers = sorted({1 + round(place * (count - 1) / max(1, limit - 1)) for place in range(limit)})
        for number in numbers:
            yield kind, number
