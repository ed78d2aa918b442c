# SPDX-License-Identifier: MIT
"""run_forever, run_until_complete, stop and close; tasks, executors, async generators; the life of a loop."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import time
import warnings
import weakref

import pytest

from support import run_program, turns, within


def test_states(loop):
    assert not loop.is_running() and not loop.is_closed()
    seen = []
    loop.call_soon(lambda: (seen.append(loop.is_running()), loop.stop()))
    loop.run_forever()
    assert seen == [True]
    assert not loop.is_running()
    loop.close()
    assert loop.is_closed()
    loop.close()


def test_repr(loop):
    assert repr(loop).endswith(" running=False closed=False debug=False>")
    loop.set_debug(True)
    loop.close()
    assert repr(loop).endswith(" running=False closed=True debug=True>")


def test_it_is_an_asyncio_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)


def test_run_until_complete_returns_the_result(loop, run):
    async def answer():
        return 42

    assert loop.run_until_complete(answer()) == 42
    future = loop.create_future()
    loop.call_soon(future.set_result, "done")
    assert loop.run_until_complete(future) == "done"
    task = loop.create_task(answer())
    assert loop.run_until_complete(task) == 42
    assert loop.run_until_complete(task) == 42


def test_run_until_complete_raises_what_the_coroutine_raises(loop):
    error = LookupError("on purpose")

    async def fail():
        raise error

    with pytest.raises(LookupError) as caught:
        loop.run_until_complete(fail())
    assert caught.value is error


def test_run_until_complete_of_something_else(loop):
    with pytest.raises(TypeError, match="coroutine or an awaitable is required|An asyncio.Future"):
        loop.run_until_complete(42)


def test_run_until_complete_of_another_loops_future(loop, loop_factory):
    other = loop_factory()
    future = other.create_future()
    with pytest.raises(ValueError, match="different loop|loop argument must agree"):
        loop.run_until_complete(future)
    other.close()


def test_stop_before_the_future_is_done(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="^Event loop stopped before Future completed.$"):
        loop.run_until_complete(future)


def test_stop_before_the_run_makes_one_turn(loop):
    seen = []
    loop.call_soon(seen.append, "ready before")
    loop.stop()
    loop.run_forever()
    assert seen == ["ready before"]
    loop.call_soon(seen.append, "next run")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["ready before", "next run"]


def test_stop_lets_the_turn_end(loop):
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same turn")
    loop.call_soon(lambda: loop.call_soon(seen.append, "next turn"))
    loop.run_forever()
    assert seen == ["same turn"]
    loop.stop()
    loop.run_forever()
    assert seen == ["same turn", "next turn"]


def test_nested_run_until_complete_is_refused(loop):
    async def nest():
        coroutine = turns()
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_until_complete(coroutine)
        coroutine.close()
        await turns()

    loop.run_until_complete(nest())


@pytest.mark.ours("a nested run_forever makes the loop of 3.13.0 forget that it runs")
def test_nested_run_forever_is_refused(loop):
    async def nest():
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_forever()
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()
        await asyncio.sleep(0.001)

    loop.run_until_complete(nest())


@pytest.mark.ours("as above")
def test_another_loop_cannot_run_inside(loop, loop_factory):
    other = loop_factory()

    async def nest():
        with pytest.raises(RuntimeError, match="^Cannot run the event loop while another loop is running$"):
            other.run_forever()
        assert asyncio.get_running_loop() is loop
        assert not other.is_running()

    loop.run_until_complete(nest())
    other.close()


def test_close_of_a_running_loop_is_refused(loop):
    async def close():
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(close())
    assert not loop.is_closed()


def test_closed_loop_does_not_run(loop_factory, no_leaks):
    loop = loop_factory()
    loop.close()
    coroutine = turns()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_until_complete(coroutine)
    coroutine.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_in_executor(None, int)
    loop.stop()


def test_running_loop_is_the_current_one(loop, run):
    async def main():
        assert asyncio.get_running_loop() is loop
        assert asyncio.get_event_loop() is loop

    run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_executors(loop, run):
    async def main():
        assert await loop.run_in_executor(None, threading.current_thread) is not threading.main_thread()
        assert await asyncio.to_thread(sum, [1, 2, 3]) == 6
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)

    run(main())


def test_executor_jobs_get_their_turn_beside_a_saturated_loop(loop, socket_pair):
    """Readable sockets and ready callbacks all the time: still a thread that computes must come to its end."""
    left, right = socket_pair
    right.send(b"never read")
    loop.add_reader(left, int)
    going = True

    def again():
        if going:
            loop.call_soon(again)

    again()
    assert loop.run_until_complete(within(loop.run_in_executor(None, lambda: sum(range(2_000_000))))) > 0
    going = False
    loop.remove_reader(left)


def test_shutdown_default_executor(loop, run):
    run(loop.run_in_executor(None, int))
    run(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, int)


def test_async_generators_are_finalized_by_the_loop(loop, run):
    seen = []

    async def numbers():
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            seen.append("finalized")

    async def leave():
        async for _ in numbers():
            break

    async def main():
        await leave()
        gc.collect()
        await turns()

    run(main())
    assert seen == ["finalized"]


def test_shutdown_asyncgens_closes_what_is_open(loop, run):
    seen = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            seen.append("closed")

    async def main():
        generator = numbers()
        await anext(generator)
        return generator

    generator = run(main())
    run(loop.shutdown_asyncgens())
    assert seen == ["closed"]
    del generator


def test_asyncgen_hooks_are_restored(loop, run):
    before = sys.get_asyncgen_hooks()
    run(turns())
    assert sys.get_asyncgen_hooks() == before


def test_task_factory(loop, run):
    made = []

    def factory(loop, coroutine, **kwargs):
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    run(turns())
    assert made
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory("text")
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_eager_tasks(loop, run):
    seen = []

    async def step(name):
        seen.append(name)

    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(step("eager"))
        assert seen == ["eager"] and task.done()
        await task

    run(main())
    loop.set_task_factory(None)


def test_create_task_takes_a_name_and_a_context(loop, run):
    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def read():
        return variable.get()

    async def main():
        task = loop.create_task(read(), name="a name", context=context)
        assert task.get_name() == "a name"
        assert type(task) is asyncio.Task
        return await task

    assert run(main()) == "given"
    assert type(loop.create_future()) is asyncio.Future
    assert loop.create_future().get_loop() is loop


def test_futures_of_a_running_loop(loop):
    class Future(asyncio.Future):
        pass

    async def main():
        assert type(loop.create_future()) is asyncio.Future
        assert loop.create_future().get_loop() is loop
        assert (await asyncio.to_thread(loop.create_future)).get_loop() is loop
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.futures, "Future", Future)
            assert type(loop.create_future()) is Future
            assert loop.create_future().get_loop() is loop

    loop.run_until_complete(main())


@pytest.mark.parametrize("way_out", [None, KeyboardInterrupt])
def test_a_closed_loop_that_has_run_goes_away_at_once(loop_factory, way_out):
    def leave():
        if way_out is not None:
            raise way_out

    loop = loop_factory()
    gone = weakref.ref(loop)
    loop.call_soon(loop.create_future)
    loop.call_soon(leave)
    loop.call_soon(loop.stop)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            loop.run_forever()
        loop.close()
        del loop
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.ours  # asyncio has one
def test_selector_is_missing_with_a_reason(loop):
    assert not hasattr(loop, "no_such_attribute") and not hasattr(loop, "_selector")
    with pytest.raises(AttributeError, match=r"has no attribute '_selector': .*nest_asyncio"):
        _ = loop._selector
    loop._selector = None
    assert loop._selector is None


def test_one_loop_per_thread(loop_factory, no_leaks):
    results = []

    def work(number):
        async def main():
            await asyncio.sleep(0.01)
            return number, threading.current_thread()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            results.append(runner.run(within(main())))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(number for number, _ in results) == list(range(6))
    assert {thread for _, thread in results} == set(threads)


def test_a_loop_moves_to_another_thread(loop):
    loop.run_until_complete(asyncio.sleep(0.001))
    results = []
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(asyncio.sleep(0.001, "there"))))
    thread.start()
    thread.join(30)
    assert results == ["there"]
    assert loop.run_until_complete(asyncio.sleep(0.001, "back")) == "back"


def test_unclosed_loop_is_collected_and_warns(loop_factory, no_leaks):
    loop = loop_factory()
    loop.call_soon(loop.stop)
    loop.call_later(100, loop.stop)
    loop.run_forever()
    gone = weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop <.*running=False closed=False"):
        del loop
        gc.collect()
    assert gone() is None


def test_closed_loop_is_collected_in_silence(loop_factory, no_leaks):
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    gone = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del loop
        gc.collect()
    assert gone() is None


def test_runner_interrupts_nothing_when_all_is_well(loop_factory, no_leaks):
    with asyncio.Runner(loop_factory=loop_factory, debug=True) as runner:
        assert runner.run(asyncio.sleep(0.001, "first")) == "first"
        assert runner.get_loop().get_debug()
        assert runner.run(asyncio.sleep(0.001, "second")) == "second"


def test_tasks_left_at_the_end_are_cancelled_by_the_runner(loop_factory, no_leaks):
    seen = []

    async def left():
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("cancelled")

    async def main():
        seen.append(asyncio.create_task(left()))
        await turns()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert seen[1:] == ["cancelled"]


def test_pending_task_at_close_is_reported(loop_spec):
    out, err = run_program(
        loop_spec,
        """
