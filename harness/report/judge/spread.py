"""How much a number varies from seed to seed: what all arms of a table say of it together.

Three seeds of two arms say little of the spread of their difference (2 degrees of freedom, t = 4.30). The other arms of
the table say more, since their spreads are alike. So each arm's variance is moderated (Smyth 2004): it gets a prior,
a scaled inverse chi-square fitted to the variances of all arms, and with it degrees of freedom. Where that departs from
the original, it does so for fewer false decisions:

* The prior's scale is the mean of the *other* arms' variances, not their geometric mean, which is lower where arms
  differ. From :data:`TREND` arms on it follows the arm's own mean: the logarithm of the variance has a slope on the
  level of accuracy, as weak settings vary more (limma's trend, a line here).
* The prior's degrees of freedom come from how much the log variances differ beyond chance. They are at most
  :data:`STRONGEST`, and fewer where few arms say what the scale is (or few near an arm's level: its leverage).
* An arm that varies more than the prior allows for (F test at :data:`APART`) keeps its own variance.

A difference of arms is a contrast of independent arms with Satterthwaite's degrees of freedom. What a seed does to all
arms alike is taken out first where that pays: where the mean correlation of arms over seeds is above 1/arms, what
it costs in degrees of freedom. That choice looks at all arms and at no difference between any two of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

from harness.report.read.records import Cell, State, Terms

MODERATED = 4
"""Arms with at least two seeds that a prior needs."""
TREND = 8
"""Arms from which on the prior follows the level."""
KNOWN = 20
"""Arms from which on the spread is known so well that looks may use what they have in common."""
STRONGEST = 20.0
APART = 0.05
SKEWED = 2.6
"""Standard errors from which on the page warns of skewed residuals."""
NONE = 1e-9
"""A deviation that is none: numbers that agree to the last digit."""

Pattern = tuple[tuple[str, float], ...]
"""What is measured in one run: metrics with weights, for one metric that alone with weight 1."""


@dataclass(frozen=True)
class Contrast:
    """Variance of one seed's value of a difference of arms, its degrees of freedom, and where they come from."""

    variance: float
    freedom: float
    spread: Spread


def inverse_trigamma(value: float) -> float:
    """The x > 0 with trigamma(x) = ``value`` > 0, by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x


@dataclass(frozen=True)
class Spread:
    """The spread of one metric over the first ``look`` seeds, in all arms of a table that have two of them or more.

    ``values`` holds one sequence of numbers per arm; ``common`` says that what a seed does to all arms is taken out.
    """

    pattern: Pattern
    look: int
    values: Mapping[int, Sequence[float]]
    common: bool = False

    @property
    def arms(self) -> int:
        """Arms whose numbers make up the prior."""
        return len(self._fit[0])

    @cached_property
    def _own(self) -> dict[int, tuple[float, float, float]]:
        """Arm -> mean, own variance, degrees of freedom."""
        if not self.common:
            return {arm: (float(np.mean(one)), float(np.var(one, ddof=1)), len(one) - 1.0)
                    for arm, one in self.values.items()}  # fmt: skip
        whole = {arm: one for arm, one in self.values.items() if len(one) == self.look}
        table = np.array(list(whole.values()))
        rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        share = 1 - 1 / len(whole)  # what taking out the means of the seeds leaves of an arm's variance
        variances = (rest**2).sum(axis=1) / (self.look - 1) / share
        freedom = (self.look - 1) * share
        return {arm: (float(np.mean(one)), float(variance), freedom)
                for (arm, one), variance in zip(whole.items(), variances, strict=True)}  # fmt: skip

    @cached_property
    def _fit(self) -> tuple[list[int], Any, float, float, float]:
        """Arms of the prior, their leverage, its degrees of freedom, the slope of the log variance, the mean level."""
        arms = [arm for arm, (_, variance, _) in self._own.items() if variance > NONE**2]
        if len(arms) < MODERATED:
            return [], np.zeros(0), 0.0, 0.0, 0.0
        level, variance, freedom = (np.array(column) for column in zip(*(self._own[arm] for arm in arms), strict=True))
        logs = np.log(variance) - special.digamma(freedom / 2) + np.log(freedom / 2)
        away = level - level.mean()
        width = float(away @ away)
        trend = len(arms) >= TREND and width > NONE**2
        slope = float(away @ logs) / width if trend else 0.0
        rest = logs - logs.mean() - slope * away
        beyond = float(rest @ rest) / (len(arms) - 1 - trend) - float(special.polygamma(1, freedom / 2).mean())
        known = min(2 * inverse_trigamma(beyond), STRONGEST) if beyond > 1e-6 else STRONGEST
        return arms, 1 / len(arms) + (away**2 / width if trend else 0.0 * away), known, slope, float(level.mean())

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the prior, if its scale were known."""
        return self._fit[2]

    @property
    def slope(self) -> float:
        """By how much the log variance rises with each point of the metric."""
        return self._fit[3]

    @property
    def typical(self) -> float:
        """The deviation of a typical arm: the root of the mean variance."""
        return math.sqrt(sum(self._own[arm][1] for arm in self._fit[0]) / max(self.arms, 1))

    @cached_property
    def moderated(self) -> Mapping[int, tuple[float, float]]:
        """Arm -> variance and degrees of freedom, own and prior together; empty where there are too few arms."""
        arms, leverage, known, slope, middle = self._fit
        if not arms:
            return {}
        at = {arm: math.exp(slope * (self._own[arm][0] - middle)) for arm in self._own}
        scaled = {arm: self._own[arm][1] / at[arm] for arm in arms}
        total, found = sum(scaled.values()), {}
        leverages = dict(zip(arms, leverage.tolist(), strict=True))
        for arm, (_, variance, freedom) in self._own.items():
            inside = arm in scaled
            others = (total - scaled[arm]) / (len(arms) - 1) if inside else total / len(arms)
            scale = others * at[arm]
            told = (1 / leverages[arm] - 1 if inside else len(arms)) * freedom  # by which the scale itself is known
            prior = known * told / (known + told)
            if variance > 0 and float(special.fdtrc(freedom, prior, variance / scale)) < APART:
                prior = 0.0
            found[arm] = (prior * scale + freedom * variance) / (prior + freedom), prior + freedom
        return found

    def contrast(self, weights: Mapping[int, float]) -> Contrast | None:
        """Of independent arms with these weights; None where an arm has no variance here."""
        if any(arm not in self.moderated for arm in weights):
            return None
        parts = [(weight**2 * self.moderated[arm][0], self.moderated[arm][1]) for arm, weight in weights.items()]
        variance = sum(part for part, _ in parts)
        freedom = variance**2 / sum(part**2 / known for part, known in parts)
        pooled = sum(self._own[arm][2] for arm in self._fit[0])
        return Contrast(variance, min(freedom, pooled), self) if variance > NONE**2 else None

    @cached_property
    def correlation(self) -> float:
        """Mean correlation of two arms over the seeds: intraclass, in a two-way layout of the arms with all seeds."""
        table = np.array([one for one in self.values.values() if len(one) == self.look])
        if len(table) < MODERATED or self.look < 2:
            return 0.0
        rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        within = float((rest**2).sum()) / (len(table) - 1) / (self.look - 1)
        seeds = len(table) * float(table.mean(axis=0).var(ddof=1))
        whole = seeds + (len(table) - 1) * within
        return (seeds - within) / whole if whole > 0 else 0.0

    @property
    def pairing_pays(self) -> bool:
        """Whether what seeds do to all arms alike is more than taking it out costs in degrees of freedom."""
        whole = sum(len(one) == self.look for one in self.values.values())
        return whole >= MODERATED and self.correlation > 1 / whole

    @cached_property
    def skewness(self) -> tuple[float, float]:
        """Mean skewness of the arms with three seeds or more, and in how many standard errors of normal samples."""
        held = [np.array(one) - np.mean(one) for one in self.values.values() if len(one) >= 3]
        told = [(float(np.mean(one**3) / np.mean(one**2) ** 1.5), len(one)) for one in held if one @ one > NONE**2]
        if len(told) < MODERATED:
            return 0.0, 0.0
        error = math.sqrt(sum(6 * (n - 2) / (n + 1) / (n + 3) for _, n in told))  # Fisher 1930
        total = sum(skewness for skewness, _ in told)
        return total / len(told), total / error

    @property
    def skewed(self) -> bool:
        """Whether residuals look so skewed that t intervals of few seeds are wrong too often."""
        return abs(self.skewness[1]) > SKEWED


