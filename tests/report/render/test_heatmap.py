"""Colours: one scale for paper and ours, zero in the middle of the difference, readable text on every cell."""

from __future__ import annotations

import re

import pytest

from harness.report.read.collect import collect
from harness.report.read.records import Results
from harness.report.render.heatmap import Scale, contrast, diverging, panels, sequential
from harness.report.render.tables import grids
from tests.report.fake_results import BATCH, EPOCHS, FakeResults, add

SCALES = {"sequential": sequential(2.6, 56.3), "diverging": diverging(23.0), "flat": sequential(5.0, 5.0)}


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_text_reads_on_every_colour(scale: Scale) -> None:
    for step in range(101):
        style = scale.style(scale.low + step / 100 * (scale.high - scale.low))
        light, light_text, dark, dark_text = re.findall(r"#[0-9a-f]{6}", style)
        assert contrast(light, light_text) >= 4.5 and contrast(dark, dark_text) >= 4.5


def test_contrast_is_wcags() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_values_beyond_the_scale_take_its_ends() -> None:
    scale = sequential(0, 10)
    assert scale.style(-5) == scale.style(0) and scale.style(99) == scale.style(10) != scale.style(0)


def test_paper_and_ours_share_a_scale_and_the_difference_is_symmetric(results: dict[str, Results]) -> None:
    paper, ours, gap = panels(grids(results["all"], results["all"].experiments[0])[0])
    assert paper.scale is ours.scale
    assert gap.scale.low == -gap.scale.high
    assert [panel.name for panel in (paper, ours, gap)] == ["Paper", "Ours", "Difference"]
    assert len(paper.means) == 7
    alone = [[square.alone for square in squares] for _, squares in ours.rows]
    assert alone == [[i == j for j in range(7)] for i in range(7)]


@pytest.mark.parametrize("share", ["nothing", "some", "all"])
def test_every_square_has_a_number_or_a_word(results: dict[str, Results], share: str) -> None:
    for panel in panels(grids(results[share], results[share].experiments[0])[0]):
        squares = [square for _, row in panel.rows for square in row]
        assert len(squares) == 49 and all(square.text for square in squares)
        assert all(bool(square.style) == bool(re.fullmatch(r"[+-]?\d+\.\d", square.text)) for square in squares)


def test_a_panel_has_the_rows_and_columns_that_it_has_places_in(fake: FakeResults) -> None:
    """Figure 9 at another scale: of 14 batch sizes and lengths two are in both."""
    arms = [
        add(fake, {BATCH: batch, EPOCHS: epochs}, 1, lambda *_: "missing", lambda *_: {})
        for batch in (32, 64, 256)
        for epochs in (10, 100)
    ]
    paper = [
        {"at": {BATCH: batch, EPOCHS: epochs}, "metric": "linear/top1", "value": 50.0}
        for batch in (256, 512, 1024)
        for epochs in (100, 200, 400)
    ]
    block = {
        "rows": {"epochs": EPOCHS},
        "columns": {"batch size": BATCH},
        "cell": "linear/top1",
        "published": "simclr/x",
    }
    fake.experiment("nine", arms=arms, report=[{"heatmap": block}], published={"simclr/x": {"cells": paper}})
    results = collect(fake.root)
    shown = {panel.name: panel for panel in panels(grids(results, results.experiments[0])[0])}
    sizes = {name: ([row for row, _ in panel.rows], list(panel.columns)) for name, panel in shown.items()}
    assert sizes == {
        "Paper": (["100", "200", "400"], ["256", "512", "1024"]),
        "Ours": (["10", "100"], ["32", "64", "256"]),
        "Difference": (["100"], ["256"]),
    }
