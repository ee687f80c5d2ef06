"""Settings that cannot take effect are said in the plan, for every arm whose own length makes them so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.config.run import Evaluation
from harness.store.results import Store
from harness.sweep.__main__ import main
from harness.sweep.plan.plan import make_plan
from harness.sweep.plan.preflight import check_data
from harness.sweep.plan.unused_settings import idle, idle_in
from tests.sweep.plan.test_plan import Write

FIXED = ("  schedule.epochs: 1\n", "  schedule.epochs: 1\n  X\n")
EPOCHS = ("objective.nt_xent.temperature: [0.1, 0.5]", "schedule.epochs: [0, 1, 3, 200]")


def test_a_warm_up_longer_than_an_arm_s_run_is_named(
    write: Write, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = (
        EPOCHS,
        ("  schedule.epochs: 1\n", "  schedule.warmup_epochs: 100\n"),
        ("runs: 4", "runs: 8"),
        ("    rows: {temperature: objective.nt_xent.temperature}", "    rows: {epochs: schedule.epochs}"),
    )
    text = write(*changes).read_text().partition("claims:")[0].replace("    published: simclr/table_5\n", "")
    path = write()
    path.write_text(text)
    found = idle(make_plan(load_experiment(path), results))
    assert [(what.partition(":")[0], arms) for what, arms in found.items()] == [
        ("schedule.warmup_epochs 100 of 1 epochs", ["epochs 1"]),
        ("schedule.warmup_epochs 100 of 3 epochs", ["epochs 3"]),
    ]
    assert main([str(path), "--plan", "--results", str(results.root), "--cluster", "local"]) == 0
    assert capsys.readouterr().out.count("NO EFFECT: schedule.warmup_epochs") == 2


def moving(epochs: int) -> dict[str, Any]:
    return {"method": {"moco": {"momentum": {"cosine": {"start": 0, "end": 1, "epochs": epochs}}}}}


@pytest.mark.parametrize(
    ("changes", "evaluation", "said"),
    [
        ({}, {"knn": {"k": 64}}, "k 64 of 64 images"),
        ({}, {"knn": {"k": 63}}, ""),
        ({"views": {"both": [{"blur": {"p": 0.0}}]}}, {"linear": {}}, "views.both.blur.p 0"),
        ({"views": {"both": [{"blur": {"p": 0.5}}]}}, {"linear": {}}, ""),
        (moving(9), {"linear": {}}, "epochs 9 of 1"),
        (moving(1), {"linear": {}}, ""),
    ],
)  # fmt: skip
def test_others_of_the_kind(
    write: Write, results: Store, changes: dict[str, Any], evaluation: dict[str, Any], said: str
) -> None:
    run = next(iter(make_plan(load_experiment(write()), results).runs.values())).run
    spec = run.spec() | {"schedule": {"batch_size": 32, "epochs": 1}, "views": {"both": []}} | changes
    found = list(idle_in(type(run).model_validate(spec), [Evaluation("label", "handle", evaluation)]))
    assert len(found) == bool(said) and all(said in one for one in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            [("[linear]", "[linear, {fine_tune: {batch_size: 500}}]")],
            "fine_tune@10%: batch_size 500 of 64 training images",
        ),
        (
            [("[linear]", "[linear, contrastive]")],
            "contrastive: examples 512 of 32 test images: only these are available",
        ),
        ([("[linear]", "[linear, tsne]")], "tsne: classes 10 of 4 classes: only these are available"),
        ([("[linear]", "[linear, tsne]")], "tsne: images 100 of 32 test images: only these are available"),
        (
            [FIXED, ("X", "schedule.warmup_epochs: 0.01")],
            "schedule.warmup_epochs 0.01 of 64 images: less than one step",
        ),
        ([FIXED, ("X", "augmentations.blur.p: 0.9")], "augmentations.blur.p: no view has 'blur'"),
        ([FIXED, ("X", "evaluations.knn.k: 5")], "evaluations.knn.k: 'knn' is not among what is evaluated"),
    ],
)
def test_what_the_data_do_not_hold_and_what_nothing_uses_is_said(
    write: Write, results: Store, capsys: pytest.CaptureFixture[str], changes: list[tuple[str, str]], said: str
) -> None:
    path = write(*changes)
    assert any(one.startswith(said) for one in idle(make_plan(load_experiment(path), results), results.root))
    assert main([str(path), "--plan", "--results", str(results.root), "--cluster", "local"]) == 0
    assert f"NO EFFECT: {said}" in " ".join(capsys.readouterr().out.split())


def test_what_the_data_hold_is_not_remarked_on(write: Write, results: Store) -> None:
    used = "schedule.warmup_epochs: 0.5\n  evaluations.linear.split: test\n  augmentations.flip.p: 0.4"
    plan = make_plan(load_experiment(write(FIXED, ("X", used))), results)
    assert idle(plan, results.root) == {}
    assert idle(plan) == {}


def test_a_value_that_a_later_one_replaces_is_refused(write: Write, results: Store) -> None:
    path = write(FIXED, ("X", "optimizer.lars.lr: 0.5\n  optimizer: {sgd: {}}"))
    with pytest.raises(SpecError, match=r":8: 'optimizer.lars.lr' is replaced by 'optimizer'"):
        make_plan(load_experiment(path), results)


def test_a_batch_larger_than_a_folder_of_images_is_refused_before_the_start(write: Write, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / "data" / "pics" / split / name
            folder.mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (36, 36), (number, 0, 0)).save(folder / f"{number}.png")
    pics = "image_folder: {path: pics, image_size: 32, resize: 36}"
    path = write(("synthetic: {train_images: 64, test_images: 32}", pics))
    plan = make_plan(load_experiment(path), Store(tmp_path / "results"))
    with pytest.raises(SpecError, match="batch size 32 exceeds the 16 training images"):
        check_data(plan.to_do, tmp_path / "data")
    asked = [str(path), "--results", str(tmp_path / "results"), "--data", str(tmp_path / "data"), "--cluster", "local"]
    assert main(asked) == 2 and not (tmp_path / "results").exists()
