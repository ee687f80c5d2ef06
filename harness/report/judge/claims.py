"""Claims are code: kinds of sentence, each of which turns cells into inequalities on per-seed numbers.

A kind is one registered class; its fields are the keys of a claim's ``expect:`` (the kind's own key is ``of``). It
yields :class:`Comparison` objects: one number per seed (mostly a difference *within* the seed) that the claim says
lies in an open range. What these say together is decided in :mod:`harness.report.judge.verdicts`, the same way for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.config.errors import SpecError
from harness.config.matching import matches, plain
from harness.config.registry import Registry
from harness.report.judge.claim_data import Evidence, NoEvidence, Where, is_number, matched
from harness.report.judge.comparison import Agreement, Alternatives, Comparison, difference
from harness.report.read.names import arm_name, change_names, value_name
from harness.report.read.records import Cell, Claim, State
from harness.report.stats import kendall

claim_kind = Registry("claim kind")

Share = Annotated[float, Field(ge=-1, le=1)]
Points = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """One of the named settings of a path lies beyond every setting that is not named, by more than ``margin``.

    ``among: values`` (the default) compares the values of the path, each the mean of its arms; ``among: arms`` takes
    every arm by itself, for a leave-one-out table whose arms change one knob each and share the values of the others.
    """

    of: Where
    margin: float = 0.0
    where: Where = field(default_factory=dict)
    among: Literal["values", "arms"] = "values"

    lowest: ClassVar[bool]

    def alternatives(self, evidence: Evidence) -> Alternatives:
        if len(self.of) != 1:
            raise SpecError("best and lowest take one path")
        ((path, named),) = self.of.items()
        wanted = {plain(value) for value in (named if isinstance(named, list) else [named])}
        compared = self._compared(path, evidence)
        rivals = [(name, cell) for value, name, cell in compared if plain(value) not in wanted]
        ours = [(value, cell) for value, _, cell in compared if plain(value) in wanted]
        if not ours or not rivals:
            raise NoEvidence(f"{value_name(named)} is not compared with anything here")
        return [[self._beyond(at(path, value), cell, *rival) for rival in rivals] for value, cell in ours]

    def _compared(self, path: str, evidence: Evidence) -> list[tuple[Any, str, Cell]]:
        """(value of the path, name as a rival, cell) of whatever is compared."""
        if self.among == "values":
            return [(value, value_name(value), cell) for value, cell in evidence.groups(path, self.where)]
        if evidence.best_of is not None:
            raise SpecError("best_of chooses one of several arms: it does not go with among: arms")
        first, cells = evidence.cells[0].settings, [one for one in evidence.where(self.where) if path in one.settings]
        return [(one.settings[path], change_names(first, one.settings) or "the baseline", one) for one in cells]

    def _beyond(self, name: str, cell: Cell, other: str, rival: Cell) -> Comparison:
        if self.lowest:
            return difference(f"{other} over {name}", rival, cell, above=self.margin)
        return difference(f"{name} over {other}", cell, rival, above=self.margin)


@claim_kind("best")
@dataclass(frozen=True, kw_only=True)
class Best(Extreme):
    """One of the named settings beats every setting that is not named, by more than ``margin``."""

    lowest = False


@claim_kind("lowest")
@dataclass(frozen=True, kw_only=True)
class Lowest(Extreme):
    """Every setting that is not named beats one of those that are: its loss is the largest."""

    lowest = True


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
        name = f"{evidence.name(first, second)} over {evidence.name(second, first)}"
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
        groups = [(value, cell) for value, cell in evidence.groups(self.of, self.where) if is_number(value)]
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
        groups = [(value, cell) for value, cell in evidence.groups(self.of, self.where) if is_number(value)]
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
        cells = evidence.where(self.of)
        if evidence.best_of is not None:
            cells = [evidence.together(cells)]
        return [[self._one(evidence, cell) for cell in cells]]

    def _one(self, evidence: Evidence, cell: Cell) -> Comparison:
        for cells in evidence.published.values():
            for paper in cells:
                if matches(cell.settings, paper.settings):
                    seeds = {*cell.values, *cell.states}
                    fixed = Cell(paper.settings, dict.fromkeys(seeds, paper.values[0]), terms={})
                    return difference(f"{arm_name(self.of)}, ours less paper", cell, fixed, -self.within, self.within)
        raise NoEvidence(f"the paper prints no number for {arm_name(self.of)}")


@claim_kind("equivalent")
@dataclass(frozen=True, kw_only=True)
class Equivalent:
    """Two sides differ by less than ``within``: two one-sided tests (Schuirmann 1987), here 2.5 % each."""

    of: tuple[Where, Where]
    within: Points

    def alternatives(self, evidence: Evidence) -> Alternatives:
        first, second = self.of
        name = f"{evidence.name(first, second)} less {evidence.name(second, first)}"
        return [[difference(name, evidence.side(first), evidence.side(second), -self.within, self.within)]]


@claim_kind("agrees")
@dataclass(frozen=True, kw_only=True)
class Agrees:
    """Our cells rank as a published table's do: Kendall's tau above ``at_least``.

    One tau per seed over all cells of the table, then a t interval. A single seed's noise only lowers its tau, so
    this is the cautious side of the tau of the means; it refutes by another rule (:class:`Agreement`).
    """

    of: str
    at_least: Share

    def alternatives(self, evidence: Evidence) -> Alternatives:
        if self.of not in evidence.published:
            raise NoEvidence(f"no published table {self.of!r} measures this")
        pairs = list(matched(evidence, evidence.published[self.of]))
        if len(pairs) < 3:
            raise NoEvidence(f"fewer than three cells of {self.of} are here")
        cells, paper = [ours for ours, _ in pairs], [published.values[0] for _, published in pairs]
        seeds = sorted(set.intersection(*({*ours.values} for ours in cells)))
        order = sorted({seed for ours in cells for seed in (*ours.values, *ours.states)})
        # a ranking of one value throughout has no tau: that is no agreement
        taus = [kendall([ours.values[seed] for ours in cells], paper) for seed in seeds]
        return [
            [
                Agreement(
                    f"Kendall τ over {len(pairs)} cells",
                    tuple(0.0 if math.isnan(tau) else tau for tau in taus),
                    above=self.at_least,
                    diverged=sum(state is State.DIVERGED for ours in cells for state in ours.states.values()),
                    signed=False,
                    started=any(ours.values for ours in cells),
                    planned=len(order),
                    selecting=any(ours.selecting for ours in cells),
                    unconverged=sum(any(seed in ours.unconverged for ours in cells) for seed in seeds),
                    step=4 / (len(pairs) * (len(pairs) - 1)),  # one pair of neighbours swapped
                    cells=tuple(tuple(ours.values[seed] for seed in seeds) for ours in cells),
                    printed=tuple(paper),
                    seeds=tuple(seeds),
                    order=tuple(order),
                )
            ]
        ]


def kind_of(claim: Claim) -> Any:
    """The claim's component. Raises :class:`SpecError` for an unknown kind or a wrong field."""
    kinds = [key for key in claim.expect if key in claim_kind.names()]
    if len(kinds) != 1:
        raise SpecError(f"expect must name exactly one of {', '.join(claim_kind.names())}")
    rest = {key: value for key, value in claim.expect.items() if key != kinds[0]}
    return claim_kind.build({kinds[0]: {"of": claim.expect[kinds[0]], **rest}})
