"""The plot: processor time of every contender over ours, one panel per section, on one logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.record import Row, Section

BAR_CM, WIDTH_CM = 0.5, 24.0
COLORS = matplotlib.color_sequences["tab10"]
matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same picture, byte for byte, from the same numbers


def drawn(section: Section) -> list[Row]:
    """Rows with a ratio that is not one by definition."""
    return [row for row in section.rows if row.times is not None and row.times != (1.0, 1.0, 1.0)]


def panel(axes: Axes, section: Section, colors: dict[str, Any]) -> None:
    rows = drawn(section)
    for place, row in enumerate(rows):
        assert row.times is not None
        low, middle, high = row.times
        color = colors.setdefault(row.contender, COLORS[len(colors) % len(COLORS)])
        axes.barh(place, middle - 1, left=1, height=0.7, color=color)  # from 1, our own time
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        axes.annotate(
            f"{middle:.2f}", (max(high, 1.0), place), (4, 0), textcoords="offset points", va="center", fontsize=7
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", yticks=range(len(rows)), title=f"{section.letter}. {section.title}")
    axes.set_yticklabels([f"{row.case}: {row.contender}" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", which="major", linewidth=0.3)
    axes.set_axisbelow(True)


def draw(sections: Sequence[Section], path: Path) -> None:
    """An SVG of all sections that compare."""
    shown = [one for one in sections if drawn(one)]
    if not shown:
        return
    heights = [len(drawn(one)) + 3 for one in shown]
    size = WIDTH_CM / 2.54, sum(heights) * BAR_CM / 2.54 + 0.5
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(shown), 1, height_ratios=heights, sharex=True, squeeze=False)
    colors: dict[str, Any] = {}
    for axes, section in zip(panels[:, 0], shown, strict=True):
        panel(axes, section, colors)
        axes.tick_params(labelbottom=True)
    panels[-1, 0].set_xlabel("processor time over ours (median and quartiles of neighbouring measurements)")
    figure.savefig(path, metadata={"Date": None})
