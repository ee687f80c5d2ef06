"""The sentence under each artefact says what the numbers say."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.report.read.collect import collect
from harness.report.read.records import Results
from harness.report.render.tables import grids
from harness.report.render.words import seen
from tests.report.fake_results import BATCH, EPOCHS, FakeResults, add, fate_of


def sentences(results: Results) -> list[str]:
    return [seen(grid) for experiment in results.experiments for grid in grids(results, experiment)]


def test_everything_is_there(results: dict[str, Results]) -> None:
    pairs, batches, table, _ = sentences(results["all"])
    assert pairs.startswith("Highest here: crop then color, 48.")
    assert "it is the paper’s highest too (56.3 %)" in pairs
    assert "49 places both have" in pairs
    assert "no number" not in pairs
    assert "from batch size 64 to 512" in batches
    assert "Top-1: highest at l2 norm yes, τ 0.1" in table


def test_the_order_of_a_heatmap_is_told_without_its_leading_operator_too(results: dict[str, Results]) -> None:
    """Against pairs that are counted one by one; crop leads in the paper's numbers, and ours follow them."""
    (grid,) = grids(results["all"], next(one for one in results["all"].experiments if one.name == "augmentation_pairs"))
    both = {
        (row.names[0], column): (entry.estimate.mean if entry.estimate else 0.0, entry.published or 0.0)
        for row in grid.rows
        for column, entry in zip(grid.columns, row.entries, strict=True)
    }
    rest = [numbers for place, numbers in both.items() if "crop" not in place]
    assert len(both) == 49 and len(rest) == 36
    whole, without = (f"{tau_b(one):.2f}".replace("-", "−") for one in (list(both.values()), rest))
    assert whole != without
    assert f"numbers is {whole} over the 49 places both have; {without} without the row and column of crop" in seen(
        grid
    )


def tau_b(numbers: list[tuple[float, float]]) -> float:
    """Kendall's tau-b, pair by pair."""
    pairs = [(a[0] - b[0], a[1] - b[1]) for index, a in enumerate(numbers) for b in numbers[:index]]
    untied = math.prod(sum(one[side] != 0 for one in pairs) for side in (0, 1))
    return sum((x * y > 0) - (x * y < 0) for x, y in pairs) / math.sqrt(untied)


def two_lines(fake: FakeResults, ours: dict[int, list[float]], paper: dict[int, list[float]]) -> str:
    """The sentence on two lines over batch sizes 2, 4, 8, ...: epochs -> our means, and the paper's numbers."""
    settings = {(e, 2 ** (i + 1)): value for e, line in ours.items() for i, value in enumerate(line)}
    values = lambda at, seed: {"linear": {"top1": settings[at[EPOCHS], at[BATCH]] + 0.1 * seed}}  # noqa: E731
    arms = [add(fake, {EPOCHS: e, BATCH: b}, 2, fate_of(1.0), values) for e, b in settings]
    cells = [
        {"at": {EPOCHS: e, BATCH: 2 ** (i + 1)}, "metric": "linear/top1", "value": value}
        for e, line in paper.items()
        for i, value in enumerate(line)
    ]
    block = {"x": {"batch": BATCH}, "lines": {"epochs": EPOCHS}, "y": "linear/top1", "published": "simclr/x"}
    fake.experiment("one", arms=arms, report=[{"lines": block}], published={"simclr/x": {"cells": cells}}, claims=[])
    return sentences(collect(fake.root))[0]


def test_which_line_lies_above_which_is_no_agreement_along_them(fake: FakeResults) -> None:
    """Both fall where the paper's rise; over all eight places together τ would be positive."""
    text = two_lines(
        fake, {10: [14.0, 13.0, 12.0, 11.0], 20: [54.0, 53.0, 52.0, 51.0]}, {10: [1, 2, 3, 4], 20: [50, 51, 52, 53]}
    )
    assert "is −1.00 along epochs 10 (4 places both have), and −1.00 along epochs 20 (4 places both have)" in text
    assert "and 0.14 over all 8 places together." in text


@pytest.mark.parametrize("paper", [{10: [1, 2, 3]}, {10: [7, 7, 7, 7]}], ids=["three places", "no order"])
def test_a_line_without_an_order_has_no_tau(fake: FakeResults, paper: dict[int, list[float]]) -> None:
    text = two_lines(fake, {10: [14.0, 13.0, 12.0, 11.0], 20: [1.0, 2.0, 3.0, 4.0]}, paper)
    assert "Kendall" not in text and "nan" not in text


def test_gaps_are_counted(results: dict[str, Results]) -> None:
    pairs = sentences(results["some"])[0]
    assert "5 of 49 places have no number yet (1 running, 1 failed, 3 not run)." in pairs
    assert "rest on a single seed" in pairs


