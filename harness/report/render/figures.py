"""Pictures: line charts as inline SVG that follow the page's colours, and files for the README.

Inline charts are drawn in marker colours which are then replaced by CSS variables, so one SVG serves light and dark.
No clock and no random ids (``svg.hashsalt``, ``Date`` None); text stays text (``svg.fonttype`` none).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.figure
import matplotlib.patches
import pandas as pd
import seaborn

from harness.report.read.names import slug
from harness.report.read.records import Results
from harness.report.render import heatmap
from harness.report.render.tables import Grid, grids

INK, RULE = "#fd0000", "#fd0001"
LINES = 10
"""Steps of the colour ramp that the lines of a chart are spread over."""
FONT = 10
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT, LEAST = 5.4, 3.5, 0.54, 0.525, 0.175, 0.16, 2.4
"""Inches: the picture, what it keeps free around the plot, and the width that the plot keeps beside long names."""
GAP = 6
"""Points between the plot and the names of its lines."""
NARROW = frozenset("abcdefghijklnopqrstuvxyz0123456789 .,:;-/()")
"""Characters of at most 0.65 em in DejaVu Sans, the widest font that the page may be read in; others: 1 em."""
METADATA = {"Date": None, "Creator": None}


@dataclass(frozen=True)
class Point:
    """One mark of a line, in data units; ``low`` and ``high`` are None where there is no interval."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One line of a chart. ``paper`` lines are dashed with hollow marks."""

    name: str
    points: tuple[Point, ...]
    colour: int
    paper: bool = False


@dataclass(frozen=True)
class Chart:
    """One SVG with its title."""

    title: str
    svg: str
    paper: bool


def lines_of(grid: Grid) -> list[Line]:
    """Ours and the paper's lines of a grid; rows whose value is not a number are left to the table."""
    found = []
    for index, column in enumerate(grid.columns):
        colour = round(index * (LINES - 1) / max(len(grid.columns) - 1, 1))  # an ordered family looks ordered
        name = column if grid.column_label else ""
        rows = [
            (float(row.values[0]), row.entries[index]) for row in grid.rows if isinstance(row.values[0], int | float)
        ]
        ours = tuple(Point(x, e.estimate.mean, *e.metric.bounds(e.estimate)) for x, e in rows if e.estimate)
        paper = tuple(Point(x, e.published) for x, e in rows if e.published is not None)
        found += [Line(name, ours, colour)] if ours else []
        found += [Line(name, paper, colour, True)] if paper else []
    return found


def charts(grid: Grid) -> list[Chart]:
    """Paper and ours side by side. Their y axes have one span but not one offset: equal slopes are equal effects."""
    lines = [line for line in lines_of(grid) if grid.printed_curve or not line.paper]
    ranges = {paper: _limits([line for line in lines if line.paper is paper]) for paper in (True, False)}
    ranges[False], rules = _ruled(ranges[False], grid)
    span = max(high - low for low, high in ranges.values())
    room = max((_width(line.name) for line in lines), default=0.0)  # one for both, so that they are drawn alike
    found = []
    for paper, title in ((True, grid.printed_by.capitalize()), (False, f"Ours, at {grid.experiment.scale}")):
        drawn = [line for line in lines if line.paper is paper]
        if drawn:
            label = f"{title}: {grid.metric.name} against {grid.stubs[0]}"
            label += f"; lines: {grid.column_label}" if grid.column_label else ""
            label += "" if paper else "".join(f"; {name} at {y:.1f}" for name, y in rules.items())
            middle = sum(ranges[paper]) / 2
            drawing = _draw(grid, drawn, (middle - span / 2, middle + span / 2), {} if paper else rules, room)
            prefix = f"{slug(grid.experiment.key)}-{slug(grid.stubs[0])}-{slug(title)}"
            found.append(Chart(title, inline(drawing, prefix, label), paper))
    return found


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    """Range of y. An interval wider than the range of the means (two seeds) may run out of the picture."""
    means = [point.y for line in lines for point in line.points] or [0.0, 1.0]
    room = max(max(means) - min(means), 1.0) * 0.35
    edges = [edge for line in lines for point in line.points for edge in (point.low, point.high) if edge is not None]
    low = max(min([*means, *edges]), min(means) - room)
    high = min(max([*means, *edges]), max(means) + room)
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _ruled(limits: tuple[float, float], grid: Grid) -> tuple[tuple[float, float], dict[str, float]]:
    """Limits that take in the numbers shown for comparison, and those; one far away would flatten what is drawn."""
    low, high = limits
    found = {one.name: one.estimates[0].mean for one in grid.references if one.estimates[0]}
    near = {name: y for name, y in found.items() if low - (high - low) / 2 <= y <= high + (high - low) / 2}
    pad = 0.06 * (high - low)
    return (
        min(low, *(y - pad for y in near.values())),
        max(high, *(y + pad for y in near.values())),
    ) if near else limits, near


