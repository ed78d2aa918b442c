# SPDX-License-Identifier: MIT
"""A real signal, as often as the clock gives it, whose Python handler raises KeyboardInterrupt wherever the loop is.

`Exact` gives the loop callbacks that are written in C (list.append, transport.write...), in which no handler runs: what
it interrupts is the loop's own work, and not a byte, a call or a datagram may be lost or come twice.  `Noise` runs
beside it; its callbacks and tasks are Python, and torn at any instruction.  In the standard library's own Python
nothing is raised: it would be torn on any loop.
"""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import threading
import time

from support import pattern

LOCAL = "127.0.0.1"
COUNT = 150  # of chunks, datagrams and calls of each kind
EVERY = 0.0003  # seconds between two signals


def interruptible(loop_class):
    class Loop(loop_class):
        def _run_turns(self):  # a frame that says: below this one is the loop's C code
            super()._run_turns()

    return Loop


class Alarm:
    """Raises below run_forever(), where no Python is, and in Noise."""

    def __init__(self, loop):
        self.turns = type(loop)._run_turns.__code__
        self.in_turns = self.in_callbacks = 0
        self.is_armed = False

    def handle(self, number, frame):
        is_in_turns = frame.f_code is self.turns
        is_in_callback = frame.f_code.co_qualname.startswith("Noise.")
        if self.is_armed and (is_in_turns or is_in_callback):
            self.in_turns += is_in_turns
            self.in_callbacks += is_in_callback
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def ringing(self):
        before = signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def native_protocol(base=asyncio.Protocol):
    """A protocol all of whose methods are C functions, and what it was told: (protocol, chunks, others)."""
    protocol, chunks, others = type("Native", (base,), {})(), [], []
    protocol.connection_made = others.append
    protocol.connection_lost = others.append
    protocol.pause_writing = functools.partial(others.append, "pause")
    protocol.resume_writing = functools.partial(others.append, "resume")
    protocol.eof_received = bool
    if base is asyncio.Protocol:
        protocol.data_received = chunks.append
    else:
        protocol.get_buffer = [memoryview(bytearray(1000))].__getitem__  # it is asked for number -1
        protocol.buffer_updated = chunks.append
    return protocol, chunks, others


class Exact:
    def __init__(self, loop):
        self.loop = loop
        self.transports = []
        self.pieces = [pattern(1 + 97 * number % 5000, number) for number in range(COUNT)]
        self.ran = {name: [] for name in ("soon", "later", "thread")}
        self.datagrams = {}

    async def begin(self):
        here, there = socket.socketpair()
        self.stream = await self.connect(self.loop.create_connection, asyncio.Protocol, sock=here)
        await self.write_to(self.loop.create_connection, sock=there)
        here, there = socket.socketpair()
        self.buffered = await self.connect(self.loop.create_connection, asyncio.BufferedProtocol, sock=here)
        await self.write_to(self.loop.create_connection, sock=there)
        read_end, write_end = os.pipe()
        self.pipe = await self.connect(self.loop.connect_read_pipe, asyncio.Protocol, open(read_end, "rb", 0))
        await self.write_to(self.loop.connect_write_pipe, open(write_end, "wb", 0))
        await self.begin_datagrams()
        self.schedule(self.loop.call_later, self.ran["later"].append)
        for number in range(COUNT):  # a timer that hands on to call_soon
            soon = functools.partial(self.loop.call_soon, self.ran["soon"].append, number)
            self.loop.call_later(0.001 * number, soon)
        self.thread = threading.Thread(target=self.call_from_a_thread)

    async def connect(self, method, base, *args, **kwargs):
        protocol, chunks, _ = native_protocol(base)
        transport, _ = await method(lambda: protocol, *args, **kwargs)
        self.transports.append(transport)
        return chunks

    async def write_to(self, method, *args, **kwargs):
        transport, _ = await method(lambda: native_protocol()[0], *args, **kwargs)
        self.transports.append(transport)
        for number, piece in enumerate(self.pieces):
            self.loop.call_later(0.001 * number, transport.write, piece)

    async def begin_datagrams(self):
        protocol = type("Native", (asyncio.DatagramProtocol,), {})()
        protocol.datagram_received = self.datagrams.setdefault
        transport, _ = await self.loop.create_datagram_endpoint(lambda: protocol, (LOCAL, 0))
        self.sock = socket.socket(type=socket.SOCK_DGRAM)
        self.transports.append(transport)
        self.schedule(
            self.loop.call_later,
            lambda number: self.sock.sendto(b"%d" % number, transport.get_extra_info("sockname")),
        )

    def schedule(self, method, callback):
        for number in range(COUNT):
            method(0.001 * number, callback, number)

    def call_from_a_thread(self):
        for number in range(COUNT):
            self.loop.call_soon_threadsafe(self.ran["thread"].append, number)
            time.sleep(0.001)

    def is_complete(self):
        size = sum(map(len, self.pieces))
        return (
            sum(map(len, self.stream)) >= size
            and sum(self.buffered) >= size
            and sum(map(len, self.pipe)) >= size
            and len(self.datagrams) == COUNT
            and all(len(numbers) >= COUNT for numbers in self.ran.values())
        )

    def check(self):
        data = b"".join(self.pieces)
        assert b"".join(self.stream) == data
        assert sum(self.buffered) == len(data)
        assert b"".join(self.pipe) == data
        assert sorted(map(int, self.datagrams)) == list(range(COUNT))
        for name, numbers in self.ran.items():
            assert numbers == list(range(COUNT)), f"{name}: {numbers}"

    def close(self):
        for transport in self.transports:
            transport.close()
        self.sock.close()


