# SPDX-License-Identifier: MIT
"""Handles that were given no context: each runs in a copy, of its own, of the one that was current when it was made.

The loops make those copies late and share what is alike (csrc/context_snapshot.h); here nobody may notice.
"""

import asyncio
import contextvars
import gc
import sys
import threading
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


class Value:
    """Something that a variable holds, and that can be watched."""


def soon(loop, callback):
    return loop.call_soon(callback)


def later(loop, callback):
    return loop.call_later(0, callback)


def threadsafe(loop, callback):
    return loop.call_soon_threadsafe(callback)


@pytest.fixture(params=[soon, later, threadsafe])
def schedule(request):
    return request.param


@pytest.fixture(autouse=True)
def variable():
    """What a test leaves in VAR is no other test's."""
    token = VAR.set("unset")
    yield
    VAR.reset(token)


def run_all(loop):
    """Run what is scheduled already, and what that schedules with call_soon()."""
    for _ in range(3):
        loop.call_later(0, loop.stop)
        loop.run_forever()


@pytest.fixture(params=["before it runs", "while it runs"])
def run_with(request, loop):
    """Call a function, before the loop runs or in a callback (only there do handles share); run what it schedules."""

    def run_with(start):
        if request.param == "before it runs":
            contextvars.copy_context().run(start)
        else:
            loop.call_soon(start)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()

    return run_with


def test_no_callback_sees_what_another_sets(loop, schedule, run_with):
    seen = []

    def callback(number):
        seen.append(VAR.get())
        if number % 3:
            VAR.set(number)
            seen.append(VAR.get())

    def start():
        token = VAR.set("before")
        for number in range(7):
            schedule(loop, lambda number=number: callback(number))
        VAR.reset(token)

    run_with(start)
    expected = []
    for number in range(7):
        expected += ["before", number] if number % 3 else ["before"]
    assert seen == expected
    assert VAR.get() == "unset"


def test_each_handle_is_of_the_moment_it_was_made(loop, schedule, run_with):
    def start():
        for value in ["one", "one", "two", "one", "two", "two"]:
            VAR.set(value)
            schedule(loop, lambda: seen.append(VAR.get()))
        VAR.set("later")

    seen = []
    run_with(start)
    assert seen == ["one", "one", "two", "one", "two", "two"]


def test_no_two_handles_have_one_context(loop, schedule, run_with):
    def start():
        handles.extend(schedule(loop, lambda: None) for _ in range(4))
        before.extend(handle.get_context() for handle in handles[:2])

    handles, before = [], []
    run_with(start)
    contexts = [handle.get_context() for handle in handles]
    assert contexts[:2] == before
    assert contexts[0] is before[0] and contexts[1] is before[1]
    assert len({id(context) for context in contexts}) == 4
    assert all(handle._context is context for handle, context in zip(handles, contexts))


def test_the_context_that_a_handle_shows_is_the_one_it_runs_in(loop, schedule, run_with):
    handles, seen, shown_early = [], [], []

    def callback(number):
        VAR.set(number)
        with pytest.raises(RuntimeError, match="already entered"):
            handles[number].get_context().run(int)
        seen.append(handles[number].get_context()[VAR])

    def start():
        for number in range(4):
            handles.append(schedule(loop, lambda number=number: callback(number)))
        shown_early.append(handles[0].get_context())
        shown_early[0].run(VAR.set, "from outside")
        assert handles[1].get_context().get(VAR) != "from outside"

    run_with(start)
    assert seen == [0, 1, 2, 3]
    assert [handle.get_context()[VAR] for handle in handles] == [0, 1, 2, 3]
    assert shown_early[0][VAR] == 0


def test_a_context_that_is_entered_already(loop, loop_errors, schedule):
    """The callback does not run, and the handler is told; that of the loop, whose own context is another."""
    entered = contextvars.copy_context()
    ran = []

    def run():
        arguments = (0,) if schedule is later else ()
        method = {soon: "call_soon", later: "call_later", threadsafe: "call_soon_threadsafe"}[schedule]
        getattr(loop, method)(*arguments, ran.append, "wrong", context=entered)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()

    loop.set_exception_handler(None)
    told = []
    loop.default_exception_handler = told.append
    entered.run(run)
    (context,) = told
    assert isinstance(context["exception"], RuntimeError)
    assert str(context["exception"]) == f"cannot enter context: {entered!r} is already entered"
    assert context["message"].startswith("Exception in callback ")
    assert ran == []