@contextmanager
def style() -> Iterator[None]:
    """Set the style of all figures within the block."""
    settings: Any = {
        "svg.hashsalt": "harness", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": FONT,
        "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK,
        "axes.edgecolor": RULE, "xtick.color": INK, "ytick.color": INK, "grid.color": RULE, "axes.grid": True,
        "axes.grid.axis": "y", "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
        "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "path.simplify": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        yield


def _width(text: str) -> float:
    """Inches that a name takes at most. An estimate: the fonts are the reader's."""
    return sum(0.65 if character in NARROW else 1.0 for character in text) * FONT / 72


def _draw(
    grid: Grid, lines: Sequence[Line], limits: tuple[float, float], rules: Mapping[str, float], room: float
) -> str:
    right = max(RIGHT, GAP / 72 + room)
    width = max(WIDTH, LEFT + LEAST + right)
    with style():
        figure = matplotlib.figure.Figure(figsize=(width, HEIGHT))
        axes = figure.add_axes(
            (LEFT / width, BOTTOM / HEIGHT, (width - LEFT - right) / width, (HEIGHT - BOTTOM - TOP) / HEIGHT)
        )
        if grid.log_x:
            axes.set_xscale("log")
        for line in lines:
            _line(axes, line)
        for name, y in rules.items():
            axes.axhline(y, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
            axes.annotate(name, (0.01, y), xycoords=("axes fraction", "data"), xytext=(0, 3),
                          textcoords="offset points", fontsize=9)  # fmt: skip
        ticks = sorted({point.x for line in lines for point in line.points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(*limits)
        axes.set_xlabel(grid.stubs[0])
        for text, y, line in _labels(lines, limits) if grid.column_label else ():
            axes.annotate(text, (1.0, (y - limits[0]) / (limits[1] - limits[0])), xycoords="axes fraction",
                          xytext=(GAP, 0), textcoords="offset points", va="center", color=_marker(line.colour),
                          annotation_clip=False)  # fmt: skip
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=METADATA)
        return buffer.getvalue()


def _line(axes: Any, line: Line) -> None:
    colour = _marker(line.colour)
    x, y = [point.x for point in line.points], [point.y for point in line.points]
    face = "none" if line.paper else colour
    axes.plot(x, y, color=colour, linestyle=(0, (4, 2.5)) if line.paper else "-", linewidth=1.6, marker="o",
              markersize=5, markerfacecolor=face, clip_on=False)  # fmt: skip
    for point in line.points:
        if point.low is not None and point.high is not None:
            axes.vlines(point.x, point.low, point.high, color=colour, linewidth=1.1)


def _labels(lines: Sequence[Line], limits: tuple[float, float]) -> list[tuple[str, float, Line]]:
    """Names at the ends of the lines, pushed apart so that none covers another, and kept beside the plot."""
    ordered = sorted(lines, key=lambda one: one.points[-1].y)
    apart = min(0.062, 1 / max(len(ordered), 1)) * (limits[1] - limits[0])
    heights = [line.points[-1].y for line in ordered]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + apart)
    bound = limits[1]
    for index in reversed(range(len(heights))):  # back below the upper edge, and only as many as have to
        heights[index] = bound = min(heights[index], bound)
        bound -= apart
    return [(line.name, y, line) for line, y in zip(ordered, heights, strict=True)]


def _marker(index: int) -> str:
    return f"#fe00{index:02x}"


def inline(svg: str, prefix: str, label: str) -> str:
    """Only the ``<svg>`` element, with unique ids, the page's font and colours, and a name for screen readers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    for index in range(LINES):
        svg = svg.replace(_marker(index), f"var(--line-{index})")
    size = re.search(r'viewBox="[^"]+"', svg)
    opening = f'<svg role="img" aria-label="{escape(label)}" {size.group() if size else ""}'
    svg = re.sub(
        r"<svg[^>]*>",
        f'{opening} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
        count=1,
    )
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip())


# --- files --------------------------------------------------------------------------------------------------------


def write_figures(results: Results, folder: Path) -> list[Path]:
    """One PNG and one SVG per heatmap, ``<experiment>@<scale>.png``; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for experiment in results.experiments:
        for number, grid in enumerate(one for one in grids(results, experiment) if one.kind == "heatmap"):
            key = experiment.key.replace("/", "_")
            name = key if number == 0 else f"{key}-{number + 1}"
            with matplotlib.rc_context(
                {"svg.hashsalt": "harness", "svg.fonttype": "none", "font.family": "DejaVu Sans"}
            ):
                figure = heatmap_picture(grid)
                for suffix, metadata in ((".png", {"Software": None}), (".svg", METADATA)):
                    path = folder / f"{name}{suffix}"
                    figure.savefig(path, dpi=160, metadata=metadata, facecolor="white")
                    written.append(path)
    return written


def heatmap_picture(grid: Grid) -> matplotlib.figure.Figure:
    """Paper and ours, and at the paper's own scale their difference; missing cells hatched, single seeds in italics.

    At the paper's scale the first two share one colour scale. At any other they have their own, and there is no
    difference: its level would be that of other data and another network.
    """
    paper = _frame(grid, [[entry.published for entry in row.entries] for row in grid.rows])
    ours = _frame(grid, [[e.estimate.mean if e.estimate else None for e in row.entries] for row in grid.rows])
    seeds = [entry.estimate.n for entry in grid.entries if entry.estimate]
    told = f"n = {min(seeds)}" if len({*seeds}) == 1 else f"n = {min(seeds)} to {max(seeds)}" if seeds else "not run"
    mine = f"Ours, at {grid.experiment.scale} ({told})"
    if not paper.notna().any(axis=None):
        shown, panels = {mine: ours}, heatmap.panels(grid)
    elif grid.experiment.as_in_paper or not seeds:
        shown = {"Paper": paper, mine: ours, "Difference, ours − paper": ours - paper}
        panels = heatmap.panels(grid)
    else:
        shown, panels = {"Paper": paper, mine: ours}, heatmap.patterns(grid)
    shown = {  # the rows and columns that each panel has on the page
        title: frame.loc[[name for name, _ in panel.rows], list(panel.columns)]
        for (title, frame), panel in zip(shown.items(), panels, strict=False)
    }
    figure = matplotlib.figure.Figure(figsize=(4.5 * len(shown), 4.3), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for index, (title, frame) in enumerate(shown.items()):
        shares = index == 0 and len(shown) > 2  # the bar of the panel beside it
        bar = None if shares else {"shrink": 0.75, "label": "points" if index == 2 else grid.metric.unit}
        _picture(axes[index], frame, panels[index].scale, bar)
        axes[index].set_title(title, loc="left", fontweight="bold", fontsize=11)
        axes[index].set_xlabel(grid.column_label)
        axes[index].set_ylabel("" if index else grid.stubs[0])
        if title == mine:
            _mark_single_seeds(axes[index], grid)
    return figure


def _mark_single_seeds(axes: Any, grid: Grid) -> None:
    """In italics, as a number that has no interval; seaborn writes the cells row by row, without the missing ones."""
    written = [entry.estimate.n for row in grid.rows for entry in row.entries if entry.estimate]
    for text, seeds in zip(axes.texts, written, strict=True):
        if seeds == 1:
            text.set_fontstyle("italic")


def _picture(axes: Any, frame: pd.DataFrame, scale: heatmap.Scale, bar: dict[str, Any] | None) -> None:
    """One panel in the page's light colours; the diagonal, where an operator stands alone, is outlined."""
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("page", scale.gradient(0).split(", "))
    axes.set_facecolor("#f3f3ef")
    axes.patch.set(hatch="////", edgecolor="#c9c9c4")
    seaborn.heatmap(
        frame, ax=axes, cmap=colours, vmin=scale.low, vmax=scale.high, annot=True, square=True, linewidths=1.5,
        fmt="+.1f" if scale.low == -scale.high else ".1f", linecolor="white", annot_kws={"size": 9},
        cbar=bar is not None, cbar_kws=bar,
    )  # fmt: skip
    for index, name in enumerate(frame.index):
        if index < frame.shape[1] and frame.columns[index] == name:
            axes.add_patch(matplotlib.patches.Rectangle((index, index), 1, 1, fill=False, edgecolor="#1b1c1e"))
    axes.tick_params(length=0, labelsize=9)
    axes.tick_params(axis="x", rotation=45)
    axes.tick_params(axis="y", rotation=0)


def _frame(grid: Grid, rows: list[list[float | None]]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=[row.names[0] for row in grid.rows], columns=list(grid.columns), dtype=float)
