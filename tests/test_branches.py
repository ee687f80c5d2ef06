"""Branches of views in an experiment file: what they mean, what is refused and where, and that such a study ends."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from harness import components
from harness.config.experiment import load_experiment
from harness.config.grid import expand, lookup
from harness.config.run import BranchSpec, Run
from harness.report.__main__ import main as report
from harness.sweep.__main__ import main as sweep
from harness.sweep.plan.cost import guess, similar

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"

STUDY = """\
# Does the second view need its blur?
title: Blur on either view
scale: smoke
fixed:
  data: {synthetic: {train_images: 64, test_images: 32, image_size: 16}}
  views.both: []
  schedule.batch_size: 32
  schedule.epochs: 1
vary:
  - views.branches:
      - [{augment: [crop, flip, {blur: {p: 1.0}}]}, {augment: [crop, flip, {blur: {p: 0.1}}], count: 1}]
      - [{augment: [crop, flip], count: 2, size: 8}]
seeds: 1
runs: 2
evaluate: [knn, contrastive]
report:
  - table: {rows: {views: views.branches, Kernel: augmentations.blur.kernel}, columns: {Top-1: knn/top1}}
claims:
  - id: large-views-are-better
    says: views of the full size are better than half-sized ones
    where: nowhere
    on: knn/top1
    expect: {greater: [{augmentations.blur.p: 0.5}, {views.branches: [{augment: [crop, flip], count: 2, size: 8}]}]}
