# SPDX-License-Identifier: MIT
"""From cells to figures: medians, spread, ratios to the baseline and to the C limits; the table.

The ratio of a loop to another is the higher of two: its rate to the other's, and the other's CPU time per operation to its;
each the median over the rounds.  For a cost (bytes, a latency) it is the other's to its.  More is better, always.
"""

import statistics


def works(cell):
    return cell is not None and "failed" not in cell


def rate(cell):
    return cell["operations"] / cell["seconds"]


def cpu_us(cell):
    """CPU time per operation; None where it can't be measured."""
    return cell["cpu_seconds"] / cell["operations"] * 1e6 if "cpu_seconds" in cell else None


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
        found = [median_ratio(rounds, other, name, lambda cell: cell.get("cost"))]
    else:
        found = [median_ratio(rounds, name, other, rate), median_ratio(rounds, other, name, cpu_us)]
    return max((value for value in found if value is not None), default=None)


def spread(rounds, name):
    """How far the middle half of the rounds lies apart, to the median: of the cost or of the CPU time per operation."""
    figure = (lambda cell: cell["cost"]) if is_cost(rounds, name) else (lambda cell: cpu_us(cell) or 1 / rate(cell))
    values = sorted(figure(cells[name]) for cells in rounds if works(cells.get(name)))
    if len(values) < 3:
        return None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)