@dataclass
class Spreads:
    """The spreads of one table, each worked out once: ``measured`` gives the cells of a metric, one per arm."""

    measured: Callable[[str], Sequence[Cell]]
    _known: dict[tuple[Pattern, int, bool], Spread] = field(default_factory=dict)

    def contrast(self, terms: Terms, look: int) -> Contrast | None:
        """Of a difference of arms after ``look`` seeds; None where the table cannot tell more than the difference."""
        by_arm: dict[int, dict[str, float]] = {}
        for (metric, arm), weight in terms.items():
            if abs(weight) > NONE:
                by_arm.setdefault(arm, {})[metric] = weight
        scales = {arm: weights[min(weights)] for arm, weights in by_arm.items()}
        patterns = {
            tuple((metric, round(weight / scales[arm], 9)) for metric, weight in sorted(weights.items()))
            for arm, weights in by_arm.items()
        }
        if len(patterns) != 1:  # arms measured in different ways have no spread in common
            return None
        alike = abs(sum(scales.values())) < NONE  # what a seed does to all arms cancels
        return self.of(patterns.pop(), look, alike).contrast(scales)

    def of(self, pattern: Pattern, look: int, difference: bool = True) -> Spread:
        """The spread of one metric, or of a combination of metrics within a run, over the first ``look`` seeds."""
        plain = self._spread(pattern, look, False)
        return self._spread(pattern, look, True) if difference and plain.pairing_pays else plain

    def _spread(self, pattern: Pattern, look: int, common: bool) -> Spread:
        key = pattern, look, common
        if key not in self._known:
            self._known[key] = Spread(pattern, look, self._values(pattern, look), common)
        return self._known[key]

    def _values(self, pattern: Pattern, look: int) -> dict[int, tuple[float, ...]]:
        """The numbers of each arm's first seeds. An arm of which a run diverged, or a probe did not converge, has none,
        nor has one whose numbers are equal: the rest says too little of how much it varies.
        """
        measured = [(self.measured(metric), weight) for metric, weight in pattern]
        found = {}
        for arm in range(len(measured[0][0])):
            cells = [(cells[arm], weight) for cells, weight in measured]
            if any(cell.unconverged or State.DIVERGED in cell.states.values() for cell, _ in cells):
                continue
            seeds = sorted({*cells[0][0].values, *cells[0][0].states})[:look]
            held = [seed for seed in seeds if all(seed in cell.values for cell, _ in cells)]
            values = tuple(sum(weight * cell.values[seed] for cell, weight in cells) for seed in held)
            if len(values) > 1 and max(values) - min(values) > NONE:
                found[arm] = values
        return found