def said_of(fake: FakeResults, means: dict[int, float], **block: Any) -> str:
    """The sentence on cells of three seeds, which differ by seed as much as by 0.1."""
    wiggle = {size: (0.1 * (1 if index % 2 else -1), 0.0, 0.0) for index, size in enumerate(means)}
    arms = [
        add(
            fake,
            {BATCH: size},
            3,
            fate_of(1.0),
            lambda at, seed: {"linear": {"top1": means[at[BATCH]] + wiggle[at[BATCH]][seed]}},
        )
        for size in means
    ]
    shown = {"lines": {"x": {"batch": BATCH}, "y": "linear/top1", "published": "summary/x", **block}}
    if "table" in block:
        shown = {"table": {"rows": {"batch": BATCH}, "columns": {"Top-1": "linear/top1"}}}
    published = {"summary/x": {"cells": [{"at": {BATCH: 32}, "metric": "linear/top1", "value": 50.0}]}}
    fake.experiment("one", arms=arms, report=[shown], published=published, claims=[])
    return sentences(collect(fake.root))[0]


def test_the_highest_says_what_it_is_not_told_apart_from(fake: FakeResults) -> None:
    text = said_of(fake, {32: 40.0, 64: 40.05, 128: 20.0}, table=True)
    assert text == (
        "Top-1: highest at batch 64, 40.1 ± 0.1 % (n = 3). "
        "Ours is not told apart from 1 of the other 2 with several seeds, by 95 % intervals within seeds."
    )


def test_of_equal_numbers_none_is_the_highest(fake: FakeResults) -> None:
    arms = [add(fake, {BATCH: x}, 3, fate_of(1.0), lambda *_: {"linear": {"top1": 10.0}}) for x in (32, 64, 128)]
    table = {"table": {"rows": {"batch": BATCH}, "columns": {"Top-1": "linear/top1"}}}
    fake.experiment("one", arms=arms, report=[table], claims=[])
    results = collect(fake.root)
    (grid,) = grids(results, results.experiments[0])
    assert seen(grid).startswith("Top-1: all 3 are equal here, 10.0") and "highest" not in seen(grid)
    assert not any(row.entries[0].best for row in grid.rows)


@pytest.mark.parametrize(
    ("paper", "said"),
    [
        ({32: 50.0}, None),
        ({32: 50.0, 128: 90.0}, None),
        ({32: 50.0, 64: 49.0}, "the paper’s highest is batch 32, 50.0 %"),
        ({32: 50.0, 64: 51.0}, "it is the paper’s highest too (51.0 %)"),
        ({32: 50.0, 64: 49.0, 128: 90.0}, "the paper’s highest of these places is batch 32, 50.0 %"),
        ({32: 50.0, 64: 51.0, 128: 90.0}, "it is the paper’s highest of these places too (51.0 %)"),
    ],
)
def test_the_papers_highest_is_of_several_numbers_and_where_ours_are(
    fake: FakeResults, paper: dict[int, float], said: str | None
) -> None:
    """A single number is the highest of nothing; one where we ran nothing is not what ours is held against."""
    arms = [
        add(fake, {BATCH: size}, 2, fate_of(1.0), lambda at, seed: {"linear": {"top1": at[BATCH] - 10.0 + seed}})
        for size in (32, 64)
    ]
    cells = [{"at": {BATCH: size}, "metric": "linear/top1", "value": value} for size, value in paper.items()]
    table = {"table": {"rows": {"batch": BATCH}, "columns": {"Top-1": "linear/top1"}, "published": "simclr/x"}}
    fake.experiment("one", arms=arms, report=[table], published={"simclr/x": {"cells": cells}}, claims=[])
    (text,) = sentences(collect(fake.root))
    assert "highest at batch 64, 54.5" in text
    assert said in text if said else "the paper’s highest" not in text


def test_one_printed_number_is_said_and_not_drawn(fake: FakeResults) -> None:
    text = said_of(fake, {32: 40.0, 64: 41.0})
    assert "The summary prints 50.0 % at batch 32 and nothing else here." in text


def test_what_is_no_higher_than_the_floor_is_counted(fake: FakeResults) -> None:
    values = lambda at, seed: {"linear": {"top1": 40.5 + seed}}  # noqa: E731
    fake.experiment("floor", arms=[add(fake, {EPOCHS: 0}, 2, fate_of(1.0), values)], claims=[])
    text = said_of(fake, {32: 40.0, 64: 45.0}, reference={"floor itself": {"experiment": "floor"}})
    assert "1 of 2 has a mean no higher than that of the floor itself, 41.0" in text


@pytest.mark.parametrize("index", range(4))
def test_nothing_is_there(results: dict[str, Results], index: int) -> None:
    text = sentences(results["nothing"])[index]
    assert "no number yet" in text and "n =" not in text
