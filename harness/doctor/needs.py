"""Checks of what given experiments need: files that plan, and their data here and whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.doctor.finding import Finding, fail, ok, warn
from harness.spec.errors import SpecError


def check_needs(files: Sequence[Path], scale: str | None, data: Path) -> Iterator[Finding]:
    """A finding of each file, one of the data of all of its runs, and one of each evaluation that lacks its own."""
    for path in files:
        yield from _of_file(path, scale, data)


def _of_file(path: Path, scale: str | None, data: Path) -> Iterator[Finding]:
    try:
        from harness.spec.experiment import load_experiment
        from harness.store import Store
        from harness.sweep.plan import make_plan  # imports torch
        from harness.sweep.preflight import check_data, lacking
    except ImportError as error:
        yield fail("experiment", f"{path}: cannot be planned, for {error}", "see the line about torch")
        return
    try:
        plan = make_plan(load_experiment(path, scale), Store(Path("/nonexistent")))
    except SpecError as error:
        for one in error.complaints:
            yield fail("experiment", str(one), "mend it; python -m harness.sweep FILE --plan says the same")
        return
    about = f"{plan.experiment.name}@{plan.experiment.scale.name}"
    yield ok("experiment", f"{about}: {len(plan.runs)} runs")
    names = sorted({name for one in plan.runs.values() for name in one.run.data})
    try:
        check_data(plan.runs.values(), data)
        yield ok("data", f"{about}: {', '.join(names)} in {data}")
    except SpecError as error:
        for one in error.complaints:
            yield fail("data", f"{about}: {one}", "fetch or mend it, or say where it is: --data DIR")
    for label, why in lacking(plan.evaluations, data):
        yield warn("data", f"{about}: evaluation {label} cannot be had: {why}", "the sweep goes on without it")
