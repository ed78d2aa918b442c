# SPDX-License-Identifier: MIT
"""HTTP GET answered by uvicorn with httptools, with connections that stay."""

import asyncio

import httptools  # noqa: F401  # that it is here
import uvicorn

from scenario import Case, pattern, tcp_address

CASES = [Case("1 KiB, 50 connections", size=1024, connections=50, goal=2.2)]


async def serve(loop, case):
    body = pattern(case.size)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(case.size).encode())]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        app, port=0, loop="none", http="httptools", ws="none", lifespan="off", log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    task = loop.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    return tcp_address(server.servers[0]), task


def client(case):
    return ["http", "--size", case.size, "--connections", case.connections]
