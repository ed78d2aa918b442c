# SPDX-License-Identifier: MIT
"""An echo server on asyncio streams under 50 clients."""

import asyncio
import random

title = "asyncio streams, 50 clients, messages of 1 B to 32 KiB"
unit = "messages echoed"

CLIENTS, MESSAGES = 50, 200


async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def client(number, port):
    numbers = random.Random(number)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(MESSAGES):
        message = numbers.randbytes(numbers.choice([1, 100, 1000, 4096, 32768]))
        writer.write(message)
        await writer.drain()
        if await reader.readexactly(len(message)) != message:
            raise AssertionError("the echo differs from the message")
    writer.write_eof()
    if await reader.read() != b"":
        raise AssertionError("bytes after the last echo")
    writer.close()
    await writer.wait_closed()


async def run():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number, port))
    return CLIENTS * MESSAGES
