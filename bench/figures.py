# SPDX-License-Identifier: MIT
"""From cells to figures: medians, spread, and ratios to another loop.

The ratio of a loop to another is the higher of two: its rate to the other's, and the other's CPU time per operation
to its; each is the median over the rounds of the ratio in one round.  For a cost (bytes, a latency) it is the other's
to its.  More is better, always.
"""

import statistics

P99_ALLOWED = 1.1  # of the baseline's; beyond that a rate was bought with latency


def works(cell):
    return cell is not None and "failed" not in cell


def rate(cell):
    return cell["operations"] / cell["seconds"]


def cpu_us(cell):
    """CPU time per operation; None where it can't be measured."""
    return cell["cpu_seconds"] / cell["operations"] * 1e6 if "cpu_seconds" in cell else None


def p50_us(cell):
    return cell.get("p50_us")


def p99_us(cell):
    return cell.get("p99_us")


def cost(cell):
    return cell.get("cost")


def median_of(rounds, name, figure):
    """The median over the rounds in which the loop works and the figure is there; or None."""
    values = [figure(cells[name]) for cells in rounds if works(cells.get(name))]
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def median_ratio(rounds, name, other, figure):
    """The median over the rounds of a loop's figure to another's in the same round; or None."""
    ratios = []
    for cells in rounds:
        if works(cells.get(name)) and works(cells.get(other)):
            mine, theirs = figure(cells[name]), figure(cells[other])
            if mine and theirs:
                ratios.append(mine / theirs)
    return statistics.median(ratios) if ratios else None


def is_cost(rounds, name):
    return any("cost" in cells[name] for cells in rounds if works(cells.get(name)))


def ratio(rounds, name, other):
    """How much better than another a loop is; or None."""
    if is_cost(rounds, name):
        return median_ratio(rounds, other, name, cost)
    found = [median_ratio(rounds, name, other, rate), median_ratio(rounds, other, name, cpu_us)]
    return max((value for value in found if value is not None), default=None)


def spread(rounds, name):
    """How far the middle half of the rounds lies apart, to the median: of the cost, or else of the CPU time."""

    def figure(cell):
        return cost(cell) or cpu_us(cell) or 1 / rate(cell)

    values = sorted(figure(cells[name]) for cells in rounds if works(cells.get(name)))
    if len(values) < 3:
        return None
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def failure(rounds, name):
    """Why a loop has no figures; or None."""
    return next((cells[name]["failed"] for cells in rounds if "failed" in cells.get(name, {})), None)


def verdict(rounds, name, baseline, goal):
    """What has become of a goal: "yes", "no", or "p99" when only the latency is too high."""
    reached = ratio(rounds, name, baseline)
    if reached is None or reached < goal:
        return "no"
    latency = median_ratio(rounds, name, baseline, p99_us)
    return "p99" if latency is not None and latency > P99_ALLOWED else "yes"
