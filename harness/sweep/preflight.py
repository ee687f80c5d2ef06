"""Checks that need the machine: is the data there? Said before the first run starts, not by all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from harness.spec import registry
from harness.spec.errors import SpecError
from harness.sweep.plan import PlannedRun


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
