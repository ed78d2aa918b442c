# SPDX-License-Identifier: MIT
"""Each awaitable of a loop, cancelled each time that it waits: what comes of it is what comes of it on asyncio's loop.

RLOOP_TEST_CANCELLATIONS is how often (1); tests/interrupts/cancel_programs.py says how.
"""

import contextlib
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("trustme")
sys.path.insert(0, str(Path(__file__).with_name("interrupts")))

from cancel_programs import AWAITABLES, Tools, compare

ROUNDS = int(os.environ.get("RLOOP_TEST_CANCELLATIONS", 1))


@pytest.fixture(scope="module")
def tools():
    with contextlib.closing(Tools()) as tools:
        yield tools


@pytest.mark.parametrize("name", AWAITABLES)
def test_cancelled_whenever_it_waits(loop_name, tools, name):
    for _ in range(ROUNDS):
        assert compare(loop_name, name, tools) >= 3
