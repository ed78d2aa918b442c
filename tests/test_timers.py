# SPDX-License-Identifier: MIT
"""call_later and call_at: order, precision, extreme delays, cancelling, TimerHandle."""

import asyncio
import contextvars
import fractions
import gc
import itertools
import math
import random
import sys
import time
import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import within


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    assert isinstance(now, float)
    assert before <= now <= time.monotonic()


def test_time_is_not_cached_within_a_turn(loop):
    seen = []

    def callback():
        seen.append(loop.time())
        time.sleep(0.02)
        seen.append(loop.time())
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    assert seen[1] - seen[0] >= 0.02


def test_timers_run_in_the_order_of_their_deadlines(loop):
    seen = []
    start = loop.time()
    for delay in (0.03, 0.01, 0.04, 0.0, 0.02):
        loop.call_at(start + delay, seen.append, delay)
    loop.call_at(start + 0.05, loop.stop)
    loop.run_forever()
    assert seen == [0.0, 0.01, 0.02, 0.03, 0.04]


def test_the_second_timer_of_a_deadline_runs_second(loop):
    seen = []
    deadline = loop.time() + 0.01
    loop.call_at(deadline, seen.append, 1)
    loop.call_at(deadline, seen.append, 2)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert seen == [1, 2]


@pytest.mark.ours("asyncio's heap keeps no order among more than two timers of one deadline")
def test_timers_of_one_deadline_run_in_the_order_of_their_registration(loop):
    seen = []
    deadline = loop.time() + 0.02
    for number in range(1000):
        loop.call_at(deadline, seen.append, number)
    loop.call_at(deadline, loop.stop)
    loop.run_forever()
    assert seen == list(range(1000))


@pytest.mark.parametrize("delay", [0.0003, 0.001, 0.0017, 0.01, 0.0999])
async def test_sleep_is_never_early(loop, delay):
    for _ in range(5):
        before = time.monotonic()
        await asyncio.sleep(delay)
        # asyncio allows itself one resolution of the clock.
        assert time.monotonic() - before >= delay - time.get_clock_info("monotonic").resolution


async def test_many_sleeps_at_once(loop):
    delays = [random.random() * 0.1 for _ in range(2000)]
    woken = []

    async def sleep(delay):
        before = loop.time()
        await asyncio.sleep(delay)
        woken.append(loop.time() - before >= delay - 1e-6)

    await asyncio.gather(*map(sleep, delays))
    assert woken == [True] * len(delays)


@pytest.mark.parametrize("delay", [0, -1, -1e300, 0.0, False])
def test_past_deadlines_run_at_once(loop, delay):
    loop.call_later(delay, loop.stop)
    loop.run_forever()