def test_a_cancelled_handle_has_its_context_still(loop):
    token = VAR.set("then")
    handles = [loop.call_later(100, int) for _ in range(3)]
    VAR.reset(token)
    for handle in handles:
        handle.cancel()
    assert [handle.get_context()[VAR] for handle in handles] == ["then"] * 3


def test_a_callback_that_runs_handles_itself(loop):
    seen = []

    def inner():
        seen.append(VAR.get())
        VAR.set("inner")

    def outer():
        VAR.set("outer")
        handles = [loop.call_soon(inner) for _ in range(2)]
        handles[0]._run()
        seen.append(VAR.get())
        handles[0].cancel()

    VAR.set("start")
    loop.call_soon(outer)
    loop.call_soon(inner)
    run_all(loop)
    assert seen == ["outer", "outer", "start", "outer"]


def test_other_threads_have_their_own(loop):
    seen = []

    def caller():
        VAR.set("the thread's")
        for _ in range(3):
            loop.call_soon_threadsafe(lambda: seen.append(VAR.get()))

    VAR.set("the loop's")
    loop.call_soon(lambda: seen.append(VAR.get()))
    thread = threading.Thread(target=caller)
    thread.start()
    thread.join()
    loop.call_soon(lambda: seen.append(VAR.get()))
    run_all(loop)
    assert sorted(seen) == ["the loop's"] * 2 + ["the thread's"] * 3


def test_values_live_as_long_as_the_handles(loop, schedule, run_with):
    def start():
        value = Value()
        token = VAR.set(value)
        handles.extend(schedule(loop, int) for _ in range(4))
        VAR.reset(token)
        values.append(weakref.ref(value))
        handles[0].cancel()
        del handles[:2]

    handles, values = [], []
    run_with(start)
    gc.collect()
    assert values[0]() is not None
    handles.clear()
    gc.collect()
    assert values[0]() is None


def test_values_die_with_the_last_callback(loop, schedule, run_with):
    alive = []

    def make():
        value = Value()
        VAR.set(value)
        for _ in range(3):
            schedule(loop, lambda: None)
        return weakref.ref(value)

    def start():
        value = contextvars.copy_context().run(make)
        loop.call_later(0.001, lambda: alive.append(value() is not None))

    run_with(start)
    assert alive == [False]


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "stops"])
def test_no_value_is_kept_by_a_loop_that_waits_or_stops(loop, waits):
    """Also when the last callback has looked at its context."""

    def make():
        value = Value()
        VAR.set(value)
        loop.call_soon(int)
        handles.append(loop.call_soon(lambda: handles.pop().get_context() and None))
        return weakref.ref(value)

    def start():
        if waits:
            loop.call_later(0.01, lambda: alive.append(values[0]() is not None))
            loop.call_later(0.02, loop.stop)
        else:
            loop.call_soon(loop.stop)
        values.append(contextvars.copy_context().run(make))

    alive, handles, values = [], [], []
    loop.call_soon(start)
    loop.run_forever()
    assert (alive, handles, values[0]()) == ([False] if waits else [], [], None)


def test_a_token_is_of_the_callback_that_set_it(loop, schedule, run_with):
    """Also when what it set was there before, so that the context looks as if nothing had been set."""
    tokens, errors = [], []

    def callback():
        for token in tokens:
            try:
                VAR.reset(token)
            except ValueError as error:
                errors.append(str(error).split(" was created ")[1])
        tokens[:] = [VAR.set(VAR.get())]

    def start():
        VAR.set("before")
        for _ in range(3):
            schedule(loop, callback)

    run_with(start)
    assert errors == ["in a different Context"] * 2


