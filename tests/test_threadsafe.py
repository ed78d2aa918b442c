# SPDX-License-Identifier: MIT
"""call_soon_threadsafe: order, loss, wake-ups, and loops that close meanwhile."""

import asyncio
import contextvars
import threading
import time

from support import until_sync

VAR = contextvars.ContextVar("VAR", default="unset")


def spin(loop):
    """Run what is ready."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_threadsafe_from_the_loops_own_thread_keeps_order(loop):
    seen = []

    def both():
        for number in range(10):
            (loop.call_soon if number % 2 else loop.call_soon_threadsafe)(seen.append, number)

    loop.call_soon(both)
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    assert seen == list(range(10))


def test_threadsafe_wakes_an_idle_loop(loop):
    thread = threading.Timer(0.1, lambda: loop.call_soon_threadsafe(loop.stop))
    thread.start()
    loop.run_forever()
    thread.join()


def test_threadsafe_before_the_run(loop):
    seen = []
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(seen.append, 1))
    thread.start()
    thread.join()
    spin(loop)
    assert seen == [1]


def test_threadsafe_calls_keep_their_place_while_the_loop_stops(loop):
    seen = []

    def in_a_thread(number):
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(seen.append, number))
        thread.start()
        thread.join()

    def callback():
        in_a_thread(0)
        loop.call_soon(seen.append, 1)
        in_a_thread(2)
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    in_a_thread(3)
    loop.call_soon(seen.append, 4)
    spin(loop)
    assert seen == [0, 1, 2, 3, 4]


def test_threadsafe_from_many_threads_loses_nothing_and_keeps_each_ones_order(loop):
    seen = [[] for _ in range(8)]
    loop.call_later(30, loop.stop)

    def produce(mine):
        for number in range(2000):
            loop.call_soon_threadsafe(mine.append, number)

    def finish():
        for thread in threads:
            thread.join()
        loop.call_soon_threadsafe(loop.stop)

    threads = [threading.Thread(target=produce, args=(mine,)) for mine in seen]
    last = threading.Thread(target=finish)
    for thread in [*threads, last]:
        thread.start()
    loop.run_forever()
    last.join()
    assert seen == [list(range(2000))] * 8


def test_threadsafe_while_a_callback_runs_beside_a_ready_file(loop, socket_pair):
    """The wake-up comes in a turn that has begun, and must not get lost when that turn looks at its files."""
    left, right = socket_pair
    stops = []

    def stop(who):
        stops.append(who)
        loop.stop()

    def wait_for_a_thread():
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(stop, "thread"))
        thread.start()
        thread.join()

    loop.add_reader(left, lambda: left.recv(10))
    right.send(b"x")
    loop.call_soon(wait_for_a_thread)
    loop.call_later(3, stop, "timer")
    loop.run_forever()
    assert stops == ["thread"]
    loop.remove_reader(left)


def test_threadsafe_callbacks_come_before_a_file_that_became_ready_in_their_turn(loop, socket_pair):
    left, right = socket_pair
    seen = []

    def work():
        loop.add_reader(left, lambda: (left.recv(10), seen.append("reader"), loop.stop()))
        right.send(b"x")
        loop.call_soon(seen.append, "callback")

    thread = threading.Timer(0.05, loop.call_soon_threadsafe, (work,))
    thread.start()
    loop.run_forever()
    thread.join()
    loop.remove_reader(left)
    assert seen == ["callback", "reader"]


def test_threadsafe_runs_in_the_callers_context(loop):
    seen = []

    def other():
        VAR.set("other thread")
        loop.call_soon_threadsafe(lambda: (seen.append((VAR.get(), threading.current_thread())), loop.stop()))

    thread = threading.Thread(target=other)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert seen == [("other thread", threading.main_thread())]


def test_threadsafe_handle_can_be_cancelled_by_the_other_thread(loop):
    seen = []

    def other():
        loop.call_soon_threadsafe(time.sleep, 0.05)
        loop.call_soon_threadsafe(seen.append, "never").cancel()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert seen == []


def test_threadsafe_while_the_loop_closes(loop_factory, no_leaks):
    """It either queues or raises RuntimeError; nothing else, and nobody waits."""
    for _ in range(20):
        loop = loop_factory()
        problems = []
        started = threading.Event()

        def produce(loop=loop, problems=problems, started=started):
            try:
                while True:
                    loop.call_soon_threadsafe(int)
                    started.set()
            except RuntimeError as error:
                if str(error) != "Event loop is closed":
                    problems.append(error)
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=produce)
        thread.start()
        started.wait()
        loop.close()
        thread.join(30)
        assert not thread.is_alive()
        assert problems == []


def test_join_with_a_thread_that_uses_the_loop(loop):
    """A thread may wait for the loop's thread to take its callback (run_coroutine_threadsafe)."""
    results = []

    async def answer():
        await asyncio.sleep(0.01)
        return 42

    def other():
        results.append(asyncio.run_coroutine_threadsafe(answer(), loop).result(30))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    until_sync(lambda: not thread.is_alive())
    assert results == [42]
