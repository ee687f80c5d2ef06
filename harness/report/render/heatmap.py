"""Colours of the heatmaps: one sequential scale for paper and ours, one diverging scale for the difference.

Light pages run from pale (low) to deep (high), dark pages the other way round, so that the high cells stand out from
the background on both. Text on a cell is black or white, whichever contrasts more: at least 4.58 to 1 (WCAG AA)
on any colour at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import matplotlib
import matplotlib.colors
import seaborn  # registers mako, icefire and vlag with matplotlib

from harness.report.render.entries import Entry
from harness.report.render.tables import Grid, row_mean

STEPS = 128
assert seaborn.__name__  # imported for what it registers


@dataclass(frozen=True)
class Scale:
    """Values ``low..high`` to colours; ``maps`` name matplotlib's maps for light and dark, cut to ``ends``."""

    low: float
    high: float
    maps: tuple[str, str]
    ends: tuple[tuple[float, float], tuple[float, float]]

    def style(self, value: float) -> str:
        """CSS custom properties: background and text colour, light (l) and dark (d)."""
        share = 0.5 if self.high <= self.low else min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        parts = []
        for theme, name, ends in zip("ld", self.maps, self.ends, strict=True):
            background = colour(name, round(STEPS * (ends[0] + share * (ends[1] - ends[0]))))
            parts.append(f"--{theme}:{background};--{theme}t:{ink(background)}")
        return ";".join(parts)

    def legend(self, count: int = 5) -> list[float]:
        """Evenly spaced values of the legend, ends included."""
        return [self.low + index * (self.high - self.low) / (count - 1) for index in range(count)]

    def place(self, value: float) -> str | None:
        """Where a value lies along the legend, as a CSS length; None outside of it."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else -1.0
        return f"{100 * share:.1f}%" if 0 <= share <= 1 else None

    def gradient(self, theme: int) -> str:
        """The scale as CSS colour stops."""
        first, last = self.ends[theme]
        return ", ".join(colour(self.maps[theme], round(STEPS * (first + i / 12 * (last - first)))) for i in range(13))


def sequential(low: float, high: float) -> Scale:
    """For accuracies. Mako is perceptually uniform, so equal steps of accuracy look equal."""
    return Scale(low, high, ("mako_r", "mako"), ((0.02, 0.80), (0.16, 0.94)))


def diverging(span: float) -> Scale:
    """For differences, symmetric about zero: the background colour means "no difference"."""
    return Scale(-span, span, ("vlag", "icefire"), ((0.06, 0.94), (0.10, 0.90)))


@lru_cache(maxsize=4096)
def colour(name: str, step: int) -> str:
    """Step 0..STEPS of a matplotlib colour map as #rrggbb."""
    return str(matplotlib.colors.to_hex(matplotlib.colormaps[name](step / STEPS)))


