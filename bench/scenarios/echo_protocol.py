# SPDX-License-Identifier: MIT
"""TCP echo by asyncio.Protocol."""

import asyncio

from scenario import Case, echo_arguments, goals, tcp_address

CASES = [
    Case("64 B, 50 connections", size=64, connections=50, goal=goals(1.2, 1.1)),
    Case("1 KiB, 50 connections", size=1024, connections=50, goal=goals(1.15, 1.1), quick=True),
    Case("1 KiB, 500 connections", size=1024, connections=500, goal=goals(1.15, 1.1)),
    Case("100 KiB, 50 connections", size=102400, connections=50, goal=1.1),
    Case("16 KiB, 50 connections", size=16384, connections=50, extra=True),
    Case("64 B, 1 connection", size=64, connections=1, extra=True),
    Case("1 KiB, 1 connection", size=1024, connections=1, extra=True),
    Case("1 KiB, 50 connections, 16 in flight", size=1024, connections=50, depth=16, extra=True),
]


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def serve(loop, case):
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    return tcp_address(server), server


def client(case):
    return echo_arguments(case)


def limit(case):
    return ["--tcp"]
