# SPDX-License-Identifier: MIT
"""KeyboardInterrupt and cancellation at every point of the programs in programs.py, and at random ones.

callbacks   every call that a loop makes into the program raises KeyboardInterrupt once, when it has done its work.  The
            loop is then run again, and the program must end as if nothing had been.
cancel      the program's task is cancelled at each of its awaits: in the turn after it, and (late) in the turn in
            which what it waits for has come.
signals     a signal at a random time, whose Python handler raises KeyboardInterrupt in whatever runs then.  What that
            tears in Python, bytes on their way or a file just opened, is the program's loss or asyncio's (torn); but
            the loop goes on, and ends.

asyncio's own loop is the oracle: an outcome that is not among the allowed ones is allowed where asyncio's is the same.
"""

import argparse
import collections
import inspect
import random
import signal
import sys
import tempfile
import threading
import time
import types

from case import LOOPS, Fault, in_child, load, run_case

import programs

ALLOWED = {
    "callbacks": {"same", "raised"},
    "cancel": {"same", "cancelled"},
    "signals": {"same", "raised", "stalled", "told", "torn"},
}


class Interrupted(Fault):
    """The call number `wanted` (from 1; 0: none) that the loop makes into the program is interrupted at its end."""

    def __init__(self, wanted=0):
        self.wanted = wanted
        self.calls = []
        self.has_happened = False

    def __getstate__(self):
        return {"calls": self.calls, "has_happened": self.has_happened}

    def start(self):
        sys.setprofile(self.note)

    def note(self, frame, event, argument):
        code = frame.f_code
        if event != "return" or code.co_filename != programs.__file__ or code.co_flags & inspect.CO_COROUTINE:
            return
        if frame.f_back is not None and frame.f_back.f_code.co_filename == programs.__file__:
            return  # the program calls itself
        self.calls.append(code.co_qualname)
        if len(self.calls) == self.wanted:
            self.has_happened = True
            raise KeyboardInterrupt

    def run(self, loop, coroutine):
        return run_on(loop, loop.create_task(coroutine))

    def pause(self):
        sys.setprofile(None)


def run_on(loop, task):
    """Run the task to its end, though it takes several runs; only its own interrupt comes out."""
    while True:
        try:
            return loop.run_until_complete(task)
        except KeyboardInterrupt:
            if task.done():
                raise


class Cancelled(Fault):
    """The task is cancelled at its await number `wanted` (from 1; 0: never)."""

    def __init__(self, wanted=0, is_late=False):
        self.wanted = wanted
        self.is_late = is_late
        self.steps = 0
        self.has_happened = False

    def __getstate__(self):
        return {"steps": self.steps, "has_happened": self.has_happened}

    def run(self, loop, coroutine):
        async def main():
            return await self.drive(loop, coroutine)

        self.task = loop.create_task(main())
        try:
            return loop.run_until_complete(self.task)
        finally:
            self.task = None

    @types.coroutine
    def drive(self, loop, coroutine):
        resume = coroutine.send, None
        while True:
            try:
                awaited = resume[0](resume[1])
            except StopIteration as stop:
                return stop.value
            self.steps += 1
            if self.steps == self.wanted:
                self.has_happened = True
                if self.is_late and awaited is not None:
                    awaited.add_done_callback(lambda future: self.task.cancel())
                else:
                    loop.call_soon(self.task.cancel)
            try:
                resume = coroutine.send, (yield awaited)
            except BaseException as error:
                resume = coroutine.throw, error


class Signalled(Fault):
    """A signal comes `seconds` after the program's start; without it, they are how long the program has taken."""

    def __init__(self, seconds=None):
        self.seconds = seconds
        self.is_armed = False
        self.has_happened = False

    def __getstate__(self):
        return {"seconds": self.seconds, "has_happened": self.has_happened}

    def run(self, loop, coroutine):
        if self.seconds is None:
            before = time.perf_counter()
            result = loop.run_until_complete(coroutine)
            self.seconds = time.perf_counter() - before
            return result
        signal.signal(signal.SIGUSR2, self.interrupt)
        threading.Thread(target=self.send, args=[threading.main_thread().ident], daemon=True).start()
        self.is_armed = True
        return run_on(loop, loop.create_task(coroutine))

    def send(self, main):
        time.sleep(self.seconds)
        signal.pthread_kill(main, signal.SIGUSR2)

    def interrupt(self, signum, frame):
        if self.is_armed:
            self.is_armed = False
            self.has_happened = True
            raise KeyboardInterrupt

    def pause(self):
        self.is_armed = False


