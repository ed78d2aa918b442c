# SPDX-License-Identifier: MIT
"""Interrupts and cancellations at every point of programs that run: nothing is lost, and the loop can be used on.

callbacks      KeyboardInterrupt and SystemExit out of each callback of each program in turn, then several in one run,
               chosen at random; the program's result is that of an uninterrupted run (interrupt_programs.py)
signals        a signal whose handler raises wherever the loop is (signal_programs.py)
cancellations  each awaitable of a loop, cancelled each time that it waits: what comes of it is what comes of it on
               asyncio's loop (cancel_programs.py)

After each: no error that nobody asked for, no open file more than before, and the same loop runs the next one.
"""

import argparse
import contextlib
import gc
import os
import random
import sys
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import cancel_programs
import interrupt_programs
import signal_programs

from support import LOOPS, load, open_fds


@contextlib.contextmanager
def loop_of(name, errors):
    loop = load(LOOPS[name])()
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    try:
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 0))  # opens what a loop opens only when it needs it
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextlib.contextmanager
def nothing_left(errors, what):
    """No file stays open, and nobody was told of an error."""
    gc.collect()
    before = open_fds()
    yield
    gc.collect()
    assert open_fds() == before, f"{what}: {open_fds().keys() ^ before.keys()} stay open"
    assert errors == [], f"{what}: {errors}"


class Interrupted:
    """A program on a loop, and what an uninterrupted run made of it."""

    def __init__(self, loop_name, loop, name, tools):
        self.loop_name, self.loop, self.name, self.tools = loop_name, loop, name, tools
        self.program = interrupt_programs.PROGRAMS[name]
        hit = interrupt_programs.Injector()
        self.result, _ = interrupt_programs.run(loop, self.program, hit, tools)
        self.counts = hit.counts

    def run(self, chosen):
        """How many of the chosen interrupts there were: fewer, if the bytes came in fewer pieces this time."""
        hit = interrupt_programs.Injector(chosen)
        result, interrupts = interrupt_programs.run(self.loop, self.program, hit, self.tools)
        assert result == self.result, f"{self.name}, {chosen}: {result} instead of {self.result}"
        assert interrupts == hit.raised, f"{self.name}, {chosen}: {interrupts} of {hit.raised} left run_until_complete"
        return hit.raised

    def each(self, limit):
        """Each callback (at most `limit` of a kind), with each exception in turn: (runs, interrupts)."""
        runs = interrupts = 0
        for case in interrupt_programs.cases(self.name, self.counts, self.loop_name, limit):
            for exception in (KeyboardInterrupt, SystemExit):
                interrupts += self.run({case: exception})
                runs += 1
        return runs, interrupts

    def at_random(self, rounds, seed):
        """Up to eight callbacks of one run."""
        choose = random.Random(f"{self.name} {seed}")
        all_cases = list(interrupt_programs.cases(self.name, self.counts, self.loop_name, 1000))
        interrupts = 0
        for _ in range(rounds if all_cases else 0):
            chosen = choose.sample(all_cases, min(len(all_cases), choose.randint(2, 8)))
            interrupts += self.run({case: choose.choice((KeyboardInterrupt, SystemExit)) for case in chosen})
        return rounds if all_cases else 0, interrupts


def report(loop_name, what, runs, interrupts):
    print(f"{loop_name:8} {what:20} runs {runs:6}   times {interrupts:7}", flush=True)


def check_callbacks(loop_name, arguments):
    tools, errors = interrupt_programs.Tools(), []
    total = [0, 0]
    with nothing_left(errors, loop_name), loop_of(loop_name, errors) as loop:
        for name in interrupt_programs.PROGRAMS:
            with nothing_left(errors, name):
                checked = Interrupted(loop_name, loop, name, tools)
                parts = checked.each(1000), checked.at_random(arguments.rounds, arguments.seed)
            counts = list(map(sum, zip(*parts)))
            total = list(map(sum, zip(total, counts)))
            report(loop_name, name, *counts)
    report(loop_name, "all callbacks", *total)


def check_signals(loop_name, arguments):
    if loop_name == "asyncio":  # its own Python would be torn
        return
    rounds = max(1, arguments.rounds // 3)
    errors, counts = [], [0, 0]
    with nothing_left(errors, loop_name):
        for _ in range(rounds):
            counts = [a + b for a, b in zip(counts, signal_programs.run_under_signals(load(LOOPS[loop_name])))]
    report(loop_name, "signals in C", rounds, counts[0])
    report(loop_name, "signals in callbacks", rounds, counts[1])


def check_cancellations(loop_name, arguments):
    rounds = max(1, arguments.rounds // 25)
    with contextlib.closing(cancel_programs.Tools()) as tools:
        counts = [
            cancel_programs.compare(loop_name, name, tools)
            for name in cancel_programs.AWAITABLES
            for _ in range(rounds)
        ]
    report(loop_name, "cancellations", len(counts), sum(counts))


def unraisable(info):
    sys.__unraisablehook__(info)
    print("an exception has got lost", file=sys.stderr)
    os._exit(1)


CHECKS = {"callbacks": check_callbacks, "signals": check_signals, "cancellations": check_cancellations}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*CHECKS, "all"])
    parser.add_argument("--loop", choices=LOOPS, action="append", help="all of them, if not given")
    parser.add_argument("--rounds", type=int, default=100, help="random runs of each program (100)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for loop_name in LOOPS:
        load(LOOPS[loop_name])().close()  # libuv keeps open what its first loop opens
    gc.freeze()
    sys.unraisablehook = unraisable
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # torn between making and awaiting it
    for kind in CHECKS if arguments.kind == "all" else [arguments.kind]:
        for loop_name in arguments.loop or LOOPS:
            CHECKS[kind](loop_name, arguments)


if __name__ == "__main__":
    main()
