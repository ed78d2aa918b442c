# SPDX-License-Identifier: MIT
"""TCP echo by asyncio's streams."""

import asyncio

from scenario import Case, echo_arguments, tcp_address

CASES = [
    Case("1 KiB, 50 connections", size=1024, connections=50, goal=1.6, quick=True),
    Case("100 KiB, 50 connections", size=102400, connections=50, goal=2.2),
]


async def serve(loop, case):
    async def echo(reader, writer):
        while data := await reader.read(262144):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
    return tcp_address(server), server


def client(case):
    return echo_arguments(case)


def limit(case):
    return ["--tcp"]