KINDS = {"callbacks": Interrupted, "cancel": Cancelled, "signals": Signalled}


def judge(kind, outcome, told, result, wanted):
    if outcome is None and not told and result != wanted:
        outcome = "SILENT"
    if kind == "signals" and outcome in ("SILENT", "WRONG", "LEAK") and "anon_inode" not in str(told[-1:]):
        return "torn"
    if outcome is not None:
        return outcome
    if not told:
        return "same"
    if told == ["raised: CancelledError()"]:
        return "cancelled"
    return "raised" if told == ["raised: KeyboardInterrupt()"] else "told"


def record(fault, *program):
    """The result of the program without a fault, and what the fault has noted of it."""
    outcome, fault, told, result = run_case(*program, fault)
    if outcome or told:
        raise RuntimeError(f"{program} fails without a fault: {outcome} {told}")
    return result, fault


def faults(kind, noted, options, chance):
    """Pairs of a name under which outcomes are compared with asyncio's, and a fault."""
    if kind == "callbacks":
        hits = collections.Counter()
        for number, name in enumerate(noted.calls, 1):
            hits[name] += 1
            if hits[name] <= options.hits:
                yield name, Interrupted(number)
    elif kind == "cancel":
        for number in range(1, noted.steps + 1):
            yield "next turn", Cancelled(number)
            yield "late", Cancelled(number, is_late=True)
    else:
        for _ in range(options.signals):
            yield "any time", Signalled(chance.uniform(0, noted.seconds))


def run_program(kind, loop, name, folder, options):
    """Yield (point, outcome, what was told, result)."""
    chance = random.Random(f"{options.seed} {loop} {name}")
    program = name, LOOPS[loop], folder
    wanted, noted = in_child(record, KINDS[kind](), *program)
    cases = list(faults(kind, noted, options, chance))
    if options.sample:
        cases = chance.sample(cases, min(options.sample, len(cases)))
    for point, fault in cases:
        outcome, fault, told, result = in_child(run_case, *program, fault)
        if fault.has_happened:
            yield point, judge(kind, outcome, told, result, wanted), told, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=ALLOWED)
    parser.add_argument("--loop", action="append", choices=["asyncio", "rloop", "tokio"], help="all, if none is named")
    parser.add_argument("--program", action="append", choices=programs.PROGRAMS, help="all, if none is named")
    parser.add_argument("--hits", type=int, default=4, help="how many calls of one function are interrupted (4)")
    parser.add_argument("--signals", type=int, default=20, help="how many signals for each program (20)")
    parser.add_argument("--sample", type=int, help="only so many cases of each program, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    for spec in LOOPS.values():
        load(spec)().close()  # the first one of a process opens what the process keeps
    totals = {loop: collections.Counter() for loop in options.loop or LOOPS}
    of_asyncio = collections.defaultdict(set)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        programs.contexts(folder)
        for loop, counts in totals.items():
            for name in options.program or programs.PROGRAMS:
                for point, outcome, told, result in run_program(options.kind, loop, name, folder, options):
                    counts[outcome] += 1
                    if loop == "asyncio" and not options.verbose:
                        of_asyncio[name, point].add(outcome)
                    elif options.verbose or outcome not in ALLOWED[options.kind] | of_asyncio[name, point]:
                        failed += 1
                        print(f"{outcome}: {loop} {name}: {point}: {told} {str(result)[:80]}", flush=True)
            print(f"{options.kind} {loop}: {counts.total()} faults, {dict(counts)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
