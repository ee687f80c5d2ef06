"""What a sweep writes down of its experiment, and that it says when seeds were added after looking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.spec.experiment import load_experiment
from harness.store import Store, read_json, write_json
from harness.sweep.plan import make_plan
from harness.sweep.record import record


@pytest.mark.parametrize("looked", [False, True])
def test_seeds_that_were_added_after_looking_are_written_down(
    write: Callable[..., Path], tmp_path: Path, looked: bool
) -> None:
    store = Store(tmp_path / "results")
    for seeds, before in ((1, None), (2, [1]), (2, [1]), (3, [1, 2])):
        plan = make_plan(
            load_experiment(write(("seeds: 2", f"seeds: {seeds}"), ("runs: 4", f"runs: {2 * seeds}"))), store
        )
        held = read_json(record(plan))
        assert held["seeds"] == seeds and held.get("seeds_before") == (before if looked else None)
        if looked:
            run = next(iter(plan.runs.values()))
            write_json(run.folder.outcome, {"run": run.folder.id, "status": "trained"})
