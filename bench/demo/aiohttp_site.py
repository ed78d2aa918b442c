# SPDX-License-Identifier: MIT
"""An aiohttp site: a page, a static file, an upload and a websocket, under load from aiohttp's own client."""

import asyncio
import hashlib
import random
import tempfile
from pathlib import Path

import aiohttp
from aiohttp import web

title = "aiohttp: page, static file, upload and websocket, 20 clients"
unit = "answers"

CLIENTS, ROUNDS = 20, 25
FILE = random.Random(1).randbytes(300_000)


async def page(request):
    return web.Response(text=f"Hello, {request.match_info['name']}!")


async def upload(request):
    digest = hashlib.sha256()
    async for chunk in request.content.iter_any():
        digest.update(chunk)
    return web.Response(text=digest.hexdigest())


async def websocket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(message.data[::-1])
    return socket


def check(is_right, what):
    if not is_right:
        raise AssertionError(f"wrong answer: {what}")


async def client(number, base):
    payload = random.Random(number).randbytes(50_000)
    digest = hashlib.sha256(payload).hexdigest()
    async with aiohttp.ClientSession(base) as session, session.ws_connect("/socket") as socket:
        for count in range(ROUNDS):
            async with session.get(f"/page/{number}-{count}") as answer:
                check(await answer.text() == f"Hello, {number}-{count}!", "page")
            async with session.get("/static/file") as answer:
                check(await answer.read() == FILE, "static file")
            async with session.post("/upload", data=payload) as answer:
                check(await answer.text() == digest, "upload")
            message = b"%d-%d" % (number, count)
            await socket.send_bytes(message)
            check((await socket.receive_bytes()) == message[::-1], "websocket")


async def run():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "file").write_bytes(FILE)
        app = web.Application()
        app.add_routes(
            [
                web.get("/page/{name}", page),
                web.post("/upload", upload),
                web.get("/socket", websocket),
                web.static("/static", folder),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(client(number, f"http://127.0.0.1:{port}"))
        await runner.cleanup()
    return CLIENTS * ROUNDS * 4
