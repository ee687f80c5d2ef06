"""Every committed run is still the run that it was: by its id, by its parts and by the experiments that ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import components
from harness.config import registry
from harness.config.experiment import load_experiment
from harness.config.grid import COMPONENTS, expand
from harness.config.run import Run

ROOT = Path(__file__).resolve().parent.parent
RUNS = sorted(ROOT.glob("results/runs/*/run.json"))
MANIFESTS = sorted(ROOT.glob("results/experiments/*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def entries(run: Run) -> Iterator[tuple[registry.Registry, registry.Resolved]]:
    parts = ((kind, getattr(run, key)) for key, kind in COMPONENTS.items())
    yield from ((kind, entry) for kind, entry in parts if entry is not None)  # a method may have a loss of its own
    branches = (branch.augment for branch in run.views.branches)
    for branch in (run.views.shared, run.views.both, run.views.targeted, *branches):
        yield from ((registry.augmentation, one) for one in branch)


def test_every_run_keeps_its_id_and_its_parts() -> None:
    """A field that is added, dropped or renamed anywhere, or a default that changes, would orphan what was computed."""
    assert len(RUNS) > 400
    for path in RUNS:
        run = Run.model_validate(read(path)["spec"])
        assert run.id == path.parent.name
        assert run.spec() == read(path)["spec"]
        for kind, entry in entries(run):
            assert kind.resolve(entry) == entry, path


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_experiment_asks_for_the_runs_that_answered_it(path: Path) -> None:
    manifest = read(path)
    experiment = load_experiment(ROOT / manifest["file"], manifest["scale"])
    seeds = range(manifest["seeds"])
    asked = [
        {str(seed): components.resolve(arm.tree, seed).id for seed in seeds}
        for arm in expand(experiment, manifest["overrides"])
    ]
    assert asked == [arm["runs"] for arm in manifest["arms"]]