def test_minus_infinity_runs_at_once(loop):
    loop.call_at(-math.inf, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("delay", [math.inf, 1e300, sys.float_info.max, 1e18, 2**63, 1e10])
def test_far_deadlines_are_accepted_and_do_not_run(loop, delay):
    seen = []
    far = loop.call_later(delay, seen.append, "far")
    loop.call_later(0.01, seen.append, "near")
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == ["near"]
    assert far.when() >= delay
    assert not far.cancelled()
    far.cancel()


async def test_sleep_for_ever_can_be_cancelled(loop):
    task = asyncio.create_task(asyncio.sleep(math.inf))
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_loop_that_only_waits_for_ever_can_be_woken(loop):
    loop.call_at(math.inf, loop.stop)
    loop.run_in_executor(None, lambda: (time.sleep(0.05), loop.call_soon_threadsafe(loop.stop)))
    loop.run_forever()


@pytest.mark.ours("asyncio passes nan to the selector, which refuses it and ends run_forever")
def test_nan_does_not_break_the_loop(loop):
    seen = []
    try:
        timer = loop.call_later(math.nan, seen.append, "nan")
    except ValueError:
        pass
    else:
        assert math.isnan(timer.when())
    loop.call_later(0.01, seen.append, "timer")
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert "timer" in seen


def test_integer_deadlines(loop):
    deadline = int(loop.time()) - 1
    timer = loop.call_at(deadline, loop.stop)
    assert timer.when() == deadline
    loop.run_forever()


class Int(int):
    def __radd__(self, now):
        return int(now) + 1000


class Float(float):
    def __radd__(self, now):
        return float(int(now) + 1000)


@pytest.mark.parametrize("delay", [1000, True, Int(1000), Float(1000.0), fractions.Fraction(1000), -5])
def test_the_deadline_is_the_time_and_the_delay_added(loop, delay):
    before = loop.time() + delay
    timer = loop.call_later(delay, int)
    assert before <= timer.when() <= loop.time() + delay
    timer.cancel()


def test_an_integer_too_large_is_no_delay(loop):
    for _ in range(2):
        with pytest.raises(OverflowError) as error:
            loop.call_later(10**400, int)
        assert str(error.value) == "int too large to convert to float"
        loop.close()  # whether it is closed is asked later


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_none_is_no_time(loop, method):
    with pytest.raises(TypeError, match="None"):
        getattr(loop, method)(None, int)


def test_text_is_no_delay(loop):
    with pytest.raises(TypeError):
        loop.call_later("soon", int)


@pytest.mark.ours("asyncio finds out only when it compares it with another deadline, and keeps it")
def test_text_is_no_deadline(loop):
    with pytest.raises(TypeError):
        loop.call_at("soon", int)


def test_call_later_of_no_callable(loop):
    loop.set_debug(True)
    with pytest.raises(TypeError, match="a callable object was expected by call_at"):
        loop.call_at(loop.time(), "text")
    with pytest.raises(TypeError, match="a callable object was expected by call_"):
        loop.call_later(0, None)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_closed_loop_takes_no_timers(loop_factory, method, no_leaks):
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, method)(1, int)


def test_when_gives_the_float_that_was_given(loop):
    deadline = loop.time() + 0.123456789
    assert loop.call_at(deadline, int).when() == deadline
    assert loop.call_at(math.inf, int).when() == math.inf
    before = loop.time()
    timer = loop.call_later(5, int)
    assert before + 5 <= timer.when() <= loop.time() + 5


def test_timer_handle_is_asyncios(loop):
    timer = loop.call_later(1, int)
    assert isinstance(timer, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.Handle)
    assert weakref.ref(timer)() is timer


def test_timer_handle_repr(loop):
    timer = loop.call_at(123456789.5, print, "x")
    asyncios = asyncio.TimerHandle(123456789.5, print, ("x",), loop)
    assert repr(timer) == repr(asyncios)
    assert "TimerHandle when=123456789.5 print(" in repr(timer)
    timer.cancel()
    asyncios.cancel()
    assert repr(timer) == repr(asyncios)


def test_timer_handles_compare_by_their_deadline(loop):
    early, late = loop.call_at(1, int), loop.call_at(2, int)
    assert early < late and early <= late and late > early and late >= early
    assert not early > late and not late <= early
    assert early != late
    assert early == early and early <= early and early >= early
    same, too = loop.call_at(5, int, 1), loop.call_at(5, int, 1)
    assert same == too
    assert hash(same) == hash(too)
    with pytest.raises(TypeError):
        early < 5  # noqa: B015


def test_timer_runs_in_the_given_context(loop):
    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    seen = []
    loop.call_later(0, lambda: seen.append(variable.get()), context=context)
    loop.call_at(0, lambda: seen.append(variable.get(None)))
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert sorted(seen, key=str) == [None, "given"]


def test_cancelled_timer_does_not_run(loop):
    seen = []
    timer = loop.call_later(0.01, seen.append, "never")
    timer.cancel()
    timer.cancel()
    assert timer.cancelled()
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    assert seen == []


def test_cancel_after_it_ran(loop):
    timer = loop.call_later(0, loop.stop)
    loop.run_forever()
    assert not timer.cancelled()
    timer.cancel()
    assert timer.cancelled()


