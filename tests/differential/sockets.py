# SPDX-License-Identifier: MIT
"""loop.sock_*: operations that wait, are cancelled, fail, and meet; and watches of the same kinds of descriptors."""

import asyncio
import contextlib
import os
import socket

from engine import Scene, operation
from hypothesis import strategies as st

from support import pattern

SIZES = st.sampled_from([0, 1, 10, 3000, 300_000])
INDEX = st.integers(0, 3)


class Sockets(Scene):
    async def start(self):
        self.ours, self.peer = socket.socketpair()
        self.listener = socket.create_server(("127.0.0.1", 0))
        for sock in (self.ours, self.peer, self.listener):
            sock.setblocking(False)
        self.tasks, self.opened, self.sent = [], [], 0

    async def finish(self):
        for task in self.tasks:
            task.cancel()
        await self.settle()
        for sock in (self.ours, self.peer, self.listener, *self.opened):
            sock.close()

    def begin(self, coroutine):
        number = len(self.tasks)

        async def work():
            try:
                result = await coroutine
            except (Exception, asyncio.CancelledError) as error:
                self.note("operation", number, error)
            else:
                if isinstance(result, tuple) and isinstance(result[0], socket.socket):
                    self.opened.append(result[0])
                    self.note("accepted", number, result[0].getblocking())
                else:
                    self.note("operation", number, result)

        self.tasks.append(self.loop.create_task(work()))

    @operation(st.sampled_from([0, 1, 5, 100_000]))
    def sock_recv(self, size):
        self.begin(self.loop.sock_recv(self.ours, size))

    @operation(st.sampled_from([0, 1, 5000]))
    def sock_recv_into(self, size):
        buffer = bytearray(size)

        async def receive():
            count = await self.loop.sock_recv_into(self.ours, buffer)
            return bytes(buffer[:count])

        self.begin(receive())

    @operation(st.sampled_from([1, 5000]))
    def sock_recvfrom(self, size):
        async def receive():
            return (await self.loop.sock_recvfrom(self.ours, size))[0]

        self.begin(receive())

    @operation(SIZES)
    def sock_sendall(self, size):
        self.sent += 1
        self.begin(self.loop.sock_sendall(self.ours, pattern(size, self.sent)))

    @operation()
    def sock_accept(self):
        self.begin(self.loop.sock_accept(self.listener))

    @operation(st.booleans())
    def sock_connect(self, to_nobody):
        sock = socket.socket()
        sock.setblocking(False)
        self.opened.append(sock)
        self.begin(self.loop.sock_connect(sock, ("127.0.0.1", 1) if to_nobody else self.listener.getsockname()))

    @operation()
    def client_connects(self):
        sock = socket.socket()
        sock.setblocking(False)
        self.opened.append(sock)
        sock.connect_ex(self.listener.getsockname())

    @operation(INDEX)
    def cancel(self, index):
        if self.tasks:
            self.note("cancel", self.tasks[index % len(self.tasks)].cancel())

    @operation(SIZES)
    def peer_sends(self, size):
        self.sent += 1
        with contextlib.suppress(OSError):
            self.peer.send(pattern(min(size, 60_000), self.sent))

    @operation()
    async def peer_reads(self):
        quiet = 0
        while quiet < 3:
            try:
                data = self.peer.recv(1 << 20)
            except OSError:
                data = b""
            if data:
                self.note_data("peer", data)
            quiet = 0 if data else quiet + 1
            for _ in range(6):
                await asyncio.sleep(0)

    @operation(st.booleans())
    def peer_leaves(self, at_once):
        with contextlib.suppress(OSError):
            self.peer.close() if at_once else self.peer.shutdown(socket.SHUT_WR)

    @operation(
        st.sampled_from(["recv", "recv_into", "sendall", "accept", "connect", "recvfrom", "sendto"]), st.booleans()
    )
    async def misuse(self, name, is_closed):
        """A blocking socket, or a closed one."""
        sock = socket.socket()
        sock.close() if is_closed else sock.setblocking(True)
        arguments = {
            "recv": (5,),
            "recv_into": (bytearray(5),),
            "sendall": (b"x",),
            "accept": (),
            "connect": (("127.0.0.1", 1),),
            "recvfrom": (5,),
            "sendto": (b"x", ("127.0.0.1", 1)),
        }[name]
        self.loop.set_debug(True)  # asyncio looks at the blocking mode in debug mode only
        await self.attempt_async(name, getattr(self.loop, f"sock_{name}")(sock, *arguments))
        self.loop.set_debug(False)
        sock.close()


