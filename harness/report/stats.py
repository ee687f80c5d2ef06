"""Student's t for a handful of seeds: intervals, and how many seeds an interval would need.

Seeds are few, so every interval is a t interval; seeds are shared between arms, so arms are compared by the
differences *within* a seed (a paired t interval), which cancels what a seed does to both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy import special, stats

CONFIDENCE = 0.95
MOST_SEEDS = 25
"""Above this many seeds we say so instead of giving a number: a spread seen in three is no basis for more."""


@lru_cache(maxsize=4096)
def t_quantile(n: int, confidence: float) -> float:
    """Half-width of a two-sided t interval of ``n`` values, in standard errors."""
    return float(stats.t.ppf(0.5 + confidence / 2, n - 1))


def mean(sample: Sequence[float]) -> float:
    """Arithmetic mean; summed exactly, so that the order of the values changes nothing."""
    try:
        return math.fsum(sample) / len(sample)
    except OverflowError:  # the sum of finite numbers is beyond all floats, their mean never is
        largest = max(map(abs, sample))
        return largest * (math.fsum(value / largest for value in sample) / len(sample))


def deviation(sample: Sequence[float]) -> float:
    """Standard deviation with n - 1 (``statistics.stdev`` works in fractions and is 20 times slower).

    ``hypot`` scales before it squares, so that no finite number raises; at worst the deviation is infinite.
    """
    centre = mean(sample)
    return math.hypot(*(value - centre for value in sample)) / math.sqrt(len(sample) - 1)


def spread_of(sample: Sequence[float], step: float = 0.0) -> float | None:
    """Standard deviation, at least that of rounding to ``step``; None where the sample shows no spread at all.

    Two or three numbers that agree to the last digit do not say that the next will too: their seed may change
    nothing, or the metric be too coarse to show what it changes. A t interval around them would be a point.
    """
    if len(sample) < 2:
        return None
    spread = max(deviation(sample), step / math.sqrt(12))
    return spread if spread > 1e-9 else None


def interval(sample: Sequence[float], confidence: float = CONFIDENCE, step: float = 0.0) -> tuple[float, float] | None:
    """Two-sided t interval of the mean; None for fewer than two values (one number has no spread) or equal ones."""
    spread = spread_of(sample, step)
    if spread is None:
        return None
    centre, half = mean(sample), t_quantile(len(sample), confidence) * spread / math.sqrt(len(sample))
    return centre - half, centre + half


def upper_tail(t: float, freedom: float) -> float:
    """Probability that Student's t with ``freedom`` degrees exceeds ``t``."""
    return float(special.stdtr(freedom, -t))


def p_value(sample: Sequence[float], bound: float, side: int, step: float = 0.0) -> float:
    """One-sided p-value of "the mean lies above ``bound``" (``side`` 1) or below it (-1); 1 without a spread."""
    spread = spread_of(sample, step)
    if spread is None:
        return 1.0
    return float(stats.t.sf(side * (mean(sample) - bound) * math.sqrt(len(sample)) / spread, len(sample) - 1))


@dataclass(frozen=True)
class Estimate:
    """Mean of ``n`` values with its 95 % interval; ``low`` and ``high`` are None for n = 1."""

    mean: float
    n: int
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def estimate(sample: Sequence[float]) -> Estimate | None:
    """Mean, interval and n; None of nothing."""
    if not sample:
        return None
    bounds = interval(sample)
    low, high = bounds if bounds else (None, None)
    return Estimate(mean(sample), len(sample), low, high)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[float, ...]:
    """``first - second`` for every seed that both have, in order of the seeds."""
    return tuple(first[seed] - second[seed] for seed in sorted(first.keys() & second.keys()))


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings; NaN when one of them is constant."""
    return float(stats.kendalltau(first, second).statistic)


def seeds_needed(
    sample: Sequence[float], above: float, below: float, confidence: float = CONFIDENCE, step: float = 0.0
) -> int | None:
    """Seeds at which the interval leaves the nearest bound of ``(above, below)``, if mean and spread stay as they are.

    None when the values show no spread, the mean lies on a bound, or more than ``MOST_SEEDS`` are needed.
    """
    spread = spread_of(sample, step)
    if spread is None:
        return None
    centre = mean(sample)
    distance = min(abs(centre - bound) for bound in (above, below))
    enough = (n for n in range(2, MOST_SEEDS + 1) if t_quantile(n, confidence) * spread / math.sqrt(n) < distance)
    return next(enough, None)
