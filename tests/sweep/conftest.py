"""Experiments written in a test, beside the project's own scales and published numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store.results import Store
from tests.sweep.shims import Shims

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

SMALL = """\
# Does the temperature matter?
title: A small experiment
scale: smoke
fixed:
  data: {synthetic: {train_images: 64, test_images: 32}}
  schedule.batch_size: 32
  schedule.epochs: 1
vary:
  - objective.nt_xent.temperature: [0.1, 0.5]
seeds: 2
runs: 4
evaluate: [linear]
report:
  table:
    rows: {temperature: objective.nt_xent.temperature}
    columns: {Top-1: linear/top1}
    published: simclr/table_5
claims:
  - id: lower-is-better
    says: lower is better
    where: nowhere
    on: linear/top1
    expect:
      greater:
        - {objective.nt_xent.temperature: 0.1}
        - {objective.nt_xent.temperature: 0.5}
looks: [2]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "experiments"
    made.mkdir()
    for name in ("scales", "paper", "clusters"):
        (made / name).symlink_to(EXPERIMENTS / name)
    return made


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """Write SMALL with some replacements; every one of them must apply."""

    def write_file(*changes: tuple[str, str], name: str = "small") -> Path:
        text = SMALL
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shims:
    """A pretend SLURM on the PATH."""
    shims = Shims(tmp_path / "slurm")
    for key, value in shims.environment.items():
        monkeypatch.setenv(key, value)
    return shims


@pytest.fixture
def results(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")
