"""``--retry``: plan failed runs and unavailable evaluations again.

At first in the plan alone, so that they are counted, priced, chosen and checked like all others; what stands in their
way under results/ is laid aside once everything is checked and agreed to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from harness.store.results import RunFolder, State, read_json

if TYPE_CHECKING:
    from harness.sweep.plan.plan import Plan, PlannedRun


def as_retried(plan: Plan) -> Plan:
    """The plan as it is once every failure is laid aside. Writes nothing."""
    return replace(plan, runs={run: _as_retried(plan, one) for run, one in plan.runs.items()})


def _as_retried(plan: Plan, one: PlannedRun) -> PlannedRun:
    if one.state is State.FAILED:
        if not one.folder.outcome.exists():
            return replace(one, state=State.TODO, why="")
        lacking = tuple(one.folder.missing(evaluation.id for evaluation in plan.evaluations))
        return replace(
            one, state=State.TRAINED, why="", lacking=lacking, weights_missing=not one.folder.weights.exists()
        )
    if one.state is State.DONE and one.folder.weights.exists() and (lacking := _unavailable(plan, one.folder)):
        return replace(one, state=State.TRAINED, lacking=lacking, unavailable=())
    return one


def _unavailable(plan: Plan, folder: RunFolder) -> tuple[str, ...]:
    """Handles of the evaluations that could not be had; their records hold no number."""
    return tuple(one.id for one in plan.evaluations if "unavailable" in (read_json(folder.evaluation(one.id)) or {}))


def forget(plan: Plan, runs: Iterable[PlannedRun]) -> None:
    """Lay ``failed.json`` of these runs beside the attempts it belongs to, and drop records that hold no number."""
    for one in runs:
        if one.folder.failure.exists():
            _lay_aside(one.folder)
        if one.folder.weights.exists():
            for evaluation_id in _unavailable(plan, one.folder):
                one.folder.evaluation(evaluation_id).unlink(missing_ok=True)


def _lay_aside(folder: RunFolder) -> None:
    """Under the number of its attempt, or the next that is free: a job that dies before Python has no attempt."""
    first = (read_json(folder.failure) or {}).get("attempt", 0)
    folder.attempts.mkdir(exist_ok=True)
    for number in count(first):
        try:
            os.link(folder.failure, folder.attempts / f"failed-{number:03d}.json")  # never replaces a file
        except FileExistsError:
            continue
        folder.failure.unlink()
        return
