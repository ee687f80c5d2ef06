"""Every claim at every scale, judged three times: on our runs, on the paper's printed numbers, on the summary's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from harness.config.errors import SpecError
from harness.config.matching import matches, metric_shown, plain
from harness.report.judge.claim_data import Evidence, NoEvidence
from harness.report.judge.claims import Agrees, Close, Equivalent, Extreme, Greater, Monotone, Order, Saturates, kind_of
from harness.report.judge.comparison import Alternatives, Comparison
from harness.report.judge.spread import Spreads
from harness.report.judge.verdicts import Judgement, Verdict, holds, jointly, judge
from harness.report.read.names import path_name
from harness.report.read.records import Cell, Claim, Experiment, Results, first_seeds, published_cells

Printed = tuple[bool, Comparison]
"""Whether a claim holds on printed numbers, and the comparison with least to spare."""
ON_THE_LINE = 1e-9


@dataclass(frozen=True)
class Judged:
    """One claim at one scale: ours, the paper's own numbers, the summary's, and whether the first stands jointly.

    ``partial`` says of which part of the paper's values this scale has arms ("4 of the paper's 6 values of ...").
    """

    experiment: Experiment
    claim: Claim
    metric: str
    ours: Judgement
    paper: Printed | None
    paper_note: str = ""
    summary: Printed | None = None
    partial: str = ""
    jointly: bool = False
    together_with: int = 0
    direction: Judgement | None = None
    """The same claim without its margin, where that is in the points of another setting: its direction alone."""

    @property
    def key(self) -> str:
        return f"{self.experiment.key}/{self.claim.id}"

    @property
    def summary_agrees(self) -> bool | None:
        """Whether the summary's figures say of this claim what the paper's say; None where one of them says nothing.

        A figure that lies on the very line of the claim ("about ten points", where more than ten are claimed) says
        nothing either.
        """
        if self.summary is None or abs(self.summary[1].slack) < ON_THE_LINE:
            return None
        if self.paper is None and self.paper_note != REFERENCE:
            return None
        return self.summary[0] is (self.paper is None or self.paper[0])


REFERENCE = "the reference"
ELSEWHERE, IN_WORDS, NO_NUMBER = "not at these settings", "in words only", "no number here"
"""Why there is nothing on the paper's side: its table lacks these settings; it says so without any number; or the
experiment names no table that measures this, which need not mean that the paper has none."""


@dataclass
class Table:
    """An experiment at one scale as its claims see it; what several of them need is worked out once."""

    results: Results
    experiment: Experiment
    _cells: dict[str, list[Cell]] = field(default_factory=dict)
    _printed: dict[tuple[str, str], list[Cell]] = field(default_factory=dict)

    @cached_property
    def spreads(self) -> Spreads:
        return Spreads(self.measured)

    def measured(self, metric: str) -> list[Cell]:
        """Our cells of a metric, one per arm."""
        if metric not in self._cells:
            self._cells[metric] = self.results.cells(self.experiment, metric)
        return self._cells[metric]

    def first(self, look: int, metric: str) -> list[Cell]:
        """The same of the first planned seeds alone."""
        return [first_seeds(cell, look) for cell in self.measured(metric)]

    def printed(self, name: str, metric: str) -> list[Cell]:
        """The cells of a published table."""
        if (name, metric) not in self._printed:
            self._printed[name, metric] = printed_cells(self.experiment, name, metric)
        return self._printed[name, metric]


def judge_claim(table: Table, claim: Claim) -> Judged:
    """Judge a claim on our runs, on the paper's printed numbers and on the summary's."""
    experiment = table.experiment
    metric = claim.on or metric_shown(experiment.report)
    try:
        kind = kind_of(claim)
    except SpecError as error:
        wrong = Judgement(Verdict.NOT_RUN, 0, f"this claim cannot be read: {error}", untestable=True)
        return Judged(experiment, claim, metric, wrong, None)
    names = [name for name in published_order(experiment) if table.printed(name, metric)]
    papers = {name: table.printed(name, metric) for name in names if not is_summary(name)}
    printed = partial(_first_printed, table, kind, papers)
    reference = isinstance(kind, Close | Agrees)
    paper = None if reference else printed(metric, papers)
    whole, direction = _ours(table, claim, kind, papers, metric), None
    if not experiment.as_in_paper and getattr(kind, "margin", 0.0) > 0:
        # margins come from the paper's setting; elsewhere a direction can be told
        direction = _ours(table, claim, replace(kind, margin=0.0), papers, metric)
    return Judged(
        experiment,
        claim,
        metric,
        _sized(whole, direction),
        paper,
        REFERENCE if reference else "" if paper else _unprinted(experiment, claim, kind, metric),
        printed(metric, [name for name in names if is_summary(name)]) or _as_stated(claim, kind),
        _partial(experiment, kind, papers),
        direction=direction,
    )


def _ours(table: Table, claim: Claim, kind: Any, papers: dict[str, list[Cell]], metric: str) -> Judgement:
    experiment, best_of = table.experiment, claim.best_of
    try:
        if best_of is not None:
            best_of.check(metric, table.results.splits(experiment, best_of.by))
        alternatives = kind.alternatives(Evidence(table.measured(metric), papers, table.measured, best_of))
    except (NoEvidence, SpecError) as error:
        return Judgement(Verdict.NOT_RUN, 0, f"not testable at this scale: {error}", untestable=True)

    def first(look: int) -> Alternatives:
        """Chosen by the first seeds alone: a look knows of no later one."""
        measured = partial(table.first, look)
        found: Alternatives = kind.alternatives(Evidence(measured(metric), papers, measured, best_of))
        return found

    ours = judge(alternatives, experiment.looks, table.spreads, first if best_of else None)
    if isinstance(kind, Close) and not experiment.as_in_paper and ours.n:
        setting = f"{experiment.scale}{', changed by -o' if experiment.overrides else ''}"
        decide = f"not comparable: the paper’s number is of the paper’s setting, ours of {setting}"
        return replace(ours, verdict=Verdict.NOT_COMPARABLE, decide=decide, untestable=True)
    return ours


def _sized(whole: Judgement, direction: Judgement | None) -> Judgement:
    """The verdict on a claim about a size, of which the direction was judged too."""
    if direction is None or (whole.verdict, direction.verdict) != (Verdict.NOT_REPRODUCED, Verdict.REPRODUCED):
        return whole
    return replace(whole, verdict=Verdict.DIRECTION, p=max(whole.p, direction.p))


def _first_printed(
    table: Table, kind: Any, papers: dict[str, list[Cell]], metric: str, names: Iterable[str]
) -> Printed | None:
    """The claim on the first of these printed tables that has all the numbers it needs."""
    for name in names:
        cells = partial(table.printed, name)
        try:
            return holds(kind.alternatives(Evidence(cells(metric), papers, cells)))
        except (NoEvidence, SpecError):
            continue
    return None


def _unprinted(experiment: Experiment, claim: Claim, kind: Any, metric: str) -> str:
    """Why no published table of the paper can judge a claim.

    A table that measures this but at other settings is not the same as a paper without any number: Figure 9 has the
    gap between batch sizes, only not for the lengths that a small scale trains.
    """
    if "(in words)" in claim.where:
        return IN_WORDS
    sides = kind.of if isinstance(kind, Greater | Order | Equivalent) else ()
    needed = {metric, *(side["on"] for side in sides if "on" in side)}
    printed = {cell.metric for name, one in experiment.published.items() if not is_summary(name) for cell in one.cells}
    return ELSEWHERE if needed <= printed else NO_NUMBER


def _as_stated(claim: Claim, kind: Any) -> Printed | None:
    """A difference that the summary states without the two numbers it is of (``summary: {difference: 10}``)."""
    stated = claim.summary.get("difference") if isinstance(claim.summary, dict) else None
    if not isinstance(stated, int | float) or not isinstance(kind, Greater | Equivalent):
        return None
    low, high = (kind.margin, float("inf")) if isinstance(kind, Greater) else (-kind.within, kind.within)
    comparison = Comparison("as it states", (float(stated),), low, high)
    return round(comparison.slack, 9) > 0, comparison


def _partial(experiment: Experiment, kind: Any, papers: dict[str, list[Cell]]) -> str:
    """``4 of the paper's 6 values of batch size`` where this scale leaves out some that the claim is about."""
    if not isinstance(kind, Extreme | Monotone | Saturates) or (isinstance(kind, Extreme) and kind.among == "arms"):
        return ""
    path = next(iter(kind.of)) if isinstance(kind, Extreme) else kind.of
    where = {key: value for key, value in kind.where.items() if key != path}

    def values(settings: Iterable[Any]) -> set[Any]:
        return {plain(one[path]) for one in settings if one.get(path) is not None and matches(one, where)}

    ours = values(arm.settings for arm in experiment.arms)
    paper = values(cell.settings for cells in papers.values() for cell in cells)
    if not paper & ours or not paper - ours:
        return ""
    return f"{len(paper & ours)} of the paper’s {len(paper)} values of {path_name(path)}"


