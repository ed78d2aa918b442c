# SPDX-License-Identifier: MIT
"""Handles and timer handles as objects: what they keep alive, and that a kept one is never used for something else."""

import asyncio
import gc
import weakref

import pytest


class Weak:
    def __call__(self, *args):
        pass


def test_a_kept_handle_stays_what_it_was(loop):
    calls = []
    kept = [loop.call_soon(calls.append, i) for i in range(50)]
    loop.run_until_complete(asyncio.sleep(0))
    for i in range(50):
        loop.call_soon(calls.append, 100 + i)
    loop.run_until_complete(asyncio.sleep(0))
    assert [handle._args for handle in kept] == [(i,) for i in range(50)]
    assert not any(handle.cancelled() for handle in kept)


def test_new_handles_do_not_inherit_from_dead_ones(loop):
    for _ in range(10):
        loop.call_soon(print, 1, 2, 3, 4).cancel()
        loop.call_later(1000, print, 1, 2).cancel()
    loop.run_until_complete(asyncio.sleep(0))
    handle, timer = loop.call_soon(int), loop.call_later(1000, int)
    for fresh in (handle, timer):
        assert not fresh.cancelled()
        assert fresh._args == ()
        assert fresh._callback is int
        assert weakref.getweakrefcount(fresh) == 0
    timer.cancel()
    assert timer.cancelled() and not handle.cancelled()


def test_weak_references_end_with_the_handle(loop):
    handle = loop.call_soon(int)
    died = []
    ref = weakref.ref(handle, died.append)
    loop.run_until_complete(asyncio.sleep(0))
    del handle
    gc.collect()
    assert ref() is None and died == [ref]
    others = [loop.call_soon(int) for _ in range(20)]
    assert ref() is None and len(others) == 20


@pytest.mark.parametrize("nargs", [0, 1, 3, 4, 9])
def test_arguments_are_released_with_the_handle(loop, nargs):
    callback, args = Weak(), [Weak() for _ in range(nargs)]
    refs = [weakref.ref(o) for o in (callback, *args)]
    loop.call_soon(callback, *args)
    loop.call_later(0, callback, *args)
    del callback, args
    loop.run_until_complete(asyncio.sleep(0.01))
    gc.collect()
    assert [ref() for ref in refs] == [None] * (1 + nargs)


def test_cancelling_releases_callback_and_arguments_at_once(loop):
    callback, arg = Weak(), Weak()
    refs = [weakref.ref(callback), weakref.ref(arg)]
    handles = [loop.call_soon(callback, arg), loop.call_later(1000, callback, arg)]
    del callback, arg
    for handle in handles:
        handle.cancel()
    assert [ref() for ref in refs] == [None, None]


def test_a_cycle_through_a_handle_is_collected(loop):
    class Seconds(float):
        pass

    when = Seconds(1e9)
    when.handle = loop.call_at(when, int)
    when.handle.cancel()
    ref = weakref.ref(when)
    callback = Weak()
    callback.handle = loop.call_soon(callback)
    refs = [ref, weakref.ref(callback)]
    del when, callback
    loop.run_until_complete(asyncio.sleep(0))
    loop._scheduled.clear()  # asyncio keeps cancelled timers there for a while
    gc.collect()
    assert [r() for r in refs] == [None, None]


def test_when_is_the_object_that_was_given(loop):
    for when in (1e9, 10**9, float("nan")):
        handle = loop.call_at(when, int)
        assert handle.when() is when
        handle.cancel()
    later = loop.call_later(1000, int)
    assert later.when() is later.when()
    later.cancel()


def test_the_loop_is_checked_before_the_time(loop):
    """What is wrong with the loop's state is said before what is wrong with the argument."""
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_at("soon", int)


def test_handles_run_by_hand(loop, loop_errors):
    """asyncio.Handle._run() is what other loops call."""
    ran = []
    handle = loop.call_soon(ran.append, 1)
    handle._run()
    assert ran == [1]
    loop.run_until_complete(asyncio.sleep(0))
    assert ran == [1, 1]
    loop.call_soon(int, "x")._run()
    (context,) = loop_errors
    assert isinstance(context["exception"], ValueError)
    loop.run_until_complete(asyncio.sleep(0))
    loop_errors.clear()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_handle_run_by_hand_passes_an_interrupt_on(loop, kind):
    def fail():
        raise kind

    handle = loop.call_soon(fail)
    with pytest.raises(kind):
        handle._run()
    handle.cancel()


def test_a_timer_tells_whether_it_is_scheduled(loop):
    timer = loop.call_later(0, int)
    assert timer._scheduled
    loop.run_until_complete(asyncio.sleep(0.002))
    assert not timer._scheduled
