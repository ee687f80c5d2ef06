"""Checks of runs against the place where they are to run, said before the first one starts, not by all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from harness.spec import registry
from harness.spec.errors import Complaint, SpecError
from harness.sweep.plan import PlannedRun
from harness.train.place import Compile, check_graphs, passes


def check_data(runs: Iterable[PlannedRun], root: Path) -> None:
    """Load every data set that the runs ask for, once. Raises :class:`SpecError` with the command that mends it."""
    complaints = []
    for entry in {json.dumps(one.run.data, sort_keys=True) for one in runs}:
        try:
            registry.dataset.build(json.loads(entry)).load(root)
        except SpecError as error:
            complaints += [one for one in error.complaints if one not in complaints]
    if complaints:
        raise SpecError(complaints)


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
