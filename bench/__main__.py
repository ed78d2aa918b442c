# SPDX-License-Identifier: MIT
"""Measures asyncio loops against each other; see --help."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # as a worker sees it: scenarios, and modules without a package

import loops as known_loops
import report
import runner


def number(value, form):
    return "" if value is None else format(value, form)


def print_case(name, case, loops, rounds):
    print(f"\n{name}: {case.name}", flush=True)
    print(f"{'loop':12}{'ops/s':>12}{'CPU us/op':>11}{'p99 us':>9}{'spread':>8}{'rate':>7}{'CPU':>7}{'ratio':>7}")
    for loop in loops:
        cell = rounds[-1][loop.name]
        if "failed" in cell:
            print(f"{loop.name:12}{cell['failed']}")
            continue
        base = known_loops.BASELINE
        row = [
            number(report.median_of(rounds, loop.name, report.rate), "12,.0f"),
            number(report.median_of(rounds, loop.name, report.cpu_us), "11.2f").rjust(11),
            number(report.median_of(rounds, loop.name, lambda cell: cell.get("p99_us")), "9.0f").rjust(9),
            number(report.spread(rounds, loop.name), "8.1%").rjust(8),
            number(report.median_ratio(rounds, loop.name, base, report.rate), "7.2f").rjust(7),
            number(report.median_ratio(rounds, base, loop.name, report.cpu_us), "7.2f").rjust(7),
            number(report.ratio(rounds, loop.name, base), "7.2f").rjust(7),
        ]
        goal = case.goal.get(loop.name)
        print(f"{loop.name:12}{''.join(row)}{f'  goal {goal}' if goal else ''}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", action="append", help="one of: " + ", ".join(runner.scenario_names()))
    parser.add_argument("--case", action="append", help="a part of the name of a case")
    parser.add_argument("--loop", action="append", type=known_loops.parse, help="NAME, or NAME=PYTHON:MODULE:CALLABLE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="measured time of each run")
    parser.add_argument("--limits", action="store_true", help="the C servers, too")
    args = parser.parse_args()
    for name in args.scenario or runner.scenario_names():
        scenario = runner.load_scenario(name)
        loops = runner.loops_of(scenario, args.loop or known_loops.installed(), args.limits)
        for case in scenario.CASES:
            if args.case is None or any(part in case.name for part in args.case):
                print_case(name, case, loops, runner.run_case(name, case, loops, args.rounds, args.seconds))


if __name__ == "__main__":
    main()
