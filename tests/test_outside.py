"""What docs/extend says, done from another package: nothing under harness/ knows of it, and nothing is edited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_experiments import EXPERIMENTS

PARTS = '''
"""One augmentation, one method, one schedule, one encoder, one evaluation, one data set."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from harness.data.datasets import Dataset, Resident
from harness.methods.base import Update
from harness.methods.simclr import ContrastiveMethod
from harness.models.encoders import Micro
from harness.optim.schedules import Positive, Schedule, value_of
from harness.config.registry import Examples, augmentation, dataset, encoder, evaluation, method, schedule


@augmentation("invert")
@dataclass(frozen=True, kw_only=True)
class Invert:
    tiny: ClassVar[Examples] = ({}, {"p": 0.2})
    p: float = 0.5

    def __call__(self, images, rng):
        chosen = rng.bernoulli(self.p)[:, None, None, None]
        return torch.where(chosen, 1.0 - images, images)


@method("heavier")
@dataclass(frozen=True, kw_only=True)
class Heavier:
    tiny: ClassVar[Examples] = ({}, {"weight": 2.0})
    weight: Positive = 3.0

    def build(self, task, encoder, head, objective):
        body = encoder()
        return Weighted(body, head(body.out_dim), objective, self.weight)


class Weighted(ContrastiveMethod):
    def __init__(self, encoder, head, objective, weight):
        super().__init__(encoder, head, objective)
        self.weight = weight

    def training_step(self, batch, progress):
        (update,) = super().training_step(batch, progress)
        weight = value_of(self.weight, progress)
        yield Update(weight * update.loss, log={"weight": torch.tensor(weight)})


@schedule("halving")
@dataclass(frozen=True, kw_only=True)
class Halving(Schedule):
    tiny: ClassVar[Examples] = ({"start": 1.0}, {"start": 0.5})
    start: float

    def __call__(self, progress):
        return self.start * 0.5 ** int(progress.epoch)

    @property
    def extremes(self):
        return self.start * 1e-6, self.start


@encoder("narrow")
@dataclass(frozen=True, kw_only=True)
class Narrow:
    tiny: ClassVar[Examples] = ({}, {"channels": 16})
    channels: int = 8

    def build(self, norm, *about, **more):
        return Micro(stem=8, widths=(self.channels,)).build(norm, *about, **more)


@evaluation("norms")
@dataclass(frozen=True, kw_only=True)
class Norms:
    metrics: ClassVar[tuple[str, ...]] = ("mean",)

    def __call__(self, trained) -> Iterator[tuple[str, float]]:
        features, _ = trained.features("test")
        yield "mean", features.norm(dim=1).mean().item()


@dataset("ramps")
@dataclass(frozen=True, kw_only=True)
class Ramps:
    tiny: ClassVar[Examples] = ({}, {"images": 32})
    images: int = 64

    def load(self, root: Path) -> Dataset:
        steep = torch.arange(self.images) % 3
        pixels = (torch.arange(16) * 5 * (1 + steep[:, None])).to(torch.uint8)
        split = Resident(pixels[:, None, None].expand(-1, 3, 16, -1).contiguous(), steep)
        return Dataset(split, None, split, ("flat", "sloping", "steep"))
