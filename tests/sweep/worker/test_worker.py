"""Who may work on a run: claims of live processes, of dead ones, and of a job's own former life on a lost node."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.runtime import Rank, Runtime
from harness.store import run_lock
from harness.store.attempts import last
from harness.store.results import RunFolder, State, read_json, write_json
from harness.store.run_lock import REQUEUE_GRACE_S, STALE_HEARTBEAT_S
from harness.sweep.worker import worker


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that ``job 7_0`` claimed on a node that is not this one."""
    made = RunFolder(tmp_path / "0123456789ab")
    write_json(made.lock.path, {"pid": 1, "host": "elsewhere", "started": "1", "job": "7_0"})
    return made


def silent(folder: RunFolder, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder.lock.path, (then, then))


@pytest.mark.parametrize(
    ("job", "seconds", "taken"),
    [
        ("7_0", 0, False),
        ("7_0", REQUEUE_GRACE_S + 5, True),
        ("7_1", REQUEUE_GRACE_S + 5, False),
        (None, REQUEUE_GRACE_S + 5, False),
        ("7_1", STALE_HEARTBEAT_S + 5, True),
    ],
)
def test_a_requeued_job_takes_over_from_its_former_life_sooner_than_others(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, job: str | None, seconds: float, taken: bool
) -> None:
    monkeypatch.setattr(run_lock, "WATCH_S", 0.01)
    silent(folder, seconds)
    assert folder.lock.take(job) is taken
    assert (read_json(folder.lock.path)["pid"] == os.getpid()) is taken


def test_a_heartbeat_keeps_the_claim(folder: RunFolder) -> None:
    silent(folder, REQUEUE_GRACE_S + 5)
    assert folder.lock_state("7_0") is State.UNKNOWN
    os.utime(folder.lock.path)
    assert folder.lock_state("7_0") is State.RUNNING


def test_a_requeued_job_waits_for_its_former_life_and_no_other_job_does(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            silent(folder, REQUEUE_GRACE_S + 5)

    monkeypatch.setattr(run_lock, "WATCH_S", 0.0)
    monkeypatch.setattr(worker.time, "sleep", sleep)
    assert not worker._take_lock(folder, "7_1") and not worker._take_lock(folder, None) and not waited
    assert worker._take_lock(folder, "7_0") and len(waited) == 3


def test_the_ledger_is_open_before_the_other_processes_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of theirs is written down with the number of this attempt, however soon it comes."""
    heard: list[tuple[bool, object]] = []

    def say(assignment: worker.Assignment, go: bool) -> bool:
        heard.append((go, (last(assignment.folder) or {}).get("attempt")))
        return go

    monkeypatch.setattr(worker, "_say", say)
    made = RunFolder(tmp_path / "0123456789ab")
    runtime = Runtime(data=tmp_path, device="cpu", threads=1)
    assignment = worker.Assignment(made, (), runtime, lambda *_: None, rank=Rank(rank=0, world=2))
    assert [worker._claimed(assignment) for _ in range(2)] == [worker.EXIT_FAILED] * 2
    write_json(made.outcome, {"run": made.id, "status": "trained"})
    assert worker._claimed(assignment) == 0
    assert heard == [(True, 1), (True, 2), (False, 2)]
