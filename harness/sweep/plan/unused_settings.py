"""Find settings that cannot take effect in the run they are set for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import registry
from harness.config.run import Evaluation, Run
from harness.optim.optimizers import schedule_steps
from harness.sweep.plan import preflight
from harness.sweep.plan.preflight import Counts

if TYPE_CHECKING:
    from harness.sweep.plan.plan import Plan


def idle(plan: Plan, data: Path | None = None) -> dict[str, list[str]]:
    """What cannot take effect -> the arms that say so, in the order of the plan; each arm once, whatever its seeds.

    Data sets below ``data`` are asked for their size, where the run does not say it.
    """
    found: dict[str, list[str]] = {what: [] for what in _unused(plan)}
    for arm in plan.arms:
        one = plan.runs[arm.runs[min(arm.runs)]]
        name = one.label.rpartition(", seed")[0]
        known = None if data is None else preflight.counts(one.run.data, data)
        for what in idle_in(one.run, plan.evaluations, known):
            found.setdefault(what, []).append(name)
    return found


def _unused(plan: Plan) -> Iterator[str]:
    """What the file or ``-o`` says of an augmentation that no view has, or of an evaluation that nobody asks for."""
    runs = [one.run.views.model_dump(mode="json") for one in plan.runs.values()]
    views = {name for one in runs for name in _named(one)}
    asked = {name for one in plan.evaluations for name in one.resolved}
    for path in {**plan.experiment.fixed, **plan.overrides}:
        kind, _, rest = path.partition(".")
        name = rest.partition(".")[0]
        if kind == "augmentations" and name not in views:
            yield f"{path}: no view has {name!r}"
        if kind == "evaluations" and name not in asked:
            yield f"{path}: {name!r} is not among what is evaluated"


def _named(node: Any) -> Iterator[str]:
    """Every key within, at whatever depth."""
    for key, value in node.items() if isinstance(node, Mapping) else ():
        yield str(key)
        yield from _named(value)
    for value in node if isinstance(node, list) else ():
        yield from _named(value)


def idle_in(run: Run, evaluations: Sequence[Evaluation], known: Counts | None = None) -> Iterator[str]:
    """What cannot take effect in one run. One without epochs trains nothing, and is told nothing of training."""
    schedule = run.schedule
    if schedule.epochs and known and schedule.warmup_epochs:
        warmup, batch = schedule.warmup_epochs, schedule.batch_size
        steps, _ = schedule_steps(images=known.train, batch_size=batch, epochs=schedule.epochs, warmup_epochs=warmup)
        if not steps:
            yield f"schedule.warmup_epochs {warmup:g} of {known.train} images: less than one step"
    if schedule.epochs:
        if (long := schedule.warmup_epochs) >= schedule.epochs:
            said = "the learning rate never reaches its peak"
            yield f"schedule.warmup_epochs {long:g} of {schedule.epochs} epochs: {said}"
        parts = {"method": run.method, "objective": run.objective, "optimizer": run.optimizer}
        for path, epochs in [found for name, entry in parts.items() for found in _schedules(name, entry)]:
            if epochs > schedule.epochs:
                yield f"{path} {epochs:g} of {schedule.epochs} epochs: it never reaches its end value"
        for branch, entries in run.views.model_dump(mode="json").items():
            for name, fields in [pair for one in entries if isinstance(one, dict) for pair in one.items()]:
                if isinstance(fields, Mapping) and fields.get("p") == 0:
                    yield f"views.{branch}.{name}.p 0: never applied"
    images = next(iter(run.data.values())).get("train_images") or (known.train if known else None)
    for one in evaluations:
        ((name, fields),) = one.resolved.items()
        neighbours = fields.get("k") if name == "knn" else None
        if images and isinstance(neighbours, int) and neighbours >= images:
            yield f"{one.label}: k {neighbours} of {images} images: every image votes on every other"
        if known and getattr(registry.evaluation.build(one.resolved), "data", None) is None:
            yield from _beyond(one.label, fields, known)


def _beyond(label: str, fields: Mapping[str, Any], known: Counts) -> Iterator[str]:
    """What an evaluation on the run's own data asks for and there is not: it makes do with less, or does nothing."""
    queries = known.validation if fields.get("split") == "validation" else known.test
    by_batches = fields.get("solver", "sgd") == "sgd"
    there = {
        **({"batch_size": (known.train, "training images")} if by_batches else {}),
        "examples": (queries, f"{fields.get('split', 'test')} images"),
        "images": (queries, f"{fields.get('split', 'test')} images"),
        "classes": (known.classes, "classes"),
    }
    for key, (most, what) in there.items():
        asked = fields.get(key)
        if isinstance(asked, int) and not isinstance(asked, bool) and asked > most:
            yield f"{label}: {key} {asked} of {most} {what}: only these are available"


def _schedules(path: str, node: Any) -> Iterator[tuple[str, float]]:
    """Every value that changes over its first ``epochs``, by the path of that number."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            epochs = value.get("epochs") if isinstance(value, Mapping) else None
            if key in registry.schedule.names() and isinstance(epochs, int | float):
                yield f"{path}.{key}.epochs", float(epochs)
            yield from _schedules(f"{path}.{key}", value)
