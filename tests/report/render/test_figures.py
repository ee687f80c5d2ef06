"""Charts and pictures: the right points, the page's colours, the same bytes every time."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from harness.report.read.collect import collect
from harness.report.read.records import Results
from harness.report.render.figures import charts, heatmap_picture, lines_of, write_figures
from harness.report.render.tables import Grid, grids
from tests.report.fake_results import BATCH, EPOCHS, FakeResults, add, fate_of

NAME = "views.name"


def chart_grid(results: Results, name: str) -> Grid:
    experiment = next(one for one in results.experiments if one.name == name)
    return next(grid for grid in grids(results, experiment) if grid.kind == "lines")


def test_lines_hold_what_the_grid_holds(results: dict[str, Results]) -> None:
    lines = {(line.name, line.paper): line for line in lines_of(chart_grid(results["all"], "batch_sizes"))}
    assert set(lines) == {("30", False), ("60", False), ("100", True), ("200", True)}
    assert [point.x for point in lines["30", False].points] == [64, 128, 256, 512]
    assert [point.y for point in lines["100", True].points] == [57.52, 60.71, 62.80, 63.95, 64.58]
    assert all(point.low is not None for point in lines["30", False].points)


@pytest.mark.parametrize("share", ["nothing", "some", "all"])
def test_charts_are_small_clean_xml(results: dict[str, Results], share: str) -> None:
    found = charts(chart_grid(results[share], "temperature"))
    assert [chart.paper for chart in found] == ([True] if share == "nothing" else [True, False])
    for chart in found:
        root = ElementTree.fromstring(chart.svg)
        assert root.get("role") == "img" and root.get("aria-label", "").startswith(chart.title)
        assert "#fd00" not in chart.svg and "#fe00" not in chart.svg  # every marker colour was replaced
        assert "currentColor" in chart.svg and "metadata" not in chart.svg
        assert len(chart.svg) < 40_000


@pytest.mark.parametrize(("floor", "drawn"), [(38.0, True), (1.0, False)])
def test_a_number_for_comparison_is_a_line_where_it_is_near(fake: FakeResults, floor: float, drawn: bool) -> None:
    def values(at: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        return {"linear": {"top1": at[BATCH] + seed + 38.0 if BATCH in at else floor + seed}}

    fake.experiment("floor", arms=[add(fake, {EPOCHS: 0}, 2, fate_of(1.0), values)], claims=[])
    lines = {
        "x": {"x": BATCH},
        "y": "linear/top1",
        "published": "summary/x",
        "reference": {"the floor": {"experiment": "floor"}},
    }
    cell = {"at": {BATCH: 2}, "metric": "linear/top1", "value": 50.0}
    arms = [add(fake, {BATCH: x}, 2, fate_of(1.0), values) for x in (2, 4, 8)]
    fake.experiment("one", arms=arms, report=[{"lines": lines}], published={"summary/x": {"cells": [cell]}}, claims=[])
    (chart,) = charts(chart_grid(collect(fake.root), "one"))  # one printed number is no chart
    assert not chart.paper
    assert ("the floor at" in chart.svg and ">the floor<" in chart.svg) is drawn


@pytest.mark.parametrize(
    "names", [["simclr, color", "supervised, autoaugment"], ["W" * 12, "a rather long name " * 4], list("abcdefghijkl")]
)
def test_lines_are_told_apart_and_no_text_leaves_the_picture(fake: FakeResults, names: list[str]) -> None:
    """All but one end close together at the top: their names make room without pushing the last out below."""

    def values(at: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        height = 10.0 if at[NAME] == names[0] else 60.0
        return {"linear": {"top1": height + names.index(at[NAME]) / 10 + at[BATCH] / 100 + seed / 10}}

    arms = [add(fake, {NAME: name, BATCH: x}, 2, fate_of(1.0), values) for name in names for x in (2, 4, 8)]
    lines = {"x": {"batch": BATCH}, "lines": {"method / last operator": NAME}, "y": "linear/top1", "published": "s/x"}
    cells = [
        {"at": {NAME: name, BATCH: x}, "metric": "linear/top1", "value": 50.0 + x} for name in names for x in (2, 4)
    ]
    fake.experiment("one", arms=arms, report=[{"lines": lines}], published={"s/x": {"cells": cells}}, claims=[])
    drawn = [text_places(chart.svg) for chart in charts(chart_grid(collect(fake.root), "one"))]
    assert len(drawn) == 2 and drawn[0][1] == drawn[1][1]
    for texts, (width, height) in drawn:
        assert {name.strip() for name in names} <= {text.strip() for text, *_ in texts}
        for text, left, baseline, size in texts:
            assert left >= 0 and left + _length(text, size) <= width, text
            assert size * 0.7 <= baseline <= height - size * 0.25, text
        heights = sorted(baseline for text, _, baseline, _ in texts if text.strip() in {name.strip() for name in names})
        assert all(upper - lower >= 9 for lower, upper in pairwise(heights))


def text_places(svg: str) -> tuple[list[tuple[str, float, float, float]], tuple[float, float]]:
    """(text, left end, baseline, font size) of all texts, and width and height of the viewBox."""
    root = ElementTree.fromstring(svg)
    found = []
    for one in root.iter("{http://www.w3.org/2000/svg}text"):
        style, text = one.get("style", ""), "".join(one.itertext())
        size = float(re.search(r"font-size: ([\d.]+)px", style).group(1))  # type: ignore[union-attr]
        moved = re.findall(r"translate\(([-\d.]+)[ ,]+([-\d.]+)\)", one.get("transform", ""))
        x, y = (float(part) for part in (moved[0] if moved else (one.get("x", "0"), one.get("y", "0"))))
        before = {"middle": 0.5, "end": 1.0}.get((re.findall(r"text-anchor: (\w+)", style) or [""])[0], 0.0)
        found.append((text, x - before * _length(text, size), y, size))
    _, _, width, height = (float(part) for part in root.get("viewBox", "").split())
    return found, (width, height)


def _length(text: str, size: float) -> float:
    """Of a text in DejaVu Sans, the widest font that the page names."""
    font = FontProperties(family="DejaVu Sans", size=size)
    return float(TextPath((0, 0), text, prop=font).get_extents().x1)


def test_pictures_are_the_same_bytes_each_time(results: dict[str, Results], tmp_path: Path) -> None:
    first = write_figures(results["some"], tmp_path / "first")
    second = write_figures(results["some"], tmp_path / "second")
    assert [path.name for path in first] == ["augmentation_pairs@micro.png", "augmentation_pairs@micro.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"<dc:date>" not in first[1].read_bytes()


def test_a_picture_says_how_many_seeds_it_rests_on_and_compares_no_levels(results: dict[str, Results]) -> None:
    grid = next(one for one in grids(results["some"], results["some"].experiments[0]) if one.kind == "heatmap")
    picture = heatmap_picture(grid)
    shown = [axes for axes in picture.axes if axes.get_title(loc="left")]
    seeds = [entry.estimate.n for row in grid.rows for entry in row.entries if entry.estimate]
    assert [axes.get_title(loc="left") for axes in shown] == [
        "Paper",
        f"Ours, at micro (n = {min(seeds)} to {max(seeds)})",
    ]
    styles = [text.get_fontstyle() for text in shown[1].texts]
    assert min(seeds) == 1 and styles == ["italic" if n == 1 else "normal" for n in seeds]
    at_papers = dataclasses.replace(grid, experiment=grid.experiment.model_copy(update={"paper_scale": True}))
    assert "Difference" in heatmap_picture(at_papers).axes[2].get_title(loc="left")
