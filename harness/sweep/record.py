"""Writing down what a sweep is about: ``results/experiments/<name>@<scale>.json`` and a ``run.json`` for each run.

The report needs nothing else: neither the YAML nor the code that expanded it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.store import StoreError, read_json, write_json
from harness.sweep.plan import Plan, manifest_path


def manifest(plan: Plan) -> dict[str, Any]:
    """The expanded experiment, as plain JSON."""
    experiment, scale = plan.experiment, plan.experiment.scale
    return {
        "name": experiment.name,
        "scale": scale.name,
        "title": experiment.file.title,
        "question": experiment.question,
        "file": _shown(experiment.document.path),
        "seeds": experiment.seeds,
        "runs": len(plan.runs),
        "overrides": plan.overrides,
        "paper_scale": experiment.as_in_paper,
        "scale_note": scale.file.note,
        "arms": [
            {"settings": arm.settings, "runs": {str(seed): run for seed, run in arm.runs.items()}} for arm in plan.arms
        ],
        "evaluations": {one.label: one.handle for one in plan.evaluations},
        "report": experiment.report,
        "claims": [claim.model_dump(mode="json", exclude_none=True) for claim in experiment.claims],
        "published": plan.references.published,
    }


def record(plan: Plan) -> Path:
    """Write the manifest and the specification of every run that is to do. Raises ``OSError``, ``StoreError``."""
    for one in plan.to_do:
        one.folder.create(one.run.spec())
        one.folder.cancelled.unlink(missing_ok=True)
    path = manifest_path(plan.store, plan.experiment, plan.overrides)
    write_json(path, manifest(plan) | _earlier(plan, path))
    return path


def _earlier(plan: Plan, path: Path) -> dict[str, list[int]]:
    """``seeds_before``: the numbers of seeds that were planned before, where results of them were there to look at.

    Who looks and adds seeds until a verdict pleases is wrong more often than he says, so the report says it.
    """
    try:
        held = read_json(path)
    except StoreError:
        held = None
    if not isinstance(held, dict):
        return {}
    before = [one for one in held.get("seeds_before", []) if isinstance(one, int)]
    planned = held.get("seeds")
    runs = [run for arm in held.get("arms", []) for run in arm.get("runs", {}).values()]
    if (
        isinstance(planned, int)
        and planned != plan.experiment.seeds
        and any(plan.store.run(run).outcome.exists() for run in runs)
    ):
        before.append(planned)
    return {"seeds_before": before} if before else {}


def _shown(path: Path) -> str:
    """Relative to the working directory where it lies beneath it: manifests are committed."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name
