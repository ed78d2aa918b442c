# SPDX-License-Identifier: MIT
"""Servers that people run, on our loops: each answers, streams a large body both ways and stops on SIGTERM."""

import asyncio
import contextlib
import hashlib
import http.client
import signal
import socket
import subprocess
import sys
import time

import pytest

from support import LIMIT, pattern, program, run_program, started

BODY = pattern(8 << 20)
TYPES = {"asyncio": "_UnixSelectorEventLoop", "rloop": "RLoop", "tokio": "TokioLoop"}

ASGI = """
import asyncio, hashlib, sys
sys.path.insert(0, {here!r})
from support import pattern

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    async def start(headers=()):
        await send({{"type": "http.response.start", "status": 200, "headers": list(headers)}})
    if scope["path"] == "/upload":
        digest, more = hashlib.sha256(), True
        while more:
            message = await receive()
            digest.update(message.get("body", b""))
            more = message.get("more_body", False)
        await start()
        await send({{"type": "http.response.body", "body": digest.hexdigest().encode()}})
    elif scope["path"] == "/download":
        body = pattern({size})
        await start()
        for place in range(0, len(body), 100_000):
            await send({{"type": "http.response.body", "body": body[place : place + 100_000], "more_body": True}})
        await send({{"type": "http.response.body", "body": b""}})
    else:
        await start([(b"content-type", b"text/plain")])
        await asyncio.sleep(0.001)
        name = type(asyncio.get_running_loop()).__name__
        await send({{"type": "http.response.body", "body": name.encode()}})
"""

AIOHTTP = """
from aiohttp import web
import hashlib

async def loop_name(request):
    await asyncio.sleep(0.001)
    return web.Response(text=type(asyncio.get_running_loop()).__name__)

async def upload(request):
    digest = hashlib.sha256()
    async for chunk in request.content.iter_any():
        digest.update(chunk)
    return web.Response(text=digest.hexdigest())

async def download(request):
    response = web.StreamResponse()
    await response.prepare(request)
    body = pattern({size})
    for place in range(0, len(body), 100_000):
        await response.write(body[place : place + 100_000])
    return response

app = web.Application(client_max_size=1 << 30)
app.add_routes([web.get("/", loop_name), web.post("/upload", upload), web.get("/download", download)])
web.run_app(app, host="127.0.0.1", port={port}, loop=new_loop(), print=None)
"""

ANYIO = """
import anyio, hashlib

async def serve(stream):
    "A line with the name of what is wanted, a line with the body's length, the body."
    async with stream:
        buffered = anyio.streams.buffered.BufferedByteReceiveStream(stream)
        wanted = await buffered.receive_until(b"\\n", 100)
        length = int(await buffered.receive_until(b"\\n", 100))
        digest = hashlib.sha256()
        while length:
            chunk = await buffered.receive(min(length, 1 << 16))
            digest.update(chunk)
            length -= len(chunk)
        if wanted == b"/upload":
            await stream.send(digest.hexdigest().encode())
        elif wanted == b"/download":
            await stream.send(pattern({size}))
        else:
            await anyio.sleep(0.001)
            await stream.send(type(asyncio.get_running_loop()).__name__.encode())

async def stop_on(scope):
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return

async def main():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port={port})
    async with listener, anyio.create_task_group() as group:
        group.start_soon(stop_on, group.cancel_scope)
        await listener.serve(serve)

import anyio.streams.buffered
anyio.run(main, backend="asyncio", backend_options={{"loop_factory": new_loop}})
"""


