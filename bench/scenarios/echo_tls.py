# SPDX-License-Identifier: MIT
"""TLS 1.3 echo, by asyncio.Protocol and by streams; and whole handshakes."""

import asyncio

from scenario import Case, echo_arguments, server_tls, tcp_address
from scenarios.echo_protocol import Echo

CASES = [
    Case("Protocol, 1 KiB, 50 connections", size=1024, connections=50, goal=2.8, quick=True),
    Case("streams, 1 KiB, 50 connections", size=1024, connections=50, goal=2.5, by_streams=True),
    Case("Protocol, 100 KiB, 20 connections", size=102400, connections=20, goal=2.2),
    Case("streams, 100 KiB, 20 connections", size=102400, connections=20, by_streams=True, extra=True),
    Case("handshakes, 10 at a time", size=64, connections=10, mode="connect", extra=True),
]


async def stream_echo(reader, writer):
    while data := await reader.read(262144):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(loop, case):
    where = {"host": "127.0.0.1", "port": 0, "backlog": 1024, "ssl": server_tls()}
    if hasattr(case, "by_streams"):
        server = await asyncio.start_server(stream_echo, **where)
    else:
        server = await loop.create_server(Echo, **where)
    return [*tcp_address(server), "--tls"], server


def client(case):
    return [getattr(case, "mode", "echo"), *echo_arguments(case)[1:]]
