# SPDX-License-Identifier: MIT
"""KeyboardInterrupt and SystemExit at any moment: nothing is lost, and the loop can be used on.

A sample of what `make test-interrupts` runs; tests/interrupts/interrupt_check.py says how.  RLOOP_TEST_INTERRUPTS is
how often each program is run with several interrupts chosen at random (5).
"""

import asyncio
import gc
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("trustme")
sys.path.insert(0, str(Path(__file__).with_name("interrupts")))

from interrupt_check import Interrupted
from interrupt_programs import PROGRAMS, Tools
from signal_programs import run_under_signals

ROUNDS = int(os.environ.get("RLOOP_TEST_INTERRUPTS", 5))


@pytest.fixture(scope="module")
def tools():
    return Tools()


@pytest.mark.parametrize("name", PROGRAMS)
def test_interrupted_callbacks(loop, loop_name, loop_errors, tools, name):
    checked = Interrupted(loop_name, loop, name, tools)
    runs, interrupts = checked.each(2)
    assert interrupts > runs / 2 or not runs
    checked.at_random(ROUNDS, "pytest")


@pytest.mark.ours("asyncio's own loop is Python, which the interrupt tears")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # torn before it was
def test_signals_at_any_time(loop_factory, no_leaks):
    in_turns, in_callbacks = map(sum, zip(*(run_under_signals(loop_factory) for _ in range(max(1, ROUNDS // 3)))))
    assert in_turns > 10
    assert in_callbacks > 10
    gc.collect()


def test_close_after_an_interrupt(loop_factory, no_leaks):
    """The loop is not run again: what was left is dropped, and no file stays open."""
    loop, ran = loop_factory(), []
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))

    def interrupt():
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    loop.call_soon(ran.append, "never")
    loop.call_later(0, ran.append, "never")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    server.close()
    loop.close()
    assert ran == []
