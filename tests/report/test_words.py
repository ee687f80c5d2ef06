"""The sentence under each artefact says what the numbers say."""

from __future__ import annotations

import pytest

from harness.report.records import Results
from harness.report.tables import grids
from harness.report.words import seen


def sentences(results: Results) -> list[str]:
    return [seen(grid) for experiment in results.experiments for grid in grids(results, experiment)]


def test_everything_is_there(results: dict[str, Results]) -> None:
    pairs, batches, table, _ = sentences(results["all"])
    assert pairs.startswith("Highest here: crop then color, 48.")
    assert "it is the paper’s highest too (56.3 %)" in pairs
    assert "49 places both have" in pairs and "much the same order" in pairs
    assert "no number" not in pairs
    assert "from batch size 64 to 512" in batches
    assert "Top-1: highest at l2 norm yes, τ 0.1" in table


def test_gaps_are_counted(results: dict[str, Results]) -> None:
    pairs = sentences(results["some"])[0]
    assert "5 of 49 places have no number yet (1 running, 1 failed, 3 not run)." in pairs
    assert "rest on a single seed" in pairs


@pytest.mark.parametrize("index", range(4))
def test_nothing_is_there(results: dict[str, Results], index: int) -> None:
    text = sentences(results["nothing"])[index]
    assert "no number yet" in text and "n =" not in text
