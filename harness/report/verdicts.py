"""From the comparisons of a claim to one verdict, by one rule that looks only at t intervals.

* REPRODUCED: every comparison's 95 % interval lies inside its range. A conjunction is an intersection-union test
  (Berger 1982): its null hypothesis is that *some* part is false, so each part tested at level alpha keeps the whole
  at level alpha, however many parts there are. No correction is due, and none is applied. A claim that offers
  alternatives ("one of these is best") is a union of such conjunctions and pays for each: 1 - 0.05/alternatives.
* NOT REPRODUCED: some comparison (of each alternative) lies wholly outside its range. Here one false alarm among K
  comparisons is enough to be wrong, so each interval is widened to level 1 - 0.05/K (Bonferroni; Holm's step-down
  begins with the same threshold and we need only its first rejection, so it would add nothing).
* INCONCLUSIVE: neither; or some comparison is missing, has one seed (one number has no spread) or a diverged run,
  whose number is unknown and certainly not like those of its siblings. None of these can ever be REPRODUCED, and a
  comparison with a diverged run refutes nothing either: what is left of it are the survivors.
* NOT COMPARABLE: the claim is that we come close to a number that the paper measured in another setting (data,
  network, length). Ours is shown beside it, but an interval around the difference would test nothing.
* NOT RUN: no comparison has a number.

Claims are judged one at a time: of forty true-or-false sentences one or two verdicts may be wrong by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from harness.report.claims import Agrees, Alternatives, Close, Comparison, Evidence, NoEvidence, kind_of
from harness.report.records import Cell, Claim, Experiment, Results, matches, plain, published_cells
from harness.report.stats import CONFIDENCE, seeds_needed
from harness.spec.errors import SpecError


class Verdict(StrEnum):
    """What may be said about a claim."""

    REPRODUCED = "REPRODUCED"
    NOT_REPRODUCED = "NOT REPRODUCED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_COMPARABLE = "NOT COMPARABLE"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class Judgement:
    """A verdict, the comparison it hangs on (its n, the level of its interval), and what would settle it."""

    verdict: Verdict
    n: int
    decide: str
    deciding: Comparison | None = None
    comparisons: int = 0
    confidence: float = CONFIDENCE
    untestable: bool = False


def judge(alternatives: Alternatives) -> Judgement:
    """The verdict; see the module docstring for the rule."""
    level = 1 - (1 - CONFIDENCE) / len(alternatives)  # "one of several" is a union: it pays for each of them
    best = max(alternatives, key=lambda one: min(comparison.slack for comparison in one))
    deciding = min(best, key=lambda comparison: comparison.slack)

    def verdict(verdict: Verdict, decide: str, by: Comparison = deciding, at: float = level) -> Judgement:
        return Judgement(verdict, len(by.sample), decide, by, len(best), at)

    if not any(comparison.sample or comparison.started for one in alternatives for comparison in one):
        return verdict(Verdict.NOT_RUN, _unrun(best))
    if any(all(comparison.inside(level) for comparison in one) for one in alternatives):
        held = next(one for one in alternatives if all(comparison.inside(level) for comparison in one))
        return verdict(Verdict.REPRODUCED, "decided", min(held, key=lambda comparison: comparison.slack))
    if all(any(comparison.outside(_widened(one)) for comparison in one) for one in alternatives):
        against = [comparison for comparison in best if comparison.outside(_widened(best))]
        return verdict(
            Verdict.NOT_REPRODUCED, "decided", min(against, key=lambda comparison: comparison.slack), _widened(best)
        )
    measured = [comparison for comparison in best if comparison.sample and not comparison.inside(level)]
    by = min(measured, key=lambda comparison: comparison.slack) if measured else deciding
    return verdict(Verdict.INCONCLUSIVE, _would_decide(best, level), by)


def holds(alternatives: Alternatives) -> tuple[bool, Comparison]:
    """Whether bare numbers (a printed table has no seeds) lie in the ranges, and the one with least to spare."""
    best = max(alternatives, key=lambda one: min(comparison.slack for comparison in one))
    deciding = min(best, key=lambda comparison: comparison.slack)
    return round(deciding.slack, 9) > 0, deciding


def _widened(comparisons: Sequence[Comparison]) -> float:
    return 1 - (1 - CONFIDENCE) / len(comparisons)


def _unrun(comparisons: Sequence[Comparison]) -> str:
    diverged = sum(comparison.diverged for comparison in comparisons)
    return f"{diverged} diverged runs, no number" if diverged else "its runs"


def _would_decide(comparisons: Sequence[Comparison], level: float) -> str:
    """In words: what has to be run before the claim can be decided."""
    total = len(comparisons)
    of = f" of {total} comparisons" if total > 1 else ""
    if diverged := sum(comparison.diverged > 0 for comparison in comparisons):
        return f"diverged runs leave {diverged}{of or ' comparison'} without all its numbers"
    if total == 1 and comparisons[0].started and not comparisons[0].sample:
        return "one seed of every cell: no seed is complete yet"
    if unrun := sum(not comparison.sample for comparison in comparisons):
        return f"runs for {unrun}{of or ' comparison'}"
    if single := sum(len(comparison.sample) == 1 for comparison in comparisons):
        return f"a second seed for {single}{of}" if total > 1 else "a second seed: one has no interval"
    reachable = all(comparison.slack > 0 for comparison in comparisons)
    if reachable:
        open_ = [comparison for comparison in comparisons if not comparison.inside(level)]
    else:
        level = _widened(comparisons)
        open_ = [comparison for comparison in comparisons if comparison.slack <= 0]
    needed = [(seeds_needed(one.sample, one.above, one.below, level), len(one.sample)) for one in open_]
    known = [count - there for count, there in needed if count is not None]
    if not known or (reachable and len(known) < len(needed)):
        return "more seeds than are worth it: too close to call at this spread"
    more = max(known) if reachable else min(known)
    return f"about {max(more, 1)} more seed{'s' if more > 1 else ''} at this spread"


@dataclass(frozen=True)
class Judged:
    """One claim at one scale: ours, the paper's own numbers, and what the summary says."""

    experiment: Experiment
    claim: Claim
    metric: str
    ours: Judgement
    paper: tuple[bool, Comparison] | None
    paper_note: str = ""

    @property
    def key(self) -> str:
        return f"{self.experiment.key}/{self.claim.id}"


