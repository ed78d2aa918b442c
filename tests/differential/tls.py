# SPDX-License-Identifier: MIT
"""TLS: two ends on one loop.  Each has a history of its own: how their turns interleave is the loop's affair."""

import asyncio
import socket

import trustme
from engine import Scene, operation
from hypothesis import strategies as st
from protocols import told

from support import pattern

import ssl  # isort: skip

SIDE = st.integers(0, 1)
SIZES = st.sampled_from([0, 1, 10, 3000, 20_000, 100_000])
HABITS = st.sampled_from(
    ["note", "note", "note", "echo", "raise on data", "close on data", "raise on eof", "buffered", "pause on data"]
)
METHODS = st.sampled_from(
    ["close", "abort", "pause_reading", "resume_reading", "write_eof", "can_write_eof", "is_closing", "is_reading"]
)


def contexts():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


SERVER, CLIENT = contexts()


class TLS(Scene):
    turns = 60

    def __init__(self, loop):
        super().__init__(loop)
        self.sent = 0
        self.sides = {"server": [], "client": []}

    def note(self, who, *what):
        """What a side is told goes to its own history, behind all the rest."""
        if who not in self.sides:
            super().note(who, *what)
        elif what and what[0] in ("pause_writing", "resume_writing"):
            pass  # when the other side takes it depends on its turns
        else:
            rest, self.history = self.history, self.sides[who]
            super().note(who, *what)
            self.history = rest

    def note_data(self, who, data):
        rest, self.history = self.history, self.sides[who]
        super().note_data(who, data)
        self.history = rest

    async def start(self):
        await self.connect()

    async def connect(self):
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        server, client = await asyncio.gather(
            self.loop.connect_accepted_socket(lambda: told(self, "server", "note"), left, ssl=SERVER),
            self.loop.create_connection(
                lambda: told(self, "client", "note"), sock=right, ssl=CLIENT, server_hostname="localhost"
            ),
        )
        self.ends = [server[0], client[0]]
        self.names = ["server", "client"]

    async def finish(self):
        for transport in self.ends:
            transport.abort()
        await self.settle()
        self.history += [("server's", self.sides["server"]), ("client's", self.sides["client"])]

    @operation(SIDE, SIZES)
    def write(self, side, size):
        self.sent += 1
        self.attempt("write", self.ends[side].write, pattern(size, self.sent))

    @operation(SIDE, st.lists(SIZES, min_size=1, max_size=3))
    def writelines(self, side, sizes):
        self.sent += 1
        self.attempt("writelines", self.ends[side].writelines, [pattern(size, self.sent) for size in sizes])

    @operation(SIDE, METHODS)
    def method(self, side, name):
        self.attempt(name, getattr(self.ends[side], name))

    @operation(SIDE, HABITS)
    def set_protocol(self, side, habit):
        protocol = told(self, self.names[side], habit)
        protocol.transport = self.ends[side]
        self.attempt("set_protocol", self.ends[side].set_protocol, protocol)

    @operation(SIDE, st.sampled_from(["text", None, 5, [b"x"]]))
    def write_wrongly(self, side, data):
        self.attempt("write", self.ends[side].write, data)

    @operation(SIDE, st.sampled_from([(), (100,), (100, 10), (0,), (10, 100)]))
    def limits(self, side, limits):
        self.attempt("limits", self.ends[side].set_write_buffer_limits, *limits)
        self.note("limits", self.ends[side].get_write_buffer_limits())

    @operation(SIDE)
    def look(self, side):
        transport = self.ends[side]
        known = ("sslcontext", "ssl_object", "cipher", "compression", "peercert", "socket", "nothing")
        self.note("extra", [name for name in known if transport.get_extra_info(name) is not None])
        self.note("written out", transport.get_write_buffer_size() == 0)
