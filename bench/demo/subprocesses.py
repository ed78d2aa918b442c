# SPDX-License-Identifier: MIT
"""Subprocesses with pipes, many at a time."""

import asyncio
import random

title = "subprocesses: cat, 256 KiB through pipes, 8 at a time"
unit = "processes"

PROCESSES, AT_A_TIME, SIZE = 64, 8, 256 * 1024


async def cat(number, gate):
    data = random.Random(number).randbytes(SIZE)
    async with gate:
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate(data)
    if output != data or process.returncode != 0:
        raise AssertionError("wrong output of cat")


async def run():
    gate = asyncio.Semaphore(AT_A_TIME)
    async with asyncio.TaskGroup() as group:
        for number in range(PROCESSES):
            group.create_task(cat(number, gate))
    return PROCESSES
