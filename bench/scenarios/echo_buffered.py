# SPDX-License-Identifier: MIT
"""TCP echo by asyncio.BufferedProtocol."""

import asyncio

from scenario import Case, echo_arguments, tcp_address

CASES = [
    Case("1 KiB, 50 connections", size=1024, connections=50, goal=1.4),
    Case("100 KiB, 50 connections", size=102400, connections=50, extra=True),
]


class Echo(asyncio.BufferedProtocol):
    def __init__(self):
        self.buffer = memoryview(bytearray(256 * 1024))

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(bytes(self.buffer[:nbytes]))


async def serve(loop, case):
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    return tcp_address(server), server


def client(case):
    return echo_arguments(case)


def limit(case):
    return ["--tcp"]
