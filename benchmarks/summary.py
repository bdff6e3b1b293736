"""Medians, ratios within a round, and how time grows with length."""

import math
from collections.abc import Sequence
from statistics import median

from benchmarks.worker import Run


def middle_and_range(values: Sequence[float]) -> str:
    """The median, and the least and the greatest value.

    >>> middle_and_range([1.0, 3.0, 2.0])
    '2.00 (1.00–3.00)'
    >>> middle_and_range([0.004, 0.005, 0.006])
    '0.005 (0.004–0.006)'
    """
    digits = 2 if min(values) >= 0.1 else 3
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratios(of: str, runs: Sequence[Run], others: Sequence[Run]) -> list[float]:
    """How many times as much "wall" or "cpu" time each run took as the other's of the same round.

    >>> ratios("wall", [Run(3.0, 0), Run(2.0, 0)], [Run(2.0, 0), Run(4.0, 0)])
    [1.5, 0.5]
    """
    pairs = zip(runs, others, strict=True)
    return [getattr(run, of) / getattr(other, of) for run, other in pairs]


def growth_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The p of seconds ~ size^p, by least squares on the logarithms: 1 is linear, 2 quadratic.

    >>> growth_exponent([1, 2, 4], [3, 12, 48])
    2.0
    """
    xs, ys = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - x_mean) ** 2 for x in xs)
