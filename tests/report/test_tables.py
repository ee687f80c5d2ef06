"""The table model: what stands where, what is best, and what a row's mean may be taken over."""

from __future__ import annotations

import json
import statistics

import pytest

from harness.report.collect import collect
from harness.report.records import Results, State
from harness.report.tables import Grid, grids, row_mean
from tests.report.fake_results import (
    FIGURE_5,
    NORM,
    OPERATORS,
    FakeResults,
    batch_sizes,
    fate_of,
    figure_5,
    temperature,
)

PAPER = [[float(value) for value in line.split(",")] for line in FIGURE_5.splitlines()]


def blocks(results: Results, name: str) -> list[Grid]:
    return next(grids(results, one) for one in results.experiments if one.name == name)


@pytest.mark.parametrize("share", ["nothing", "some", "all"])
def test_figure_5_has_49_places_in_the_papers_order(results: dict[str, Results], share: str) -> None:
    (grid,) = blocks(results[share], "augmentation_pairs")
    assert [row.names[0] for row in grid.rows] == list(grid.columns) == OPERATORS
    assert [[entry.published for entry in row.entries] for row in grid.rows] == PAPER
    assert {entry.asked for entry in grid.entries} == {3}
    expected = {"nothing": {0}, "some": {0, 1, 2, 3}, "all": {3}}[share]
    assert {entry.estimate.n if entry.estimate else 0 for entry in grid.entries} == expected


def test_a_gap_says_why(results: dict[str, Results]) -> None:
    (grid,) = blocks(results["some"], "augmentation_pairs")
    holes = [entry for entry in grid.entries if entry.estimate is None]
    assert holes and all(entry.absent == str(entry.state) and entry.state is not State.DONE for entry in holes)


def test_row_means_include_the_diagonal_and_need_the_whole_row(results: dict[str, Results]) -> None:
    (whole,) = blocks(results["all"], "augmentation_pairs")
    ours, paper = row_mean(whole.rows[0])
    assert paper == pytest.approx(274.4 / 7)
    assert ours is not None and ours.n == 3
    assert ours.mean == pytest.approx(statistics.fmean(e.estimate.mean for e in whole.rows[0].entries if e.estimate))
    (gaps,) = blocks(results["some"], "augmentation_pairs")
    assert row_mean(gaps.rows[0])[0] is None  # crop alone is missing


def test_table_5_pairs_each_row_with_the_papers(results: dict[str, Results]) -> None:
    table, _ = blocks(results["all"], "temperature")
    assert [row.names for row in table.rows][:2] == [("yes", "0.05"), ("yes", "0.1")]
    assert [entry.published for entry in table.rows[1].entries] == [4.5, 87.8, 64.4]
    best = [[entry.best for entry in row.entries] for row in table.rows]
    assert [row[2] for row in best] == [False, True, False, False, False, False]
    assert not any(row[0] for row in best)  # entropy has no best


def test_what_only_the_paper_has_is_kept_and_numbers_are_sorted(fake: FakeResults) -> None:
    batch_sizes(fake, fate_of(1.0), seeds=1)
    (grid,) = blocks(collect(fake.root), "batch_sizes")
    assert [row.names[0] for row in grid.rows] == ["64", "128", "256", "512", "1024", "2048", "4096"]
    last = grid.rows[-1].entries
    assert [entry.absent for entry in last] == ["not at this scale"] * 4
    assert [entry.published for entry in last] == [None, None, 64.58, 66.48]


def test_one_seed_has_no_interval(fake: FakeResults) -> None:
    figure_5(fake, fate_of(1.0), seeds=1)
    (grid,) = blocks(collect(fake.root), "augmentation_pairs")
    assert all(entry.estimate and entry.estimate.half is None for entry in grid.entries)


def test_a_mean_over_several_arms_stands_beside_none_of_the_papers_numbers(fake: FakeResults) -> None:
    """A table by l2 norm alone averages temperatures; the paper's number for the first of them is not its fellow."""
    path = temperature(fake, fate_of(1.0), seeds=2)
    held = json.loads(path.read_text(encoding="utf-8"))
    held["report"][0]["table"]["rows"] = {"l2 norm": NORM}
    path.write_text(json.dumps(held), encoding="utf-8")
    table, _ = blocks(collect(fake.root), "temperature")
    assert [len(row.entries[0].cell.arms) for row in table.rows if row.entries[0].cell] == [2, 4]
    assert {entry.published for entry in table.entries} == {None}
