"""Pictures: line charts as inline SVG that follow the page's colours, and files for the README.

Inline charts are drawn in marker colours which are then replaced by CSS variables, so one SVG serves light and dark.
No clock and no random ids (``svg.hashsalt``, ``Date`` None); text stays text (``svg.fonttype`` none).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import pandas as pd
import seaborn

from harness.report.collect import Results
from harness.report.names import slug
from harness.report.tables import Grid, grids

INK, RULE = "#fd0000", "#fd0001"
LINES = 10
"""Lines that have a colour of their own; more are drawn in the same colours again."""
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


def lines_of(grid: Grid) -> list[Line]:
    """Ours and the paper's lines of a grid; rows whose value is not a number are left to the table."""
    found = []
    for index, column in enumerate(grid.columns):
        name = f"{grid.column_label} {column}" if grid.column_label else ""
        rows = [(float(row.values[0]), row.entries[index]) for row in grid.rows if isinstance(row.values[0], int | float)]
        ours = tuple(Point(x, e.estimate.mean, e.estimate.low, e.estimate.high) for x, e in rows if e.estimate)
        paper = tuple(Point(x, e.published) for x, e in rows if e.published is not None)
        found += [Line(name, ours, index)] if ours else []
        found += [Line(name, paper, index, True)] if paper else []
    return found


def charts(grid: Grid) -> list[Chart]:
    """Paper and ours side by side on the same axis of y; no chart without a point."""
    lines = lines_of(grid)
    limits = _limits(lines)
    found = []
    for paper, title in ((True, "Paper"), (False, f"Ours, at {grid.experiment.scale}")):
        drawn = [line for line in lines if line.paper is paper]
        if drawn:
            label = f"{title}: {grid.metric.name} against {grid.stubs[0]}"
            found.append(Chart(title, _inline(_draw(grid, drawn, limits), f"{slug(grid.experiment.key)}-{slug(title)}", label)))
    return found


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    """Common range of y. An interval wider than the range of the means (two seeds) may run out of the picture."""
    means = [point.y for line in lines for point in line.points] or [0.0, 1.0]
    room = max(max(means) - min(means), 1.0) * 0.35
    edges = [edge for line in lines for point in line.points for edge in (point.low, point.high) if edge is not None]
    low = max(min([*means, *edges]), min(means) - room)
    high = min(max([*means, *edges]), max(means) + room)
    pad = 0.06 * (high - low)
    return low - pad, high + pad


@contextmanager
def _style() -> Iterator[None]:
    settings = {
        "svg.hashsalt": "harness", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK,
        "axes.edgecolor": RULE, "xtick.color": INK, "ytick.color": INK, "grid.color": RULE, "axes.grid": True,
        "axes.grid.axis": "y", "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
        "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "path.simplify": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        yield


def _draw(grid: Grid, lines: Sequence[Line], limits: tuple[float, float]) -> str:
    with _style():
        figure = matplotlib.figure.Figure(figsize=(5.4, 3.5))
        axes = figure.add_axes((0.10, 0.15, 0.66 if grid.column_label else 0.87, 0.80))
        if grid.log_x:
            axes.set_xscale("log")
        for line in lines:
            _line(axes, line)
        ticks = sorted({point.x for line in lines for point in line.points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(*limits)
        axes.set_xlabel(grid.stubs[0])
        for text, y, line in _labels(lines, limits) if grid.column_label else ():
            axes.annotate(text, (1.02, (y - limits[0]) / (limits[1] - limits[0])), xycoords="axes fraction",
                          va="center", color=_marker(line.colour), annotation_clip=False)  # fmt: skip
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
    """Names at the ends of the lines, pushed apart so that none covers another."""
    apart = 0.062 * (limits[1] - limits[0])
    placed: list[tuple[str, float, Line]] = []
    for line in sorted(lines, key=lambda one: one.points[-1].y):
        y = max(line.points[-1].y, placed[-1][1] + apart if placed else limits[0])
        placed.append((line.name, y, line))
    over = max(0.0, placed[-1][1] - limits[1]) if placed else 0.0
    return [(text, y - over, line) for text, y, line in placed]


def _marker(index: int) -> str:
    return f"#fe00{index % LINES:02x}"


def _inline(svg: str, prefix: str, label: str) -> str:
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
    svg = re.sub(r"<svg[^>]*>", f'{opening} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">', svg, count=1)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip())


# --- files --------------------------------------------------------------------------------------------------------


def write_figures(results: Results, folder: Path) -> list[Path]:
    """One PNG and one SVG per heatmap, ``<experiment>@<scale>.png``; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for experiment in results.experiments:
        for number, grid in enumerate(one for one in grids(results, experiment) if one.kind == "heatmap"):
            name = experiment.key if number == 0 else f"{experiment.key}-{number + 1}"
            with matplotlib.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none", "font.family": "DejaVu Sans"}):
                figure = heatmap_picture(grid)
                for suffix, metadata in ((".png", {"Software": None}), (".svg", METADATA)):
                    path = folder / f"{name}{suffix}"
                    figure.savefig(path, dpi=160, metadata=metadata, facecolor="white")
                    written.append(path)
    return written


def heatmap_picture(grid: Grid) -> matplotlib.figure.Figure:
    """Paper, ours and their difference; the first two share a colour scale, missing cells are hatched."""
    paper = _frame(grid, [[entry.published for entry in row.entries] for row in grid.rows])
    ours = _frame(grid, [[e.estimate.mean if e.estimate else None for e in row.entries] for row in grid.rows])
    shown = [("Paper", paper)] if paper.notna().any(axis=None) else []
    shown.append((f"Ours, at {grid.experiment.scale}", ours))
    shown += [("Ours − paper", ours - paper)] if len(shown) == 2 else []
    values = pd.concat([frame for _, frame in shown[:2]]).stack()
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    span = float((ours - paper).abs().max(axis=None)) if len(shown) == 3 else 1.0
    figure = matplotlib.figure.Figure(figsize=(4.7 * len(shown), 4.6), layout="constrained")
    for axes, (title, frame) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        apart = title == "Ours − paper"
        scale = {"cmap": "vlag", "vmin": -span, "vmax": span} if apart else {"cmap": "mako_r", "vmin": low, "vmax": high}
        axes.set_facecolor("#f2f2f0")
        axes.patch.set(hatch="////", edgecolor="#c4c4c0")
        seaborn.heatmap(frame, ax=axes, annot=True, fmt="+.1f" if apart else ".1f", square=True, linewidths=1.5,
                        linecolor="white", annot_kws={"size": 8.5}, cbar_kws={"shrink": 0.7, "label": "points" if apart else grid.metric.unit},
                        **(scale if scale["vmin"] == scale["vmin"] else {}))  # fmt: skip
        axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
        axes.set_xlabel(grid.column_label)
        axes.set_ylabel(grid.stubs[0])
        axes.tick_params(length=0, labelsize=9)
        axes.tick_params(axis="x", rotation=45)
        axes.tick_params(axis="y", rotation=0)
    return figure


def _frame(grid: Grid, rows: list[list[float | None]]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=[row.names[0] for row in grid.rows], columns=list(grid.columns), dtype=float)
