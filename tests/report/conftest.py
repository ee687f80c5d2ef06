"""Fake results folders, written once per session: nothing, some and all of the runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report.read.collect import collect
from harness.report.read.records import Results
from harness.report.render.page import render
from tests.report.fake_results import FakeResults, everything

SHARES = {"nothing": 0.0, "some": 0.4, "all": 1.0}


@pytest.fixture
def fake(tmp_path: Path) -> FakeResults:
    return FakeResults(tmp_path / "results")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("report")
    for name, share in SHARES.items():
        everything(root / name, share, mishaps=name == "some")
    return {name: root / name for name in SHARES}


@pytest.fixture(scope="session")
def results(folders: dict[str, Path]) -> dict[str, Results]:
    return {name: collect(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def pages(results: dict[str, Results]) -> dict[str, str]:
    return {name: render(one) for name, one in results.items()}
