# SPDX-License-Identifier: MIT
"""Stream transports and servers: plain sockets on the other side, driven by the program."""

import asyncio
import contextlib
import socket
import struct

from engine import Scene, operation
from hypothesis import strategies as st
from protocols import HABITS, told

from support import pattern

INDEX = st.integers(0, 2)
SIZES = st.sampled_from([0, 1, 10, 3000, 70_000, 600_000])
SMALL = st.sampled_from([0, 1, 10, 3000])
METHODS = st.sampled_from(
    ["pause_reading", "resume_reading", "write_eof", "close", "close", "abort", "can_write_eof", "is_reading"]
)
WRONG = st.sampled_from(
    [
        ("write", "text"),
        ("write", None),
        ("write", 5),
        ("write", [1]),
        ("writelines", None),
        ("writelines", ["text"]),
        ("writelines", 5),
        ("set_write_buffer_limits", 10, 20),
        ("set_write_buffer_limits", -1),
        ("set_write_buffer_limits", None, None),
        ("set_write_buffer_limits", 5, -1),
        ("get_extra_info", "nothing"),
        ("get_extra_info", "nothing", 7),
    ]
)


class Streams(Scene):
    """One transport over one end of a socketpair, with much data."""

    def __init__(self, loop):
        super().__init__(loop)
        self.ends = []
        self.sent = 0
        self.peers = {}  # what each got: when, between two calls of the protocol, is the kernel's affair

    async def start(self):
        await self.connect("note")

    async def finish(self):
        for transport, _, peer in self.ends:
            self.abort(transport)
            peer.close()
        await self.settle()
        self.note_peers()

    def note_peers(self):
        self.history += [(name, *told) for name, told in self.peers.items()]

    def abort(self, transport):
        with contextlib.suppress(AttributeError):  # asyncio's, after some errors: it has no loop any more
            transport.abort()

    def end(self, index):
        return self.ends[index % len(self.ends)] if self.ends else None

    def next_bytes(self, size):
        self.sent += 1
        return pattern(size, self.sent)

    @operation(HABITS)
    async def connect(self, habit):
        if len(self.ends) < 2:
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            peer.setblocking(False)
            name = f"protocol {len(self.ends)}"
            transport, _ = await self.loop.connect_accepted_socket(lambda: told(self, name, habit), ours)
            self.ends.append((transport, name, peer))

    @operation(INDEX, SIZES, st.sampled_from([bytes, bytearray, memoryview]))
    def write(self, index, size, kind):
        if self.ends:
            self.attempt("write", self.end(index)[0].write, kind(self.next_bytes(size)))

    @operation(INDEX, st.lists(SMALL, max_size=4))
    def write_several(self, index, sizes):
        for size in sizes:
            self.write(index, size, bytes)

    @operation(
        INDEX, st.lists(st.sampled_from([1, 10, 3000]), min_size=1, max_size=4)
    )  # an empty piece stays in asyncio's buffer
    def writelines(self, index, sizes):
        # asyncio's writelines() on a closing transport raises TypeError (see docs/differences.md)
        if self.ends and not self.end(index)[0].is_closing():
            self.attempt("writelines", self.end(index)[0].writelines, [self.next_bytes(size) for size in sizes])

    @operation(INDEX, METHODS)
    def method(self, index, name):
        if self.ends:
            self.attempt(name, getattr(self.end(index)[0], name))

    @operation(INDEX, WRONG)
    def call_wrongly(self, index, call):
        if self.ends:
            name, *arguments = call
            self.attempt(name, getattr(self.end(index)[0], name), *arguments)

    @operation(INDEX, st.sampled_from([(), (100,), (100, 10), (None, 10), (0,), (0, 0)]))
    def limits(self, index, limits):
        if self.ends:
            transport = self.end(index)[0]
            self.attempt("limits", transport.set_write_buffer_limits, *limits)
            self.note("limits", transport.get_write_buffer_limits())

    @operation(INDEX, HABITS)
    def set_protocol(self, index, habit):
        if self.ends:
            transport, name, _ = self.end(index)
            successor = told(self, name, habit)
            successor.transport = transport
            self.attempt("set_protocol", transport.set_protocol, successor)
            self.note("get_protocol", transport.get_protocol() is successor)

    @operation(INDEX)
    def look(self, index):
        if self.ends:
            transport = self.end(index)[0]
            extra = {name: transport.get_extra_info(name) for name in ("socket", "peername", "sockname", "sslcontext")}
            self.note("look", transport.is_closing(), transport.is_reading(), transport.get_write_buffer_size() == 0)
            self.note("extra", [name for name, value in extra.items() if value is not None])

    # --- the other side

    @operation(INDEX, SIZES)
    def peer_sends(self, index, size):
        """As far as the kernel takes it at once."""
        if self.ends:
            with contextlib.suppress(OSError):
                self.note("sent", self.end(index)[2].send(self.next_bytes(min(size, 60_000))))

    @operation(INDEX)
    async def peer_reads(self, index):
        if not self.ends:
            return
        quiet, name, peer = 0, f"peer {index % len(self.ends)}", self.end(index)[2]
        while quiet < 3 and peer.fileno() >= 0:
            try:
                data = peer.recv(1 << 20)
            except BlockingIOError:
                quiet += 1
            except OSError as error:
                self.peers.setdefault(name, []).append(type(error).__name__)
                return
            else:
                if not data:
                    return
                got = self.peers.setdefault(name, [])
                got.append((got.pop() if got and isinstance(got[-1], bytes) else b"") + data)
                quiet = 0
            for _ in range(6):
                await asyncio.sleep(0)

    @operation(INDEX, st.sampled_from(["end", "close", "read and close"]))
    async def peer_leaves(self, index, how):
        if self.ends:
            if how == "read and close":
                await self.peer_reads(index)
            with contextlib.suppress(OSError):
                if how == "end":
                    self.end(index)[2].shutdown(socket.SHUT_WR)
                else:
                    self.end(index)[2].close()


