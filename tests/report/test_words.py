"""The sentence under each artefact says what the numbers say."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.collect import collect
from harness.report.records import Results
from harness.report.tables import grids
from harness.report.words import seen
from tests.report.fake_results import BATCH, EPOCHS, FakeResults, add, fate_of


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


def test_one_printed_number_is_said_and_not_drawn(fake: FakeResults) -> None:
    text = said_of(fake, {32: 40.0, 64: 41.0})
    assert "The summary prints 50.0 % at batch 32 and nothing else here." in text


def test_what_is_no_higher_than_the_floor_is_counted(fake: FakeResults) -> None:
    values = lambda at, seed: {"linear": {"top1": 40.5 + seed}}  # noqa: E731
    fake.experiment("floor", arms=[add(fake, {EPOCHS: 0}, 2, fate_of(1.0), values)], claims=[])
    text = said_of(fake, {32: 40.0, 64: 45.0}, reference={"floor itself": {"experiment": "floor"}})
    assert "1 of 2 are no higher than the floor itself, 41.0" in text


@pytest.mark.parametrize("index", range(4))
def test_nothing_is_there(results: dict[str, Results], index: int) -> None:
    text = sentences(results["nothing"])[index]
    assert "no number yet" in text and "n =" not in text