def test_a_shown_context_is_nobody_elses(loop, run_with):
    """It is gone when its handle is, before the next one runs."""
    shown, alive = [], []

    def callback():
        alive.append(any(context() is not None for context in shown))
        shown.append(weakref.ref(handles.pop(0).get_context()))

    def start():
        handles.extend(loop.call_soon(callback) for _ in range(4))

    handles = []
    run_with(start)
    assert alive == [False] * 4


def test_a_value_does_not_outlive_its_handles_by_more_than_a_few_turns(loop):
    """In a loop that never waits."""

    def make():
        value = Value()
        VAR.set(value)
        for _ in range(2):
            loop.call_soon(int)
        loop.call_later(100, int).cancel()
        return weakref.ref(value)

    async def main():
        value = contextvars.copy_context().run(make)
        for _ in range(4):
            await asyncio.sleep(0)
        return value()

    assert loop.run_until_complete(main()) is None


# --- garbage that is being collected


shared = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without a GIL nothing is shared, code objects stay, and 3.13t hangs when there is no memory",
)


def when_collected(function):
    """An object that the collector does not know, as most of C's, and that calls when it goes: amid the garbage."""
    code = compile("1", "", "eval")
    assert not gc.is_tracked(code)
    return code, weakref.ref(code, lambda _: function())


@pytest.fixture
def no_collections():
    gc.disable()
    yield
    gc.enable()


@shared
def test_a_callback_scheduled_by_garbage_that_has_a_handle(loop, schedule, no_collections):
    def start():
        VAR.set("the callback's")
        garbage = []
        code, watch = when_collected(lambda: schedule(loop, lambda: seen.append(VAR.get())))
        garbage += [garbage, loop.call_later(100, int), code]
        garbage[1].cancel()
        del garbage, code
        gc.collect()
        assert watch() is None

    seen = []
    loop.call_soon(start)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == ["the callback's"]


@shared
def test_a_context_shown_by_garbage_that_has_a_handle_that_ran(loop, no_collections):
    class Part:
        pass

    def make():
        argument = []
        part = Part()
        part.handle = loop.call_soon(lambda _: None, argument)
        part.code, watch = when_collected(lambda: shown.append(others[0].get_context()))
        argument.append(part)
        return watch

    shown = []
    VAR.set("the callback's")
    watch = make()
    others = [loop.call_later(100, int) for _ in range(2)]
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    gc.collect()
    assert watch() is None
    assert [context.run(VAR.get) for context in shown] == ["the callback's"]


@shared
@pytest.mark.ours("asyncio's own Python may need the memory anywhere in there")
def test_a_context_shown_by_a_collection_for_want_of_memory(loop, loop_errors):
    """The handle runs in the one that it has shown."""
    testcapi = pytest.importorskip("_testcapi", reason="only there can an allocation be made to fail")

    def collecting(phase, info):
        if phase == "start":
            shown.append(handles[0].get_context())

    def start():
        VAR.set("the callback's")
        for failing in range(12):
            handles[:] = [loop.call_soon(VAR.set, failing) for _ in range(2)]
            kept.extend(handles)
            run = handles[0]._run
            testcapi.set_nomemory(failing, failing + 1)
            try:
                run()
            except MemoryError:
                pass
            finally:
                testcapi.remove_mem_hooks()
            if shown and shown[0].get(VAR) == failing:
                times.append(shown[0] is handles[0].get_context())
            elif shown:
                times.append(handles[0].get_context().get(VAR) != failing)
            shown.clear()

    handles, shown, times = [], [], []
    kept = [contextvars.copy_context() for _ in range(600)]  # CPython has some dead ones ready, which need no memory
    gc.callbacks.append(collecting)
    try:
        loop.call_soon(start)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    finally:
        gc.callbacks.remove(collecting)
    assert kept
    assert all(times)
    assert all(isinstance(context["exception"], MemoryError) for context in loop_errors)
    loop_errors.clear()


def test_tasks_started_by_callbacks_inherit(loop):
    seen = []

    async def work():
        seen.append(VAR.get())

    def start(value):
        VAR.set(value)
        tasks.append(loop.create_task(work()))

    async def main():
        for value in ["a", "b", "c"]:
            loop.call_soon(start, value)
        await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    tasks = []
    loop.run_until_complete(main())
    assert seen == ["a", "b", "c"]
