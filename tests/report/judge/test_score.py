"""How a comparison is printed: enough decimals to see on which side of the line it lies, and its unit."""

from __future__ import annotations

import math

import pytest

from harness.report.judge.comparison import Comparison
from harness.report.judge.score import reading
from harness.report.read.metrics import Metric

TOP1, ENTROPY = Metric("linear/top1"), Metric("contrastive/entropy")


@pytest.mark.parametrize(
    ("sample", "above", "metric", "mean", "bounds", "unit"),
    [
        ((4.0, 5.0, 6.0), 0.0, TOP1, "+5.0", "[+2.5, +7.5]", ""),
        (
            (0.5, 1.0, 1.5),
            -0.26,
            TOP1,
            "+1.00",
            "[−0.24, +2.24]",
            "",
        ),  # [−0.2, and the line at −0.3: told apart at once
        ((0.5, 1.0, 1.5), 0.0, TOP1, "+1.0", "[−0.2, +2.2]", ""),
        ((0.48, 0.98, 1.48), -0.28, TOP1, "+0.98", "[−0.26, +2.22]", ""),
        ((0.1, 0.2, 0.3), 0.0, ENTROPY, "+0.20", "[−0.05, +0.45]", "nats"),
        ((1.5,), 0.0, TOP1, "+1.5", "", ""),
    ],
)
def test_decimals_and_units(
    sample: tuple[float, ...], above: float, metric: Metric, mean: str, bounds: str, unit: str
) -> None:
    one = Comparison("c", sample, above, math.inf)
    look = one.at(len(sample), (len(sample),)) if len(sample) > 1 else None
    read = reading(one, bounds=look and look.bounds(), metric=metric)
    assert read is not None and (read.mean, read.bounds, read.unit) == (mean, bounds, unit)


def test_nothing_is_read_of_nothing() -> None:
    assert reading(None) is None and reading(Comparison("c", ())) is None
