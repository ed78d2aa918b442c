# SPDX-License-Identifier: MIT
"""Tasks: giving way with sleep(0), one task after the other, and two that hand a queue's items to and fro."""

import asyncio
import time

from scenario import Case, Measured

CASES = [
    Case("sleep(0)", goal=3.2, quick=True),
    Case("one by one", goal=2, quick=True),
    Case("queue ping-pong", quick=True),
]


async def give_way(loop, end):
    count = 0
    while time.perf_counter() < end:
        for _ in range(100):
            await asyncio.sleep(0)
        count += 100
    return count


async def one_by_one(loop, end):
    async def echo(number):
        return number

    count = 0
    while time.perf_counter() < end:
        for _ in range(100):
            if await loop.create_task(echo(count)) != count:
                raise AssertionError("a task returned another's result")
            count += 1
    return count


async def ping_pong(loop, end):
    there, back = asyncio.Queue(), asyncio.Queue()

    async def partner():
        while (item := await there.get()) is not None:
            back.put_nowait(item)

    task = loop.create_task(partner())
    count = 0
    while time.perf_counter() < end:
        for _ in range(100):
            there.put_nowait(count)
            if await back.get() != count:
                raise AssertionError("an item came back as another")
            count += 1
    there.put_nowait(None)
    await task
    return count


WORK = {"sleep(0)": give_way, "one by one": one_by_one, "queue ping-pong": ping_pong}


def run(new_loop, case, seconds):
    loop = new_loop()

    def work(seconds):
        return loop.run_until_complete(WORK[case.name](loop, time.perf_counter() + seconds))

    try:
        work(seconds / 5)
        with Measured() as measured:
            count = work(seconds)
        return measured.result(count)
    finally:
        loop.close()
