# SPDX-License-Identifier: MIT
"""`soak.py [--minutes 10] [--loops rloop,tokio] [--output build/soak]`: mixed traffic on each loop, and what it left.

Each loop has a process (traffic.py), beside the others, that tells once a second what it holds.  After a warm-up of a
quarter of the time, a line is laid through each of these figures by least squares: over the whole run it may not rise
by 1 % of its level.  Nor may a round fail, anything be logged, or a loop be busy with nothing to do.  Prints a table
and writes samples.json and soak.png; exit code 1 if one of these fails.  In less than five minutes, what allocators
take at first may already be 1 %.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import LOOPS

TRAFFIC = Path(__file__).with_name("traffic.py")
FIGURES = {"rss": "RSS (MiB)", "fds": "file descriptors", "objects": "live objects", "blocks": "allocated blocks"}
WARM_UP = 0.25
MOST_RISE = 0.01
MOST_QUIET_CPU = 0.1


def collect(args):
    """The samples of each loop; a process that fails is told of in the second dict."""
    seconds = round(args.minutes * 60)
    processes, ended = {}, {}
    try:
        for name in args.loops:
            out, errors = (args.output / f"{name}.{end}" for end in ("jsonl", "stderr"))
            with open(out, "wb") as stdout, open(errors, "wb") as stderr:
                command = [sys.executable, str(TRAFFIC), LOOPS[name], str(seconds)]
                processes[name] = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        deadline = time.monotonic() + seconds * 1.5 + 60
        for name, process in processes.items():
            try:
                code = process.wait(max(1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = "no end"
            said = (args.output / f"{name}.stderr").read_text().strip()
            if code or said:
                ended[name] = f"ended with {code}: {said.splitlines()[-1] if said else ''}"
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return {name: read_samples(args.output / f"{name}.jsonl") for name in args.loops}, ended


def read_samples(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def line_through(samples, figure):
    """(slope a second, level) by least squares, after the warm-up."""
    start = samples[-1]["time"] * WARM_UP
    points = [(sample["time"], sample[figure]) for sample in samples if sample["time"] >= start]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0
    return slope, mean_y


def judge(samples):
    """What each figure rises by over the run, as a share of its level; and what is wrong."""
    if len(samples) < 8:
        return {}, ["too few samples"]
    rises, wrong = {}, []
    for figure in FIGURES:
        slope, level = line_through(samples, figure)
        rises[figure] = slope * samples[-1]["time"] / level
        if rises[figure] >= MOST_RISE:
            wrong.append(f"{figure} rise by {rises[figure]:.2%}")
    quiet = max((sample["quiet"] for sample in samples if sample["quiet"] is not None), default=0)
    if quiet > MOST_QUIET_CPU:
        wrong.append(f"takes {quiet:.0%} of a core in silence")
    return rises, wrong + samples[-1]["errors"]


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(len(FIGURES), sharex=True, figsize=(9, 10), layout="constrained")
    for axes, (name, label) in zip(plots, FIGURES.items()):
        scale = 1 << 20 if name == "rss" else 1
        for loop, samples in results.items():
            axes.plot([sample["time"] for sample in samples], [sample[name] / scale for sample in samples], label=loop)
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
    plots[0].legend()
    plots[-1].set_xlabel("seconds")
    figure.savefig(path)
    pyplot.close(figure)


def options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", default=10, type=float)
    parser.add_argument("--loops", default="rloop,tokio", type=lambda text: text.split(","))
    parser.add_argument("--output", default="build/soak", type=Path)
    return parser.parse_args()


def main():
    args = options()
    args.output.mkdir(parents=True, exist_ok=True)
    results, ended = collect(args)
    print("| loop | seconds | rounds | RSS MiB | fds | objects | blocks | rise of each over the run | verdict |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    bad = bool(ended)
    for loop, samples in results.items():
        rises, wrong = judge(samples)
        wrong += [ended[loop]] if loop in ended else []
        bad = bad or bool(wrong)
        if not samples:
            print(f"| {loop} | {' | ' * 7}{'; '.join(wrong)} |")
            continue
        last = samples[-1]
        cells = [f"{last['rss'] / (1 << 20):.1f}", *(f"{last[name]:,}" for name in ("fds", "objects", "blocks"))]
        rounds = sum(last["rounds"].values())
        shares = ", ".join(f"{rise:+.2%}" for rise in rises.values())
        verdict = "; ".join(wrong) or "flat"
        print(f"| {loop} | {last['time']:.0f} | {rounds:,} | {' | '.join(cells)} | {shares} | {verdict} |")
    for loop, samples in results.items():
        if samples:
            print(f"{loop}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(samples[-1]["rounds"].items())))
    (args.output / "samples.json").write_text(json.dumps(results))
    draw(results, args.output / "soak.png")
    return bad


if __name__ == "__main__":
    sys.exit(main())