def here():
    return __file__.rpartition("/")[0]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def ask_http(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        assert response.status == 200
        return response.read()


def ask_anyio(port, method, path, body=b""):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        sock.sendall(b"%s\n%d\n" % (path.encode(), len(body or b"")) + (body or b""))
        with sock.makefile("rb") as file:
            return file.read()


def check(arguments, port, loop_name, ask=ask_http, statuses=(0,), **options):
    """Start a server, ask it for everything, stop it."""
    with started(arguments, stderr=subprocess.STDOUT, **options) as process:
        deadline = time.monotonic() + LIMIT
        while True:
            assert process.poll() is None, process.stdout.read()
            try:
                answer = ask(port, "GET", "/")
                break
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert answer.decode() == TYPES[loop_name]
        assert ask(port, "POST", "/upload", BODY).decode() == hashlib.sha256(BODY).hexdigest()
        assert ask(port, "GET", "/download") == BODY
        assert ask(port, "GET", "/").decode() == TYPES[loop_name]
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode in statuses, out
    assert "Traceback" not in out and "Error" not in out, out


@pytest.fixture
def asgi_folder(tmp_path):
    (tmp_path / "asgi.py").write_text(ASGI.format(here=here(), size=len(BODY)))
    return tmp_path


def test_uvicorn(loop_name, asgi_folder):
    port = free_port()
    loop = {"asyncio": "asyncio", "rloop": "rloop:new_event_loop", "tokio": "rloop:new_tokio_event_loop"}[loop_name]
    arguments = ["-m", "uvicorn", "asgi:app", "--host", "127.0.0.1", "--port", str(port), "--loop", loop]
    # uvicorn stops and then sends itself the signal once more.
    check([sys.executable, *arguments], port, loop_name, statuses=(0, -signal.SIGTERM), cwd=asgi_folder)


@pytest.mark.parametrize("choice", ["asyncio", "rloop"])
def test_granian(choice, asgi_folder):
    """granian knows one loop of ours: `--loop rloop` calls rloop.new_event_loop()."""
    pytest.importorskip("granian")
    port = free_port()
    arguments = ["--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--loop", choice, "asgi:app"]
    check([sys.executable, "-m", "granian", *arguments], port, choice, cwd=asgi_folder)


@pytest.mark.parametrize("code, ask", [(AIOHTTP, ask_http), (ANYIO, ask_anyio)], ids=["aiohttp", "anyio"])
def test_programs(loop_name, loop_spec, code, ask):
    port = free_port()
    arguments = program(loop_spec, code.format(size=len(BODY), port=port))
    arguments[arguments.index("error")] = "default"  # what the frameworks warn of is their business
    check(arguments, port, loop_name, ask)


def test_aiohttp_client_and_websocket(loop_factory, no_leaks):
    import aiohttp
    from aiohttp import web

    async def websocket(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def main():
        app = web.Application()
        app.add_routes([web.get("/socket", websocket)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/socket") as socket:
                for word in ("one", "two", "x" * 100_000):
                    await socket.send_str(word)
                    assert await socket.receive_str() == word.upper()
        await runner.cleanup()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(asyncio.wait_for(main(), LIMIT))


def test_anyio_tools(loop_factory, no_leaks):
    """What anyio does with a loop beside sockets: threads, processes, files, cancel scopes."""
    import anyio
    import anyio.from_thread
    import anyio.to_thread

    async def main():
        assert type(asyncio.get_running_loop()) is loop_factory
        assert await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(answer)) == 42
        assert (await anyio.run_process(["echo", "out"])).stdout == b"out\n"
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(100)
        assert scope.cancelled_caught
        left, right = socket.socketpair()
        with left, right:
            right.send(b"x")
            await anyio.wait_readable(left)
            await anyio.wait_writable(left)

    async def answer():
        return 42

    anyio.run(main, backend="asyncio", backend_options={"loop_factory": loop_factory})


def test_nest_asyncio_works_or_says_why_not(loop_name, loop_spec):
    out = run_program(
        loop_spec,
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # it asks for the event loop policy
import nest_asyncio
loop = new_loop()
asyncio.set_event_loop(loop)
async def inner():
    await asyncio.sleep(0.001)
    return "works"
async def outer():
    return loop.run_until_complete(inner())
try:
    nest_asyncio.apply(loop)
    print(loop.run_until_complete(outer()))
except Exception as error:
    print("refused:", error)
os._exit(0)
""",
        check_stderr=False,
    )[0]
    if loop_name == "asyncio":
        assert out == "works\n"
    else:
        assert out == "works\n" or (out.startswith("refused: ") and "nest_asyncio" in out and out.count("\n") == 1)
