# SPDX-License-Identifier: MIT
"""Many loops in many threads at once, and what all of them may call on each: with the GIL, and without one in a
free-threaded build (make test-py VERSION=3.13t).  Each counts what it did: a lost or a doubled call shows."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading

import pytest

from support import LIMIT, Echo, Recorder, connection, pattern, run_program, until, within

LOOPS = 4
PRODUCERS = 4
CALLS = 1500


def in_threads(targets):
    """Run them all at once, each in its thread; the first exception of any is raised here."""
    errors = []
    start = threading.Barrier(len(targets))

    def work(target):
        try:
            start.wait(LIMIT)
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LIMIT)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


@contextlib.contextmanager
def running(loop_factory, count=LOOPS):
    """Loops that run, each in its thread; at the end they are stopped and closed, and nothing was reported."""
    loops = [loop_factory() for _ in range(count)]
    reports = []
    for loop in loops:
        loop.set_exception_handler(lambda loop, context: reports.append(context))
    threads = [threading.Thread(target=loop.run_forever) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield loops
    finally:
        for loop in loops:
            loop.call_soon_threadsafe(loop.stop)
        for thread in threads:
            thread.join(LIMIT)
        for loop in loops:
            loop.close()
    assert reports == []


@contextlib.contextmanager
def collector():
    """The garbage collector runs again and again beside the test, from a thread of its own."""
    is_over = threading.Event()

    def collect():
        while not is_over.wait(0.002):
            gc.collect(0)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.ours("our package")
def test_import_leaves_the_gil_off(loop_spec):
    if not hasattr(sys, "_is_gil_enabled"):  # before 3.13 there is always one
        return
    env = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    out = run_program(
        loop_spec,
        "import sysconfig\n"
        "new_loop().close()\n"
        "print(sys._is_gil_enabled() != bool(sysconfig.get_config_var('Py_GIL_DISABLED')))",
        env=env,
    )
    assert out == "True\n"


def test_call_soon_threadsafe_from_all_threads_to_all_loops(loop_factory, no_leaks):
    """Nothing is lost or doubled, and each producer's calls keep their order in each loop."""
    with running(loop_factory) as loops:
        seen = [[[] for _ in range(PRODUCERS)] for _ in loops]

        def produce(me):
            for number in range(CALLS):
                for loop, of_loop in zip(loops, seen, strict=True):
                    loop.call_soon_threadsafe(of_loop[me].append, number)

        with collector():
            in_threads([lambda me=me: produce(me) for me in range(PRODUCERS)])
        flushed = [threading.Event() for _ in loops]
        for loop, event in zip(loops, flushed, strict=True):
            loop.call_soon_threadsafe(event.set)
        assert all(event.wait(LIMIT) for event in flushed)
    assert all(numbers == list(range(CALLS)) for of_loop in seen for numbers in of_loop)


def test_handles_cancelled_while_the_loop_runs_them(loop_factory, no_leaks):
    """A call that was not cancelled runs once, one that was runs at most once, and no handle dies under anybody."""
    ran = [[0] * CALLS for _ in range(PRODUCERS)]
    cancelled = [set() for _ in range(PRODUCERS)]
    with running(loop_factory, 1) as [loop]:

        def run(me, number, *others):
            ran[me][number] += 1

        def produce(me):
            for number in range(CALLS):
                handle = loop.call_soon_threadsafe(run, me, number, *range(number % 5))
                if number % 3:
                    handle.cancel()
                    cancelled[me].add(number)
                    assert handle.cancelled() and handle._args is None
                else:
                    handle._args, repr(handle)

        with collector():
            in_threads([lambda me=me: produce(me) for me in range(PRODUCERS)])
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(LIMIT)
    for me in range(PRODUCERS):
        for number in range(CALLS):
            assert ran[me][number] <= 1 if number in cancelled[me] else ran[me][number] == 1


def test_timers_cancelled_by_other_threads(loop_factory, no_leaks):
    """asyncio does not promise this; but memory and the loop stay whole, and what was cancelled early never runs."""
    ran = []
    with running(loop_factory, 1) as [loop]:

        async def schedule():
            return [loop.call_later(0.05 if number % 2 else 1000, ran.append, number) for number in range(200)]

        for _ in range(5):
            timers = asyncio.run_coroutine_threadsafe(schedule(), loop).result(LIMIT)
            in_threads([lambda part=part: [timer.cancel() for timer in timers[part::3]] for part in range(3)])
            assert all(timer.cancelled() for timer in timers)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), loop).result(LIMIT)
    assert len(ran) <= 500 and all(number % 2 for number in ran)


