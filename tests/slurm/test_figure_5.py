"""Figure 5 at smoke scale, whole, on real CIFAR-10, through Slurm: 49 runs packed into two jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data import fetch
from harness.store.results import Store
from harness.sweep.__main__ import main
from harness.sweep.slurm import queue
from harness.sweep.slurm.submissions import submissions
from tests.slurm.lab import EXPERIMENTS, Lab, unavailable, wait_for

pytestmark = pytest.mark.slurm
DATA = Path(os.environ.get("HARNESS_DATA", EXPERIMENTS.parent / "data"))


def test_all_49_runs_come_to_their_end(here: Lab, tmp_path: Path) -> None:
    if fetch.broken(DATA):
        unavailable(f"no CIFAR-10 in {DATA}: python -m harness.data cifar10 --root {DATA} (or set HARNESS_DATA)")
    cluster, store = tmp_path / "site.yaml", Store(tmp_path / "results")
    cluster.write_text("gpus: 0\ncpus: 1\nmem: 2G\nruns_per_job: 25\narray_cap: 2\n")
    command = [str(EXPERIMENTS / "augmentation_pairs.yaml"), "--scale", "smoke", "--cluster", str(cluster)]
    command += ["--results", str(store.root), "--data", str(DATA)]
    assert main(command) == 0
    (chunk,) = submissions(store)[0].chunks
    assert [len(task) for task in chunk.tasks] == [25, 24]
    wait_for(lambda: not queue.query(store).runs, "an empty queue", lambda: list(store.jobs.glob("*/log/*")))
    runs = list(store.all_runs())
    assert len(runs) == 49 and {run.state() for run in runs} == {"done"}
    assert [len(list(run.attempts.glob("[0-9]*.json"))) for run in runs] == [1] * 49
    assert main(["--status", "--results", str(store.root)]) == 0
    assert main(command) == 0 and len(submissions(store)) == 1, "and again: nothing is left to do"
