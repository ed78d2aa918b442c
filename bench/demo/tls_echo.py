# SPDX-License-Identifier: MIT
"""An echo server on TLS, with a certificate authority made for this run."""

import asyncio
import random
import ssl

import trustme

title = "TLS echo on asyncio streams, 20 clients, certificates checked"
unit = "messages echoed"

CLIENTS, MESSAGES, SIZE = 20, 200, 4096


async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def client(number, port, context):
    numbers = random.Random(number)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    for _ in range(MESSAGES):
        message = numbers.randbytes(SIZE)
        writer.write(message)
        if await reader.readexactly(SIZE) != message:
            raise AssertionError("the echo differs from the message")
    writer.close()
    await writer.wait_closed()


async def run():
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number, port, client_context))
    return CLIENTS * MESSAGES
