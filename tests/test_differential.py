# SPDX-License-Identifier: MIT
"""Random programs have the same history on asyncio's loop and on ours; tests/differential/ says how, and runs more."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).with_name("differential")))

from check import assert_agree
from engine import Scene, operation, programs
from scenes import SCENES

EXAMPLES = 60


@pytest.mark.parametrize("name", SCENES)
def test_histories_agree(name, no_leaks):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(program=programs(SCENES[name]))
    def agree(program):
        assert_agree(SCENES[name], program)

    agree()


def test_a_difference_is_found(no_leaks):
    class Broken(Scene):
        @operation(st.integers(0, 5))
        def step(self, number):
            self.note(number if "asyncio" in type(self.loop).__mro__[0].__module__ or number < 5 else "different")

    with pytest.raises(AssertionError, match="differs from asyncio"):
        assert_agree(Broken, (False, [("step", 5)]))
