"""Checks of runs against the place where they are to run, said before the first one starts, not by all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from harness.components import Evaluation
from harness.spec import registry
from harness.spec.errors import Complaint, SpecError
from harness.sweep.gaps import Gap
from harness.sweep.plan import PlannedRun
from harness.train.place import Compile, check_graphs, passes


def check_data(runs: Iterable[PlannedRun], root: Path) -> None:
    """Load every data set that the runs ask for, once. Raises :class:`SpecError` with the command that mends it."""
    entries = sorted({json.dumps(one.run.data, sort_keys=True) for one in runs})
    complaints = list(dict.fromkeys(one for entry in entries for one in _refused(entry, root)))
    if complaints:
        raise SpecError(complaints)


def lacking(evaluations: Iterable[Evaluation], root: Path) -> list[Gap]:
    """Labels of evaluations whose own data set cannot be loaded, with the reason: no fault, but to be known early."""
    found = []
    for one in evaluations:
        entry = getattr(registry.evaluation.build(one.resolved), "data", None)
        if entry is not None and (why := _refused(json.dumps(entry, sort_keys=True), root)):
            found.append((one.label, "; ".join(map(str, why))))
    return found


@lru_cache(maxsize=256)
def _refused(entry: str, root: Path) -> tuple[Complaint, ...]:
    """What this data set says when it is loaded; asked once, however many files of experiments use it."""
    try:
        registry.dataset.build(json.loads(entry)).load(root)
    except SpecError as error:
        return error.complaints
    return ()


def check_processes(runs: Iterable[PlannedRun], processes: int, images_per_pass: int, compile: Compile = "off") -> None:
    """Whether so many processes can share every run, cut and compiled so; if not, :class:`SpecError` says why."""
    complaints: list[Complaint] = []
    for batch_size, groups in sorted({(one.run.schedule.batch_size, one.run.norm.groups) for one in runs}):
        try:
            cuts = passes(batch_size=batch_size, groups=groups, world=processes, images_per_pass=images_per_pass)
            check_graphs(compile, groups=groups, world=processes, passes=cuts)
        except SpecError as error:
            complaints += error.complaints
    if complaints:
        raise SpecError(complaints)
