# SPDX-License-Identifier: MIT
"""Callbacks: a chain in which each schedules the next, and a fan of many at once."""

import time

from scenario import Case, Measured

CASES = [
    Case("chain", goal=4, quick=True),
    Case("fan of 1000", goal=3.2, quick=True, width=1000),
]


def chain(loop, seconds):
    """Callbacks run in about `seconds`, one in each turn of the loop."""
    count, end = 0, time.perf_counter() + seconds

    def step():
        nonlocal count
        count += 1
        if count % 100 or time.perf_counter() < end:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()
    return count


def fan(loop, seconds, width):
    """Callbacks run in about `seconds`, `width` in each turn of the loop."""
    count, end = 0, time.perf_counter() + seconds

    def leaf():
        nonlocal count
        count += 1

    def spread():
        if time.perf_counter() >= end:
            loop.stop()
            return
        for _ in range(width):
            loop.call_soon(leaf)
        loop.call_soon(spread)

    loop.call_soon(spread)
    loop.run_forever()
    if count == 0 or count % width:
        raise AssertionError(f"{count} callbacks ran, which is no multiple of {width}")
    return count


def run(new_loop, case, seconds):
    loop = new_loop()

    def turn(seconds):
        return chain(loop, seconds) if case.name == "chain" else fan(loop, seconds, case.width)

    try:
        turn(seconds / 5)
        with Measured() as measured:
            count = turn(seconds)
        return measured.result(count)
    finally:
        loop.close()