class Servers(Streams):
    """A TCP server, and clients that come and go."""

    async def start(self):
        self.habit = "note"
        self.made = 0
        self.server = await self.loop.create_server(self.accept, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()

    async def finish(self):
        self.server.close()
        for transport, *_ in self.ends:
            self.abort(transport)
        await self.settle()
        await self.attempt_async("wait_closed", self.server.wait_closed())
        for *_, peer in self.ends:
            peer.close()
        self.note_peers()

    def note(self, *what):
        """asyncio leaves the socket of a connection whose factory failed to the garbage collector; ours is closed."""
        if what[:2] != ("warned", "ResourceWarning") or "unclosed <socket" not in what[2]:
            super().note(*what)

    def accept(self):
        if self.habit == "raise in the factory":
            raise ValueError(self.habit)
        self.made += 1
        self.latest = told(self, f"protocol {self.made}", self.habit)
        return self.latest

    @operation(st.one_of(HABITS, st.just("raise in the factory")))
    async def connect(self, habit):
        if len(self.ends) < 3:
            self.habit, self.latest = habit, None
            peer = socket.socket()
            with contextlib.suppress(OSError):
                peer.connect(self.address)
            peer.setblocking(False)
            for _ in range(100):
                await asyncio.sleep(0)
            self.note("accepted", self.latest is not None)
            if self.latest is not None and self.latest.transport is not None:
                self.ends.append((self.latest.transport, self.latest.name, peer))
            else:
                peer.close()

    @operation(INDEX)
    def peer_resets(self, index):
        if self.ends:
            peer = self.end(index)[2]
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()

    @operation(st.sampled_from(["close", "close_clients", "abort_clients", "is_serving", "get_loop"]))
    def server_method(self, name):
        if "clients" in name and len(self.ends) > 1:
            return  # asyncio keeps them in a set: any may be the first
        if hasattr(self.server, name):
            self.attempt(name, getattr(self.server, name))
            self.note("server", self.server.is_serving(), len(self.server.sockets))

    @operation()
    async def start_serving(self):
        await self.attempt_async("start_serving", self.server.start_serving())

    @operation(INDEX, SMALL, st.sampled_from([bytes, bytearray, memoryview]))
    def write(self, index, size, kind):
        super().write(index, size, kind)

    @operation(INDEX, SMALL)
    def peer_sends(self, index, size):
        super().peer_sends(index, size)