"""
CLAIM = STUDY[STUDY.index("claims:") :]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("scales", "paper", "clusters"):
        (tmp_path / name).symlink_to(EXPERIMENTS / name)
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def resolved(folder: Path, branches: str, both: str = "[]") -> Run:
    fixed = f"{{views.both: {both}, views.branches: {branches}}}"
    text = f"title: t\nscale: smoke\nfixed: {fixed}\nvary: [{{schedule.epochs: [1]}}]\nruns: 1\nevaluate: [knn]\n"
    (arm,) = expand(load_experiment(written(folder, text)))
    return components.resolve(arm.tree, seed=0)


def test_names_mean_what_they_mean_in_both(folder: Path) -> None:
    entries = "[crop, {color: {strength: 1}}, {blur: {p: 0.1}}]"
    run = resolved(folder, f"[{{augment: {entries}, count: 2}}, {{augment: [crop], size: 16}}]")
    usual = resolved(folder, "[]", entries)
    assert run.views.branches[0].augment == usual.views.both and run.views.both == []
    assert [(one.count, one.size) for one in run.views.branches] == [(2, None), (1, 16)]
    assert run.views.branches[1].augment == usual.views.both[:1]
    assert Run.model_validate(json.loads(json.dumps(run.spec()))) == run
    assert "branches" not in usual.spec()["views"]


def test_every_field_of_a_branch_makes_other_views(folder: Path) -> None:
    changed: dict[str, Any] = {"augment": "[crop, flip]", "count": 3, "size": 8}
    assert {*changed} == {*BranchSpec.model_fields}, "a field without a second value"
    usual = {"augment": "[crop]", "count": 2, "size": 16}
    trials = [usual, *(usual | {field: value} for field, value in changed.items())]
    runs = [resolved(folder, f"[{{{', '.join(f'{k}: {v}' for k, v in one.items())}}}]") for one in trials]
    assert len({run.id for run in runs}) == len(trials)
    built = [components.build(run).views for run in runs]
    assert all(a != b and a.sizes and b.sizes for a, b in itertools.combinations(built, 2))
    assert [one.sizes for one in built] == [(16, 16), (16, 16), (16, 16, 16), (8, 8)]


@pytest.mark.parametrize(
    ("branches", "said"),
    [
        (
            "[{augment: [crop, solarise]}]",
            ":5: views.branches.0.augment: unknown augmentation 'solarise': did you mean",
        ),
        (
            "\n    - {augment: [crop]}\n    - augment:\n      - crop\n      - {blur: {q: 1}}",
            ":7: views.branches.1.augment: blur.q",
        ),
        ("[{augment: crop}]", "views.branches.0.augment must be a list of augmentations: [crop]"),
        ("[crop]", 'views.branches.0: "crop" is not a branch: write {augment: [...], count: 1, size: null}'),
        ("[{count: 2}]", "is not a branch"),
        ("crop", "views.branches must be a list of branches"),
        ("[{augment: [crop], counts: 2}]", "a branch has no field 'counts': did you mean 'count'?"),
        ("[{augment: [crop], count: 0}]", ":5: views.branches.0.count: Input should be greater than or equal to 1"),
        ("[{augment: [crop], size: 7}]", "views.branches.0.size: Input should be greater than or equal to 8 (got 7)"),
        ("[{augment: [crop], size: big}]", "views.branches.0.size: Input should be a valid integer"),
        ("[{augment: [flip, crop], size: 16, count: 2}]", "a branch of size 16 begins with a crop"),
        ("[{augment: [crop], count: 3}]", "simclr needs 2 views of each image, not 3"),
        ("[{augment: [crop]}, {augment: [crop], size: 16}]", "simclr needs views of one size, not of 32 and 16 pixels"),
    ],
)
def test_what_is_wrong_is_said_where(
    folder: Path, branches: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"title: t\nscale: smoke\nfixed:\n  views.both: []\n  views.branches: {branches}\n"
    path = written(folder, text + "vary: [{schedule.epochs: [1]}]\nseeds: 1\nruns: 1\nevaluate: [knn]\n")
    assert sweep([str(path), "--plan", "--results", str(folder / "results"), "--cluster", "local"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown and "study.yaml:" in shown


def test_beside_both_they_are_refused_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(folder, STUDY.replace("  views.both: []\n", ""))
    assert sweep([str(path), "--plan", "--results", str(folder / "results"), "--cluster", "local"]) == 2
    said = capsys.readouterr().err
    assert said.count("views.branches stands in place of views.both: make it []") == 1 and "study.yaml:9" in said


def test_paths_of_an_arm(folder: Path) -> None:
    blurred, plain = expand(load_experiment(written(folder, STUDY)))
    assert lookup(blurred.tree, {}, "views.branches") == blurred.settings["views.branches"]
    assert [lookup(arm.tree, arm.settings, "augmentations.blur.kernel") for arm in (blurred, plain)] == [0.1, None]
    assert lookup(plain.tree, plain.settings, "augmentations.color.strength") is None
    with pytest.raises(ValueError, match="a branch has no name"):
        lookup(blurred.tree, blurred.settings, "views.branches.first")


def test_views_have_a_price(folder: Path) -> None:
    """Twice the pixels take twice as long; and a rate that was measured is of the same number and sizes of views."""
    plain = resolved(folder, "[]", "[crop]")
    four, small = (resolved(folder, f"[{{augment: [crop], count: {n}}}]") for n in ("4", "2, size: 16"))
    rates = [guess(run, on_gpu=False) for run in (plain, four, small)]
    assert rates == [rates[0], rates[0] / 2, rates[0] * 4]
    assert len({similar(run.spec()) for run in (plain, four, small)}) == 3


def test_a_scale_may_have_branches(folder: Path) -> None:
    scale = (EXPERIMENTS / "scales" / "smoke.yaml").read_text(encoding="utf-8")
    views = "views: {shared: [], both: [crop, flip, color], targeted: []}"
    assert views in scale
    (folder / "scales").unlink()
    (folder / "scales").mkdir()
    (folder / "scales" / "smoke.yaml").write_text(
        scale.replace(views, "views: {branches: [{augment: [crop, flip], count: 2}]}"), encoding="utf-8"
    )
    text = "title: t\nscale: smoke\nvary: [{schedule.epochs: [1]}]\nruns: 1\nevaluate: [knn]\n"
    (arm,) = expand(load_experiment(written(folder, text)))
    assert [*components.resolve(arm.tree, seed=0).views.branches[0].augment[1]] == ["flip"]


def test_a_study_of_branches_is_planned_trained_and_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, results = written(folder, STUDY), folder / "results"
    where = ["--results", str(results), "--cluster", "local"]
    assert sweep([str(path), *where, "--jobs", "1", "--yes"]) == 0
    runs = [json.loads(one.read_text()) for one in sorted(results.glob("runs/*/run.json"))]
    assert sorted(len(one["spec"]["views"]["branches"]) for one in runs) == [1, 2]
    assert all(one["id"] == Run.model_validate(one["spec"]).id for one in runs)
    assert len([*results.glob("runs/*/evaluations/*.json")]) == 4
    capsys.readouterr()
    assert report([str(results)]) == 0
    page = capsys.readouterr().out
    assert "1 × (crop + flip + blur (p 1)) + 1 × (crop + flip + blur (p 0.1))" in page
    assert "2 × (crop + flip, 8 px)" in page
    (first, *_) = results.glob("experiments/*.json")
    swapped = json.loads(first.read_text())
    for arm, other in zip(swapped["arms"], reversed(swapped["arms"]), strict=True):
        arm["settings"] = dict(json.loads(first.read_text())["arms"][swapped["arms"].index(other)]["settings"])
    first.write_text(json.dumps(swapped))
    report([str(results)])
    assert "has another views.branches" in " ".join(capsys.readouterr().out.split())
