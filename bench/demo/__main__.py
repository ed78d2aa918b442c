# SPDX-License-Identifier: MIT
"""Run every program on every loop, each in a process of its own, and print what they did as one table.

    python -m demo [--programs NAME,...] [--loops NAME,...]

The programs' servers and clients share one loop and one process, so CPU per unit of work counts both sides.  Every
answer is checked byte for byte; a wrong one ends the program with an error, and the demo with exit code 1.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from demo.programs import PROGRAMS

LOOPS = {"asyncio": "asyncio:SelectorEventLoop", "RLoop": "rloop:RLoop", "TokioLoop": "rloop:TokioLoop"}


def run_program(program, loop):
    """Run one program on one loop; returns what it measured, or the text of its error."""
    command = [sys.executable, "-m", "demo.programs", program, LOOPS[loop]]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        return (done.stderr or done.stdout or f"exit code {done.returncode}").strip()
    return json.loads(done.stdout.splitlines()[-1])


def print_table(results, programs, loops):
    print(f"\n{'program':22}{'loop':11}{'work done':>12}{'per second':>13}{'CPU each':>12}{'vs asyncio':>12}")
    for program in programs:
        for loop in loops:
            result = results[program, loop]
            if isinstance(result, str):
                print(f"{program:22}{loop:11}{'failed':>12}")
                continue
            baseline = results.get((program, "asyncio"))
            rate = result["count"] / result["seconds"]
            cpu_us = result["cpu_seconds"] / result["count"] * 1e6
            ratio = "" if not isinstance(baseline, dict) else f"{rate * baseline['seconds'] / baseline['count']:.2f}x"
            print(f"{program:22}{loop:11}{result['count']:>12,}{rate:>13,.0f}{cpu_us:>9.1f} us{ratio:>12}")
    print("\nwork done: " + "; ".join(f"{name}: {PROGRAMS[name].unit}" for name in programs))
    print("CPU each: user and system time of the whole process, its clients included, for one unit of work")


def main():
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="default: %(default)s")
    parser.add_argument("--loops", default=",".join(LOOPS), help="default: %(default)s")
    args = parser.parse_args()
    programs, loops = args.programs.split(","), args.loops.split(",")
    results = {}
    for program in programs:
        print(f"{program}: {PROGRAMS[program].title}", flush=True)
        for loop in loops:
            start = time.monotonic()
            result = results[program, loop] = run_program(program, loop)
            outcome = "FAILED" if isinstance(result, str) else "all answers right"
            print(f"    {loop:11}{outcome}, {time.monotonic() - start:.1f} s", flush=True)
    failures = {key: result for key, result in results.items() if isinstance(result, str)}
    print_table(results, programs, loops)
    for (program, loop), error in failures.items():
        print(f"\n{program} on {loop} failed:\n{error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
