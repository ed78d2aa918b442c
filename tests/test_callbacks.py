# SPDX-License-Identifier: MIT
"""call_soon: order, arguments, contexts, handles, debug mode.  (test_threadsafe.py has the calls of other threads.)"""

import asyncio
import contextvars
import gc
import logging
import socket
import threading
import time
import weakref
from fractions import Fraction

import pytest

from support import until

VAR = contextvars.ContextVar("VAR", default="unset")


def spin(loop):
    """Run what is ready."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_callbacks_run_in_the_order_of_their_registration(loop):
    seen = []
    for number in range(100):
        loop.call_soon(seen.append, number)
    spin(loop)
    assert seen == list(range(100))


def test_callback_registered_by_a_callback_runs_in_the_next_turn(loop):
    seen = []
    loop.call_soon(lambda: (seen.append("first"), loop.call_soon(seen.append, "nested")))
    loop.call_soon(seen.append, "second")
    spin(loop)
    assert seen == ["first", "second"]
    spin(loop)
    assert seen == ["first", "second", "nested"]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 50])
def test_arguments_arrive(loop, count):
    seen = []
    loop.call_soon(lambda *args: seen.append(args), *range(count))
    spin(loop)
    assert seen == [tuple(range(count))]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_long_chain_of_handles_is_dropped(loop, method):
    """Each handle is the only holder of the one before it."""
    handle = None
    for _ in range(200_000):
        handle = getattr(loop, method)(lambda previous: None, handle)
    spin(loop)
    del handle


def test_many_more_callbacks_than_any_first_size(loop):
    left = 20000

    def count_down():
        nonlocal left
        left -= 1

    for _ in range(left):
        loop.call_soon(count_down)
    spin(loop)
    assert left == 0


def test_callable_objects_of_every_kind(loop):
    seen = []

    class Callable:
        def __call__(self, value):
            seen.append(value)

        def method(self, value):
            seen.append(value)

    loop.call_soon(Callable(), 1)
    loop.call_soon(Callable().method, 2)
    loop.call_soon(seen.append, 3)
    loop.call_soon(lambda *, value=4: seen.append(value))
    spin(loop)
    assert seen == [1, 2, 3, 4]


def test_what_a_callback_sets_in_its_context_stays_there(loop):
    token = VAR.set("mine")
    loop.call_soon(VAR.set, "changed inside")
    spin(loop)
    assert VAR.get() == "mine"
    VAR.reset(token)


def test_context_is_copied_when_the_handle_is_made(loop):
    token = VAR.set("then")
    seen = []
    loop.call_soon(lambda: seen.append(VAR.get()))
    VAR.reset(token)
    spin(loop)
    assert seen == ["then"]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_runs_in_the_given_context(loop, method):
    context = contextvars.copy_context()
    context.run(VAR.set, "given")
    seen = []
    getattr(loop, method)(lambda: (seen.append(VAR.get()), VAR.set("kept")), context=context)
    spin(loop)
    assert seen == ["given"]
    assert context[VAR] == "kept"


def test_handle_gives_its_context(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(int, context=context).get_context() is context
    assert isinstance(loop.call_soon(int).get_context(), contextvars.Context)


def test_cancelled_callback_does_not_run(loop):
    seen = []
    handle = loop.call_soon(seen.append, "never")
    loop.call_soon(seen.append, "runs")
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    handle.cancel()
    spin(loop)
    assert seen == ["runs"]


def test_callback_cancels_a_later_one_of_the_same_turn(loop):
    seen = []
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(seen.append, "never"))
    spin(loop)
    assert seen == []


def test_cancel_frees_the_callback_at_once(loop):
    class Argument:
        pass

    argument = Argument()
    seen = weakref.ref(argument)
    handle = loop.call_soon(lambda _: None, argument)
    del argument
    assert seen() is not None
    handle.cancel()
    assert seen() is None


def test_what_ran_is_freed(loop):
    class Argument:
        pass

    argument = Argument()
    seen = weakref.ref(argument)
    loop.call_soon(lambda _: None, argument)
    del argument
    spin(loop)
    assert seen() is None


def test_handle_is_asyncios(loop):
    handle = loop.call_soon(int)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert weakref.ref(handle)() is handle


def test_handle_repr(loop):
    handle = loop.call_soon(print, 1, "two")
    asyncios = asyncio.Handle(print, (1, "two"), loop)
    assert repr(handle) == repr(asyncios)
    assert "Handle print(" in repr(handle)
    handle.cancel()
    asyncios.cancel()
    assert repr(handle) == repr(asyncios)
    assert "cancelled" in repr(handle)


def test_handle_repr_in_debug_mode_names_its_origin(loop):
    loop.set_debug(True)
    handle = loop.call_soon(spin, 1)
    assert "spin(1)" in repr(handle)
    assert f"created at {__file__}:" in repr(handle)
    handle.cancel()
    assert repr(handle).startswith("<Handle cancelled spin(1)")


def test_debug_repr_of_a_lambda_names_its_line(loop):
    loop.set_debug(True)
    handle = loop.call_soon(lambda: None)
    assert f"at {__file__}:" in repr(handle)


def test_exception_reaches_the_handler_and_the_rest_runs(loop, loop_errors):
    error = ZeroDivisionError("on purpose")
    seen = []

    def fail():
        raise error

    handle = loop.call_soon(fail)
    loop.call_soon(seen.append, "rest")
    spin(loop)
    context = loop_errors.pop()
    assert context["exception"] is error
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback ")
    assert "fail()" in context["message"]
    assert "source_traceback" not in context
    assert seen == ["rest"]


def test_exception_in_debug_mode_tells_where_it_was_registered(loop, loop_errors):
    loop.set_debug(True)
    loop.call_soon(lambda: 1 / 0)
    spin(loop)
    [context] = loop_errors
    loop_errors.clear()
    assert any(frame.filename == __file__ for frame in context["source_traceback"])


def test_call_soon_of_no_callable(loop):
    loop.set_debug(True)
    for method in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(TypeError, match="a callable object was expected by call_soon"):
            method("text")


def test_call_soon_of_a_coroutine(loop):
    loop.set_debug(True)

    async def coroutine():
        pass

    with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon\(\)"):
        loop.call_soon(coroutine)
    made = coroutine()
    with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon\(\)"):
        loop.call_soon(made)
    made.close()


MISSING = "missing 1 required positional argument: "
MISSING_TWO = "missing 2 required positional arguments: "


@pytest.mark.parametrize(
    "method, arguments, options, message",
    [
        ("call_soon", (), {}, f"{MISSING}'callback'"),
        ("call_soon", (int,), {"unknown": 1}, "got an unexpected keyword argument 'unknown'"),
        ("call_soon", (int,), {"callback": int}, "got multiple values for argument 'callback'"),
        ("call_soon_threadsafe", (), {}, f"{MISSING}'callback'"),
        ("call_soon_threadsafe", (int,), {"unknown": 1}, "got an unexpected keyword argument 'unknown'"),
        ("call_later", (), {}, f"{MISSING_TWO}'delay' and 'callback'"),
        ("call_later", (1,), {}, f"{MISSING}'callback'"),
        ("call_later", (), {"callback": int}, f"{MISSING}'delay'"),
        ("call_later", (1,), {"delay": 1, "callback": int}, "got multiple values for argument 'delay'"),
        ("call_at", (), {}, f"{MISSING_TWO}'when' and 'callback'"),
        ("call_at", (), {"when": 1}, f"{MISSING}'callback'"),
        ("call_at", (1, int), {"when": 1}, "got multiple values for argument 'when'"),
        ("call_at", (1, int), {"delay": 1}, "got an unexpected keyword argument 'delay'"),
    ],
)
def test_arguments_that_are_missing_or_unknown(loop, method, arguments, options, message):
    with pytest.raises(TypeError) as raised:
        getattr(loop, method)(*arguments, **options)
    assert str(raised.value) == f"BaseEventLoop.{method}() {message}"


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_closed_loop_takes_no_callbacks(loop_factory, method, no_leaks):
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, method)(int)


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_debug_mode_refuses_another_thread(loop, method):
    loop.set_debug(True)
    arguments = (int,) if method == "call_soon" else (0, int)
    raised = []

    def other():
        try:
            getattr(loop, method)(*arguments)
        except RuntimeError as error:
            raised.append(str(error))

    def start():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    loop.call_soon(start)
    spin(loop)
    assert raised == ["Non-thread-safe operation invoked on an event loop other than the current one"]


def test_debug_mode_logs_slow_callbacks(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.05
    loop.call_soon(time.sleep, 0.1)
    with caplog.at_level(logging.WARNING, "asyncio"):
        spin(loop)
    [record] = [record for record in caplog.records if "took" in record.getMessage()]
    message = record.getMessage()
    assert message.startswith("Executing <Handle") and "sleep(0.1)" in message
    assert message.endswith(" seconds")


def test_debug_mode_logs_the_task_of_a_slow_step(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.05

    async def slow():
        time.sleep(0.1)

    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(slow())
    assert any(
        "Executing <Task" in record.getMessage() and "slow()" in record.getMessage() for record in caplog.records
    )


async def test_debug_mode_logs_a_slow_protocol(loop, caplog):
    class Slow(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0.1)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.05
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(Slow, sock=ours)
        theirs.send(b"x")
        await until(lambda: any("Executing" in record.getMessage() for record in caplog.records))
        transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize("limit", ["much", None])
def test_a_limit_for_slow_callbacks_that_is_no_number(loop, limit):
    loop.set_debug(True)
    loop.call_soon(int)
    loop.call_soon(loop.stop)
    loop.slow_callback_duration = limit
    with pytest.raises(TypeError, match="'>=' not supported between instances of 'float' and"):
        loop.run_forever()
    loop.slow_callback_duration = Fraction(1, 10)
    spin(loop)


class NoRepr:
    """A callback whose repr() fails."""

    def __call__(self):
        pass

    def __repr__(self):
        raise ZeroDivisionError("no repr")


def test_a_slow_callback_that_can_not_be_shown(loop):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    seen = []
    loop.call_soon(NoRepr())
    loop.call_soon(seen.append, "next")
    loop.call_soon(loop.stop)
    with pytest.raises(ZeroDivisionError, match="no repr"):
        loop.run_forever()
    loop.slow_callback_duration = 10
    spin(loop)
    assert seen == ["next"]


@pytest.mark.parametrize("method, arguments", [("call_soon", ()), ("call_later", (100,))])
def test_a_cancelled_callback_that_can_not_be_shown(loop, method, arguments):
    loop.set_debug(True)
    handle = getattr(loop, method)(*arguments, NoRepr())
    with pytest.raises(ZeroDivisionError, match="no repr"):
        handle.cancel()
    assert handle.cancelled()
    handle.cancel()


def test_without_debug_mode_slow_callbacks_are_not_logged(loop, caplog):
    loop.set_debug(False)
    loop.slow_callback_duration = 0.0
    loop.call_soon(time.sleep, 0.01)
    spin(loop)
    assert caplog.records == []


def test_set_debug_and_get_debug(loop):
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_callbacks_left_at_close_are_freed(loop_factory, no_leaks):
    class Argument:
        pass

    loop = loop_factory()
    argument = Argument()
    seen = weakref.ref(argument)
    loop.call_soon(lambda _: None, argument)
    loop.call_later(100, lambda _: None, argument)
    loop.call_soon_threadsafe(lambda _: None, argument)
    del argument
    loop.close()
    gc.collect()
    assert seen() is None


def test_handle_outlives_its_loop(loop_factory, no_leaks):
    loop = loop_factory()
    handle, timer = loop.call_soon(print), loop.call_later(1, print)
    loop.close()
    del loop
    gc.collect()
    handle.cancel()
    timer.cancel()
    assert handle.cancelled() and timer.cancelled()
    assert repr(handle) and repr(timer)


async def test_busy_callbacks_do_not_starve_io(loop):
    """A callback that registers itself for ever leaves room for sockets, timers and other threads."""
    going = True

    def again():
        if going:
            loop.call_soon(again)

    again()
    fired = []
    loop.call_later(0.01, fired.append, "timer")
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(fired.append, "thread"))
    thread.start()
    await until(lambda: len(fired) == 2)
    going = False
    thread.join()


def test_arguments_by_keyword(loop):
    ran = []

    def last():
        ran.append("last")
        loop.stop()

    loop.call_soon(callback=lambda: ran.append("soon"))
    loop.call_soon(callback=lambda: ran.append("in no context"), context=None)
    loop.call_soon_threadsafe(callback=lambda: ran.append("from a thread"))
    loop.call_at(when=loop.time() - 1, callback=lambda: ran.append("at"), context=None)
    loop.call_later(delay=0, callback=last)
    loop.run_forever()
    assert ran == ["soon", "in no context", "from a thread", "at", "last"]
    for wrong in [
        lambda: loop.call_soon(last, callback=last),
        lambda: loop.call_soon(),
        lambda: loop.call_soon(last, other=1),
        lambda: loop.call_later(1, delay=1, callback=last),
        lambda: loop.call_later(1),
        lambda: loop.call_at(callback=last),
    ]:
        with pytest.raises(TypeError):
            wrong()
