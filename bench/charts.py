# SPDX-License-Identifier: MIT
"""Charts of the results, by matplotlib: a bar for each loop in each scenario, and the growth curves."""

import itertools

import figures
import report

CASES_IN_A_CHART = 12


def curves(cases):
    """The growth cases, by curve."""
    growing = [case for case in cases if case["growth"] is not None]
    return {
        key: sorted(group, key=lambda case: case["growth"])
        for key, group in itertools.groupby(growing, key=lambda case: (case["scenario"], case["curve"]))
    }


def draw_bars(plot, cases, names, path):
    baseline = report.baseline_of(names)
    figure, axes = plot.subplots(figsize=(11, 1 + 0.8 * len(cases)), layout="constrained")
    height = 0.8 / len(names)
    for place, name in enumerate(names):
        ratios = [figures.ratio(case["rounds"], name, baseline) or 0 for case in cases]
        axes.barh([row + place * height for row in range(len(cases))], ratios, height, label=name)
    axes.set_yticks(
        [row + 0.4 - height / 2 for row in range(len(cases))],
        [f"{case['scenario']}\n{case['case']}" for case in cases],
        fontsize=8,
    )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel(f"ratio to {baseline}; more is better")
    axes.legend(fontsize=8)
    figure.savefig(path)
    plot.close(figure)


def draw_curve(plot, key, cases, names, path):
    figure, axes = plot.subplots(figsize=(8, 5), layout="constrained")
    for name in names:
        points = [(case["growth"], figures.median_of(case["rounds"], name, figures.cpu_us)) for case in cases]
        points = [(grown, cpu_us) for grown, cpu_us in points if cpu_us is not None]
        if points:
            axes.plot(*zip(*points), marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(cases[0]["grows"])
    axes.set_ylabel("CPU us for each operation; less is better")
    axes.set_title(": ".join(part for part in key if part))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
    plot.close(figure)


def draw(results, folder):
    """Write the charts; their paths.  ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names, paths = list(results["loops"]), []
    flat = [case for case in results["cases"] if case["growth"] is None]
    for number, start in enumerate(range(0, len(flat), CASES_IN_A_CHART), start=1):
        paths.append(folder / f"ratios-{number}.png")
        draw_bars(pyplot, flat[start : start + CASES_IN_A_CHART], names, paths[-1])
    for key, cases in curves(results["cases"]).items():
        paths.append(folder / f"growth-{'-'.join(part for part in key if part)}.png")
        draw_curve(pyplot, key, cases, names, paths[-1])
    return paths
