# SPDX-License-Identifier: MIT
"""TCP echo by loop.sock_accept, sock_recv and sock_sendall."""

import contextlib
import socket

from scenario import Case, echo_arguments, tcp_address

CASES = [
    Case("1 KiB, 50 connections", size=1024, connections=50, goal=3.5, quick=True),
    Case("100 KiB, 50 connections", size=102400, connections=50, extra=True),
]


async def serve(loop, case):
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    tasks = set()

    async def echo(connection):
        with connection, contextlib.suppress(ConnectionError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(connection, 262144):
                await loop.sock_sendall(connection, data)

    async def accept():
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = loop.create_task(echo(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    tasks.add(loop.create_task(accept()))
    return tcp_address(listener), tasks


def client(case):
    return echo_arguments(case)


def limit(case):
    return ["--tcp"]
