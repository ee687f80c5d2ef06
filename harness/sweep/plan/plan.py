"""Plan an experiment: its runs, which of them are done, stale, shared or to do, and what is wrong with it.

Everything that can be known before a run starts is said here, all at once: a specification that plans is one that
builds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import components
from harness.components import Evaluation
from harness.config.errors import Complaint, SpecError
from harness.config.experiment import Experiment
from harness.config.grid import Arm, expand, lookup
from harness.config.run import Run, identity
from harness.store.results import State, Store, read_json
from harness.sweep.plan.code_changes import Digests
from harness.sweep.plan.labels import label
from harness.sweep.plan.references import References, check_references
from harness.sweep.plan.scan import PlannedRun as PlannedRun
from harness.sweep.plan.scan import Scan


@dataclass(frozen=True)
class PlannedArm:
    """One point of a grid: its settings (varied or mentioned), and the run of each seed."""

    settings: dict[str, Any]
    runs: dict[int, str]


@dataclass(frozen=True)
class Plan:
    """What an experiment means at one scale, against one results folder."""

    experiment: Experiment
    overrides: dict[str, Any]
    store: Store
    arms: list[PlannedArm]
    evaluations: list[Evaluation]
    runs: dict[str, PlannedRun]
    references: References
    grids: int

    @property
    def asked(self) -> int:
        """Cells of all grids times seeds, before equal runs are merged."""
        return sum(len(arm.runs) for arm in self.arms)

    @property
    def to_do(self) -> list[PlannedRun]:
        """Seed by seed, so that a table fills evenly instead of row by row."""
        return sorted((one for one in self.runs.values() if one.to_do), key=lambda one: one.run.seed)

    @property
    def left_out(self) -> list[PlannedRun]:
        """What no sweep starts before somebody has mended something: failed, unreadable, without weights."""
        return [one for one in self.runs.values() if one.weights_missing or one.state in (State.FAILED, State.BROKEN)]


def make_plan(
    experiment: Experiment,
    store: Store,
    *,
    overrides: Mapping[str, Any] | None = None,
    code: str | None = None,
) -> Plan:
    """Expand, resolve, build and check everything, then look at ``store``.

    ``code`` is today's fingerprint of the numeric code. Runs that another finished are stale where digests of what
    they used differ; today's are computed if need be. Raises :class:`SpecError` with every complaint.
    """
    overrides = dict(overrides or {})
    arms = expand(experiment, overrides)
    tree = arms[0].tree
    complaints: list[Complaint] = []
    evaluations = _evaluations(experiment, tree, complaints)
    resolved = _resolve(experiment, arms, overrides, complaints)
    if complaints:
        raise SpecError(complaints)
    references, complaints = check_references(experiment, arms, evaluations)
    ids = [{seed: run.with_seed(seed).id for seed in range(experiment.seeds)} for run in resolved]
    complaints += _dead_axes(experiment, arms, [of_arm[0] for of_arm in ids])
    runs: dict[str, Run] = {}
    labels: dict[str, str] = {}
    planned_arms: dict[str, PlannedArm] = {}
    for arm, run, of_arm in zip(arms, resolved, ids, strict=True):
        name = label(arm.settings)
        for seed, run_id in of_arm.items():
            if run_id not in runs:
                runs[run_id] = run.with_seed(seed)
                labels[run_id] = f"{name}, seed {seed}"
        planned = PlannedArm(_settings(arm, references.paths), of_arm)
        planned_arms.setdefault(f"{of_arm[0]} {json.dumps(planned.settings, sort_keys=True, default=str)}", planned)
    if len(runs) != experiment.runs:
        made = f"the grids make {len(runs)} different runs"
        said = f"runs: {experiment.runs}, but {made}"
        if not experiment.runs:
            said = f"'runs' is missing: {made}; if that is what you mean, write runs: {len(runs)}"
        complaints.append(experiment.document.complaint(experiment.where("runs"), said))
    if complaints:
        raise SpecError(complaints)
    others = _other_experiments(store, manifest_path(store, experiment, overrides).stem)
    digests = None if code is None else Digests(store, code)
    look = Scan(store, [one.id for one in evaluations], code, others, frozenset(store.run_ids()), digests)
    return Plan(
        experiment=experiment,
        overrides=overrides,
        store=store,
        arms=list(planned_arms.values()),
        evaluations=evaluations,
        runs={run_id: look.at(run_id, run, labels[run_id]) for run_id, run in runs.items()},
        references=references,
        grids=len(experiment.vary),
    )


def manifest_path(store: Store, experiment: Experiment, overrides: Mapping[str, Any]) -> Path:
    """Where the expanded experiment lies. With ``-o`` it is another table, so it never overwrites the one without."""
    path = store.experiment(experiment.name, experiment.scale.name)
    return path.with_name(f"{path.stem}+{identity(dict(overrides), 6)}.json") if overrides else path


def _settings(arm: Arm, paths: Iterable[str]) -> dict[str, Any]:
    settings = dict(arm.settings)
    for path in paths:
        try:
            settings.setdefault(path, lookup(arm.tree, arm.settings, path))
        except SpecError:
            settings.setdefault(path, None)  # another arm has it
    return settings


def _evaluations(experiment: Experiment, tree: Mapping[str, Any], complaints: list[Complaint]) -> list[Evaluation]:
    try:
        return components.resolve_evaluations(tree, experiment.evaluate)
    except SpecError as error:
        where = experiment.where("evaluate")
        complaints += [experiment.document.complaint(where, one.what) for one in error.complaints]
        return []


def _resolve(
    experiment: Experiment, arms: Sequence[Arm], overrides: Mapping[str, Any], complaints: list[Complaint]
) -> list[Run]:
    """Every arm at seed 0, networks built on the meta device; each complaint once, at the line that caused it."""
    resolved: list[Run] = []
    for arm in arms:
        try:
            run = components.resolve(arm.tree, seed=0)
            components.check(run)
            resolved.append(run)
        except SpecError as error:
            for one in error.complaints:
                placed = _placed(experiment, arm, overrides, one)
                if placed not in complaints:
                    complaints.append(placed)
    return resolved


def _placed(experiment: Experiment, arm: Arm, overrides: Mapping[str, Any], complaint: Complaint) -> Complaint:
    """A complaint about a dotted path, at the line that set it: the grid, ``fixed``, ``-o`` or the scale file."""
    detail = f"{complaint.where}.{complaint.what.partition(':')[0]}"
    about = f"{complaint.where}: {complaint.what}"

    def best(paths: Iterable[str]) -> str | None:
        near = [path for path in paths if _touches(path, detail)] or [p for p in paths if _touches(p, complaint.where)]
        return max(near, key=len, default=None)

    if (path := best(arm.settings)) is not None:
        return experiment.document.complaint(experiment.where("vary", arm.grid, path), about)
    if (path := best(overrides)) is not None:
        return Complaint(f"-o {path}", about)
    if (path := best(experiment.fixed)) is not None:
        within = complaint.where.removeprefix(path).split(".")[1:]
        return experiment.document.complaint((*experiment.where("fixed", path), *_keys(within)), about)
    return experiment.scale.document.complaint(_keys(complaint.where.split(".")), about)


def _keys(parts: Iterable[str]) -> list[str | int]:
    """The parts of a dotted path as keys of a document, whose lists have numbers."""
    return [int(part) if part.isdecimal() else part for part in parts]


def _touches(path: str, place: str) -> bool:
    """Whether one dotted path lies on the way to the other."""
    return path == place or path.startswith(place + ".") or place.startswith(path + ".")


def _dead_axes(experiment: Experiment, arms: Sequence[Arm], ids: Sequence[str]) -> Iterable[Complaint]:
    """Two points of one grid that resolve to one run: something that is varied changes nothing."""
    seen: dict[tuple[int, str], Arm] = {}
    for arm, run_id in zip(arms, ids, strict=True):
        first = seen.setdefault((arm.grid, run_id), arm)
        if first is not arm:
            path = next((path for path in arm.settings if arm.settings[path] != first.settings[path]), "")
            yield experiment.document.complaint(
                experiment.where("vary", arm.grid, path),
                f"dead axis: {label(first.settings)!r} and {label(arm.settings)!r} are the same run",
            )


def _other_experiments(store: Store, this: str) -> dict[str, tuple[str, ...]]:
    """Run id -> the other experiments in ``results/experiments`` that contain it."""
    found: dict[str, list[str]] = {}
    for path in sorted(store.experiments.glob("*.json")):
        held = read_json(path)
        name = path.stem
        if name == this or not isinstance(held, dict):
            continue
        for run_id in {one for arm in held.get("arms", []) for one in arm.get("runs", {}).values()}:
            found.setdefault(run_id, []).append(name)
    return {run_id: tuple(names) for run_id, names in found.items()}
