"""The probe of a plan: it names settings that change nothing that trains, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import components
from harness.config.experiment import load_experiment
from harness.config.grid import expand
from harness.config.run import Run
from harness.sweep.__main__ import main
from harness.sweep.plan import no_effect

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
Write = Callable[..., Path]

AXIS = "  - objective.nt_xent.temperature: [0.1, 0.5]\n"
REFERS = ("{temperature: objective.nt_xent.temperature}", "{epochs: schedule.epochs}")


def runs(path: Path, scale: str | None = None) -> list[Run]:
    resolved = (components.resolve(arm.tree, seed=0) for arm in expand(load_experiment(path, scale)))
    return list({run.id: run for run in resolved}.values())


INERT = {
    "blur's sigma where it never blurs": (
        "views.both: [[crop, {blur: {p: 0.0, sigma: [0.1, 2.0]}}], [crop, {blur: {p: 0.0, sigma: [0.1, 1.0]}}]]",
        "",
    ),
    "an operator that never acts": ("views.both: [[crop, {noise: {p: 0.0}}], [crop]]", ""),
    "a warm-up that rounds to the same steps": ("schedule.warmup_epochs: [0.0, 0.001]", ""),
    "a scaling rule at the batch where both agree": (
        "optimizer: [{sgd: {lr: 0.1, lr_scaling: linear}}, {sgd: {lr: 0.1, lr_scaling: none}}]",
        "schedule.batch_size: 256",
    ),
}


@pytest.mark.parametrize("case", INERT)
def test_deliberately_inert_axes_are_flagged(write: Write, case: str) -> None:
    grid, fixed = INERT[case]
    change = [("schedule.batch_size: 32", fixed)] if fixed else []
    assert no_effect.inert(runs(write((AXIS, f"  - {grid}\n"), *change))) == [[0, 1]]


@pytest.mark.parametrize(
    "grid",
    [
        "schedule.epochs: [1, 2]",
        "schedule.warmup_epochs: [0, 1]",
        "schedule.batch_size: [16, 32]",
        "optimizer.lars.lr: [0.1, 0.2]",
        "optimizer.lars.weight_decay: [1.0e-6, 1.0e-4]",
        "optimizer.lars.momentum: [0.9, 0.99]",
        "objective.nt_xent.temperature: [0.1, 0.11]",
        "objective.nt_xent.normalize: [true, false]",
        "norm.momentum: [0.1, 0.2]",
        "norm.eps: [1.0e-5, 1.0e-4]",
        "norm.groups: [1, 2]",
        "head: [none, linear, nonlinear, {nonlinear: {hidden_dim: 8}}, {nonlinear: {out_dim: 8}}]",
        "encoder: [resnet18, resnet34]",
        "precision: [float32, bfloat16]",
        "views.both: [[crop, {noise: {p: 0.1}}], [crop]]",
        "views.both: [[crop, {blur: {p: 0.05, sigma: [0.1, 2.0]}}], [crop, {blur: {p: 0.05, sigma: [0.1, 1.0]}}]]",
        "views.targeted: [[color, blur], [blur, color]]",
        "data.synthetic.train_images: [64, 128]",
        "optimizer: [{sgd: {lr: 0.1}}, {sgd: {lr: {step: {start: 0.1, epochs: [1]}}}}]",
        "method: [{simsiam: {predictor: linear}}, {simsiam: {predictor: linear, predictor_lr: scheduled}}]",
        "method: [{moco: {queue: 64}}, {moco: {queue: 64, shuffle: false}}]\n    norm.groups: [2]",
        "views: [{branches: [{augment: [crop]}]}]\n    method: [{cmc: {negatives: 4}}, {cmc: {negatives: 8}}]",
        "method: [{deepcluster: {clusters: 4, pca: 6}}, {deepcluster: {clusters: 4, pca: 6, iterations: 0}}]",
    ],
)
def test_axes_that_matter_are_not(write: Write, grid: str) -> None:
    fixed = {"schedule.epochs": "  schedule.epochs: 1\n", "schedule.batch_size": "  schedule.batch_size: 32\n"}
    varied = [(fixed[path], "")] if (path := grid.partition(":")[0]) in fixed else []  # never both
    assert no_effect.inert(runs(write((AXIS, f"  - {grid}\n"), *varied))) == []


def test_what_only_the_encoder_has_is_seen_where_the_stand_in_has_it_not(write: Write) -> None:
    bare = ("schedule.epochs: 1", "schedule.epochs: 1\n  head: none")
    assert no_effect.inert(runs(write((AXIS, "  - norm.momentum: [0.1, 0.2]\n"), bare))) == []


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_false_alarm_on_any_experiment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(no_effect, "MOST", 10_000)
    assert no_effect.inert(runs(path, "smoke")) == []


def test_a_large_grid_is_left_to_the_report(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(no_effect, "MOST", 2)
    assert no_effect.inert(runs(write())) is None


def test_what_is_too_large_to_be_tried_is_taken_to_matter(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, fixed = INERT["a scaling rule at the batch where both agree"]
    monkeypatch.setattr(no_effect, "LARGEST", 0)
    no_effect.learnt.cache_clear()
    assert no_effect.inert(runs(write((AXIS, f"  - {grid}\n"), ("schedule.batch_size: 32", fixed)))) == []
    no_effect.learnt.cache_clear()


def test_the_plan_says_so(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = INERT["an operator that never acts"][0]
    changes = [(AXIS, f"  - {grid}\n"), REFERS]
    start = "claims:\n"
    path = write(*changes)
    path.write_text(path.read_text().partition(start)[0])
    assert main([str(path), "--plan", "--results", str(tmp_path / "results"), "--cluster", "local"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "INERT: nothing that trains differs between both [crop, noise(p 0.0)]; both [crop]" in said


def test_the_global_random_state_is_left_alone(write: Write) -> None:
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    no_effect.learnt.cache_clear()
    no_effect.inert(runs(write()))
    assert torch.equal(before, torch.get_rng_state())
