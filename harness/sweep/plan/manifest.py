"""Write ``results/experiments/<name>@<scale>.json`` and a ``run.json`` for each run.

The report needs nothing else: neither the YAML nor the code that expanded it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.config.errors import Complaint, SpecError
from harness.config.looks import LOOKS
from harness.store.results import StoreError, read_json, write_json
from harness.sweep.plan import studies
from harness.sweep.plan.plan import Plan, manifest_path


def manifest(plan: Plan) -> dict[str, Any]:
    """The expanded experiment, as plain JSON."""
    experiment, scale = plan.experiment, plan.experiment.scale
    return {
        "name": experiment.name,
        "scale": scale.name,
        "title": experiment.file.title,
        "question": experiment.question,
        "file": _shown(experiment.document.path),
        "place": studies.place(experiment.document.path, plan.store.root),
        "seeds": experiment.seeds,
        "looks": experiment.looks,
        "runs": len(plan.runs),
        "overrides": plan.overrides,
        "fixed": experiment.fixed,
        "paper_scale": experiment.as_in_paper,
        "scale_note": scale.file.note,
        "arms": [
            {"settings": arm.settings, "runs": {str(seed): run for seed, run in arm.runs.items()}} for arm in plan.arms
        ],
        "evaluations": {one.label: one.id for one in plan.evaluations},
        "report": experiment.report,
        "claims": [claim.model_dump(mode="json", exclude_none=True) for claim in experiment.claims],
        "published": plan.references.published,
    }


def record(plan: Plan) -> Path:
    """Write the manifest and the specification of every run that is to do.

    Raises ``OSError``, ``StoreError``, and :class:`SpecError` where another file's manifest would be lost.
    """
    check_names([plan])
    for one in plan.to_do:
        one.folder.create(one.run.spec())
        one.folder.cancelled.unlink(missing_ok=True)
    path = manifest_path(plan.store, plan.experiment, plan.overrides)
    write_json(path, manifest(plan) | _earlier(plan, path))
    return path


def check_names(plans: Iterable[Plan]) -> None:
    """Raises :class:`SpecError` where an experiment would take the place of another file's of the same name.

    Report and status know of runs by manifests alone. The same file may say something else today, and what is still
    asked for is not lost, whoever asks for it.
    """
    taken: dict[Path, Path] = {}
    complaints = []
    for plan in plans:
        path, file = manifest_path(plan.store, plan.experiment, plan.overrides), plan.experiment.document.path
        other = taken.setdefault(path, file.resolve())
        if other != file.resolve():
            said = f"{_shown(other)} has the same name, so both would write the same table"
            complaints.append(Complaint(str(file), f"{said}: rename one of them"))
        elif lost := _lost(plan, path):
            command = f"mv {shlex.quote(str(path))} {shlex.quote(str(path) + '.aside')}"
            said = f"{path} belongs to another file of this name, and {lost} would disappear from the report"
            where = "rename this file, or name another folder with --results"
            complaints.append(Complaint(str(file), f"{said}: {where} (to discard that table: {command})"))
    if complaints:
        raise SpecError(complaints)


def _lost(plan: Plan, path: Path) -> str:
    """What is computed and held by the manifest at ``path`` alone, if that is another file's; empty if nothing is."""
    try:
        held = read_json(path)
    except StoreError:
        return ""  # nothing can be read there, and it is said where it is looked at
    if not isinstance(held, dict) or studies.is_of(held, plan.experiment.document.path, plan.store.root):
        return ""
    arms = held.get("arms") or []
    runs = {run for arm in arms for run in arm.get("runs", {}).values()} - plan.runs.keys()
    evaluation_ids = {*held.get("evaluations", {}).values()} - {one.id for one in plan.evaluations}
    if begun := sum(plan.store.run(run).path.exists() for run in runs):
        return f"{begun} of its runs"
    asked = [plan.store.run(run) for arm in arms for run in arm.get("runs", {}).values()]
    done = {
        evaluation_id
        for evaluation_id in evaluation_ids
        if any(one.evaluation(evaluation_id).exists() for one in asked)
    }
    return f"{len(done)} of its evaluations" if done else ""


def _earlier(plan: Plan, path: Path) -> dict[str, list[Any]]:
    """``seeds_before`` and ``looks_before``: what was planned before, where results of it were there to look at.

    Seeds may be added towards looks that were planned. Looks that change after looking make verdicts less sure than
    they say, so the report says it. (A manifest without looks is of the default ones.)
    """
    try:
        held = read_json(path)
    except StoreError:
        held = None
    if not isinstance(held, dict):
        return {}
    runs = [run for arm in held.get("arms", []) for run in arm.get("runs", {}).values()]
    seen = any(plan.store.run(run).outcome.exists() for run in runs)
    found = {}
    for key, now in (("seeds", plan.experiment.seeds), ("looks", plan.experiment.looks)):
        before = [one for one in held.get(f"{key}_before", []) if isinstance(one, type(now))]
        planned = held.get(key, [*LOOKS] if key == "looks" else None)
        if isinstance(planned, type(now)) and planned != now and seen:
            before.append(planned)
        if before:
            found[f"{key}_before"] = before
    return found


def _shown(path: Path) -> str:
    """Relative to the working directory where it lies beneath it: manifests are committed."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name
