# SPDX-License-Identifier: MIT
"""Other threads: call_soon_threadsafe from one (rate, and latency into an idle loop), and jobs in the executor."""

import threading
import time

from scenario import Case, Measured, percentile

CASES = [
    Case("call_soon_threadsafe", goal=2, quick=True),
    Case("call_soon_threadsafe, latency"),
    Case("executor jobs"),
]
BATCH, AHEAD = 100, 100  # so many batches of calls wait at most


def rate(loop, seconds):
    """Calls that ran in about `seconds`; another thread makes them as fast as it can, some way ahead."""
    ran, made, end = 0, 0, time.perf_counter() + seconds
    room = threading.Semaphore(AHEAD)

    def called():
        nonlocal ran
        ran += 1
        if ran % BATCH == 0:
            room.release()

    def caller():
        nonlocal made
        while time.perf_counter() < end:
            room.acquire()
            for _ in range(BATCH):
                loop.call_soon_threadsafe(called)
            made += BATCH
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=caller)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    if ran != made:
        raise AssertionError(f"{made} calls were made, and {ran} ran")
    return ran


def latencies(loop, seconds):
    """Microseconds from call_soon_threadsafe() to the call, each into a loop that waits."""
    taken, end = [], time.perf_counter() + seconds
    answered = threading.Event()

    def called(start):
        taken.append((time.perf_counter() - start) * 1e6)
        answered.set()

    def caller():
        while time.perf_counter() < end:
            time.sleep(0.0005)
            answered.clear()
            loop.call_soon_threadsafe(called, time.perf_counter())
            answered.wait()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=caller)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    return taken


def jobs(loop, seconds):
    """Jobs that the default executor did in about `seconds`, one after the other."""

    async def main():
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            if await loop.run_in_executor(None, int, count) != count:
                raise AssertionError("a job returned another's result")
            count += 1
        return count

    return loop.run_until_complete(main())


def run(new_loop, case, seconds):
    loop = new_loop()
    try:
        if case.name == "call_soon_threadsafe, latency":
            latencies(loop, seconds / 5)
            with Measured() as measured:
                taken = latencies(loop, seconds)
            return measured.result(len(taken), taken, cost=percentile(taken, 50), unit="us")
        work = jobs if case.name == "executor jobs" else rate
        work(loop, seconds / 5)
        with Measured() as measured:
            count = work(loop, seconds)
        if work is jobs:
            loop.run_until_complete(loop.shutdown_default_executor())
        return measured.result(count)
    finally:
        loop.close()
