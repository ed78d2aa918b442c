# SPDX-License-Identifier: MIT
"""What several test files need: the loops by name, protocols that record, programs in another process."""

import asyncio
import contextlib
import importlib
import os
import random
import socket
import struct
import subprocess
import sys
import time

LOOPS = {"asyncio": "asyncio:SelectorEventLoop", "rloop": "rloop:RLoop", "tokio": "rloop:TokioLoop"}

# The longest that anything here may take before we say that it hangs.
LIMIT = 30


def load(spec):
    module, name = spec.split(":")
    return getattr(importlib.import_module(module), name)


def open_fds():
    """Number -> what it is, of every open file descriptor."""
    fds = {}
    for name in os.listdir("/dev/fd"):
        try:
            info = os.fstat(int(name))
        except OSError:  # the one that listdir itself used
            continue
        fds[int(name)] = (info.st_mode, info.st_dev, info.st_ino)
    return fds


async def within(coroutine, limit=LIMIT):
    async with asyncio.timeout(limit):
        return await coroutine


async def until(condition, limit=LIMIT):
    """Wait until condition() is true."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "still waiting"
        await asyncio.sleep(0.002)


async def turns(count=5):
    """Let the loop go round a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


def until_sync(condition, limit=LIMIT):
    """The same for a test that is not on a loop."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "still waiting"
        time.sleep(0.005)


def pattern(size, seed=0):
    """`size` bytes in which a lost, doubled or moved piece shows."""
    return random.Random(seed).randbytes(size)


class Recorder(asyncio.Protocol):
    """Notes what it is told, in order; `made` and `lost` can be awaited."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.events = []
        self.data = bytearray()
        self.transport = None
        self.made = loop.create_future()
        self.lost = loop.create_future()
        self.paused = False

    def connection_made(self, transport):
        self.events.append("made")
        self.transport = transport
        self.made.set_result(transport)

    def data_received(self, data):
        if self.events[-1] != "data":
            self.events.append("data")
        self.data += data

    def eof_received(self):
        self.events.append("eof")

    def pause_writing(self):
        self.paused = True
        self.events.append("pause")

    def resume_writing(self):
        self.paused = False
        self.events.append("resume")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same by get_buffer and buffer_updated."""

    data_received = None

    def __init__(self, size=65536):
        super().__init__()
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        if self.events[-1] != "data":
            self.events.append("data")
        self.data += memoryview(self.buffer)[:count]


class Echo(Recorder):
    """Sends back what comes, with the peer's speed, and closes when the peer has ended."""

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = []
        self.errors = []
        self.events = []
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def datagram_received(self, data, address):
        self.received.append((data, address))

    def error_received(self, exc):
        self.errors.append(exc)

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)

    @property
    def data(self):
        return [data for data, _ in self.received]


class Connection:
    """Two connected ends on one loop: client and server transports with their protocols."""

    def __init__(self, server, client, server_protocol):
        self.server = server
        self.client, self.client_protocol = client
        self.server_protocol = server_protocol
        self.server_transport = server_protocol.transport


@contextlib.asynccontextmanager
async def connection(client_factory=Recorder, server_factory=Recorder, *, path=None):
    """A TCP connection, or a Unix one at `path`; everything is closed at the end."""
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    def accept():
        protocol = server_factory()
        accepted.set_result(protocol)
        return protocol

    if path is None:
        server = await loop.create_server(accept, "127.0.0.1", 0)
        client = await loop.create_connection(client_factory, *server.sockets[0].getsockname()[:2])
    else:
        server = await loop.create_unix_server(accept, path)
        client = await loop.create_unix_connection(client_factory, path)
    protocol = await accepted
    await protocol.made
    pair = Connection(server, client, protocol)
    try:
        yield pair
    finally:
        server.close()
        for end in (pair.client_protocol, protocol):
            if not end.lost.done():
                end.transport.abort()
        await asyncio.wait([pair.client_protocol.lost, protocol.lost], timeout=LIMIT)
        await server.wait_closed()


@contextlib.asynccontextmanager
async def one_end(factory=Recorder, *, small=False):
    """A transport of ours whose peer is a plain blocking socket: (transport, protocol, peer).

    `small` makes the kernel's buffers small, so that little fills them.
    """
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.socket()
        if small:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        peer.settimeout(LIMIT)
        peer.connect(listener.getsockname())
        accepted, _ = listener.accept()
    if small:
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    accepted.setblocking(False)
    transport, protocol = await loop.connect_accepted_socket(factory, accepted)
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        if not protocol.lost.done():
            transport.abort()
        await protocol.lost


def address(server):
    return server.sockets[0].getsockname()[:2]


@contextlib.contextmanager
def clients(server, count):
    """Plain blocking connections to the server."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(address(server), timeout=LIMIT)) for _ in range(count)]


class Accepted:
    """A protocol factory that keeps what it makes."""

    def __init__(self, kind=Recorder):
        self.kind = kind
        self.protocols = []

    def __call__(self):
        self.protocols.append(self.kind())
        return self.protocols[-1]

    def count(self, event):
        return sum(event in protocol.events for protocol in self.protocols)


def reset(sock):
    """Close a TCP socket so that its peer gets an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def read_all(sock):
    """Everything from a blocking socket up to its end, without stopping the loop."""

    def read():
        chunks = []
        while chunk := sock.recv(1 << 20):
            chunks.append(chunk)
        return b"".join(chunks)

    return await asyncio.get_running_loop().run_in_executor(None, read)


def end_process(status=0):
    """os._exit(); but where coverage is measured libc's exit(), which writes down what has run."""
    if "RLOOP_TEST_COVERAGE" in os.environ:
        import ctypes

        ctypes.CDLL(None).exit(status)
    os._exit(status)


PRELUDE = """\
import asyncio, gc, os, signal, socket, sys, threading, time, warnings
sys.path.insert(0, {here!r})
from support import *
new_loop = load({spec!r})
"""


def program(spec, code):
    """The arguments that run `code` in a fresh interpreter, where new_loop() makes the loop under test."""
    prelude = PRELUDE.format(here=os.path.dirname(os.path.abspath(__file__)), spec=spec)
    return [sys.executable, "-X", "faulthandler", "-W", "error", "-c", prelude + code]


def run_program(spec, code, *, limit=LIMIT, status=0, **options):
    """Run `code` to its end; its exit status must be `status` and it must say nothing on stderr, unless we ask.

    Returns what it printed.  With check_stderr=False the result is (stdout, stderr).
    """
    check_stderr = options.pop("check_stderr", True)
    done = subprocess.run(program(spec, code), capture_output=True, text=True, timeout=limit, **options)
    assert done.returncode == status, done.stdout + done.stderr
    if not check_stderr:
        return done.stdout, done.stderr
    assert done.stderr == ""
    return done.stdout


@contextlib.contextmanager
def started(arguments, **options):
    """A program that runs beside the test and is gone after it."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    process = subprocess.Popen(arguments, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)
