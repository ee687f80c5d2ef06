"""Charts and pictures: the right points, the page's colours, the same bytes every time."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.report.figures import charts, lines_of, write_figures
from harness.report.records import Results
from harness.report.tables import Grid, grids


def chart_grid(results: Results, name: str) -> Grid:
    experiment = next(one for one in results.experiments if one.name == name)
    return next(grid for grid in grids(results, experiment) if grid.kind == "lines")


def test_lines_hold_what_the_grid_holds(results: dict[str, Results]) -> None:
    lines = {(line.name, line.paper): line for line in lines_of(chart_grid(results["all"], "batch_sizes"))}
    assert set(lines) == {("epochs 30", False), ("epochs 60", False), ("epochs 100", True), ("epochs 200", True)}
    assert [point.x for point in lines["epochs 30", False].points] == [64, 128, 256, 512]
    assert [point.y for point in lines["epochs 100", True].points] == [57.52, 60.71, 62.80, 63.95, 64.58]
    assert all(point.low is not None for point in lines["epochs 30", False].points)


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


def test_pictures_are_the_same_bytes_each_time(results: dict[str, Results], tmp_path: Path) -> None:
    first = write_figures(results["some"], tmp_path / "first")
    second = write_figures(results["some"], tmp_path / "second")
    assert [path.name for path in first] == ["augmentation_pairs@micro.png", "augmentation_pairs@micro.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"<dc:date>" not in first[1].read_bytes()
