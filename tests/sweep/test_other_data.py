"""The same name, other pictures: two commands into one results folder, and what report and plan make of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.report.read.collect import collect
from harness.report.read.records import State
from harness.store.results import Store
from harness.sweep.__main__ import main
from tests.data.test_identity import exchange, pics

ROOT = Path(__file__).resolve().parents[2]
STUDY = """\
title: My own pictures
scale: smoke
fixed:
  data: {image_folder: {path: pics, image_size: 16, resize: 16}}
  schedule: {batch_size: 4, epochs: 1, warmup_epochs: 0}
vary: [{objective.nt_xent.temperature: [0.1, 0.5]}]
seeds: 2
runs: 4
evaluate: [linear]
report: [{table: {rows: {temperature: objective.nt_xent.temperature}, columns: {Top-1: linear/top1}}}]
"""


def other_pictures(top: Path) -> None:
    shutil.rmtree(top)
    pics(top, seed=1)


SECOND: dict[str, tuple[Callable[[Path], object], int]] = {
    "other pictures": (other_pictures, 0),
    "classes exchanged": (lambda top: exchange(top / "train" / "a", top / "train" / "b"), 0),
    "what is no data": (lambda top: (top / "train" / "a" / "._0.png").touch(), 2),
}


@pytest.mark.parametrize("change", SECOND)
def test_seeds_of_two_data_sets_are_not_averaged(
    tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    act, counted = SECOND[change]
    for name in ("scales", "paper", "clusters"):
        (tmp_path / name).symlink_to(ROOT / "experiments" / name)
    (tmp_path / "own.yaml").write_text(STUDY, encoding="utf-8")
    pics(tmp_path / "A" / "pics")
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    act(tmp_path / "B" / "pics")
    results = tmp_path / "results"
    common = [str(tmp_path / "own.yaml"), "--results", str(results), "--cluster", "local", "--jobs", "1", "--yes"]
    for seed, data in enumerate("AB"):
        assert main([*common, "--seeds", str(seed), "--data", str(tmp_path / data)]) == 0
    assert {run.state() for run in Store(results).all_runs()} == {"done"}  # nothing is lost
    read = collect(results)
    cells = read.cells(read.experiments[0], "linear/top1")
    assert [len(cell.values) for cell in cells] == [counted, counted]
    if not counted:
        (problem,) = read.problems
        assert "saw different data under one name" in problem.what
        assert all(run in problem.what for run in read.experiments[0].ids)
        assert {state for cell in cells for state in cell.states.values()} == {State.OTHER_DATA}
    said = " ".join(capsys.readouterr().out.split())
    assert ("other data than run" in said) is not bool(counted)  # before the second has trained anything
    assert ("ignored: hidden by a leading dot (1)" in said) is (change == "what is no data")