def test_coroutines_handed_to_all_loops(loop_factory, no_leaks):
    async def double(number):
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.0005, future.set_result, number)
        await asyncio.sleep(0)
        return 2 * await future

    with running(loop_factory) as loops:

        def produce(me):
            for number in range(100):
                futures = [asyncio.run_coroutine_threadsafe(double(number), loop) for loop in loops]
                assert [future.result(LIMIT) for future in futures] == [2 * number] * len(loops)

        with collector():
            in_threads([lambda me=me: produce(me) for me in range(PRODUCERS)])


async def traffic(rounds):
    """A bit of everything that has memory of its own in C: connections, streams, sockets, datagrams, timers, tasks."""
    loop = asyncio.get_running_loop()
    data = pattern(50_000)
    for _ in range(rounds):
        async with connection(Recorder, Echo) as pair:
            pair.client.write(data)
            pair.client.writelines([data[:100]] * 10)
            await until(lambda: len(pair.client_protocol.data) == 51_000)
            assert pair.client_protocol.data == data + data[:100] * 10
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            receiving = asyncio.gather(*(loop.sock_recv(left, 10) for _ in range(1)))
            await loop.sock_sendall(right, b"x")
            assert await receiving == [b"x"]
            reader, writer = await asyncio.open_connection(sock=left)
            await loop.sock_sendall(right, b"a line\n")
            assert await reader.readline() == b"a line\n"
            writer.close()
            await writer.wait_closed()
        for _ in range(50):
            loop.call_later(1000, int).cancel()
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(asyncio.sleep(0.0001))


def test_a_loop_per_thread_with_all_kinds_of_traffic(loop_factory, no_leaks):
    def work():
        for _ in range(3):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(within(traffic(5), 2 * LIMIT))

    with collector():
        in_threads([work] * LOOPS)


def test_loops_made_and_closed_beside_each_other(loop_factory, no_leaks):
    """Each closes while others still hand it calls: they are taken, or refused with a RuntimeError."""
    taken = []

    def live():
        for _ in range(30):
            loop = loop_factory()
            count = 0

            def hand_in(loop=loop):
                nonlocal count
                with contextlib.suppress(RuntimeError):
                    while True:
                        loop.call_soon_threadsafe(int)
                        count += 1
                        if count == 20:
                            loop.call_soon_threadsafe(loop.stop)

            thread = threading.Thread(target=hand_in)
            thread.start()
            loop.run_forever()
            loop.close()
            thread.join(LIMIT)
            assert not thread.is_alive()
            taken.append(count)

    with collector():
        in_threads([live] * LOOPS)
    assert len(taken) == 30 * LOOPS and min(taken) >= 20


def test_state_that_other_threads_may_ask_for(loop_factory, no_leaks):
    with running(loop_factory) as loops:

        def ask():
            for _ in range(500):
                for loop in loops:
                    assert not loop.is_closed() and loop.time() > 0 and repr(loop)
                    loop.is_running(), loop.get_debug()

        in_threads([ask] * PRODUCERS)
    assert all(loop.is_closed() and not loop.is_running() for loop in loops)


@pytest.mark.ours("asyncio leaves it to chance what becomes of it")
def test_transports_belong_to_their_loops_thread(loop_factory, no_leaks):
    """Another thread that uses one breaks nothing: it may ask, and without a GIL is refused what would change it."""
    with running(loop_factory, 1) as [loop], socket.create_server(("127.0.0.1", 0)) as listener:

        async def connect():
            transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
            return transport, protocol, await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))

        transport, protocol, (endpoint, _) = asyncio.run_coroutine_threadsafe(connect(), loop).result(LIMIT)
        peer, _ = listener.accept()
        refused = []

        def use():
            for _ in range(200):
                for call in (
                    lambda: transport.write(b"x"),
                    lambda: transport.writelines([b"x"]),
                    transport.pause_reading,
                    transport.resume_reading,
                    transport.set_write_buffer_limits,
                    lambda: transport.set_protocol(protocol),
                    lambda: endpoint.sendto(b"x", endpoint.get_extra_info("sockname")),
                    lambda: loop.remove_reader(peer),
                ):
                    try:
                        call()
                    except RuntimeError as error:
                        refused.append(str(error))
                assert transport.get_extra_info("peername") == listener.getsockname()
                transport.is_closing(), transport.get_write_buffer_size(), transport.is_reading(), repr(transport)

        with peer, collector():
            peer.setblocking(False)
            in_threads([use] * PRODUCERS)
            loop.call_soon_threadsafe(transport.abort)
            loop.call_soon_threadsafe(endpoint.abort)
            asyncio.run_coroutine_threadsafe(asyncio.wait([protocol.lost]), loop).result(LIMIT)
    is_free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    assert len(refused) == (200 * PRODUCERS * 8 if is_free else 0)
    assert not is_free or set(refused) == {
        "Non-thread-safe operation invoked on an event loop other than the current one"
    }