def printed_cells(experiment: Experiment, name: str, metric: str) -> list[Cell]:
    """The paper's cells with what our arms say about the same place, e.g. the pair that a row and a column make."""
    placed = []
    for cell in published_cells(experiment.published[name], metric):
        arms = [arm.settings for arm in experiment.arms if matches(arm.settings, cell.settings)]
        shared = arms[0] if arms else {}
        agreed = {path: v for path, v in shared.items() if all(path in a and plain(a[path]) == plain(v) for a in arms)}
        placed.append(Cell({**agreed, **cell.settings}, cell.values))
    return placed


def judge_all(results: Results) -> list[Judged]:
    """Every claim of every experiment, in the order of the page; those of one experiment also together."""
    found = []
    for experiment in results.experiments:
        table = Table(results, experiment)
        one_by_one = [judge_claim(table, claim) for claim in experiment.claims]
        tested = sum(not one.ours.untestable for one in one_by_one)
        stand = jointly([one.ours for one in one_by_one])
        found += [replace(one, jointly=also, together_with=tested) for one, also in zip(one_by_one, stand, strict=True)]
    return found


def is_summary(name: str) -> bool:
    """Whether a published table is the third-party summary's: shown beside ours, but never as the paper's."""
    return name.partition("/")[0] == "summary"


def published_order(experiment: Experiment) -> list[str]:
    """Names of published tables: those the report shows first, in its order."""
    shown = [
        str(fields["published"]) for block in experiment.report for fields in block.values() if "published" in fields
    ]
    return [name for name in dict.fromkeys([*shown, *sorted(experiment.published)]) if name in experiment.published]
