"""Every experiment at every scale: it expands to its stated number of runs, and every component of it builds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from harness import components
from harness.config.experiment import load_experiment, scale_names
from harness.config.grid import COMPONENTS, expand, lookup
from harness.config.published import load_published

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.yaml"))
CASES = [pytest.param(f, s, id=f"{f.stem}@{s}") for f, s in itertools.product(FILES, scale_names(EXPERIMENTS))]


@pytest.mark.parametrize(("path", "scale"), CASES)
def test_it_expands_to_its_stated_runs_and_builds(path: Path, scale: str) -> None:
    experiment = load_experiment(path, scale)
    ids = set()
    for arm in expand(experiment):
        first = components.resolve(arm.tree, seed=0)
        components.check(first)
        ids |= {first.model_copy(update={"seed": seed}).id for seed in range(experiment.seeds)}
        assert components.resolve_evaluations(arm.tree, experiment.evaluate)
    assert len(ids) == experiment.runs


@pytest.mark.parametrize(("path", "scale"), CASES)
def test_every_reported_path_and_published_table_exists(path: Path, scale: str) -> None:
    experiment = load_experiment(path, scale)
    arms = expand(experiment)
    for block in experiment.report:
        for about in block.values():
            paths = [p for axis in ("rows", "x", "lines") for p in about.get(axis, {}).values()]
            if "heatmap" in block:
                paths += about["columns"].values()
            for wanted in paths:
                assert any(lookup(arm.tree, arm.settings, wanted) is not None for arm in arms), wanted
            if "published" in about:
                assert load_published(EXPERIMENTS, about["published"])["cells"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_opens_with_its_question(path: Path) -> None:
    experiment = load_experiment(path)
    assert "?" in experiment.question
    tuning = all("validation" in str(entry) for entry in experiment.evaluate)
    assert experiment.claims or tuning, "an ablation without a claim settles nothing"


def test_figure_5_is_147_runs_whose_ids_do_not_depend_on_the_scale_of_seeds() -> None:
    experiment = load_experiment(EXPERIMENTS / "augmentation_pairs.yaml", "cifar10")
    assert experiment.runs == 147
    assert len(expand(experiment)) == 49


def test_two_experiments_share_the_cell_they_have_in_common() -> None:
    """The baseline of the temperature table is the baseline of the heads, of the batch sizes and of batch norm."""

    def ids(name: str) -> set[str]:
        experiment = load_experiment(EXPERIMENTS / f"{name}.yaml", "micro")
        return {components.resolve(arm.tree, seed=0).id for arm in expand(experiment)}

    shared = ids("temperature") & ids("bn_sync")
    assert len(shared) == 1


def test_views_follow_the_scale_and_the_entry(tmp_path: Path) -> None:
    experiment = load_experiment(EXPERIMENTS / "augmentation_pairs.yaml", "micro")
    run = components.resolve(expand(experiment)[0].tree, seed=0)
    assert run.views.shared[0]["crop"]["flip"] == 0.5
    assert run.views.both == []


@pytest.mark.parametrize("key", COMPONENTS)
def test_a_wrong_field_of_any_component_names_its_path(key: str) -> None:
    arm = expand(load_experiment(EXPERIMENTS / "temperature.yaml", "smoke"))[0]
    (name,) = arm.tree[key]
    tree: dict[str, Any] = {**arm.tree, key: {name: {**(arm.tree[key][name] or {}), "no_such_field": 1}}}
    with pytest.raises(ValueError, match=f"{key}: {name}.no_such_field"):
        components.resolve(tree, seed=0)