class Watches(Scene):
    """add_reader and its family on a socketpair, and pipe transports beside them."""

    async def start(self):
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.setblocking(False)
        self.serial = 0

    async def finish(self):
        for remove in (self.loop.remove_reader, self.loop.remove_writer):
            self.attempt("remove", remove, self.ours)
        self.ours.close()
        self.peer.close()

    def ready(self, number, what, deed):
        self.note("ready", number, what, deed)
        with contextlib.suppress(OSError):
            if what == "reader":
                data = self.ours.recv(3)
                self.note("read", data)
                if not data:
                    self.loop.remove_reader(self.ours)  # else it is ready in every turn
        if what == "writer":
            self.loop.remove_writer(self.ours)
        if deed == "raise":
            self.loop.remove_reader(self.ours)
            raise ValueError(number)
        if deed == "remove":
            self.loop.remove_reader(self.ours)
        elif deed == "replace":
            self.serial += 1
            self.loop.add_reader(self.ours, self.ready, self.serial, "reader", "remove")

    @operation(
        st.sampled_from(["reader", "writer"]), st.sampled_from(["note", "raise", "remove", "replace"]), st.booleans()
    )
    def add(self, what, deed, by_number):
        self.serial += 1
        fd = self.ours.fileno() if by_number else self.ours
        self.attempt("add", getattr(self.loop, f"add_{what}"), fd, self.ready, self.serial, what, deed)

    @operation(st.sampled_from(["reader", "writer"]))
    def remove(self, what):
        self.attempt("remove", getattr(self.loop, f"remove_{what}"), self.ours)

    @operation(
        st.sampled_from(["add_reader", "add_writer", "remove_reader", "remove_writer"]),
        st.sampled_from([-1, "x", None, 1.5, 10**6]),
    )
    def misuse(self, name, fd):
        self.attempt(name, getattr(self.loop, name), fd, *([print] if name.startswith("add") else []))

    @operation(st.sampled_from([1, 3, 10]))
    def peer_sends(self, size):
        with contextlib.suppress(OSError):
            self.peer.send(pattern(size, size))

    @operation()
    def peer_leaves(self):
        self.peer.close()

    @operation(
        st.lists(
            st.sampled_from(
                ["write", "write", "turn", "end", "close reader", "abort writer", "pause", "resume", "write much"]
            ),
            max_size=6,
        )
    )
    async def pipe(self, plan):
        """A pipe with a transport at both ends."""
        scene, notes = self, {"reader": [], "writer": []}

        class Told(asyncio.Protocol):
            def __init__(self, name):
                self.notes = notes[name]

            def connection_made(self, transport):
                self.notes.append("made")

            def data_received(self, data):
                if isinstance(self.notes[-1], bytes):
                    data = self.notes.pop() + data
                self.notes.append(bytes(data))

            def eof_received(self):
                self.notes.append("eof")

            def connection_lost(self, exc):
                self.notes.append(("lost", type(exc).__name__))

            def pause_writing(self):
                self.notes.append("pause")

            def resume_writing(self):
                self.notes.append("resume")

        read_fd, write_fd = os.pipe()
        reader, _ = await self.loop.connect_read_pipe(lambda: Told("reader"), os.fdopen(read_fd, "rb", 0))
        writer, _ = await self.loop.connect_write_pipe(lambda: Told("writer"), os.fdopen(write_fd, "wb", 0))
        for step in plan:
            if step.startswith("write"):
                self.serial += 1
                size = 300_000 if step == "write much" else 10
                self.attempt("write", lambda size=size: writer.write(pattern(size, scene.serial)))
            elif step == "end":
                self.attempt("write_eof", writer.write_eof)
            elif step == "close reader":
                reader.close()
            elif step == "abort writer":
                if not writer.is_closing():  # asyncio raises AttributeError
                    writer.abort()
            elif step != "turn":
                self.attempt(step, getattr(reader, f"{step}_reading"))
            for _ in range(4):  # a pipe holds little
                await self.settle()
        self.note("pipe", reader.is_closing(), writer.is_closing())
        reader.close()
        if not writer.is_closing():
            writer.abort()
        await self.settle()
        self.history.append(("pipe", notes))
