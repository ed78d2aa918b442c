# SPDX-License-Identifier: MIT
"""Measures asyncio event loops against each other: rate, latency, CPU time of the server, every answer checked.

Without arguments: every scenario on all loops that are installed here, and echo servers in C as the limit; ten
minutes.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the modules here have no package: a worker finds them by path, too

import charts  # noqa: E402
import loops as known_loops  # noqa: E402
import report  # noqa: E402
import runner  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="python -m rloop.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--quick", action="store_true", help="a choice of the cases, three rounds, no C servers; two minutes"
    )
    amount.add_argument("--all", action="store_true", help="more cases, and growth curves")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="only this one (more than once: these)")
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases that have this in their names")
    parser.add_argument(
        "--loop",
        action="append",
        type=known_loop,
        metavar="LOOP",
        help=f"{', '.join(known_loops.HERE)}, or NAME=PYTHON:MODULE:CALLABLE for one of another interpreter "
        "(PYTHON may be empty: this one); more than once: these",
    )
    parser.add_argument(
        "--peer",
        action="append",
        type=known_loop,
        default=[],
        metavar="LOOP",
        help="as --loop, beside those there are anyway",
    )
    parser.add_argument("--rounds", type=int, help="how often each loop runs each case (5; quick: 3)")
    parser.add_argument("--seconds", type=float, help="measured time of each run (0.5; quick: 0.3)")
    parser.add_argument("--limits", action=argparse.BooleanOptionalAction, help="run the echo servers in C")
    parser.add_argument("--results", type=Path, help="folder for results.json, results.md and charts")
    parser.add_argument("--list", action="store_true", help="the scenarios and their cases")
    args = parser.parse_args()
    if unknown := set(args.scenario or ()) - set(runner.scenario_names()):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(runner.scenario_names())}")
    return args


def known_loop(text):
    try:
        return known_loops.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def is_chosen(case, args):
    if args.case is not None and not any(part in case.name for part in args.case):
        return False
    if args.quick:
        return case.quick
    return args.all or args.scenario is not None or args.case is not None or not (case.extra or case.growth)


def chosen_cases(args):
    """(scenario's name, case) of all that is to be run."""
    names = args.scenario or runner.scenario_names()
    found = []
    for name in names:
        try:
            found += [(name, case) for case in runner.cases_of(name) if is_chosen(case, args)]
        except ImportError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
    return found


def measure(chosen, loops, args, results):
    """Run the cases, and put each into the results when it is done."""
    start, is_watched = time.monotonic(), sys.stdout.isatty()

    def show(number, loop, cell):
        if is_watched:
            print(f"\r\033[K  round {number + 1}, {loop.name}", end="", flush=True)

    for place, (name, case) in enumerate(chosen, start=1):
        scenario = runner.load_scenario(name)
        taking_part = runner.loops_of(scenario, loops, args.limits)
        done = {
            "scenario": name,
            "case": case.name,
            "about": scenario.__doc__.strip(),
            "goal": case.goal,
            "growth": case.growth,
            "grows": getattr(scenario, "GROWS", ""),
            "curve": getattr(case, "curve", ""),
            "rounds": runner.run_case(name, case, taking_part, args.rounds, args.seconds, show),
        }
        results["cases"].append(done)
        if is_watched:
            print("\r\033[K", end="")
        report.print_case(done, [loop.name for loop in taking_part])
        left = (time.monotonic() - start) / place * (len(chosen) - place)
        if is_watched and place < len(chosen):
            print(f"  {place} of {len(chosen)} cases; about {left / 60:.0f} min left", end="", flush=True)


def write_results(results, folder):
    report.write(results, folder)
    print(f"\n{folder / 'results.md'}, {folder / 'results.json'}")
    try:
        paths = charts.draw(results, folder)
        print("charts: " + ", ".join(path.name for path in paths))
    except ImportError:
        print("no charts without matplotlib (pip install 'rloop[bench]')")


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as on Ctrl-C: the children go, too
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.seconds = args.seconds or (0.3 if args.quick else 0.5)
    chosen = chosen_cases(args)
    if args.list:
        for name, case in chosen:
            print(f"{name}: {case.name}")
        return 0
    if args.limits is None:
        args.limits = not args.quick and args.scenario is None and args.loop is None
    loops = [*(args.loop or known_loops.installed()), *args.peer]
    limits = known_loops.limits() if args.limits else []
    results = {
        "made": report.now(),
        "machine": report.machine(),
        "settings": {"rounds": args.rounds, "seconds": args.seconds},
        "loops": {loop.name: known_loops.describe(loop) for loop in [*loops, *limits]},
        "cases": [],
    }
    try:
        measure(chosen, loops, args, results)
    except KeyboardInterrupt:
        print("\ninterrupted")
    if not results["cases"]:
        return 1
    report.print_summary(results)
    if args.results is not None:
        write_results(results, args.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
