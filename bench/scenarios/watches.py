# SPDX-License-Identifier: MIT
"""add_reader and remove_reader: a pair of them, of a socket that is watched again and again."""

import asyncio
import socket
import time

from scenario import Case, Measured

CASES = [Case("add and remove", goal=2.5, quick=True)]


async def pairs(loop, seconds, ours, peer):
    """Pairs in about `seconds`; after every thousand a reader has to hear of a byte."""
    count, end = 0, time.perf_counter() + seconds
    heard = 0

    def nothing():
        raise AssertionError("a reader that was removed was called")

    def hear():
        nonlocal heard
        heard += len(ours.recv(1))

    while time.perf_counter() < end:
        for _ in range(1000):
            loop.add_reader(ours, nothing)
            loop.remove_reader(ours)
        count += 1000
        loop.add_reader(ours, hear)
        peer.send(b"x")
        while heard * 1000 < count:
            await asyncio.sleep(0)
        loop.remove_reader(ours)
    return count


def run(new_loop, case, seconds):
    loop = new_loop()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    try:
        loop.run_until_complete(pairs(loop, seconds / 5, ours, peer))
        with Measured() as measured:
            count = loop.run_until_complete(pairs(loop, seconds, ours, peer))
        return measured.result(count)
    finally:
        loop.close()
        ours.close()
        peer.close()
