"""One inequality of a claim: a number per planned seed, and the open range that the claim says it lies in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from scipy import special

from harness.report.judge.looks import ALPHA, level, overall
from harness.report.judge.spread import KNOWN, Contrast, Spreads
from harness.report.read.records import Cell, State, Terms, combined
from harness.report.stats import mean, paired, spread_of, upper_tail

POWER = 0.8
"""With which the planned looks find a difference that is called large enough for them."""


def shared(candidates: int) -> float:
    """By how much the mean of values that were chosen by each other's seeds varies more than they say.

    No estimate of that variance is unbiased (Bengio and Grandvalet 2004). This is an upper bound, simulated where
    choosing costs most: equal settings, validation and test numbers alike, 2 to 12 candidates and seeds.
    """
    return 1.6 + 0.7 * math.log(candidates) if candidates > 1 else 1.0


@dataclass(frozen=True)
class Comparison:
    """``above < mean(sample) < below`` is what the claim says; one value per seed that has one.

    ``planned`` seeds were asked for, ``diverged`` runs have no number, ``selecting`` says that a ``best_of`` behind it
    still lacks validation numbers, ``step`` is the least by which one value can change (0: continuous), ``started``
    that some of the numbers that make up one value are there, ``unconverged`` how many of the values rest on a probe
    that did not converge. ``seeds`` are those of the sample, ``order`` all that are planned (the first ones, if left
    out); ``terms`` says of which arms it is a difference, and is None where that changes from seed to seed, being the
    best of so many ``candidates`` by the other seeds.
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
    seeds: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    terms: Terms | None = None
    candidates: int = 1

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
    def usable(self) -> bool:
        """Whether a verdict may rest on it: no run diverged, all probes converged, nothing is left to select."""
        return not (self.diverged or self.selecting or self.unconverged)

    def places(self, look: int) -> tuple[int, ...] | None:
        """Where in the sample the first ``look`` planned seeds stand; None where one of them has no number."""
        seeds = self.seeds or tuple(range(len(self.sample)))
        order = self.order or tuple(range(max(self.planned, len(seeds))))
        if len(order) < look or not {*order[:look]} <= {*seeds}:
            return None
        return tuple(seeds.index(seed) for seed in order[:look])

    @property
    def complete(self) -> int:
        """So many of the first planned seeds have a number, without a gap."""
        return max((n for n in range(1, len(self.sample) + 1) if self.places(n) is not None), default=0)

    def at(self, look: int, looks: tuple[int, ...], spreads: Spreads | None = None) -> Look | None:
        """What the first ``look`` planned seeds say; None where one of them lacks its number."""
        places = self.places(look)
        return None if places is None else self._seen(places, looks, spreads)

    def _seen(self, places: tuple[int, ...], looks: tuple[int, ...], spreads: Spreads | None) -> Look:
        sample, look = [self.sample[place] for place in places], len(places)
        own = spread_of(sample, self.step)
        contrast = spreads.contrast(self.terms, look) if spreads and self.terms and own else None
        if own is None or contrast is None:
            return Look(self, look, looks, mean(sample), own and own * math.sqrt(shared(self.candidates)), look - 1.0)
        return Look(self, look, looks, mean(sample), math.sqrt(contrast.variance), contrast.freedom, contrast)