class Noise:
    """Callbacks and tasks in Python, each of which may be torn and is then begun again."""

    def __init__(self, loop):
        self.loop = loop
        self.here, self.there = socket.socketpair()
        self.watched, self.other = socket.socketpair()
        for sock in (self.here, self.there, self.watched, self.other):
            sock.setblocking(False)
        self.tasks = {}
        self.is_on = True

    def restart(self):
        for method in (self.send, self.receive, self.sleep):
            if self.tasks.get(method.__name__) is None or self.tasks[method.__name__].done():
                self.tasks[method.__name__] = self.loop.create_task(method())
        self.loop.add_reader(self.watched, self.readable)
        self.loop.add_writer(self.other, self.writable)

    async def send(self):
        while self.is_on:
            await self.loop.sock_sendall(self.here, bytes(1000))
            await asyncio.sleep(0)

    async def receive(self):
        while self.is_on:
            await self.loop.sock_recv(self.there, 3000)

    async def sleep(self):
        while self.is_on:
            future = self.loop.create_future()
            self.loop.call_soon(self.wake, future)
            await future

    def wake(self, future):
        if not future.done():
            future.set_result(None)

    def readable(self):
        with contextlib.suppress(BlockingIOError):
            for _ in range(3):
                self.watched.recv(10)

    def writable(self):
        self.other.send(b"x")
        self.loop.remove_writer(self.other)
        self.loop.call_later(0.002, self.write_again)

    def write_again(self):
        if self.is_on:
            self.loop.add_writer(self.other, self.writable)

    async def end(self):
        self.is_on = False
        for task in self.tasks.values():
            task.cancel()
        await asyncio.wait(self.tasks.values())
        self.loop.remove_reader(self.watched)
        self.loop.remove_writer(self.other)
        for sock in (self.here, self.there, self.watched, self.other):
            sock.close()


def run_under_signals(loop_class, limit=30):
    """How often it was interrupted, in the loop's C code and in callbacks; AssertionError if anything was lost or came
    twice."""
    loop = interruptible(loop_class)()
    loop.set_exception_handler(lambda loop, context: None)  # of the noise
    exact, noise, alarm = Exact(loop), Noise(loop), Alarm(loop)
    loop.run_until_complete(exact.begin())
    exact.thread.start()
    deadline = time.monotonic() + limit
    with alarm.ringing():
        while not exact.is_complete() and time.monotonic() < deadline:
            noise.restart()
            stop = loop.call_later(0.02, loop.stop)
            with contextlib.suppress(KeyboardInterrupt):
                alarm.is_armed = True
                loop.run_forever()
            alarm.is_armed = False
            stop.cancel()
    exact.thread.join()
    exact.check()
    exact.close()
    while True:
        try:
            loop.run_until_complete(noise.end())
            break
        except KeyboardInterrupt:  # a torn task, which hands it on
            pass
    loop.run_until_complete(asyncio.sleep(0.03))
    loop.close()
    return alarm.in_turns, alarm.in_callbacks
