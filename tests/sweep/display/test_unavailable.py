"""Evaluations that cannot be had are said before the start, at the end, and by whoever looks later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.experiment import load_experiment
from harness.store.results import Store, write_json
from harness.sweep.__main__ import main
from harness.sweep.local import run_local
from harness.sweep.local.pool import Outcome
from harness.sweep.plan.manifest import record
from harness.sweep.plan.plan import Plan, make_plan

Write = Callable[..., Path]
FLOWERS = ("evaluate: [linear]", "evaluate: [linear, {transfer_linear: {data: {torchvision: {name: flowers102}}}}]")
LABEL = "transfer_linear@flowers102"
WHY = "flowers102 is not in ROOT"


def words(text: str) -> str:
    return " ".join(text.split())


def in_vain(plan: Plan) -> None:
    """Every run is done, but for the flowers."""
    for one in plan.runs.values():
        write_json(one.folder.outcome, {"run": one.folder.id, "status": "trained"})
        for evaluation in plan.evaluations:
            lacks = {"unavailable": WHY} if evaluation.label == LABEL else {}
            held = {"run": one.folder.id, "values": {}, "wall_seconds": 0.0, **lacks}
            write_json(one.folder.evaluation(evaluation.id), held)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)  # with --data left at "data"
    return ["--results", str(tmp_path / "results"), "--cluster", "local"]


def test_it_is_said_before_and_after(
    write: Write,
    here: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_here(console: object, plan: Plan, runs: list[object], *_: object, **__: object) -> Outcome:
        in_vain(plan)
        return Outcome()

    monkeypatch.setattr(run_local, "run_here", run_here)
    path = str(write(FLOWERS))
    assert main([path, *here, "--plan"]) == 0
    before = words(capsys.readouterr().out)
    assert f"1 evaluation of every run unavailable at present: {LABEL}: flowers102 is not in data" in before
    assert "python -m harness.data flowers102 --root data" in before
    assert main([path, *here, "--only", next(iter(make_plan(load_experiment(Path(path)), Store(tmp_path)).runs))]) == 0
    assert "unavailable at present" in words(capsys.readouterr().out)

    after = f"4 evaluations unavailable; fix the cause and rerun with --retry: {LABEL}: {WHY}"
    for command in ([path, *here], [path, *here, "--plan"], ["--status", *here]):
        assert main(command) == 0
        assert words(capsys.readouterr().out).count(after) >= 1, command


def test_the_end_of_a_sweep_reads_what_became_of_its_runs(
    write: Write, here: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.store.causes import Cause

    def run_here(console: object, plan: Plan, runs: list[object], *_: object, **__: object) -> Outcome:
        in_vain(plan)
        return Outcome(causes=dict.fromkeys(plan.runs, Cause.DONE))

    monkeypatch.setattr(run_local, "run_here", run_here)
    assert main([str(write(FLOWERS)), *here]) == 0
    assert "4 evaluations unavailable" in words(capsys.readouterr().out).partition("at present")[2]


def test_status_counts_a_run_of_two_sweeps_once(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("small", "again"):
        plan = make_plan(load_experiment(write(FLOWERS, name=name)), Store(tmp_path / "results"))
        record(plan)
    in_vain(plan)
    assert main(["--status", *here]) == 0
    assert "4 evaluations unavailable" in words(capsys.readouterr().out)
