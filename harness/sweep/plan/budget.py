"""``--budget 40h``: select the runs that add most evidence when not all are affordable.

One replicate of every cell comes first: it shows every effect once, and what does not run at all. A claim is judged
on all its planned seeds, so next its further seeds are completed, claim by claim, whichever costs least to complete.
What no claim asks for comes last. Whatever no longer fits is left out, and cheaper runs behind it may still fit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.components import Evaluation
from harness.config.errors import SpecError
from harness.sweep.plan.claim_requirements import missing, needs, outlook
from harness.sweep.plan.cost import Prices
from harness.sweep.plan.plan import Plan, PlannedRun


@dataclass(frozen=True)
class Selection:
    """What a budget buys of the runs that are to do, in the order they are to run; each run once."""

    budget: float
    unit: str
    selected: Mapping[str, float]  # run -> hours
    left_out: Mapping[str, float]
    open_claims: Sequence[tuple[str, str]]  # (experiment@scale/claim, why it stays open) that everything would settle

    @property
    def hours(self) -> float:
        """Cost of the selected runs."""
        return sum(self.selected.values())


Candidates = Sequence[tuple[Plan, Sequence[PlannedRun]]]
"""Every plan of one command with the runs of it that are to do."""


def select(candidates: Candidates, prices: Prices, budget: float, queued: Collection[str] = ()) -> Selection:
    """Spend ``budget`` hours. A run that several experiments ask for is trained, and paid, once.

    Raises :class:`SpecError` where a price is unknown.
    """
    costs = _costs(candidates, prices)
    selected: dict[str, float] = {}
    left_out: dict[str, float] = {}
    spent = 0.0
    for run in by_evidence(candidates, costs):
        fits = spent + costs[run] <= budget
        (selected if fits else left_out)[run] = costs[run]
        spent += costs[run] if fits else 0.0
    open_claims = list(_left_open(candidates, {*selected, *queued}, {*costs, *queued}))
    return Selection(budget, prices.unit, selected, left_out, open_claims)


def _costs(candidates: Candidates, prices: Prices) -> dict[str, float]:
    """Run -> hours: training once, and the evaluations of every plan that asks for it."""
    asked: dict[str, tuple[PlannedRun, dict[str, Evaluation]]] = {}
    for plan, runs in candidates:
        for one in runs:
            wanted = asked.setdefault(one.folder.id, (one, {}))[1]
            wanted |= {evaluation.id: evaluation for evaluation in plan.evaluations}
    each = {run: prices.left(one, wanted.values()) for run, (one, wanted) in asked.items()}
    if unknown := dict.fromkeys(price.unknown for price in each.values() if price.unknown):
        said = f"--budget: unknown {'; '.join(unknown)}"
        raise SpecError(f"{said}. Sweep one run of it first (--only ID), or without a budget")
    return {run: prices.hours(price) for run, price in each.items()}


def by_evidence(candidates: Candidates, costs: Mapping[str, float]) -> list[str]:
    """Run ids, most telling first; see the module docstring."""
    seeds = {one.folder.id: one.run.seed for _, runs in candidates for one in runs}
    every = sorted(seeds, key=lambda run: seeds[run])  # stable: file order within a seed
    order = dict.fromkeys(run for run in every if seeds[run] == 0)
    wanted = [[one.folder.id for one in missing(need, plan)] for plan, _ in candidates for need in needs(plan)]
    while wanted := [left for runs in wanted if (left := [run for run in runs if run in seeds and run not in order])]:
        order |= dict.fromkeys(min(wanted, key=lambda runs: sum(costs[run] for run in runs)))
    return list(order | dict.fromkeys(every))


def _left_open(
    candidates: Candidates, selected: Collection[str], everything: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Claims that all runs together would settle, and those that are selected do not."""
    for plan, _ in candidates:
        for need in needs(plan):
            settled, why = outlook(need, plan, selected)
            if not settled and outlook(need, plan, everything)[0]:
                yield f"{plan.experiment.name}@{plan.experiment.scale.name}/{need.claim}", why
