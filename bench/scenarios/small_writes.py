# SPDX-License-Identifier: MIT
"""Many writes of 100 bytes in a row, without drain; an operation is a write."""

import asyncio

from scenario import Case, pattern, tcp_address

CASES = [Case("1000 x 100 B, 10 connections", writes=1000, connections=10, goal=2.5)]

SIZE = 100


class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        write = self.transport.write
        for part in self.parts:
            write(part)


async def serve(loop, case):
    whole = pattern(case.writes * SIZE)
    Answer.parts = [whole[start : start + SIZE] for start in range(0, len(whole), SIZE)]
    server = await loop.create_server(Answer, "127.0.0.1", 0)
    return tcp_address(server), server


def client(case):
    size, parts = case.writes * SIZE, case.writes
    return ["answer", "--size", size, "--depth", parts, "--request", 8, "--connections", case.connections]
