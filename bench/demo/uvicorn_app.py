# SPDX-License-Identifier: MIT
"""A uvicorn server with an ASGI application, asked over keep-alive connections."""

import asyncio
import json

import uvicorn

title = "uvicorn with httptools, a JSON application, 20 keep-alive clients"
unit = "requests"

CLIENTS, REQUESTS = 20, 200


async def application(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    answer = json.dumps({"path": scope["path"], "body": body.decode()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def client(number, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for count in range(REQUESTS):
        body = f"request {count} of client {number}".encode()
        writer.write(b"POST /%d HTTP/1.1\r\nHost: demo\r\nContent-Length: %d\r\n\r\n%b" % (count, len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        if not head.startswith(b"HTTP/1.1 200 ") or answer != {"path": f"/{count}", "body": body.decode()}:
            raise AssertionError(f"wrong answer: {head!r} {answer!r}")
    writer.close()
    await writer.wait_closed()


async def run():
    config = uvicorn.Config(
        application, port=0, http="httptools", lifespan="off", log_level="warning", access_log=False, loop="none"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number, port))
    server.should_exit = True
    await serving
    return CLIENTS * REQUESTS
