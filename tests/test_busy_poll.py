# SPDX-License-Identifier: MIT
"""The option busy_poll of our loops: its values, and that a spinning loop misses nothing."""

import asyncio
import gc
import math
import os
import signal
import threading
import time
import warnings

import pytest

import rloop
from support import LIMIT

LONG = 60.0


@pytest.fixture(params=[rloop.RLoop, rloop.TokioLoop], ids=["rloop", "tokio"])
def make(request):
    return request.param


def test_off_by_default(make):
    loop = make()
    assert loop.busy_poll == 0.0
    loop.close()


@pytest.mark.parametrize("seconds", [0, 0.00005, 1, True, 1e300, 5e-324])
def test_values(make, seconds):
    loop = make(busy_poll=seconds)
    assert loop.busy_poll == float(seconds)
    assert type(loop.busy_poll) is float
    loop.busy_poll = 0.001
    assert loop.busy_poll == 0.001
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    loop.busy_poll = 0.002
    assert loop.busy_poll == 0.002


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (-1e-9, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        ("1", TypeError),
        (None, TypeError),
        (1j, TypeError),
        (10**400, ValueError),
    ],
)
def test_wrong_values(make, value, error):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error):
            make(busy_poll=value)
        gc.collect()
        with pytest.raises(TypeError):
            make(0.1)
        gc.collect()
    loop = make(busy_poll=0.5)
    with pytest.raises(error):
        loop.busy_poll = value
    assert loop.busy_poll == 0.5
    with pytest.raises(AttributeError):
        del loop.busy_poll
    loop.close()


@pytest.fixture
def loop(make):
    loop = make(busy_poll=LONG)
    yield loop
    loop.close()


def run(loop, coroutine):
    return loop.run_until_complete(asyncio.wait_for(coroutine, LIMIT))


def test_timers(loop):
    async def main():
        start = loop.time()
        await asyncio.sleep(0.02)
        return loop.time() - start

    assert run(loop, main()) >= 0.02


def test_other_threads_run_and_wake_the_loop(loop):
    async def main():
        done = loop.create_future()

        def work():
            for _ in range(1000):
                pass
            loop.call_soon_threadsafe(done.set_result, 1)

        threading.Timer(0.01, work).start()
        return await done

    assert run(loop, main()) == 1
    assert run(loop, asyncio.to_thread(time.sleep, 0.01)) is None


def test_signals(loop):
    seen = []

    async def main():
        done = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, done.set_result, "handler")
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        seen.append(await done)
        loop.remove_signal_handler(signal.SIGUSR1)

    run(loop, main())
    before = signal.signal(signal.SIGUSR1, lambda number, frame: loop.stop())
    try:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["handler"]


def test_streams_and_subprocesses(loop):
    async def serve(reader, writer):
        writer.write(await reader.readexactly(100000))
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 100000)
        answer = await reader.read()
        writer.close()
        server.close()
        process = await asyncio.create_subprocess_exec("true")
        return answer, await process.wait()

    assert run(loop, main()) == (b"x" * 100000, 0)
