"""results/ on disk: atomic files, claims between real processes, states read off the files."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.store import STALE_HEARTBEAT_S, RunFolder, State, Store, StoreError, process_start, read_json, write_json

HANDLE = "linear-12345678"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = Store(tmp_path).run("abcdef012345")
    folder.create({"seed": 0})
    return folder


def test_a_folder_keeps_its_specification(folder: RunFolder) -> None:
    folder.create({"seed": 0})
    with pytest.raises(StoreError, match="another specification"):
        folder.create({"seed": 1})
    assert read_json(folder.spec) == {"id": "abcdef012345", "spec": {"seed": 0}}


def test_writing_leaves_no_traces_and_refuses_nan(folder: RunFolder) -> None:
    write_json(folder.outcome, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(folder.outcome, {"a": float("nan")})
    assert read_json(folder.outcome) == {"a": 1}
    assert not list(folder.path.glob("*.tmp")) and not list(folder.path.glob(".*"))


def test_states_follow_the_files(folder: RunFolder) -> None:
    assert folder.state([HANDLE]) is State.TODO
    write_json(folder.failure, {"run": folder.id})
    assert folder.state([HANDLE]) is State.FAILED
    write_json(folder.outcome, {"run": folder.id, "status": "trained"})
    folder.failure.unlink()
    assert folder.state([HANDLE]) is State.TRAINED
    write_json(folder.evaluation(HANDLE), {"run": folder.id, "values": {"top1": 1.0}})
    assert folder.state([HANDLE]) is State.DONE
    assert folder.state([HANDLE, "knn-00000000"]) is State.TRAINED
    write_json(folder.outcome, {"run": folder.id, "status": "diverged"})
    assert folder.state([HANDLE]) is State.DIVERGED


@pytest.mark.parametrize("content", ['{"run": "abcdef0', "[]", '{"run": "ffffffffffff", "values": {}}'])
def test_a_broken_or_foreign_evaluation_is_never_done(folder: RunFolder, content: str) -> None:
    write_json(folder.outcome, {"run": folder.id, "status": "trained"})
    folder.evaluation(HANDLE).parent.mkdir()
    folder.evaluation(HANDLE).write_text(content, encoding="utf-8")
    assert folder.state([HANDLE]) is State.BROKEN


def _claim_at_once(path: str, start: float, won: multiprocessing.Queue[bool]) -> None:
    time.sleep(max(0.0, start - time.time()))
    won.put(RunFolder(Path(path)).take_claim())
    time.sleep(2)


def test_of_many_processes_one_gets_the_claim(folder: RunFolder) -> None:
    context = multiprocessing.get_context("fork")
    won: multiprocessing.Queue[bool] = context.Queue()
    start = time.time() + 0.3
    many = [context.Process(target=_claim_at_once, args=(str(folder.path), start, won)) for _ in range(8)]
    for one in many:
        one.start()
    answers = [won.get(timeout=20) for _ in many]
    for one in many:
        one.join()
    assert sum(answers) == 1


def test_a_dead_process_loses_its_claim_and_a_live_one_does_not(folder: RunFolder) -> None:
    code = (
        "import pathlib, time; from harness.store import RunFolder;"
        f"RunFolder(pathlib.Path({str(folder.path)!r})).take_claim(); print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline()
    assert folder.state() is State.RUNNING
    assert not folder.take_claim()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert folder.state() is State.TODO
    assert folder.take_claim()
    assert folder.state() is State.RUNNING
    folder.release_claim()
    assert not folder.claim.exists()


def test_another_host_is_believed_while_its_heart_beats_and_then_unknown(folder: RunFolder) -> None:
    write_json(folder.claim, {"pid": 1, "host": "elsewhere", "started": "1", "job": None})
    assert folder.state() is State.RUNNING
    old = time.time() - STALE_HEARTBEAT_S - 1
    os.utime(folder.claim, (old, old))
    assert folder.state() is State.UNKNOWN
    write_json(folder.progress, {"stage": "training"})
    assert folder.state() is State.RUNNING


def test_releasing_leaves_other_peoples_claims_alone(folder: RunFolder) -> None:
    write_json(folder.claim, {"pid": -5, "host": "elsewhere"})
    folder.release_claim()
    assert folder.claim.exists()


def test_truncated_json_names_the_file(folder: RunFolder) -> None:
    folder.outcome.write_text('{"run"', encoding="utf-8")
    with pytest.raises(StoreError, match=r"outcome\.json: unreadable"):
        read_json(folder.outcome)


def test_own_process_has_a_start_and_absent_ones_none() -> None:
    assert process_start(os.getpid())
    assert process_start(2**22 + 1) is None


def test_all_runs_are_sorted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("b", "a"):
        store.run(name).create({"seed": json.loads("0")})
    assert [run.id for run in store.all_runs()] == ["a", "b"]
