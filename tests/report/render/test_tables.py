"""The table model: what stands where, what is best, and what a row's mean may be taken over."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest

from harness.report.read.collect import collect
from harness.report.read.records import Results, State
from harness.report.render.export import to_csv, to_latex, to_markdown
from harness.report.render.page import render
from harness.report.render.tables import Grid, grids, row_mean
from tests.report.fake_results import (
    BATCH,
    EPOCHS,
    FIGURE_5,
    HANDLES,
    NORM,
    OPERATORS,
    TAU,
    FakeResults,
    add,
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


# --- where, best_of, against, reference


def block(fake: FakeResults, kind: str = "table", **fields: Any) -> Grid:
    """One block over four temperatures, each with a validation number that falls as the test number rises."""
    taus = (0.05, 0.1, 0.5, 1.0)

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        return {"linear": {"top1": 50.0 + 10 * settings[TAU] + seed}, "contrastive": {"top1": 90.0 - settings[TAU]}}

    arms = [add(fake, {TAU: tau, "kind": "a" if tau < 0.3 else "b"}, 2, fate_of(1.0), values) for tau in taus]
    handles = {"linear": HANDLES["linear"], "linear@validation": HANDLES["contrastive"]}
    written = {"columns": {"Top-1": "linear/top1"}, **fields}
    fake.experiment("one", arms=arms, evaluations=handles, report=[{kind: written}])
    floor = [
        add(fake, {EPOCHS: 0, TAU: 9.0}, 2, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 28.0 + seed}})
    ]
    fake.experiment("untrained", arms=floor, evaluations=handles)
    results = collect(fake.root)
    (grid,) = grids(results, results.experiments[0])
    return grid


def test_where_restricts_the_arms(fake: FakeResults) -> None:
    grid = block(fake, rows={"tau": TAU}, where={"kind": "b"})
    assert [row.names for row in grid.rows] == [("0.5",), ("1",)] and grid.where == "b"


def test_best_of_shows_what_validation_chose(fake: FakeResults) -> None:
    grid = block(fake, rows={"kind": "kind"}, best_of={"over": [TAU], "by": "linear@validation/top1"})
    means = [row.entries[0].estimate.mean for row in grid.rows if row.entries[0].estimate]
    assert means == [51.0, 55.5]  # of the lower temperature of each kind: worse on test images
    choices = [row.entries[0].choice for row in grid.rows]
    assert [choice.name for choice in choices if choice] == ["temperature 0.05", "temperature 0.5"]
    text = to_markdown(collect(fake.root))
    assert "temperature 0.05, best of 2 on validation images" in text


def test_best_of_by_test_images_shows_nothing(fake: FakeResults) -> None:
    grid = block(fake, rows={"kind": "kind"}, best_of={"over": [TAU], "by": "linear/top1"})
    assert not grid.rows and "not of validation images" in grid.refused
    assert "<b>Refused.</b>" in render(collect(fake.root))


def test_drops_are_paired_and_ranked(fake: FakeResults) -> None:
    grid = block(fake, against={TAU: 0.5}, sort="drop")
    names = ["baseline", "temperature 0.5 → 0.05, b → a", "temperature 0.5 → 0.1, b → a", "temperature 0.5 → 1"]
    assert [row.names[0].replace("kind ", "") for row in grid.rows] == names
    assert grid.rows[0].baseline and grid.rows[0].entries[0].drop is None
    drops = [row.entries[0].drop for row in grid.rows[1:]]
    assert [round(drop.mean, 6) for drop in drops if drop] == [-4.5, -4.0, 5.0]
    assert all(drop.n == 2 for drop in drops if drop)
    frame = to_csv(collect(fake.root))
    assert "drop_low" in frame and "-4.5" in frame
    assert "against baseline" in to_latex(collect(fake.root))


def test_a_reference_stands_beside_and_says_when_it_is_not_there(fake: FakeResults) -> None:
    wanted = {"untrained encoder": {"experiment": "untrained", "at": {EPOCHS: 0}}, "gone": {"experiment": "nowhere"}}
    grid = block(fake, rows={"tau": TAU}, reference=wanted)
    floor, gone = grid.references
    assert floor.estimates[0] is not None and (floor.estimates[0].mean, floor.asked) == (28.5, 2)
    assert gone.estimates == (None,) and not gone.known
    page = render(collect(fake.root))
    assert "untrained encoder, for comparison" in page and "not in these results" in page
    assert 'href="#untrained-micro-arm-0"' in page and 'id="untrained-micro-arm-0"' in page


def test_numbers_are_sorted_behind_what_is_none(fake: FakeResults) -> None:
    """A width that only the paper has stands where it belongs, not behind all of ours."""
    arms = [add(fake, {"width": width, BATCH: size}, 1, fate_of(1.0), lambda at, seed: {"linear": {"top1": 1.0}})
            for size, width in enumerate(["none", 2048, 32], start=1)]  # fmt: skip
    cells = [{"at": {"width": 128}, "metric": "linear/top1", "value": 2.0}]
    shown = {"table": {"rows": {"width": "width"}, "columns": {"Top-1": "linear/top1"}, "published": "p/x"}}
    fake.experiment("one", arms=arms, report=[shown], published={"p/x": {"cells": cells}}, claims=[])
    results = collect(fake.root)
    (grid,) = grids(results, results.experiments[0])
    assert [row.names[0] for row in grid.rows] == ["none", "32", "128", "2048"]