def test_a_timer_cancels_the_next_of_the_same_turn(loop):
    seen = []
    timers = []
    deadline = loop.time() + 0.01
    timers.append(loop.call_at(deadline, lambda: timers[1].cancel()))
    timers.append(loop.call_at(deadline + 1e-7, seen.append, "never"))
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    assert seen == []


def test_cancel_frees_what_the_timer_held(loop):
    class Argument:
        pass

    argument = Argument()
    seen = weakref.ref(argument)
    timer = loop.call_later(1000, lambda _: None, argument)
    del argument
    timer.cancel()
    assert seen() is None


def test_many_cancelled_timers_do_not_pile_up(loop):
    """A server makes and cancels a timer for each request: their handles must go, long before their deadline."""
    kept = []
    for _ in range(200):
        timers = [loop.call_later(3600 + random.random(), int) for _ in range(200)]
        kept += [weakref.ref(timer) for timer in timers[:5]]
        for timer in timers:
            timer.cancel()
        del timers, timer
        loop.call_soon(loop.stop)
        loop.run_forever()
    gc.collect()
    assert sum(ref() is not None for ref in kept) < len(kept) / 2


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.integers(0, 60)), max_size=60))
def test_any_mix_of_timers_and_cancels_runs_as_it_must(loop, plan):
    """Each timer may be cancelled at once, or by another one that runs before it."""
    start = loop.time() + 0.001
    seen, timers = [], []

    def fire(number, victim):
        seen.append(number)
        if victim < len(timers):
            timers[victim].cancel()

    for number, (tick, is_cancelled, victim) in enumerate(plan):
        timers.append(loop.call_at(start + tick * 1e-5, fire, number, victim))
        if is_cancelled:
            timers[-1].cancel()
    loop.call_at(start + 60e-5, loop.stop)
    loop.run_forever()

    by_time = sorted(seen, key=lambda number: plan[number][0])
    assert [plan[number][0] for number in seen] == [plan[number][0] for number in by_time]
    gone = {number for number, (_, is_cancelled, _) in enumerate(plan) if is_cancelled}
    for place, number in enumerate(seen):
        assert number not in gone
        gone.add(number)
        victim = plan[number][2]
        if victim < len(plan) and victim not in seen[:place]:
            gone.add(victim)
    assert gone == set(range(len(plan)))


def test_timer_made_by_a_timer(loop):
    seen = []

    def again():
        seen.append(loop.time())
        if len(seen) < 50:
            loop.call_later(0.0005, again)
        else:
            loop.stop()

    loop.call_later(0, again)
    loop.run_forever()
    assert all(later - earlier >= 0.0005 - 1e-6 for earlier, later in itertools.pairwise(seen))


def test_zero_timers_do_not_starve_callbacks(loop):
    seen = []

    def again():
        if not seen:
            loop.call_later(0, again)

    loop.call_later(0, again)
    loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(seen.append, 1)))
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_an_idle_wait_costs_no_cpu(loop):
    loop.call_later(0.3, loop.stop)
    before = time.process_time()
    loop.run_forever()
    assert time.process_time() - before < 0.15


def test_timeouts_of_asyncio(run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        assert await within(asyncio.sleep(0.001, "result"), 10) == "result"

    run(main())


@pytest.mark.parametrize("interrupting", ["handle", "timer"])
def test_an_interrupt_keeps_the_order(loop_factory, interrupting):
    """Timers that were due in a turn that was left early come before what was queued in that turn."""
    loop = loop_factory()
    ran = []

    def interrupt():
        loop.call_soon(ran.append, "queued since")
        raise KeyboardInterrupt

    due = loop.time()
    if interrupting == "handle":
        loop.call_soon(interrupt)
    loop.call_soon(ran.append, "queued before")
    loop.call_at(due, ran.append, "due first")
    if interrupting == "timer":
        loop.call_at(due + 1e-6, interrupt)
    loop.call_at(due + 2e-6, ran.append, "due last")
    time.sleep(0.001)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert ran == ["queued before", "due first", "due last", "queued since"]
