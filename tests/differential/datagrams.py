# SPDX-License-Identifier: MIT
"""Datagram endpoints, bound or connected, and plain sockets that they talk to."""

import asyncio
import contextlib
import socket

from engine import Scene, operation
from hypothesis import strategies as st

from support import pattern

SIZES = st.sampled_from([0, 1, 10, 1000, 8000])
INDEX = st.integers(0, 1)


class ToldOfDatagrams(asyncio.DatagramProtocol):
    def __init__(self, scene, name):
        self.scene, self.name, self.habit = scene, name, None

    def connection_made(self, transport):
        self.scene.note(self.name, "made")

    def datagram_received(self, data, address):
        self.scene.note(self.name, "received", data, self.scene.whose(address))
        if self.habit == "raise":
            raise ValueError("on a datagram")

    def error_received(self, exc):
        self.scene.note(self.name, "error", exc)

    def connection_lost(self, exc):
        self.scene.note(self.name, "lost", exc)
        if self.habit == "raise":
            raise ValueError("when lost")


class Datagrams(Scene):
    """Endpoint 0 is bound, endpoint 1 connected to peer 1."""

    async def start(self):
        self.sent = 0
        self.peers = [self.peer(), self.peer()]
        bound = await self.loop.create_datagram_endpoint(lambda: ToldOfDatagrams(self, "bound"), ("127.0.0.1", 0))
        connected = await self.loop.create_datagram_endpoint(
            lambda: ToldOfDatagrams(self, "connected"), remote_addr=self.peers[1].getsockname()
        )
        self.ends = [bound, connected]
        self.addresses = [transport.get_extra_info("sockname") for transport, _ in self.ends]
        self.peer_addresses = [peer.getsockname() for peer in self.peers]

    async def finish(self):
        for transport, _ in self.ends:
            transport.abort()
        await self.settle()
        for peer in self.peers:
            peer.close()

    def peer(self):
        peer = socket.socket(type=socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        return peer

    def whose(self, address):
        known = [*self.peer_addresses, *self.addresses]
        return known.index(tuple(address)) if tuple(address) in known else "somebody"

    @operation(INDEX, SIZES, st.sampled_from([None, 0, 1, "own", "nobody"]))
    def sendto(self, index, size, to):
        self.sent += 1
        addresses = {
            0: self.peer_addresses[0],
            1: self.peer_addresses[1],
            "own": self.addresses[0],
            "nobody": ("127.0.0.1", 1),
        }
        transport = self.ends[index][0]
        if (to is None and index == 0) or transport.is_closing():
            return  # asyncio sends to address None, and fails as socket.sendto() does; after closing: AttributeError
        self.attempt("sendto", transport.sendto, pattern(size, self.sent), addresses.get(to))

    @operation(
        INDEX,
        st.sampled_from([("text", None), (None, None), (5, None), ("too large", "peer"), (b"x", ("127.0.0.1", 70000))]),
    )
    def send_wrongly(self, index, call):
        data, address = call
        if self.ends[index][0].is_closing():
            return
        data = b"x" * 70_000 if data == "too large" else data
        self.attempt(
            "sendto", self.ends[index][0].sendto, data, self.peer_addresses[index] if address == "peer" else address
        )

    @operation(INDEX, INDEX, st.lists(SIZES, min_size=1, max_size=5))
    def peer_sends(self, index, peer, sizes):
        for size in sizes:
            self.sent += 1
            with contextlib.suppress(OSError):
                self.peers[peer].sendto(pattern(size, self.sent), self.addresses[index])

    @operation(INDEX)
    def peer_reads(self, peer):
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = self.peers[peer].recvfrom(100_000)
                self.note("peer", peer, data, self.whose(address))

    @operation()
    def peer_leaves(self):
        """Later datagrams of the connected endpoint are refused."""
        self.peers[1].close()
        self.peers[1] = socket.socket(type=socket.SOCK_DGRAM)
        self.peers[1].setblocking(False)

    @operation(INDEX, st.sampled_from(["close", "abort", "is_closing", "get_write_buffer_size"]))
    def method(self, index, name):
        self.attempt(name, getattr(self.ends[index][0], name))

    @operation(INDEX, st.sampled_from([None, "raise"]))
    def habit(self, index, habit):
        self.ends[index][1].habit = habit

    @operation(INDEX)
    def look(self, index):
        transport, protocol = self.ends[index]
        self.note(
            "look", transport.is_closing(), transport.get_protocol() is protocol, transport.get_write_buffer_limits()
        )
        self.note(
            "peername", transport.get_extra_info("peername") is not None, transport.get_extra_info("socket") is not None
        )
