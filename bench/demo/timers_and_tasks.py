# SPDX-License-Identifier: MIT
"""Timers, tasks, queues, locks and threads, as a busy application uses them."""

import asyncio

title = "timers, tasks, queues and a thread pool"
unit = "steps"

SLEEPERS, PAIRS, MESSAGES, JOBS = 2000, 50, 200, 100


async def sleep_once(number):
    loop = asyncio.get_running_loop()
    delay = number % 20 * 0.005
    start = loop.time()
    await asyncio.sleep(delay)
    if loop.time() - start < delay:
        raise AssertionError("woken too early")


async def produce(queue):
    for number in range(MESSAGES):
        await queue.put(number)


async def consume(queue):
    for number in range(MESSAGES):
        if await queue.get() != number:
            raise AssertionError("messages out of order")


async def time_out():
    try:
        async with asyncio.timeout(0.01):
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        return
    raise AssertionError("the timeout was not raised")


async def run():
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for number in range(SLEEPERS):
            group.create_task(sleep_once(number))
        for _ in range(PAIRS):
            queue = asyncio.Queue(maxsize=10)
            group.create_task(produce(queue))
            group.create_task(consume(queue))
            group.create_task(time_out())
        jobs = [loop.run_in_executor(None, pow, number, 2) for number in range(JOBS)]
    if await asyncio.gather(*jobs) != [number**2 for number in range(JOBS)]:
        raise AssertionError("wrong result of a thread")
    return SLEEPERS + PAIRS * (MESSAGES + 1) + JOBS
