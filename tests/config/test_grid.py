"""Grids: products, unions, pairs, dotted paths, and what a path of an arm is worth."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.config.grid import assign, expand, lookup, normalised

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scales").symlink_to(EXPERIMENTS / "scales")
    return tmp_path


def arms(folder: Path, vary: str, fixed: str = "{}", overrides: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    path = folder / "exp.yaml"
    path.write_text(
        f"title: t\nscale: smoke\nfixed: {fixed}\nvary:\n{vary}runs: 1\nevaluate: [linear]\n", encoding="utf-8"
    )
    return [arm.settings for arm in expand(load_experiment(path), overrides)]


def test_the_union_of_products_in_file_order(folder: Path) -> None:
    vary = "  - {schedule.epochs: [1, 2], schedule.batch_size: [8, 16]}\n  - {norm.groups: [4]}\n"
    product = [
        dict(zip(("schedule.epochs", "schedule.batch_size"), p, strict=True))
        for p in itertools.product([1, 2], [8, 16])
    ]
    assert arms(folder, vary) == [*product, {"norm.groups": 4}]


def test_pairs_are_singles_and_ordered_pairs(folder: Path) -> None:
    listed = [one["views.targeted"] for one in arms(folder, "  - {views.targeted: {pairs: [crop, blur, color]}}\n")]
    assert listed.count(["crop"]) == 1 and ["crop", "blur"] in listed and ["blur", "crop"] in listed
    assert len(listed) == 9


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("schedule.batchsize", "did you mean 'schedule.batch_size'?"),
        ("shedule.batch_size", "did you mean 'schedule'?"),
        ("norm.groups.more", "'norm.groups' has no parts"),
        ("encoder.resnet18.width", "encoder is 'micro' here"),
    ],
)
def test_a_path_that_does_not_exist_names_line_and_nearest(folder: Path, path: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        arms(folder, f"  - {{{path}: [1, 2]}}\n", fixed="{norm.grups: 1}")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2  # both mistakes, and each once although two arms share it
    assert "exp.yaml:3: 'norm.grups' does not exist: did you mean 'norm.groups'?" in lines[0]
    assert "exp.yaml:5: " in lines[1] and said in lines[1]


def test_an_override_reaches_every_arm_and_never_an_axis(folder: Path) -> None:
    vary = "  - {norm.groups: [1, 2]}\n"
    path = folder / "exp.yaml"
    arms(folder, vary)
    expanded = expand(load_experiment(path), {"schedule.epochs": 7})
    assert {arm.tree["schedule"]["epochs"] for arm in expanded} == {7}
    with pytest.raises(SpecError, match=r"-o: 'norm\.groups' is varied"):
        arms(folder, vary, overrides={"norm.groups": 4})
    with pytest.raises(SpecError, match=r"-o: 'norm\.groups' is varied"):
        arms(folder, "  - {norm.groups: [1, 2]}\n", overrides={"norm.groups": 4})
    with pytest.raises(SpecError, match=r"-o: 'norm\.group' does not exist"):
        arms(folder, vary, overrides={"norm.group": 4})


@pytest.mark.parametrize(
    "axes",
    [
        "norm.groups: [1, 2]",
        "head: [linear, {nonlinear: {out_dim: 9}}], norm.groups: [1, 2]",
        "objective.nt_xent.temperature: [0.1, 0.5], objective.nt_xent.normalize: [true, false]",
        "head: [{linear: {out_dim: 3}}], head.linear.out_dim: [4, 5]",
        "views.targeted: [[crop], [crop, color]], augmentations.color.strength: [0.5, 1.0]",
    ],
)
def test_what_arms_share_is_nothing_that_they_vary(folder: Path, axes: str) -> None:
    """Slow oracle: the whole tree copied for every arm, then its settings put in one after the other."""
    arms(folder, f"  - {{{axes}}}\n")
    experiment = load_experiment(folder / "exp.yaml")
    base = normalised(experiment.scale.tree)
    for path, value in experiment.fixed.items():
        assign(base, path, value)
    expanded = expand(experiment)
    for arm in expanded:
        tree = copy.deepcopy(base)
        for path, value in arm.settings.items():
            assign(tree, path, value)
        assert arm.tree == tree
    assert len({json.dumps(arm.tree, sort_keys=True) for arm in expanded}) == len(expanded)


TREE = normalised(
    {
        "data": "synthetic",
        "method": "simclr",
        "encoder": {"micro": {"depth": 2}},
        "head": {"linear": {"out_dim": 8}},
        "objective": {"nt_xent": {"temperature": 0.5}},
        "optimizer": {"lars": {"lr": 1}},
        "augmentations": {"crop": {"flip": 0.5}, "color": {"strength": 1}, "blur": {"p": 0.5}},
        "views": {"shared": ["crop"], "targeted": ["crop", {"color": {"strength": 1}}]},
        "norm": {"groups": 1},
    }
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("norm.groups", 1),
        ("objective.nt_xent.temperature", 0.5),
        ("objective.nt_logistic.temperature", None),
        ("head", "linear"),
        ("head.name", "linear"),
        ("head.out_dim", 8),
        ("head.hidden_layers", None),
        ("views.targeted.first", "crop"),
        ("views.targeted.last", "color"),
        ("augmentations.crop.flip", 0.5),
        ("augmentations.color.strength", 1),
        ("augmentations.blur.p", None),  # no view is blurred
    ],
)
def test_lookup(path: str, value: Any) -> None:
    assert lookup(TREE, {}, path) == value


def test_lookup_prefers_the_value_as_written() -> None:
    assert lookup(TREE, {"head": "none"}, "head") == "none"
    assert lookup(TREE, {"views.targeted": ["blur"]}, "views.targeted.last") == "blur"


NESTED = {**TREE, "method": {"byol": {"predictor": {"mlp": {"hidden_dim": 16}}, "momentum": 0.9}}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("method.byol.predictor.mlp.hidden_dim", 16),
        ("method.byol.predictor.mlp.out_dim", 128),  # the default, which the tree does not spell out
        ("method.byol.predictor.linear.out_dim", None),  # another component stands in that field
        ("method.byol.momentum.cosine.start", None),  # a number stands there
        ("method.simsiam.predictor.mlp.out_dim", None),  # another method
    ],
)
def test_lookup_within_components_of_components(path: str, value: Any) -> None:
    assert lookup(NESTED, {}, path) == value


@pytest.mark.parametrize(
    "path", ["method.byol.predictr", "method.byol.predictor.mlp.out_dimm", "method.byol.predictor.mlp.out_dim.more"]
)
def test_lookup_of_a_field_that_no_component_has_is_an_error(path: str) -> None:
    with pytest.raises(SpecError, match="does not exist"):
        lookup(NESTED, {}, path)


@pytest.mark.parametrize("path", ["norm.grups", "augmentations.blurr.p", "augmentations.blur.q"])
def test_lookup_of_nothing_is_an_error(path: str) -> None:
    with pytest.raises(SpecError, match="does not exist"):
        lookup(TREE, {}, path)


def test_assigning_a_component_replaces_it_whole() -> None:
    tree = normalised(TREE)
    assign(tree, "head", {"linear": {"out_dim": 16}})
    assert next(iter(tree["head"])) == "linear"
    assert tree["head"]["linear"]["out_dim"] == 16
