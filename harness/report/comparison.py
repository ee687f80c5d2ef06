"""One inequality of a claim: a number per planned seed, and the open range that the claim says it lies in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.report.records import Cell, State
from harness.report.stats import interval, mean, p_value, paired


@dataclass(frozen=True)
class Comparison:
    """``above < mean(sample) < below`` is what the claim says; one value per seed that has one.

    ``planned`` seeds were asked for, ``diverged`` runs have no number, ``selecting`` says that a ``best_of`` behind it
    still lacks validation numbers, ``step`` is the least by which one value can change (0: continuous), ``started``
    that some of the numbers that make up one value are there.
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

    @property
    def mean(self) -> float:
        return mean(self.sample) if self.sample else math.nan

    @property
    def slack(self) -> float:
        """How far the mean lies inside the range; negative outside, -inf without a number."""
        return min(self.mean - self.above, self.below - self.mean) if self.sample else -math.inf

    @property
    def missing(self) -> int:
        """Seeds that were planned and have no number yet."""
        return max(0, self.planned - len(self.sample))

    @property
    def final(self) -> bool:
        """Whether a verdict may rest on it: all planned seeds are in, none diverged, nothing is left to select.

        Looking after every seed and stopping at the first that pleases would be wrong more often than 5 %.
        """
        return not (self.missing or self.diverged or self.selecting)

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


Alternatives = list[list[Comparison]]
"""A claim holds if *one* of the alternatives holds, and that if *all* of its comparisons hold."""


def difference(name: str, first: Cell, second: Cell, above: float = -math.inf, below: float = math.inf) -> Comparison:
    """``first - second`` within each seed."""
    lost = sum(state is State.DIVERGED for cell in (first, second) for state in cell.states.values())
    planned = len({*first.values, *first.states, *second.values, *second.states})
    selecting = first.selecting or second.selecting
    sample = paired(first.values, second.values)
    return Comparison(name, sample, above, below, lost, planned=planned, selecting=selecting)