loop = new_loop()
task = loop.create_task(asyncio.sleep(100))
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
del task
gc.collect()
""",
        check_stderr=False,
    )
    assert "Task was destroyed but it is pending!" in err
    assert "Traceback" not in err


def test_interpreter_exit_with_an_open_loop_is_quiet(loop_spec):
    """Whatever is left at exit, the interpreter comes down without a crash."""
    out, err = run_program(
        loop_spec,
        """
warnings.simplefilter("ignore", ResourceWarning)
loop = new_loop()
async def main():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    streams = await asyncio.open_connection(*server.sockets[0].getsockname())
    await asyncio.sleep(0.05)
    return server, streams
kept = loop.run_until_complete(main())
loop.call_later(100, print)
print("end")
""",
        check_stderr=False,
    )
    assert out == "end\n"
    assert "Fatal" not in err


def test_wait_for_a_long_time_ends_with_a_stop_from_a_thread(loop):
    threading.Timer(0.05, loop.call_soon_threadsafe, (loop.stop,)).start()
    loop.call_later(1000, int)
    before = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - before < 20


def test_the_thread_that_runs_the_loop_is_known(loop):
    """Debuggers, and programs that run a loop nested, look here."""
    assert loop._thread_id is None

    async def look():
        return loop._thread_id

    assert loop.run_until_complete(look()) == threading.get_ident()
    assert loop._thread_id is None


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)], ids=str)
def test_without_standard_streams(loop_spec, tmp_path, closed):
    """A daemon may have closed them: their numbers go to other files, which work like any."""
    result = tmp_path / "result"
    run_program(
        loop_spec,
        f"""
for fd in {closed}:
    os.close(fd)
left, right = socket.socketpair()
assert left.fileno() == 0
loop = new_loop()
loop.set_exception_handler(lambda loop, context: told.append(str(context)))
told = []
ends = []

async def serve(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.write(b"end")
    writer.close()
    await writer.wait_closed()

async def main():
    server = asyncio.create_task(serve(*await asyncio.open_connection(sock=left)))
    reader, writer = await asyncio.open_connection(sock=right)
    for number in range(100):
        writer.write(b"%d " % number)
        await writer.drain()
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    await server
    loop.run_in_executor(None, loop.call_soon_threadsafe, ends.append, "thread")
    await until(lambda: ends)
    await loop.shutdown_default_executor()
    return answer == b"".join(b"%d " % number for number in range(100)) + b"end"

is_right = loop.run_until_complete(main())
loop.close()
left_open = [fd for fd in {closed} if fd in open_fds()]
with open({str(result)!r}, "w") as file:
    print(is_right, left_open, told, file=file)
end_process()
""",
    )
    assert result.read_text() == "True [] []\n"
