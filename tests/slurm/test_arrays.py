"""From sbatch to the end of the queue, each run worked on once: real arrays of jobs that only pretend to train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store.results import State
from tests.slurm.lab import CLIENTS, Lab, Sweep, wait_for

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]


def each_once(sweep: Sweep) -> bool:
    return sweep.worked() == [run.id for run in sweep.runs]


def test_1500_runs_under_a_limit_of_1001_are_all_done_once_and_the_cap_holds_in_sum(here: Lab, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, here, seeds=1500, pretend=True, array_cap=65)
    assert "MaxArraySize            = 1001" in here.ask("scontrol", "show", "config")
    assert sweep() == 0
    first, second = sweep.submissions[0].chunks
    assert (len(first.tasks), len(second.tasks)) == (1001, 499) and first.cap + second.cap == 65
    for chunk in (first, second):
        assert f"ArrayTaskThrottle={chunk.cap}" in here.ask("scontrol", "show", "job", str(chunk.job))
    assert sweep() == 0 and len(sweep.submissions) == 1, "they are all in the queue, working or done"
    wait_for(lambda: len(sweep.worked()) >= 1500, "1500 runs", lambda: len(sweep.worked()))
    sweep.wait_for_the_queue()
    assert len(sweep.runs) == 1500 and each_once(sweep)
    assert max(map(int, (sweep.pretended / "at-once").read_text().split())) <= 65
    assert sweep("--status") == 0
    assert all(chunk.over == "ended" for chunk in sweep.submissions[0].chunks)
    assert sweep() == 0 and len(sweep.submissions) == 1, "nothing is left to do"


def test_two_sweeps_of_one_file_at_the_same_moment(here: Lab, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, here, seeds=4, runs_per_job=2, pretend=True)
    command = [sys.executable, "-m", "harness.sweep", *sweep.arguments]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sum("Submitted 4 runs as 2 jobs" in one for one in said) == 1, said
    sweep.wait_until("done", "done", "done", "done")
    assert each_once(sweep)
    assert sweep() == 0 and len(sweep.submissions) == 1, "and a third one finds nothing to do"


def test_cancelled_jobs_count_as_cancelled_and_the_next_sweep_does_their_runs(
    here: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that works and one that waits. Of the latter Slurm keeps no trace, and submitit would wait for ever."""
    sweep = Sweep(tmp_path, here, seeds=4, array_cap=2, pretend=True)
    sweep.hold()
    assert sweep() == 0
    (chunk,) = sweep.submissions[0].chunks
    wait_for(lambda: len(sweep.worked()) == 2, "two jobs at work")
    for index in (0, 3):
        here.ask("scancel", chunk.task_id(index))
    everything = ("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
    wait_for(lambda: here.says(f"{chunk.task_id(0)} CANCELLED", *everything), "the end of a job", sweep.evidence)
    assert chunk.task_id(3) not in here.ask(*everything)
    assert sweep("--status") == 0
    assert sweep.run_of(chunk, 3).state() is State.TODO, "gone, but for how long? It may come back"
    monkeypatch.setattr("harness.sweep.slurm.queue.LOST_AFTER_S", 0.0)  # as if five minutes had gone by
    assert sweep("--status") == 0, "nothing has failed"
    assert [sweep.run_of(chunk, index).state() for index in (0, 3)] == [State.CANCELLED] * 2
    sweep.release()
    sweep.wait_until("cancelled", "cancelled", "done", "done")
    assert sweep() == 0
    assert [len(one.chunks[0].tasks) for one in sweep.submissions] == [4, 2]
    sweep.wait_until("done", "done", "done", "done")


def test_cancel_stops_what_works_and_what_waits(here: Lab, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, here, seeds=3, array_cap=1, pretend=True)
    sweep.hold()
    assert sweep() == 0
    wait_for(lambda: len(sweep.worked()) == 1, "one job at work")
    assert sweep("--cancel", "--yes") == 0
    sweep.wait_until("cancelled", "cancelled", "cancelled")
    sweep.release()
    assert sweep() == 0
    sweep.wait_until("done", "done", "done")


def killed_at_sbatch(sweep: Sweep, folder: Path) -> None:
    """kill -9 of a sweep whose job Slurm has taken, before it could hear the job's number."""
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/sh\n{CLIENTS}/sbatch "$@" > {folder}/said\nkill -9 $PPID\n')
    (folder / "sbatch").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "harness.sweep", *sweep.arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "Submitted batch job" in (folder / "said").read_text()
    assert sweep.submissions[0].chunks[0].job is None


def test_a_sweep_killed_between_sbatch_and_its_answer_is_settled_by_the_next(here: Lab, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, here, seeds=2, pretend=True)
    here.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        killed_at_sbatch(sweep, tmp_path / "bin")
        stray = [job for job in here.queued() if job.endswith("PENDING")]
        assert len(stray) == 2
        assert sweep() == 0, "the stray would not find its work order: it is cancelled"
        assert len(sweep.submissions) == 2 and not set(here.queued()) & set(stray)
        newest = sweep.submissions[-1]
        newest.chunks[0].job = None  # killed a moment later: everything is in place but our own note
        newest.save()
        assert sweep() == 0 and len(sweep.submissions) == 2, "this one is adopted"
        assert sweep.submissions[-1].chunks[0].job is not None
        assert sum(job.endswith("PENDING") for job in here.queued()) == 2
    finally:
        here.ask("scontrol", "update", "PartitionName=main", "State=UP")
    sweep.wait_until("done", "done")
    assert each_once(sweep)
