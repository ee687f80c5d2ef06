"""One inequality of a claim: a number per planned seed, and the open range that the claim says it lies in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from harness.report.read.records import Cell, State
from harness.report.stats import interval, mean, p_value, paired, upper_tail


@dataclass(frozen=True)
class Comparison:
    """``above < mean(sample) < below`` is what the claim says; one value per seed that has one.

    ``planned`` seeds were asked for, ``diverged`` runs have no number, ``selecting`` says that a ``best_of`` behind it
    still lacks validation numbers, ``step`` is the least by which one value can change (0: continuous), ``started``
    that some of the numbers that make up one value are there, ``unconverged`` how many of the values rest on a probe
    that did not converge.
    """

    name: str
    sample: tuple[float, ...]
    above: float = -math.inf
    below: float = math.inf
    diverged: int = 0
    signed: bool = True
    started: bool = False
    planned: int = 0
    selecting: bool = False
    step: float = 0.0
    unconverged: int = 0

    @property
    def mean(self) -> float:
        return mean(self.sample) if self.sample else math.nan

    @property
    def slack(self) -> float:
        """How far the mean lies inside the range; negative outside, -inf without a number."""
        return min(self.mean - self.above, self.below - self.mean) if self.sample else -math.inf

    @property
    def obstacle(self) -> str:
        """What would decide it where more seeds may not; empty where it is only a matter of seeds."""
        return ""

    @property
    def missing(self) -> int:
        """Seeds that were planned and have no number yet."""
        return max(0, self.planned - len(self.sample))

    @property
    def final(self) -> bool:
        """Whether a verdict may rest on it: all planned seeds are in, none diverged, all probes converged, nothing is
        left to select.

        Looking after every seed and stopping at the first that pleases would be wrong more often than 5 %.
        """
        return not (self.missing or self.diverged or self.selecting or self.unconverged)

    def bounds(self, confidence: float) -> tuple[float, float] | None:
        """The t interval of the mean; None where the sample has no spread to judge by."""
        return interval(self.sample, confidence, self.step)

    def p_inside(self) -> float:
        """One-sided p-value of the mean lying inside: the larger of the two one-sided tests (TOST)."""
        return max(p_value(self.sample, bound, side, self.step) for bound, side in self._ends)

    def p_outside(self) -> float:
        """One-sided p-value of the mean lying outside, on whichever side; 1 where it cannot be told."""
        if not self.final:
            return 1.0
        return min(p_value(self.sample, bound, -side, self.step) for bound, side in self._ends)

    @property
    def _ends(self) -> list[tuple[float, int]]:
        """The finite ends of the range, with the sign of what lies inside."""
        return [(bound, side) for bound, side in ((self.above, 1), (self.below, -1)) if math.isfinite(bound)]

    def inside(self, confidence: float) -> bool:
        bounds = self.bounds(confidence)
        return bounds is not None and self.final and self.above < bounds[0] and bounds[1] < self.below

    def outside(self, confidence: float) -> bool:
        bounds = self.bounds(confidence)
        return bounds is not None and self.final and (bounds[1] < self.above or bounds[0] > self.below)


@dataclass(frozen=True)
class Agreement(Comparison):
    """Kendall's tau of our cells with a printed table, once per seed.

    Noise of single seeds only lowers tau: cells that truly rank as the paper's, with a few points between them, have a
    tau of one half at a noise of one. So the interval of the taus may confirm, and never refutes. What refutes is that
    so many pairs of cells lie the other way round for sure that no ranking of the true means could have the tau that
    is claimed: each pair by a t test on the spread that all cells have in common within a seed (a two-way layout
    without interaction), one-sided, Bonferroni over the pairs.

    ``cells`` holds one number per seed for every cell, ``printed`` the paper's.
    """

    cells: tuple[tuple[float, ...], ...] = ()
    printed: tuple[float, ...] = ()

    @property
    def obstacle(self) -> str:
        if self.slack > 0:
            return ""
        return "larger differences or less noise: noise alone can lower τ so far, and too few pairs are surely reversed"

    def outside(self, confidence: float) -> bool:
        return self.p_outside() < (1 - confidence) / 2

    def p_outside(self) -> float:
        p_values = self._reversed()
        pairs = len(self.cells) * (len(self.cells) - 1) / 2
        if not self.final or not p_values:
            return 1.0
        # tau-b of the best ranking with ``wrong`` of the pairs reversed: (ordered - 2 wrong) / sqrt(pairs * ordered)
        ordered = len(p_values)
        wrong = math.floor((ordered - self.above * math.sqrt(pairs * ordered)) / 2) + 1
        return min(1.0, len(p_values) * sorted(p_values)[wrong - 1]) if wrong <= ordered else 1.0

    def _reversed(self) -> list[float]:
        """For each pair that the paper orders the one-sided p-value of ours being the other way round."""
        seeds = len(self.sample)
        if seeds < 2:
            return []
        by_cell = [mean(one) for one in self.cells]
        by_seed = [mean(column) for column in zip(*self.cells, strict=True)]
        middle = mean(by_cell)
        rest = [
            value - by_cell[place] - by_seed[seed] + middle
            for place, one in enumerate(self.cells)
            for seed, value in enumerate(one)
        ]
        freedom = (len(self.cells) - 1) * (seeds - 1)
        error = math.hypot(*rest) * math.sqrt(2 / seeds / freedom)
        if error <= 1e-9:  # equal numbers: no spread to judge by
            return []
        pairs = [
            (a - b) if x < y else (b - a)
            for (a, x), (b, y) in combinations(zip(by_cell, self.printed, strict=True), 2)
            if x != y
        ]
        return [upper_tail(gap / error, freedom) for gap in pairs]


Alternatives = list[list[Comparison]]
"""A claim holds if *one* of the alternatives holds, and that if *all* of its comparisons hold."""


def difference(name: str, first: Cell, second: Cell, above: float = -math.inf, below: float = math.inf) -> Comparison:
    """``first - second`` within each seed."""
    lost = sum(state is State.DIVERGED for cell in (first, second) for state in cell.states.values())
    planned = len({*first.values, *first.states, *second.values, *second.states})
    selecting = first.selecting or second.selecting
    sample = paired(first.values, second.values)
    weak = len((first.unconverged | second.unconverged) & first.values.keys() & second.values.keys())
    return Comparison(name, sample, above, below, lost, planned=planned, selecting=selecting, unconverged=weak)