def luminance(background: str) -> float:
    """Relative luminance of #rrggbb as WCAG 2 defines it."""
    channels = (int(background[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio of two colours, 1 to 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@lru_cache(maxsize=4096)
def ink(background: str) -> str:
    """Black or white, whichever reads better on the background."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, background))


@dataclass(frozen=True)
class Square:
    """One square of a panel: a number and its colours, or a word where there is no number."""

    text: str
    style: str = ""
    small: str = ""
    state: str = ""
    entry: Entry | None = None
    alone: bool = False


@dataclass(frozen=True)
class Panel:
    """One of the three heatmaps."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square, ...]], ...]
    means: tuple[Square, ...]
    scale: Scale


def panels(grid: Grid) -> list[Panel]:
    """Published, ours, difference; without published values only ours."""
    paper = [entry.published for entry in grid.entries if entry.published is not None]
    ours = [entry.estimate.mean for entry in grid.entries if entry.estimate]
    both = [*paper, *ours] or [0.0, 1.0]
    shared = sequential(min(both), max(both))
    gaps = [abs(entry.difference) for entry in grid.entries if entry.difference is not None]
    apart = diverging(max(gaps, default=10.0) or 10.0)
    unit = grid.metric.unit
    found = [_panel(grid, "Ours", f"at {grid.experiment.scale}, mean over seeds, {unit}", shared, _ours)]
    if paper:
        found.insert(0, _panel(grid, grid.printed_by.capitalize(), f"as printed, {unit}", shared, _paper))
    if any(entry.published is not None and entry.asked for entry in grid.entries):
        found.append(_panel(grid, "Difference", "ours minus paper, points", apart, _gap))
    return found


def patterns(grid: Grid) -> list[Panel]:
    """Published and ours, each on a colour scale of its own: what is high and what is low in each, not how high."""
    paper = [entry.published for entry in grid.entries if entry.published is not None]
    ours = [entry.estimate.mean for entry in grid.entries if entry.estimate]
    unit = grid.metric.unit
    return [
        _panel(grid, grid.printed_by.capitalize(), f"as printed, {unit}", sequential(min(paper), max(paper)), _paper),
        _panel(grid, "Ours", f"at {grid.experiment.scale}, {unit}", sequential(min(ours), max(ours)), _ours),
    ]


Draw = Callable[[Entry, Scale, bool], Square]


def _belongs(entry: Entry, name: str) -> bool:
    """Whether a panel has this place at all: asked for at this scale, printed, or both."""
    printed, asked = entry.published is not None, entry.asked > 0
    return asked if name == "Ours" else printed and asked if name == "Difference" else printed


def _panel(grid: Grid, name: str, caption: str, scale: Scale, draw: Draw) -> Panel:
    """Rows and columns of which it has no place are left out: a scale's batch sizes need not be the paper's."""
    held = [[_belongs(entry, name) for entry in row.entries] for row in grid.rows]
    kept = [index for index, column in enumerate(zip(*held, strict=True)) if any(column)]
    rows, means = [], []
    for row, here in zip(grid.rows, held, strict=True):
        if not any(here):
            continue
        squares = tuple(
            draw(row.entries[index], scale, grid.diagonal and row.names == (grid.columns[index],)) for index in kept
        )
        rows.append((row.names[0], squares))
        ours, paper = row_mean(row)
        value = {"Ours": ours.mean if ours else None, "Paper": paper}.get(name)
        if name == "Difference" and ours is not None and paper is not None:
            value = ours.mean - paper
        half = ours.half if ours and name == "Ours" else None
        missing = sum(entry.estimate is None for entry in row.entries)
        text = (
            f"{value:+.1f}"
            if name == "Difference" and value is not None
            else f"{value:.1f}"
            if value is not None
            else ""
        )
        small = f"±{half:.1f}" if half is not None else f"{missing} missing" if value is None and missing else ""
        means.append(Square(text, scale.style(value) if value is not None else "", small))
    columns = tuple(grid.columns[index] for index in kept)
    return Panel(name, caption, columns, tuple(rows), tuple(means) if grid.row_mean else (), scale)


def _paper(entry: Entry, scale: Scale, alone: bool) -> Square:
    if entry.published is None:
        return Square("", state="absent", alone=alone)
    return Square(f"{entry.published:.1f}", scale.style(entry.published), alone=alone)


def _ours(entry: Entry, scale: Scale, alone: bool) -> Square:
    if entry.estimate is None:
        return Square(entry.absent, state="absent", entry=entry, alone=alone)
    half = entry.estimate.half
    small = f"±{half:.1f}" if half is not None else ""
    return Square(f"{entry.estimate.mean:.1f}", scale.style(entry.estimate.mean), small, "", entry, alone)


def _gap(entry: Entry, scale: Scale, alone: bool) -> Square:
    if entry.difference is None:
        return Square(entry.absent, state="absent", alone=alone)
    return Square(f"{entry.difference:+.1f}", scale.style(entry.difference), alone=alone)
