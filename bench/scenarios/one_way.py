# SPDX-License-Identifier: MIT
"""One-way transfer over TCP: what the server receives, or sends with flow control; an operation is a MiB."""

import asyncio

from scenario import Case, pattern, tcp_address

MIB = 1024 * 1024
CASES = [
    Case("server receives", mode="upload", goal=1.3),
    Case("server sends", mode="download", goal=1.3),
]

PERIOD = 251
CHUNK = pattern(PERIOD * 261)  # 64 KiB, and whole periods: each chunk is the same


class Receive(asyncio.Protocol):
    """Answers one byte for each MiB; looks at the first and the last byte of all that comes."""

    def connection_made(self, transport):
        self.transport, self.received, self.answered = transport, 0, 0

    def data_received(self, data):
        start = self.received
        self.received = end = start + len(data)
        if data[0] != start % PERIOD or data[-1] != (end - 1) % PERIOD:
            self.transport.abort()
            raise AssertionError("wrong bytes came in")
        if (whole := end // MIB) > self.answered:
            self.transport.write(bytes(whole - self.answered))
            self.answered = whole


class Send(asyncio.Protocol):
    """Sends when asked, until the transport says pause; and on, when it says resume."""

    def connection_made(self, transport):
        self.transport, self.is_paused = transport, False

    def data_received(self, data):
        self.send()

    def send(self):
        while not self.is_paused:
            self.transport.write(CHUNK)

    def pause_writing(self):
        self.is_paused = True

    def resume_writing(self):
        self.is_paused = False
        self.send()


async def serve(loop, case):
    server = await loop.create_server(Receive if case.mode == "upload" else Send, "127.0.0.1", 0)
    return tcp_address(server), server


def client(case):
    return [case.mode, "--size", MIB, "--connections", 1]
