"""Settings that cannot take effect in the run they are set for: nothing fails, and something else is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.spec import registry
from harness.spec.run import Evaluation, Run

if TYPE_CHECKING:
    from harness.sweep.plan import Plan


def idle(plan: Plan) -> dict[str, list[str]]:
    """What cannot take effect -> the arms that say so, in the order of the plan; each arm once, whatever its seeds."""
    found: dict[str, list[str]] = {}
    for arm in plan.arms:
        one = plan.runs[arm.runs[min(arm.runs)]]
        name = one.label.rpartition(", seed")[0]
        for what in idle_in(one.run, plan.evaluations):
            found.setdefault(what, []).append(name)
    return found


def idle_in(run: Run, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """What cannot take effect in one run. One without epochs trains nothing, and is told nothing of training."""
    schedule = run.schedule
    if schedule.epochs:
        if (long := schedule.warmup_epochs) >= schedule.epochs:
            said = "the learning rate never reaches what is asked for"
            yield f"schedule.warmup_epochs {long:g} of {schedule.epochs} epochs: {said}"
        parts = {"method": run.method, "objective": run.objective, "optimizer": run.optimizer}
        for path, epochs in [found for name, entry in parts.items() for found in _schedules(name, entry)]:
            if epochs > schedule.epochs:
                yield f"{path} {epochs:g} of {schedule.epochs} epochs: it never reaches its end"
        for branch, entries in run.views.model_dump(mode="json").items():
            for name, fields in [pair for one in entries if isinstance(one, dict) for pair in one.items()]:
                if isinstance(fields, Mapping) and fields.get("p") == 0:
                    yield f"views.{branch}.{name}.p 0: it is never applied"
    images = next(iter(run.data.values())).get("train_images")
    for one in evaluations:
        neighbours = next(iter(one.resolved.values())).get("k") if "knn" in one.resolved else None
        if images and isinstance(neighbours, int) and neighbours >= images:
            yield f"{one.label}: k {neighbours} of {images} images: every image votes on every other"


def _schedules(path: str, node: Any) -> Iterator[tuple[str, float]]:
    """Every value that changes over its first ``epochs``, by the path of that number."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            epochs = value.get("epochs") if isinstance(value, Mapping) else None
            if key in registry.schedule.names() and isinstance(epochs, int | float):
                yield f"{path}.{key}.epochs", float(epochs)
            yield from _schedules(f"{path}.{key}", value)
