# SPDX-License-Identifier: MIT
"""Handles that were given no context: each runs in a copy, of its own, of the one that was current when it was made.

The loops make those copies late and share what is alike (csrc/context_snapshot.h); here nobody may notice.
"""

import asyncio
import contextvars
import gc
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


def test_no_callback_sees_what_another_sets(loop, schedule):
    seen = []

    def callback(number):
        seen.append(VAR.get())
        if number % 3:
            VAR.set(number)
            seen.append(VAR.get())

    token = VAR.set("before")
    for number in range(7):
        schedule(loop, lambda number=number: callback(number))
    VAR.reset(token)
    run_all(loop)
    expected = []
    for number in range(7):
        expected += ["before", number] if number % 3 else ["before"]
    assert seen == expected
    assert VAR.get() == "unset"


def test_each_handle_is_of_the_moment_it_was_made(loop, schedule):
    seen = []
    for value in ["one", "one", "two", "one", "two", "two"]:
        VAR.set(value)
        schedule(loop, lambda: seen.append(VAR.get()))
    VAR.set("later")
    run_all(loop)
    assert seen == ["one", "one", "two", "one", "two", "two"]


def test_no_two_handles_have_one_context(loop, schedule):
    handles = [schedule(loop, lambda: None) for _ in range(4)]
    before = [handle.get_context() for handle in handles[:2]]
    run_all(loop)
    contexts = [handle.get_context() for handle in handles]
    assert contexts[:2] == before
    assert contexts[0] is before[0] and contexts[1] is before[1]
    assert len({id(context) for context in contexts}) == 4
    assert all(handle._context is context for handle, context in zip(handles, contexts))


def test_the_context_that_a_handle_shows_is_the_one_it_runs_in(loop, schedule):
    handles, seen = [], []

    def callback(number):
        VAR.set(number)
        with pytest.raises(RuntimeError, match="already entered"):
            handles[number].get_context().run(int)
        seen.append(handles[number].get_context()[VAR])

    for number in range(4):
        handles.append(schedule(loop, lambda number=number: callback(number)))
    shown_early = handles[0].get_context()
    shown_early.run(VAR.set, "from outside")
    assert handles[1].get_context().get(VAR) != "from outside"
    run_all(loop)
    assert seen == [0, 1, 2, 3]
    assert [handle.get_context()[VAR] for handle in handles] == [0, 1, 2, 3]
    assert shown_early[VAR] == 0


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


def test_values_live_as_long_as_the_handles(loop, schedule):
    def make():
        value = Value()
        token = VAR.set(value)
        handles = [schedule(loop, int) for _ in range(4)]
        VAR.reset(token)
        return weakref.ref(value), handles

    value, handles = make()
    handles[0].cancel()
    del handles[:2]
    run_all(loop)
    gc.collect()
    assert value() is not None
    handles.clear()
    gc.collect()
    assert value() is None


def test_values_die_with_the_last_callback(loop, schedule):
    alive = []

    def make():
        value = Value()
        VAR.set(value)
        for _ in range(3):
            schedule(loop, lambda: None)
        return weakref.ref(value)

    value = contextvars.copy_context().run(make)
    schedule(loop, lambda: alive.append(value() is not None))
    run_all(loop)
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


def test_a_token_is_of_the_callback_that_set_it(loop, schedule):
    """Also when what it set was there before, so that the context looks as if nothing had been set."""
    tokens, errors = [], []

    def callback():
        for token in tokens:
            try:
                VAR.reset(token)
            except ValueError as error:
                errors.append(str(error).split(" was created ")[1])
        tokens[:] = [VAR.set(VAR.get())]

    VAR.set("before")
    for _ in range(3):
        schedule(loop, callback)
    run_all(loop)
    assert errors == ["in a different Context"] * 2


def test_a_shown_context_is_nobody_elses(loop):
    """It is gone when its handle is, before the next one runs."""
    shown, alive = [], []

    def callback():
        alive.append(any(context() is not None for context in shown))
        shown.append(weakref.ref(handles.pop(0).get_context()))

    handles = [loop.call_soon(callback) for _ in range(4)]
    run_all(loop)
    assert alive == [False] * 4


def test_a_cycle_through_a_shared_context_is_collected(loop):
    def make():
        value = Value()
        VAR.set(value)
        value.handles = [loop.call_soon(int) for _ in range(4)]
        for handle in value.handles[1:3]:
            handle.cancel()
        return weakref.ref(value)

    def start():
        loop.call_soon(loop.stop)
        values.append(contextvars.copy_context().run(make))

    values = []
    loop.call_soon(start)
    loop.run_forever()
    gc.collect()
    assert [value() for value in values] == [None]


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
