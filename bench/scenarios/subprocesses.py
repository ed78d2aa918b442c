# SPDX-License-Identifier: MIT
"""Subprocesses: /bin/cat is started, given a line, and answers with it; four at a time."""

import asyncio
import shutil
import time

from scenario import Case, Measured

CASES = [Case("start, communicate, wait", goal=3.3, quick=True)]
AT_A_TIME = 4


async def work(seconds):
    program, end = shutil.which("cat"), time.perf_counter() + seconds

    async def one(number):
        line = b"%d\n" % number
        process = await asyncio.create_subprocess_exec(
            program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate(line)
        if output != line or process.returncode != 0:
            raise AssertionError(f"cat gave {output!r} and status {process.returncode}")

    async def several():
        count = 0
        while time.perf_counter() < end:
            await one(count)
            count += 1
        return count

    return sum(await asyncio.gather(*[several() for _ in range(AT_A_TIME)]))


def run(new_loop, case, seconds):
    loop = new_loop()
    asyncio.set_event_loop(loop)  # Python 3.12's child watchers look there
    try:
        loop.run_until_complete(work(seconds / 5))
        with Measured() as measured:
            count = loop.run_until_complete(work(seconds))
        return measured.result(count)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
