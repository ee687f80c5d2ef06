"""The evaluation stage: what is cut off goes on from its resume point, which is nobody else's and of no other code."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import components
from harness.components import Evaluation
from harness.store import provenance
from harness.store.results import RunFolder, read_json, write_json
from harness.train import checkpoint, evaluation, loop
from harness.train.evaluation import Resumable
from harness.train.stop import Interrupted, TakenOver
from tests.train.test_loop import HERE, assert_same, tiny, tree

CROPPED = {"linear": {"solver": "sgd", "epochs": 6, "augment": "crop_flip"}}


def trained(results: Path) -> tuple[RunFolder, list[Evaluation]]:
    folder, _ = tiny(results)
    loop.execute(folder, [], HERE)
    return folder, components.resolve_evaluations(tree(), [CROPPED])


def stopped_at(monkeypatch: pytest.MonkeyPatch, call: int, method: str = "keep") -> None:
    """SIGTERM to this process when the evaluation asks for the ``call``-th time."""
    calls = 0
    original = getattr(Resumable, method)

    def counted(self: Resumable, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGTERM)
        original(self, *args)

    monkeypatch.setattr(Resumable, method, counted)


@pytest.mark.parametrize(("method", "call"), [("keep", 1), ("keep", 4), ("check", 2), ("check", 13)])
def test_a_signal_costs_no_epoch_of_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str, call: int
) -> None:
    whole, asked = trained(tmp_path / "whole")
    loop.execute(whole, asked, HERE)
    folder, _ = trained(tmp_path / "stopped")
    with monkeypatch.context() as patched:
        stopped_at(patched, call, method)
        with pytest.raises(Interrupted, match="within linear"):
            loop.execute(folder, asked, HERE)
    assert folder.missing([asked[0].id])
    loop.execute(folder, asked, HERE)
    assert_same(whole, folder)
    part = folder.partial(asked[0].id)
    assert not part.exists(), "it is of no use any more"
    assert ("resumed at" in capsys.readouterr().out) == (method == "keep" or call > 8), "before the first epoch: anew"


def cut_off(folder: RunFolder, asked: list[Evaluation], monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patched:
        stopped_at(patched, 3)
        with pytest.raises(Interrupted):
            loop.execute(folder, asked, HERE)
    return folder.partial(asked[0].id)


@pytest.mark.parametrize("fault", ["damaged", "another code", "another run"])
def test_what_it_cannot_go_on_from_it_does_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    whole, asked = trained(tmp_path / "whole")
    loop.execute(whole, asked, HERE)
    folder, _ = trained(tmp_path / "stopped")
    part = cut_off(folder, asked, monkeypatch)
    if fault == "damaged":
        part.write_bytes(part.read_bytes()[:-9])
    elif fault == "another code":
        monkeypatch.setattr(provenance, "code_fingerprint", lambda: "other")
    else:
        state = checkpoint.load(part, evaluation.torch.device("cpu"))
        checkpoint.save(part, state | {"run": "0" * 12})
    capsys.readouterr()
    loop.execute(folder, asked, HERE)
    said = capsys.readouterr().out
    assert "resumed" not in said and ("moved aside" in said) == (fault == "damaged")
    assert_same(whole, folder)


def test_a_resume_point_is_written_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = trained(tmp_path)
    saved: list[float] = []
    monkeypatch.setattr(evaluation.checkpoint, "save", lambda path, state: saved.append(state["done"]))
    loop.execute(folder, asked, replace(HERE, checkpoint_minutes=0.0))
    assert saved == pytest.approx([(epoch + 1) / 6 for epoch in range(6)])
    saved.clear()
    folder.evaluation(asked[0].id).unlink()
    loop.execute(folder, asked, HERE)
    assert not saved, "ten minutes have not gone by"


def test_its_time_is_that_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = trained(tmp_path)
    part = cut_off(folder, asked, monkeypatch)
    state = checkpoint.load(part, evaluation.torch.device("cpu"))
    checkpoint.save(part, state | {"seconds": 1000.0})
    loop.execute(folder, asked, HERE)
    assert read_json(folder.evaluation(asked[0].id))["wall_seconds"] > 1000


@pytest.mark.parametrize("over", [False, True])
def test_an_evaluation_that_another_process_makes_by_now_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    folder, asked = trained(tmp_path)
    theirs = folder.evaluation(asked[0].id)

    def frozen(found: Any) -> Any:
        write_json(theirs if over else folder.lock.path, {"pid": 1, "host": "elsewhere"})
        return measured(found)

    measured = evaluation.recorded
    monkeypatch.setattr(evaluation, "recorded", frozen)
    with pytest.raises(TakenOver):
        loop.execute(folder, asked, HERE)
    assert theirs.exists() is over and (not over or read_json(theirs)["host"] == "elsewhere")


def test_progress_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = trained(tmp_path)
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(evaluation, "report_progress", lambda _, stage, **about: told.append((stage, about)))
    loop.execute(folder, asked, replace(HERE, progress_s=0.0))
    stages = [stage for stage, _ in told]
    assert stages[:2] == ["evaluating linear", "evaluating linear 17%"] and stages[-1] == "evaluating linear 100%"
    assert all(about["eta_seconds"] >= 0 for _, about in told[1:])


def test_a_killed_process_leaves_no_resume_point_of_what_is_there(tmp_path: Path) -> None:
    folder, asked = trained(tmp_path)
    loop.execute(folder, asked, HERE)
    part = folder.partial(asked[0].id)
    part.write_bytes(b"left by a process that was killed before it could remove it")
    other = folder.partial("knn-00000000")
    other.write_bytes(b"of an evaluation that is not there yet")
    folder.clear_leftovers()
    assert not part.exists() and other.exists()
