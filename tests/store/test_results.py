"""results/ on disk: atomic files, claims between real processes, states read off the files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.store import results
from harness.store.results import RunFolder, RunStatus, State, Store, StoreError, read_json, write_json

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


def test_a_look_reads_each_file_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(folder.outcome, {"run": folder.id, "status": "trained"})
    held = {"run": folder.id, "values": {"top1": 1.0}}
    write_json(folder.evaluation(HANDLE), held)
    read: list[str] = []

    def noting(path: str) -> object:
        read.append(path)
        return read_json(path)

    monkeypatch.setattr(results, "read_json", noting)
    assert folder.status([HANDLE, "knn-00000000"]) == RunStatus(State.TRAINED, {HANDLE: held, "knn-00000000": None})
    names = ("outcome.json", f"evaluations/{HANDLE}.json", "evaluations/knn-00000000.json")
    assert read == [str(folder.path / name) for name in names]


def test_truncated_json_names_the_file(folder: RunFolder) -> None:
    folder.outcome.write_text('{"run"', encoding="utf-8")
    with pytest.raises(StoreError, match=r"outcome\.json: unreadable"):
        read_json(folder.outcome)


def test_what_killed_writers_left_is_removed_and_nothing_else(folder: RunFolder) -> None:
    gone, alive, own = 2**22 + 1, f".cancelled.json.{os.getppid()}.ab.tmp", f".run.json.{os.getpid()}.ab.tmp"
    left_behind = (f".outcome.json.{gone}.ab.tmp", f"checkpoints/.step-1.pt.{gone}.ab.tmp", own, ".odd.tmp")
    for name in (*left_behind, alive, ".claim.12.ab.tmp", "a.tmp"):
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).touch()
    folder.clear_leftovers()
    left = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
    assert left == {"run.json", alive, ".claim.12.ab.tmp", "a.tmp"}, "others may be writing at this moment"


def test_a_trained_run_needs_no_resume_points(folder: RunFolder) -> None:
    folder.checkpoints.mkdir()
    for name in ("step-000000003.pt", "step-000000002.pt.damaged", "final.pt"):
        (folder.checkpoints / name).touch()
    folder.clear_leftovers()
    assert len(list(folder.checkpoints.iterdir())) == 3, "it is not trained yet"
    write_json(folder.outcome, {"run": folder.id, "status": "trained"})
    folder.clear_leftovers()
    assert [path.name for path in folder.checkpoints.iterdir()] == ["final.pt"]


def test_all_runs_are_sorted(tmp_path: Path) -> None:
    results = Store(tmp_path)
    assert results.run_ids() == []
    for name in ("b", "a"):
        results.run(name).create({"seed": json.loads("0")})
    (results.runs / "notes.txt").touch()
    assert results.run_ids() == [run.id for run in results.all_runs()] == ["a", "b"]
