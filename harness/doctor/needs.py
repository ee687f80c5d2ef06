"""Check what given experiments need: that they plan, and that their data are complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.config.errors import SpecError
from harness.doctor.finding import Finding, fail, ok, warn


def check_needs(files: Sequence[Path], scale: str | None, data: Path) -> Iterator[Finding]:
    """A finding of each file, one of the data of all of its runs, and one of each evaluation that lacks its own."""
    for path in files:
        yield from _of_file(path, scale, data)


def _of_file(path: Path, scale: str | None, data: Path) -> Iterator[Finding]:
    try:
        from harness.config.experiment import load_experiment
        from harness.store.results import Store
        from harness.sweep.plan.plan import make_plan  # imports torch
        from harness.sweep.plan.preflight import check_data, lacking
    except ImportError as error:
        yield fail("experiment", f"{path}: cannot be planned, for {error}", "see the line about torch")
        return
    try:
        plan = make_plan(load_experiment(path, scale), Store(Path("/nonexistent")))
    except SpecError as error:
        for one in error.complaints:
            yield fail("experiment", str(one), "fix it; check with python -m harness.sweep FILE --plan")
        return
    about = f"{plan.experiment.name}@{plan.experiment.scale.name}"
    yield ok("experiment", f"{about}: {len(plan.runs)} runs")
    names = sorted({name for one in plan.runs.values() for name in one.run.data})
    try:
        check_data(plan.runs.values(), data)
        yield ok("data", f"{about}: {', '.join(names)} in {data}")
    except SpecError as error:
        for one in error.complaints:
            yield fail("data", f"{about}: {one}", "fetch or fix it, or name its folder: --data DIR")
    for label, why in lacking(plan.evaluations, data):
        yield warn("data", f"{about}: evaluation {label} unavailable: {why}", "the sweep continues without it")
