# SPDX-License-Identifier: MIT
"""The results of a run as tables: on the terminal while it goes on, and in the end as Markdown and JSON.

The results are one dict, which is what results.json has: {"made", "machine", "settings", "loops", "cases"}; each of
the cases is {"scenario", "case", "about", "goal", "growth", "grows", "rounds"}, rounds as runner.run_case gives them.
"""

import datetime
import json
import os
import platform
from pathlib import Path

import figures
from loops import BASELINE, LIMITS

HEADINGS = [
    "ops/s",
    "CPU us/op",
    "p50 us",
    "p99 us",
    "spread",
    "rate",
    "CPU",
    "p99",
    "ratio",
]  # then limits, and the goal
WIDTHS = [11, 10, 8, 8, 7, 6, 6, 6, 6]


def number(value):
    """A figure in about three digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def baseline_of(names):
    return BASELINE if BASELINE in names else next(iter(names))


def note(baseline):
    return (
        f"ratio: the higher of the ratios of rate and of server CPU per operation to {baseline}'s, medians over the"
        f" rounds; more is better.  rate, CPU, p99: each of them alone (CPU: {baseline}'s to its own; p99: its own to"
        f" {baseline}'s).  of C ...: the ratio to that server in C.  spread: how far the middle half of the rounds lies"
        f" apart.  goal: whether the ratio to {BASELINE} has reached it; p99 when it has, but with a p99 latency above"
        f" {figures.P99_ALLOWED} of {BASELINE}'s."
    )


def goal_text(case, name):
    """The goals are ratios to BASELINE alone."""
    goal = case["goal"].get(name)
    if not goal or BASELINE not in names_of(case):
        return ""
    return f"{goal:.3g} {figures.verdict(case['rounds'], name, BASELINE, goal)}"


def measured_of(rounds, name):
    """The figures that stand alone, as texts: rate, CPU time and latencies, or the cost in place of them."""
    cost = figures.median_of(rounds, name, figures.cost)
    if cost is not None:
        unit = next(cells[name]["unit"] for cells in rounds if figures.works(cells.get(name)))
        return [f"{number(cost)} {unit}", "", "", ""]
    wanted = [figures.rate, figures.cpu_us, figures.p50_us, figures.p99_us]
    return [number(figures.median_of(rounds, name, figure)) for figure in wanted]


def ratios_of(rounds, name, baseline):
    """The ratios to the baseline, as texts: of rate, CPU time and p99 latency, and the one that counts."""
    alone = ["", ""]
    if not figures.is_cost(rounds, name):
        alone = [
            number(figures.median_ratio(rounds, name, baseline, figures.rate)),
            number(figures.median_ratio(rounds, baseline, name, figures.cpu_us)),
        ]
    latency = figures.median_ratio(rounds, name, baseline, figures.p99_us)
    return [*alone, number(latency), number(figures.ratio(rounds, name, baseline))]


def limits_of(case):
    return [name for name in names_of(case) if name in LIMITS]


def headings_of(case):
    return [*HEADINGS, *(f"of {limit}" for limit in limits_of(case)), "goal"]


def figures_of(case, name):
    """The row of a loop, as texts under the headings."""
    rounds = case["rounds"]
    apart = figures.spread(rounds, name)
    return [
        *measured_of(rounds, name),
        "" if apart is None else f"{apart:.0%}",
        *ratios_of(rounds, name, baseline_of(names_of(case))),
        *(number(figures.ratio(rounds, name, limit)) for limit in limits_of(case)),
        goal_text(case, name),
    ]


def names_of(case):
    """The loops, in the order in which they were asked for: that of the first round."""
    return list(case["rounds"][0])


def title(case):
    return f"{case['scenario']}: {case['case']}"


def print_case(case, names):
    print(f"\n{title(case)}", flush=True)
    headings = headings_of(case)
    widths = [*WIDTHS, *(11 for _ in limits_of(case)), 10]
    print(f"{'':16}" + "".join(heading.rjust(width) for heading, width in zip(headings, widths)))
    for name in names:
        failed = figures.failure(case["rounds"], name)
        texts = [f" {failed}"] if failed else figures_of(case, name)
        print(f"{name:16}" + "".join(text.rjust(width) for text, width in zip(texts, widths)), flush=True)


def summary_cell(case, name):
    if name not in names_of(case):
        return ""
    if failed := figures.failure(case["rounds"], name):
        return failed.partition(":")[0]
    reached = figures.ratio(case["rounds"], name, baseline_of(names_of(case)))
    goal = goal_text(case, name)
    return f"{number(reached)} ({goal})" if goal else number(reached)


def summary(results):
    """Rows of texts: a case each, a loop in each column, the ratio to the baseline."""
    names = results["loops"]
    return [["ratio to " + baseline_of(names), *names]] + [
        [title(case), *(summary_cell(case, name) for name in names)] for case in results["cases"]
    ]


def print_summary(results):
    rows = summary(results)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print("\n")
    for row in rows:
        print(row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:])), sep="  ")
    print(f"\n{note(baseline_of(results['loops']))}")


def table_lines(rows):
    """A Markdown table; the first column to the left."""
    head, *body = [["" if cell is None else str(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in body]


def case_rows(case):
    headings = headings_of(case)
    rows = [["", *headings]]
    for name in names_of(case):
        failed = figures.failure(case["rounds"], name)
        rows.append([name, failed, *[""] * (len(headings) - 1)] if failed else [name, *figures_of(case, name)])
    return rows


def markdown(results):
    settings, machine = results["settings"], results["machine"]
    lines = ["# Benchmark results", ""]
    lines += [f"{results['made']}; {machine['system']}, {machine['processor']}, {machine['cores']} cores."]
    lines += [
        f"{settings['rounds']} rounds, {settings['seconds']} s each.",
        "",
        "| loop | version | Python |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {loop['version']} | {loop['python']} |" for name, loop in results["loops"].items()]
    lines += ["", *table_lines(summary(results)), "", note(baseline_of(results["loops"]))]
    about = None
    for case in results["cases"]:
        if case["about"] != about:
            about = case["about"]
            lines += ["", f"## {case['scenario']}", "", about]
        lines += ["", f"### {case['case']}", "", *table_lines(case_rows(case))]
    return "\n".join(lines) + "\n"


def machine():
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return {"system": f"{platform.system()} {platform.release()}", "processor": processor, "cores": os.cpu_count()}


def now():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def write(results, folder):
    """results.json and results.md."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("results.json").write_text(json.dumps(results, indent=1) + "\n")
    folder.joinpath("results.md").write_text(markdown(results))