def judge_claim(results: Results, experiment: Experiment, claim: Claim) -> Judged:
    """Judge a claim on our runs and on the paper's printed numbers."""
    metric = claim.on or default_metric(experiment)
    published = {
        name: cells
        for name in published_order(experiment)
        if not is_summary(name) and (cells := _printed(experiment, name, metric))
    }
    try:
        kind = kind_of(claim)
    except SpecError as error:
        return Judged(
            experiment,
            claim,
            metric,
            Judgement(Verdict.NOT_RUN, 0, f"this claim cannot be read: {error}", untestable=True),
            None,
        )
    try:
        measured = partial(results.cells, experiment)
        ours = judge(kind.alternatives(Evidence(measured(metric), published, measured)))
    except (NoEvidence, SpecError) as error:
        ours = Judgement(Verdict.NOT_RUN, 0, f"not testable at this scale: {error}", untestable=True)
    if isinstance(kind, Close) and not experiment.as_in_paper and ours.n:
        setting = f"{experiment.scale}{', changed by -o' if experiment.overrides else ''}"
        decide = f"not comparable: the paper’s number is of the paper’s setting, ours of {setting}"
        ours = replace(ours, verdict=Verdict.NOT_COMPARABLE, decide=decide, untestable=True)
    if isinstance(kind, Close | Agrees):
        return Judged(experiment, claim, metric, ours, None, "the reference")
    for name, cells in published.items():
        printed = partial(_printed, experiment, name)
        try:
            return Judged(
                experiment, claim, metric, ours, holds(kind.alternatives(Evidence(cells, published, printed)))
            )
        except (NoEvidence, SpecError):
            continue
    return Judged(experiment, claim, metric, ours, None, "no such number")


def _printed(experiment: Experiment, name: str, metric: str) -> list[Cell]:
    """The paper's cells with what our arms say about the same place, e.g. the pair that a row and a column make."""
    placed = []
    for cell in published_cells(experiment.published[name], metric):
        arms = [arm.settings for arm in experiment.arms if matches(arm.settings, cell.settings)]
        shared = arms[0] if arms else {}
        agreed = {path: v for path, v in shared.items() if all(path in a and plain(a[path]) == plain(v) for a in arms)}
        placed.append(Cell({**agreed, **cell.settings}, cell.values))
    return placed


def is_summary(name: str) -> bool:
    """Whether a published table is the third-party summary's: shown beside ours, but never as the paper's."""
    return name.partition("/")[0] == "summary"


def judge_all(results: Results) -> list[Judged]:
    """Every claim of every experiment, in the order of the page."""
    return [
        judge_claim(results, experiment, claim) for experiment in results.experiments for claim in experiment.claims
    ]


def default_metric(experiment: Experiment) -> str:
    """What a claim without ``on`` is about: the first metric the report block names, else linear top-1."""
    for block in experiment.report:
        for kind, fields in block.items():
            if kind == "heatmap" and fields.get("cell"):
                return str(fields["cell"])
            if kind == "lines" and fields.get("y"):
                return str(fields["y"])
            if kind == "table" and fields.get("columns"):
                metrics = [str(metric) for metric in fields["columns"].values()]
                return "linear/top1" if "linear/top1" in metrics else metrics[-1]
    return "linear/top1"


def published_order(experiment: Experiment) -> list[str]:
    """Names of published tables: those the report shows first, in its order."""
    shown = [
        str(fields["published"]) for block in experiment.report for fields in block.values() if "published" in fields
    ]
    return [name for name in dict.fromkeys([*shown, *sorted(experiment.published)]) if name in experiment.published]