'''

EXPERIMENT = """
# Does turning colors around help?
title: An experiment from outside
scale: smoke
vary:
  - views.both: [[crop], [crop, invert]]
seeds: 1
runs: 2
evaluate: [norms]
report:
  table: {rows: {augmentations: views.both}, columns: {"Length of h": norms/mean}, published: elsewhere/table_1}
claims:
  - id: inverting-lengthens
    says: inverted images have longer features
    where: nowhere
    on: norms/mean
    expect: {greater: [{views.both: [crop, invert]}, {views.both: [crop]}]}
"""

PUBLISHED = """
title: Somebody else's table
paper: Somebody et al.
where: Table 1
read: printed
context: elsewhere
table:
  metrics: [norms/mean]
  rows:
    - {at: {views.both: [crop]}, values: [1.25]}
"""


OWN = {
    "data": "data: {ramps: {}}",
    "method": "method: {heavier: {weight: {halving: {start: 3.0}}}}",
    "encoder": "encoder: {narrow: {}}",
}
"""What takes the place of the scale's own parts."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed distribution, as an installer leaves it, and a folder of experiments beside it."""
    root = tmp_path_factory.mktemp("study")
    info = root / "site" / "outside-1.0.dist-info"
    files = {
        root / "site" / "outside_study" / "__init__.py": "",
        root / "site" / "outside_study" / "parts.py": PARTS,
        info / "METADATA": "Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n",
        info / "entry_points.txt": "[harness.components]\nstudy = outside_study.parts\n",
        root / "experiments" / "inverted.yaml": EXPERIMENT,
        root / "experiments" / "paper" / "elsewhere" / "table_1.yaml": PUBLISHED,
    }
    scale = (EXPERIMENTS / "scales" / "smoke.yaml").read_text(encoding="utf-8")
    for line in scale.splitlines():
        if line.startswith(("data:", "method:", "encoder:")):
            scale = scale.replace(line, OWN[line.partition(":")[0]])
    files[root / "experiments" / "scales" / "smoke.yaml"] = scale.replace(
        "batch_size: 128, epochs", "batch_size: 32, epochs"
    )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def run(study: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(study / "site"), str(EXPERIMENTS.parent)])
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=study,
        env={**os.environ, "PYTHONPATH": paths, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def sweep(study: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    here = ("harness.sweep", "experiments/inverted.yaml", "--cluster", "local", "--jobs", "1", "--yes")
    return run(study, *here, *more, **variables)


def test_one_part_of_each_kind_and_a_table(study: Path) -> None:
    done = sweep(study)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [json.loads(path.read_text()) for path in sorted((study / "results" / "runs").glob("*/run.json"))]
    assert [one["spec"]["method"] for one in runs] == [{"heavier": {"weight": {"halving": {"start": 3.0}}}}] * 2
    assert [one["spec"]["encoder"] for one in runs] == [{"narrow": {"channels": 8}}] * 2
    for path in study.glob("results/runs/*/metrics.jsonl"):
        assert [json.loads(line)["weight"] for line in path.read_text().splitlines()] == [3.0, 1.5]
    assert [one["spec"]["data"] for one in runs] == [{"ramps": {"images": 64}}] * 2
    assert sorted(len(one["spec"]["views"]["both"]) for one in runs) == [1, 2]
    values = [json.loads(path.read_text())["values"] for path in study.glob("results/runs/*/evaluations/*.json")]
    assert len(values) == 2 and all(one["mean"] > 0 for one in values)
    page = run(study, "harness.report", "results/")
    assert page.returncode == 0, page.stderr
    for wanted in ("an experiment from outside", "length of h", "1.25", "inverted images have longer features"):
        assert wanted in page.stdout.lower()


def test_what_the_other_package_computes_counts_for_what_is_stale(study: Path) -> None:
    digests = {"HARNESS_DIGESTS": "on", "XDG_CACHE_HOME": str(study / "cache")}
    done = sweep(study, "-o", "schedule.epochs=1", **digests)
    assert done.returncode == 0 and "No digests" not in done.stdout, done.stdout + done.stderr
    (recorded,) = study.glob("results/digests/*.json")
    assert {"augmentation invert", "method heavier", "evaluation norms", "dataset ramps"} <= json.loads(
        recorded.read_text(encoding="utf-8")
    )["components"].keys()
    parts = study / "site" / "outside_study" / "parts.py"
    parts.write_text(PARTS.replace("1.0 - images", "0.9 - images"), encoding="utf-8")
    planned = sweep(study, "-o", "schedule.epochs=1", "--plan", **digests)
    parts.write_text(PARTS, encoding="utf-8")
    assert "1   of them stale" in planned.stdout, planned.stdout + planned.stderr
    assert "augmentation invert: differs by" in planned.stdout
    assert "1 run is of other code (changed since: outside/outside_study/parts.py)" in planned.stdout
    assert not study.joinpath("results", "digests", "cache").exists() and len([*study.glob("cache/*/*/*.json")]) == 1


def test_a_broken_module_is_named(study: Path) -> None:
    parts = study / "site" / "outside_study" / "parts.py"
    parts.write_text("import nothing_of_that_name\n", encoding="utf-8")
    failed = sweep(study, "--plan")
    parts.write_text(PARTS, encoding="utf-8")
    assert failed.returncode == 2 and "Traceback" not in failed.stderr, failed.stderr
    assert "outside_study.parts" in failed.stderr and "nothing_of_that_name" in failed.stderr
