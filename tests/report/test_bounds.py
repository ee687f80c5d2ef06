"""No share above 100 % or below 0 as if it were one: intervals of percentages end where their scale does."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from harness.report.read.collect import collect
from harness.report.read.metrics import Metric
from harness.report.render.export import to_csv, to_markdown
from harness.report.render.page import render
from harness.report.stats import estimate
from tests.report.fake_results import TAU, FakeResults, spec_of


@pytest.fixture
def fake(tmp_path: Path) -> FakeResults:
    return FakeResults(tmp_path)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([99.5, 99.9], 97.159, 100.0),
        ([0.1, 0.4, 0.1], 0.0, 0.63),
        ([50.0, 51.0], 44.147, 56.853),
        ([0.0, 100.0], 0, 100),
    ],
)
def test_an_interval_of_a_share_ends_where_shares_end(
    fake: FakeResults, values: list[float], low: float, high: float
) -> None:
    found = estimate(values)
    assert found is not None
    assert Metric("linear/top1").bounds(found) == pytest.approx((low, high), abs=0.01)
    assert Metric("contrastive/entropy").bounds(found) == (found.low, found.high)
    runs = {
        str(seed): fake.finish(spec_of({TAU: 0.5}, seed), {"linear": {"top1": one}}) for seed, one in enumerate(values)
    }
    block = {"rows": {"temperature": TAU}, "columns": {"Top-1": "linear/top1"}}
    fake.experiment("one", arms=[{"settings": {TAU: 0.5}, "runs": runs}], report=[{"table": block}])
    results = collect(fake.root)
    (row,) = csv.DictReader(io.StringIO(to_csv(results)))
    assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high), abs=0.01)
    cut = (found.low, found.high) != Metric("linear/top1").bounds(found)
    assert ("where it reaches past 0 or 100 %" in render(results)) is cut
    assert ("reaches past 0 or 100 %" in to_markdown(results)) is cut
