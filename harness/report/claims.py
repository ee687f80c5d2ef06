"""Claims are code: eight kinds of sentence, each of which turns cells into inequalities on per-seed numbers.

A kind is one registered class; its fields are the keys of a claim's ``expect:`` (the kind's own key is ``of``). It
yields :class:`Comparison` objects: one number per seed (mostly a difference *within* the seed) that the claim says
lies in an open range. What these say together is decided in :mod:`harness.report.verdicts`, the same way for all.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.report.names import arm_name, value_name
from harness.report.records import Cell, Claim, State, matches, plain
from harness.report.stats import interval, kendall, paired
from harness.spec.errors import SpecError
from harness.spec.registry import Registry

claim_kind = Registry("claim kind")

Where = dict[str, Any]
Share = Annotated[float, Field(ge=-1, le=1)]
Points = Annotated[float, Field(gt=0)]


class NoEvidence(ValueError):
    """The experiment has no arm (or the paper no number) that the claim speaks of; the message says which."""


@dataclass(frozen=True)
class Comparison:
    """``above < mean(sample) < below`` is what the claim says; one value per seed, ``diverged`` runs left out."""

    name: str
    sample: tuple[float, ...]
    above: float = -math.inf
    below: float = math.inf
    diverged: int = 0
    signed: bool = True
    started: bool = False  # some of the numbers that make up one value are there, though not all

    @property
    def mean(self) -> float:
        return statistics.fmean(self.sample) if self.sample else math.nan

    @property
    def slack(self) -> float:
        """How far the mean lies inside the range; negative outside, -inf without a number."""
        return min(self.mean - self.above, self.below - self.mean) if self.sample else -math.inf

    def inside(self, confidence: float) -> bool:
        bounds = interval(self.sample, confidence)
        return bounds is not None and not self.diverged and self.above < bounds[0] and bounds[1] < self.below

    def outside(self, confidence: float) -> bool:
        bounds = interval(self.sample, confidence)
        return bounds is not None and not self.diverged and (bounds[1] < self.above or bounds[0] > self.below)


Alternatives = list[list[Comparison]]
"""A claim holds if *one* of the alternatives holds, and that if *all* of its comparisons hold."""


@dataclass(frozen=True)
class Evidence:
    """The cells a claim is judged on (ours, or the paper's own), and the paper's cells by name for reference."""

    cells: Sequence[Cell]
    published: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    measured: Callable[[str], Sequence[Cell]] = lambda metric: ()
    """The same cells under another metric, for a side that says ``on``."""

    def where(self, settings: Where) -> list[Cell]:
        """All cells with these settings. Raises :class:`NoEvidence` if there are none."""
        found = [cell for cell in self.cells if matches(cell.settings, settings)]
        if not found:
            raise NoEvidence(f"nothing here has {arm_name(settings)}")
        return found

    def side(self, side: Where) -> Cell:
        """The mean over all cells with these settings, for each seed that all of them have.

        Two keys of a side are not paths: ``on`` measures it by another metric (h against z), ``minus`` takes away the
        cell that differs by the settings it names (the gap between two batch sizes, to compare gaps).
        """
        settings, on, minus = split_side(side)
        evidence = self if on is None else replace(self, cells=self.measured(on))
        whole = pool(evidence.where(settings))
        if minus is None:
            return whole
        rest = pool(evidence.where(settings | minus))
        values = {seed: whole.values[seed] - rest.values[seed] for seed in whole.values if seed in rest.values}
        return Cell(whole.settings, values, {**rest.states, **whole.states, **_diverged(rest)}, whole.arms + rest.arms)

    def groups(self, path: str, where: Where) -> list[tuple[Any, Cell]]:
        """Value of ``path`` -> pooled cell, numbers ascending and anything else in order of appearance."""
        found: dict[Any, list[Cell]] = {}
        for cell in self.where(where):
            if path in cell.settings:
                found.setdefault(plain(cell.settings[path]), []).append(cell)
        groups = [(cells[0].settings[path], pool(cells)) for cells in found.values()]
        if all(isinstance(value, int | float) for value, _ in groups):
            groups.sort(key=lambda group: float(group[0]))
        return groups


def split_side(side: Where) -> tuple[Where, str | None, Where | None]:
    """A side's settings, its ``on`` and its ``minus``. Raises :class:`SpecError` where these are of another type."""
    settings = {path: value for path, value in side.items() if path not in ("on", "minus")}
    on, minus = side.get("on"), side.get("minus")
    if not isinstance(on, str | None) or not isinstance(minus, dict | None):
        raise SpecError("on: takes a metric, minus: takes settings")
    return settings, on, minus


def side_name(side: Where, other: Where) -> str:
    """A side in words, without the settings that the other side has too."""
    (settings, on, minus), (against, *_) = split_side(side), split_side(other)
    measured = f" ({on.rpartition('/')[0]})" if on else ""
    gap = f" (less {arm_name(minus)})" if minus else ""
    return f"{arm_name(settings, against)}{measured}{gap}"


def _diverged(cell: Cell) -> dict[int, State]:
    return {seed: state for seed, state in cell.states.items() if state is State.DIVERGED}


def pool(cells: Sequence[Cell]) -> Cell:
    """Per-seed mean of several cells; a seed that one of them lacks is lacking."""
    seeds = set.intersection(*({*cell.values} for cell in cells))
    values = {seed: statistics.fmean(cell.values[seed] for cell in cells) for seed in sorted(seeds)}
    states = {seed: state for cell in cells for seed, state in cell.states.items()}
    for cell in cells:  # a diverged sibling is never hidden behind one that is merely missing
        states |= _diverged(cell)
    return Cell(cells[0].settings, values, states, tuple(index for cell in cells for index in cell.arms))


def difference(name: str, first: Cell, second: Cell, above: float = -math.inf, below: float = math.inf) -> Comparison:
    """``first - second`` within each seed."""
    diverged = sum(state is State.DIVERGED for cell in (first, second) for state in cell.states.values())
    return Comparison(name, paired(first.values, second.values), above, below, diverged)


@claim_kind("best")
@dataclass(frozen=True, kw_only=True)
class Best:
    """One of the named settings beats every setting that is not named, by more than ``margin``."""

    of: Where
    margin: float = 0.0
    where: Where = field(default_factory=dict)

    def alternatives(self, evidence: Evidence) -> Alternatives:
        (path, named), *others = self.of.items()
        if others:
            raise SpecError("best takes one path")
        wanted = {plain(value) for value in (named if isinstance(named, list) else [named])}
        groups = evidence.groups(path, self.where)
        rivals = [(value, cell) for value, cell in groups if plain(value) not in wanted]
        ours = [(value, cell) for value, cell in groups if plain(value) in wanted]
        if not ours or not rivals:
            raise NoEvidence(f"{value_name(named)} is not compared with anything here")
        return [
            [
                difference(f"{at(path, value)} over {value_name(other)}", cell, rival, above=self.margin)
                for other, rival in rivals
            ]
            for value, cell in ours
        ]


@claim_kind("greater")
@dataclass(frozen=True, kw_only=True)
class Greater:
    """The first side exceeds the second by more than ``margin``; several arms on a side are averaged per seed."""

    of: tuple[Where, Where]
    margin: float = 0.0

    def alternatives(self, evidence: Evidence) -> Alternatives:
        return [list(chain(evidence, self.of, self.margin))]


@claim_kind("order")
@dataclass(frozen=True, kw_only=True)
class Order:
    """Each side exceeds the next by more than ``margin``: first > second > third ..."""

    of: Annotated[list[Where], Field(min_length=2)]
    margin: float = 0.0

    def alternatives(self, evidence: Evidence) -> Alternatives:
        return [list(chain(evidence, self.of, self.margin))]


def at(path: str, value: Any) -> str:
    """A value with the name of its path where the value alone would say too little: ``temperature 0.1``."""
    return arm_name({path: value})


def chain(evidence: Evidence, sides: Sequence[Where], margin: float) -> Iterator[Comparison]:
    """Neighbours of a descending chain."""
    for first, second in pairwise(sides):
        name = f"{side_name(first, second)} over {side_name(second, first)}"
        yield difference(name, evidence.side(first), evidence.side(second), above=margin)


@claim_kind("monotone")
@dataclass(frozen=True, kw_only=True)
class Monotone:
    """Each step along a path goes up (or down) by more than ``margin``; a negative margin tolerates a reversal."""

    of: str
    direction: Literal["increasing", "decreasing"] = "increasing"
    where: Where = field(default_factory=dict)
    margin: float = 0.0

    def alternatives(self, evidence: Evidence) -> Alternatives:
        groups = evidence.groups(self.of, self.where)
        if len(groups) < 2:
            raise NoEvidence(f"{self.of} has fewer than two values here")
        if self.direction == "decreasing":
            groups.reverse()
        steps = pairwise(groups)
        return [
            [difference(f"{at(self.of, b)} over {value_name(a)}", y, x, above=self.margin) for (a, x), (b, y) in steps]
        ]


@claim_kind("saturates")
@dataclass(frozen=True, kw_only=True)
class Saturates:
    """Beyond ``after`` nothing gains ``within`` points or more over it (a loss is no objection: one-sided)."""

    of: str
    after: float
    within: Points
    where: Where = field(default_factory=dict)

    def alternatives(self, evidence: Evidence) -> Alternatives:
        groups = evidence.groups(self.of, self.where)
        base = next((cell for value, cell in groups if float(value) == self.after), None)
        beyond = [(value, cell) for value, cell in groups if float(value) > self.after]
        if base is None or not beyond:
            raise NoEvidence(f"no value at and above {self.after:g} here")
        after = value_name(self.after)
        return [[difference(f"{at(self.of, v)} over {after}", cell, base, below=self.within) for v, cell in beyond]]


@claim_kind("close")
@dataclass(frozen=True, kw_only=True)
class Close:
    """Our mean lies within ``within`` points of the published number, for every arm that matches."""

    of: Where
    within: Points

    def alternatives(self, evidence: Evidence) -> Alternatives:
        return [[self._one(evidence, cell) for cell in evidence.where(self.of)]]

    def _one(self, evidence: Evidence, cell: Cell) -> Comparison:
        for cells in evidence.published.values():
            for paper in cells:
                if matches(cell.settings, paper.settings):
                    fixed = Cell(paper.settings, dict.fromkeys(cell.values, paper.values[0]))
                    return difference(f"{arm_name(self.of)}, ours less paper", cell, fixed, -self.within, self.within)
        raise NoEvidence(f"the paper prints no number for {arm_name(self.of)}")


@claim_kind("equivalent")
@dataclass(frozen=True, kw_only=True)
class Equivalent:
    """Two sides differ by less than ``within``: two one-sided tests (Schuirmann 1987), here each at 2.5 %."""

    of: tuple[Where, Where]
    within: Points

    def alternatives(self, evidence: Evidence) -> Alternatives:
        first, second = self.of
        name = f"{side_name(first, second)} less {side_name(second, first)}"
        return [[difference(name, evidence.side(first), evidence.side(second), -self.within, self.within)]]


@claim_kind("agrees")
@dataclass(frozen=True, kw_only=True)
class Agrees:
    """Our cells rank as a published table's do: Kendall's tau above ``at_least``.

    One tau per seed over all cells of the table, then a t interval. A single seed's noise only lowers its tau, so
    this is the cautious side of the tau of the means.
    """

    of: str
    at_least: Share

    def alternatives(self, evidence: Evidence) -> Alternatives:
        if self.of not in evidence.published:
            raise NoEvidence(f"no published table {self.of!r} measures this")
        pairs = list(matched(evidence.cells, evidence.published[self.of]))
        if len(pairs) < 3:
            raise NoEvidence(f"fewer than three cells of {self.of} are here")
        seeds = sorted(set.intersection(*({*ours.values} for ours, _ in pairs)))
        diverged = sum(state is State.DIVERGED for ours, _ in pairs for state in ours.states.values())
        paper = [published.values[0] for _, published in pairs]
        taus = tuple(kendall([ours.values[seed] for ours, _ in pairs], paper) for seed in seeds)
        name = f"Kendall τ over {len(pairs)} cells"
        # a ranking of one value throughout has no tau: that is no agreement
        taus = tuple(0.0 if math.isnan(tau) else tau for tau in taus)
        started = any(ours.values for ours, _ in pairs)
        return [[Comparison(name, taus, above=self.at_least, diverged=diverged, signed=False, started=started)]]


def matched(ours: Sequence[Cell], published: Sequence[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """For each published cell the pooled cells of ours with its settings, where there are any."""
    for paper in published:
        found = [cell for cell in ours if matches(cell.settings, paper.settings)]
        if found:
            yield pool(found), paper


def kind_of(claim: Claim) -> Any:
    """The claim's component. Raises :class:`SpecError` for an unknown kind or a wrong field."""
    kinds = [key for key in claim.expect if key in claim_kind.names()]
    if len(kinds) != 1:
        raise SpecError(f"expect must name exactly one of {', '.join(claim_kind.names())}")
    rest = {key: value for key, value in claim.expect.items() if key != kinds[0]}
    return claim_kind.build({kinds[0]: {"of": claim.expect[kinds[0]], **rest}})
