"""List what each claim needs: cells, runs and complete replicates; and whether it can be decided."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.claim import Claim
from harness.config.matching import metric_shown, touched
from harness.store.results import State
from harness.sweep.plan.plan import Plan, PlannedRun


@dataclass(frozen=True)
class Need:
    """The cells that the verdict on one claim depends on, each as seed -> run. None: the grid cannot test it.

    ``evaluation_ids`` are the evaluations it looks at; ``why_never`` says why no number of runs would settle it.
    """

    claim: str
    cells: tuple[dict[int, str], ...]
    evaluation_ids: frozenset[str]
    why_never: str = ""
    chooses: bool = False  # the best of a grid on validation images

    @property
    def runs(self) -> list[str]:
        """Each once, seed by seed."""
        seeds = sorted({seed for cell in self.cells for seed in cell})
        return list(dict.fromkeys(cell[seed] for seed in seeds for cell in self.cells if seed in cell))

    def replicates(self, there: Collection[str]) -> tuple[int, int]:
        """(so many of the first planned seeds have every cell, seeds planned): a look takes the first ones."""
        seeds = sorted({seed for cell in self.cells for seed in cell})
        lacking = (place for place, seed in enumerate(seeds) if any(cell.get(seed) not in there for cell in self.cells))
        return next(lacking, len(seeds)), len(seeds)

    def has(self, one: PlannedRun) -> bool:
        """Whether a run has, or is about to have, the numbers of this claim."""
        if one.state is State.TRAINED:
            return not self.evaluation_ids & {*one.lacking}
        return one.state in (State.DONE, State.RUNNING)


def needs(plan: Plan) -> list[Need]:
    """Of every claim of the experiment at this scale, in its order."""
    settings = [arm.settings for arm in plan.arms]
    shown = metric_shown(plan.experiment.report)
    return [_need(plan, claim, claim.on or shown, settings) for claim in plan.experiment.claims]


def _need(plan: Plan, claim: Claim, metric: str, settings: Sequence[dict[str, Any]]) -> Need:
    published = {
        name: [cell["at"] for cell in table["cells"] if cell["metric"] == metric]
        for name, table in plan.references.published.items()
        if name.partition("/")[0] != "summary"  # shown beside the paper, never as the paper's
    }
    arms = sorted(touched(claim.expect, settings, published))
    sides = [side for sides in claim.expect.values() if isinstance(sides, list) for side in sides]
    metrics = {metric, *(side["on"] for side in sides if isinstance(side, dict) and "on" in side)}
    if claim.best_of is not None:
        metrics.add(claim.best_of.by)
    labels = {one.rpartition("/")[0] for one in metrics}
    never = "" if arms else "NOT RUN: not testable on this grid"
    if "close" in claim.expect and (plan.overrides or not plan.experiment.as_in_paper):
        never = never or "NOT COMPARABLE: the number is of the paper's setting"
    evaluation_ids = frozenset(one.id for one in plan.evaluations if one.label in labels)
    return Need(
        claim.id, tuple(plan.arms[index].runs for index in arms), evaluation_ids, never, claim.best_of is not None
    )


def outlook(need: Need, plan: Plan, selected: Collection[str]) -> tuple[bool, str]:
    """Whether a verdict can be reached once the runs ``selected`` are done, and in words."""
    if need.why_never:
        return False, need.why_never
    runs = [plan.runs[run] for run in need.runs]
    diverged = sum(one.state is State.DIVERGED for one in runs)
    if diverged and not need.chooses:  # one that diverged is merely not chosen
        return False, f"INCONCLUSIVE: {diverged} of its runs diverged"
    there = {one.folder.id for one in runs if need.has(one) or one.folder.id in selected}
    whole, _ = need.replicates(there)
    if reached := max((look for look in plan.experiment.looks if look <= whole), default=0):
        return True, f"can be decided: the look at {reached} seeds"
    lost = sum(one.weights_missing and not need.has(one) for one in runs)
    reason = f"; {lost} lost their weights" if lost else ""
    if whole:
        first = plan.experiment.looks[0]
        return False, f"INCONCLUSIVE: {whole} of the {first} seeds of the first look{reason}"
    return False, f"INCONCLUSIVE or NOT RUN: no seed complete{reason}" if there else "NOT RUN: none of its runs"


def missing(need: Need, plan: Plan) -> list[PlannedRun]:
    """Its runs that a sweep would start."""
    return [one for one in map(plan.runs.__getitem__, need.runs) if one.to_do and not need.has(one)]
