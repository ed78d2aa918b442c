# SPDX-License-Identifier: MIT
"""`python tests/differential/check.py [--programs N] [--scene NAME] [--seed N]`: random programs, and a table.

Makes N programs of each kind of scene, runs each on asyncio's loop, RLoop and TokioLoop, and prints how many programs
and operations there were.  The first that makes a difference is shrunk and printed, and the exit code is 1.
"""

import argparse
import collections
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import scenes
from engine import history, operations_of, programs
from hypothesis import HealthCheck, Phase, given, seed, settings

from support import LOOPS, load

LIMIT_SECONDS = 20  # of one program on one loop


class Stuck(AssertionError):
    """A program does not go on."""


def give_up(signum, frame):
    raise Stuck(f"after {LIMIT_SECONDS} s")


OURS = [name for name in LOOPS if name != "asyncio"]


def history_on(name, kind, program):
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_SECONDS)
    try:
        return history(kind, load(LOOPS[name]), program, own_clock=kind.own_clock)
    except Stuck as error:
        raise AssertionError(f"{name} is stuck in {kind.__name__}, program {program!r}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_agree(kind, program, counter=None):
    """Run the program on all loops; AssertionError where the histories differ."""
    expected = history_on("asyncio", kind, program)
    for name in OURS:
        got = history_on(name, kind, program)
        if got != expected:
            at = next((i for i, (a, b) in enumerate(zip(expected, got)) if a != b), min(len(expected), len(got)))
            lines = "\n".join(f"      {line}" for line in expected[max(0, at - 6) : at])
            raise AssertionError(
                f"{name} differs from asyncio in {kind.__name__}, program {program!r}, after\n{lines}\n"
                f"asyncio: {expected[at : at + 4]}\n{name}: {got[at : at + 4]}"
            )
    if counter is not None:
        counter["programs"] += 1
        counter.update(name for name, *_ in program[1])


def check(kind, count, seed_number, counter, does_shrink):
    @seed(seed_number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink][: 1 + does_shrink],
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(programs(kind))
    def agree(program):
        assert_agree(kind, program, counter)

    agree()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=1000, help="of each kind of scene (1000)")
    parser.add_argument("--scene", action="append", choices=sorted(scenes.SCENES), help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-shrink", action="store_true", help="print the first difference as it was found")
    options = parser.parse_args()
    total, failed = collections.Counter(), False
    for name in options.scene or scenes.SCENES:
        kind, counter, start = scenes.SCENES[name], collections.Counter(), time.monotonic()
        try:
            check(kind, options.programs, options.seed, counter, not options.no_shrink)
        except AssertionError as error:
            failed = True
            print(f"{name}: {error}\n")
        made = counter.pop("programs", 0)
        total["programs"] += made
        total["operations"] += counter.total()
        print(f"{name}: {made} programs on each loop, {time.monotonic() - start:.0f} s; operations:", flush=True)
        for operation in sorted(operations_of(kind)):
            print(f"    {operation:24} {counter[operation]:8}")
    verdict = "DIFFERENT" if failed else "no difference"
    print(f"{total['programs']} programs on each loop, {total['operations']} operations; {verdict}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
