# SPDX-License-Identifier: MIT
"""N loops in N threads of one process, each with its server on one SO_REUSEPORT port: do they scale with the cores?

Each request costs the server some Python, as it does in programs; so the client, a process of its own, takes little of
the machine.  With a GIL the loops take turns; in a free-threaded build each has a core.  Prints medians of rounds.

    make bench-threads
    python bench/reuseport.py [SECONDS]
"""

import asyncio
import os
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time

import rloop

CONNECTIONS = 32
ROUNDS = 5
REQUEST = b"x" * 64
WORK = 4000  # turns of an empty loop for each request


class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        for _ in range(WORK):
            pass
        self.transport.write(data)


def listening_socket(port):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def ask(port, seconds):
    """The client: on each connection one request at a time; prints how many were answered in the time."""
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.send(REQUEST)
        selector.register(sock, selectors.EVENT_READ)
    answers = 0
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        for key, _ in selector.select(0.1):
            key.fileobj.recv(1 << 16)
            key.fileobj.send(REQUEST)
            answers += 1
    print(answers / (time.monotonic() - start))


def measure(loop_factory, count, seconds):
    """Requests per second of `count` loops."""
    sockets = [listening_socket(0)]
    port = sockets[0].getsockname()[1]
    sockets += [listening_socket(port) for _ in range(count - 1)]
    loops = [loop_factory() for _ in range(count)]
    servers = [
        loop.run_until_complete(loop.create_server(Server, sock=sock))
        for loop, sock in zip(loops, sockets, strict=True)
    ]
    threads = [threading.Thread(target=loop.run_forever) for loop in loops]
    for thread in threads:
        thread.start()
    client = subprocess.run(
        [sys.executable, __file__, "--ask", str(port), str(seconds)], stdout=subprocess.PIPE, text=True, check=True
    )
    for loop, server in zip(loops, servers, strict=True):
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(server.close_clients)
        loop.call_soon_threadsafe(loop.call_later, 0.1, loop.stop)
    for thread in threads:
        thread.join()
    for loop in loops:
        loop.close()
    return float(client.stdout)


def main(seconds):
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    cores = len(os.sched_getaffinity(0))
    print(f"Python {sys.version.split()[0]}, {'with' if has_gil else 'without'} a GIL, {cores} cores; requests/s")
    for name, loop_factory in (
        ("asyncio", asyncio.SelectorEventLoop),
        ("RLoop", rloop.RLoop),
        ("TokioLoop", rloop.TokioLoop),
    ):
        rates = {count: [] for count in range(1, cores + 1)}
        for _ in range(ROUNDS):  # in turn, as other programs take of the machine what they want
            for count in rates:
                rates[count].append(measure(loop_factory, count, seconds))
        medians = {count: statistics.median(rates[count]) for count in rates}
        for count, rate in medians.items():
            print(f"{name:9}  loops: {count}  {rate:8.0f}  {rate / medians[1]:.2f} x")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        ask(int(sys.argv[2]), float(sys.argv[3]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
