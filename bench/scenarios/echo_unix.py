# SPDX-License-Identifier: MIT
"""Echo over a Unix socket by asyncio.Protocol."""

import os
import tempfile

from scenario import Case, echo_arguments
from scenarios.echo_protocol import Echo

CASES = [Case("1 KiB, 50 connections", size=1024, connections=50, goal=1.3)]


async def serve(loop, case):
    path = os.path.join(tempfile.gettempdir(), "echo")  # the runner gives each process a folder of its own
    server = await loop.create_unix_server(Echo, path, backlog=1024)
    return ["--unix", path], server


def client(case):
    return echo_arguments(case)


def limit(case):
    return ["--unix"]