@dataclass(frozen=True)
class Look:
    """A comparison at one of its planned looks: mean of that many seeds, deviation of one seed's value (None: equal
    numbers, no spread to judge by) with its degrees of freedom, and the contrast that these come from, if one does.

    ``alpha`` is always what all looks together may cost, two-sided.
    """

    of: Comparison
    seeds: int
    looks: tuple[int, ...]
    mean: float
    deviation: float | None
    freedom: float
    contrast: Contrast | None = None

    @property
    def slack(self) -> float:
        return min(self.mean - self.of.above, self.of.below - self.mean)

    @property
    def known(self) -> bool:
        """Whether the spread is known well enough to use what the looks have in common."""
        return self.contrast is not None and self.contrast.spread.arms >= KNOWN

    def level(self, alpha: float = ALPHA) -> float:
        """The two-sided level of this look alone."""
        return level(self.looks, self.seeds, alpha, self.known)

    def half(self, alpha: float = ALPHA, seeds: int = 0) -> float | None:
        """Half the width of its interval; ``seeds``: at the look of so many, if the deviation stays as it is."""
        if self.deviation is None:
            return None
        at = seeds or self.seeds
        quantile = float(special.stdtrit(self.freedom, level(self.looks, at, alpha, self.known) / 2))
        return -quantile * self.deviation / math.sqrt(at)

    def bounds(self, alpha: float = ALPHA) -> tuple[float, float] | None:
        """The t interval of the mean at the level of this look; None where there is no spread to judge by."""
        half = self.half(alpha)
        return None if half is None else (self.mean - half, self.mean + half)

    def p(self, bound: float, side: int) -> float:
        """One-sided p-value, for all looks together, of "the mean lies above ``bound``" (``side`` 1) or below (-1)."""
        if self.deviation is None:
            return 1.0
        t = side * (self.mean - bound) * math.sqrt(self.seeds) / self.deviation
        return overall(self.looks, self.seeds, upper_tail(t, self.freedom), self.known)

    @property
    def _ends(self) -> list[tuple[float, int]]:
        """The finite ends of the range, with the sign of what lies inside."""
        return [(bound, side) for bound, side in ((self.of.above, 1), (self.of.below, -1)) if math.isfinite(bound)]

    def p_inside(self) -> float:
        """One-sided p-value of the mean lying inside: the larger of the two one-sided tests (TOST)."""
        return max(self.p(bound, side) for bound, side in self._ends)

    def p_outside(self) -> float:
        """One-sided p-value of the mean lying outside, on whichever side."""
        return min(self.p(bound, -side) for bound, side in self._ends)

    def inside(self, alpha: float) -> bool:
        bounds = self.bounds(alpha)
        return bounds is not None and self.of.usable and self.of.above < bounds[0] and bounds[1] < self.of.below

    def outside(self, alpha: float) -> bool:
        bounds = self.bounds(alpha)
        return bounds is not None and self.of.usable and (bounds[1] < self.of.above or bounds[0] > self.of.below)

    @property
    def reach(self) -> float | None:
        """The least difference that the last planned look finds with power 0.8, at this spread."""
        if self.deviation is None:
            return None
        last = self.looks[-1]
        line = special.ndtri(POWER) - special.ndtri(level(self.looks, last, ALPHA, self.known) / 2)
        return float(line) * self.deviation / math.sqrt(last)

    @property
    def directed(self) -> bool:
        """Whether the claim is about a direction alone: more than nothing."""
        return self.of.signed and self.of.above == 0 and self.of.below == math.inf

    def negligible(self, alpha: float) -> bool:
        """Whether a difference that the planned looks would find is ruled out (two one-sided tests)."""
        bounds, reach = self.bounds(alpha), self.reach
        return (
            self.directed and self.of.usable and bounds is not None and reach is not None
            and -reach < bounds[0] and bounds[1] < reach
        )  # fmt: skip

    def p_negligible(self) -> float:
        """One-sided p-value of that."""
        reach = self.reach or 0.0
        return max(self.p(-reach, 1), self.p(reach, -1))


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

    def _seen(self, places: tuple[int, ...], looks: tuple[int, ...], spreads: Spreads | None) -> Look:
        sample = [self.sample[place] for place in places]
        cells = tuple(tuple(one[place] for place in places) for one in self.cells)
        p = self._outside(cells) if self.usable else 1.0
        return Ranked(
            self, len(places), looks, mean(sample), spread_of(sample, self.step), len(places) - 1.0, reversal=p
        )

    def _outside(self, cells: tuple[tuple[float, ...], ...]) -> float:
        """One-sided p-value of so many pairs being reversed that no tau above the line is left."""
        p_values = self._reversed(cells)
        pairs = len(cells) * (len(cells) - 1) / 2
        if not p_values:
            return 1.0
        # tau-b of the best ranking with ``wrong`` of the pairs reversed: (ordered - 2 wrong) / sqrt(pairs * ordered)
        ordered = len(p_values)
        wrong = math.floor((ordered - self.above * math.sqrt(pairs * ordered)) / 2) + 1
        return min(1.0, len(p_values) * sorted(p_values)[wrong - 1]) if wrong <= ordered else 1.0

    def _reversed(self, cells: tuple[tuple[float, ...], ...]) -> list[float]:
        """For each pair that the paper orders the one-sided p-value of ours being the other way round."""
        seeds = len(cells[0]) if cells else 0
        if seeds < 2:
            return []
        by_cell = [mean(one) for one in cells]
        by_seed = [mean(column) for column in zip(*cells, strict=True)]
        middle = mean(by_cell)
        rest = [
            value - by_cell[place] - by_seed[seed] + middle
            for place, one in enumerate(cells)
            for seed, value in enumerate(one)
        ]
        freedom = (len(cells) - 1) * (seeds - 1)
        error = math.hypot(*rest) * math.sqrt(2 / seeds / freedom)
        if error <= 1e-9:  # equal numbers: no spread to judge by
            return []
        pairs = [
            (a - b) if x < y else (b - a)
            for (a, x), (b, y) in combinations(zip(by_cell, self.printed, strict=True), 2)
            if x != y
        ]
        return [upper_tail(gap / error, freedom) for gap in pairs]


@dataclass(frozen=True)
class Ranked(Look):
    """An agreement of rankings at a look: ``reversal`` is the p-value, of this look alone, of what refutes it."""

    reversal: float = 1.0

    def outside(self, alpha: float) -> bool:
        return self.reversal < self.level(alpha) / 2

    def p_outside(self) -> float:
        return overall(self.looks, self.seeds, self.reversal, self.known)


Alternatives = list[list[Comparison]]
"""A claim holds if *one* of the alternatives holds, and that if *all* of its comparisons hold."""


def difference(name: str, first: Cell, second: Cell, above: float = -math.inf, below: float = math.inf) -> Comparison:
    """``first - second`` within each seed."""
    lost = sum(state is State.DIVERGED for cell in (first, second) for state in cell.states.values())
    order = tuple(sorted({*first.values, *first.states, *second.values, *second.states}))
    both = sorted(first.values.keys() & second.values.keys())
    return Comparison(
        name,
        paired(first.values, second.values),
        above,
        below,
        lost,
        planned=len(order),
        selecting=first.selecting or second.selecting,
        unconverged=len((first.unconverged | second.unconverged) & {*both}),
        seeds=tuple(both),
        order=order,
        terms=combined([(first.terms, 1.0), (second.terms, -1.0)]),
        candidates=max(first.candidates, second.candidates),
    )
