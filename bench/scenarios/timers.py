# SPDX-License-Identifier: MIT
"""Timers: scheduled and cancelled, as timeouts mostly are, and left to fire; and both among many others."""

import asyncio
import time

from scenario import Case, Measured

GROWS = "timers"
SIZES = [1_000, 10_000, 100_000, 1_000_000]
CASES = [
    Case("schedule and cancel", goal=6, quick=True, others=0),
    Case("firing", goal=3, quick=True, others=0),
    *[Case(f"schedule and cancel among {n:,}", growth=n, others=n) for n in SIZES],
]
BATCH = 1000


def nothing():
    pass


async def cancel(loop, seconds):
    """Timers scheduled and cancelled in about `seconds`, a batch of them alive at a time."""
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        handles = [loop.call_later(30 + i * 0.001, nothing) for i in range(BATCH)]
        for handle in handles:
            handle.cancel()
        count += BATCH
        await asyncio.sleep(0)
    return count


async def fire(loop, seconds):
    """Timers that fired in about `seconds`; all of a batch are due together."""
    count, end = 0, time.perf_counter() + seconds

    def fired():
        nonlocal count
        count += 1

    scheduled = 0
    while time.perf_counter() < end:
        due = loop.time()
        for _ in range(BATCH):
            loop.call_at(due, fired)
        scheduled += BATCH
        while count < scheduled:
            await asyncio.sleep(0)
    return count


def run(new_loop, case, seconds):
    loop = new_loop()
    work = fire if case.name == "firing" else cancel
    others = [loop.call_later(10_000 + i * 0.01, nothing) for i in range(case.others)]
    try:
        loop.run_until_complete(work(loop, seconds / 5))
        with Measured() as measured:
            count = loop.run_until_complete(work(loop, seconds))
        return measured.result(count)
    finally:
        for handle in others:
            handle.cancel()
        loop.close()
