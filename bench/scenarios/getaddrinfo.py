# SPDX-License-Identifier: MIT
"""loop.getaddrinfo: of a numeric address, which needs no resolver, and of localhost."""

import socket
import time

from scenario import Case, Measured

CASES = [
    Case("numeric", goal=2, quick=True, host="127.0.0.1"),
    Case("localhost", extra=True, host="localhost"),
]


async def ask(loop, seconds, host):
    expected = socket.getaddrinfo(host, 8080, type=socket.SOCK_STREAM)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(10):
            if await loop.getaddrinfo(host, 8080, type=socket.SOCK_STREAM) != expected:
                raise AssertionError("getaddrinfo gave something else than socket.getaddrinfo()")
        count += 10
    return count


def run(new_loop, case, seconds):
    loop = new_loop()
    try:
        loop.run_until_complete(ask(loop, seconds / 5, case.host))
        with Measured() as measured:
            count = loop.run_until_complete(ask(loop, seconds, case.host))
        loop.run_until_complete(loop.shutdown_default_executor())
        return measured.result(count)
    finally:
        loop.close()
