"""What was seen, in sentences: one paragraph under each artefact, written from the numbers alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from harness.report.read.metrics import HIGHER_IS_BETTER, Metric
from harness.report.read.records import State
from harness.report.render.entries import Entry
from harness.report.render.tables import Grid, Row, row_mean
from harness.report.stats import Estimate, interval, kendall, paired

FEWEST_RANKED = 4
"""Fewer places than this have no order worth a coefficient: of three, one guess in six ranks all right."""


def number(value: float, metric: Metric) -> str:
    """A value with its unit: ``48.2 %``."""
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{value:.{metric.decimals}f}{unit}"


def measured(estimate: Estimate, metric: Metric) -> str:
    """A value with interval and n: ``48.2 ± 0.5 % (n = 3)``."""
    unit = f" {metric.unit}" if metric.unit else ""
    half = "" if estimate.half is None else f" ± {estimate.half:.{metric.decimals}f}"
    return f"{estimate.mean:.{metric.decimals}f}{half}{unit} (n = {estimate.n})"


def seen(grid: Grid) -> str:
    """The paragraph of a grid: what is highest, in ours and in the paper, how far the two agree, what is absent."""
    tellers = {"heatmap": _heatmap, "table": _table, "lines": _lines}
    found = [*tellers[grid.kind](grid), _absent([entry for entry in grid.entries if entry.asked])]
    return " ".join(sentence for sentence in found if sentence)


def _places(grid: Grid) -> list[tuple[str, Entry]]:
    if not grid.diagonal:
        return [
            (_place(grid, row, column), entry)
            for row in grid.rows
            for column, entry in zip(grid.columns, row.entries, strict=True)
        ]
    return [
        (f"{row.names[0]} alone" if row.names[0] == column else f"{row.names[0]} then {column}", entry)
        for row in grid.rows
        for column, entry in zip(grid.columns, row.entries, strict=True)
    ]


def _place(grid: Grid, row: Row, column: str) -> str:
    if not grid.fields.get("rows") and grid.kind == "table":
        return row.names[0]
    parts = [f"{stub} {name}" for stub, name in zip(grid.stubs, row.names, strict=True)]
    return ", ".join([*parts, f"{grid.column_label} {column}"] if grid.column_label else parts)


def _heatmap(grid: Grid) -> list[str]:
    places = _places(grid)
    found = [_highest(places, by=grid.printed_by)]
    means = [(row.names[0], ours[0]) for row in grid.rows if (ours := row_mean(row))[0] is not None]
    if grid.row_mean and len(means) == len(grid.rows) > 1:
        name, mean = max(((name, mean) for name, mean in means if mean), key=lambda one: one[1].mean)
        found.append(f"As first transformation {name} is worth most on average ({number(mean.mean, grid.metric)}).")
    return [*found, _floor(grid), _pooled(grid)]


def _table(grid: Grid) -> list[str]:
    found = []
    for index, column in enumerate(grid.columns):
        places = [(_place(grid, row, ""), row.entries[index]) for row in grid.rows]
        if places and places[0][1].metric.path.rpartition("/")[2] in HIGHER_IS_BETTER:
            found.append(_highest(places, column, grid.printed_by))
    return [*found, _floor(grid)]


def _lines(grid: Grid) -> list[str]:
    found = []
    for index, column in enumerate(grid.columns):
        points = [(row, row.entries[index].estimate) for row in grid.rows]
        ours = [(row.names[0], estimate) for row, estimate in points if estimate]
        if len(ours) > 1:
            (low, first), (high, last) = ours[0], ours[-1]
            line = f"With {grid.column_label} {column}, " if grid.column_label else ""
            text = f"{line}from {grid.stubs[0]} {low} to {high} ours goes from {measured(first, grid.metric)}"
            found.append(f"{text[0].upper()}{text[1:]} to {measured(last, grid.metric)}.")
    return [*found, _single(grid), _floor(grid), _by_line(grid)]


def _single(grid: Grid) -> str:
    """``The summary prints 50.0 % at groups 32.``: in place of a chart with one point."""
    printed = [(place, entry) for place, entry in _places(grid) if entry.published is not None]
    if grid.printed_curve or not printed:
        return ""
    said = ", ".join(f"{number(entry.published or 0.0, entry.metric)} at {place}" for place, entry in printed)
    return f"The {grid.printed_by} prints {said} and nothing else here."


def _floor(grid: Grid) -> str:
    """How many means are no higher than a number that is shown for comparison (an untrained encoder's, say).

    Of means alone, and the sentence says so: many rest on one seed and have no interval to judge by.
    """
    found = []
    means = [row.entries[0].estimate.mean for row in grid.rows if row.entries[0].estimate]
    if grid.kind != "table":
        means = [entry.estimate.mean for entry in grid.entries if entry.estimate]
    for one in grid.references:
        if one.estimates[0] and grid.metric.higher_is_better and means:
            below = sum(mean <= one.estimates[0].mean for mean in means)
            told = measured(one.estimates[0], grid.metric)
            have = f"{below or 'None'} of {len(means)} {'have' if below > 1 else 'has'} a mean no higher than"
            found.append(f"{have} that of the {one.name}, {told}.")
    return " ".join(found)


def _untold(best: Entry, ours: Sequence[tuple[str, Entry]]) -> str:
    """From how many others with several seeds no interval within seeds sets the highest apart."""
    if len(ours) < 2:
        return ""
    if best.estimate is None or best.estimate.n < 2 or best.cell is None:
        return " Ours rests on a single seed, which sets it apart from nothing."
    samples = [paired(best.cell.values, one.cell.values) for _, one in ours if one is not best and one.cell]
    bounds = [interval(sample) for sample in samples if len(sample) > 1]
    untold = sum(not (held and held[0] > 0) for held in bounds)
    of = f"the other {len(bounds)} with several seeds" if len(bounds) > 1 else "the other one with several seeds"
    return f" Ours is not told apart from {untold} of {of}, by 95 % intervals within seeds." if untold else ""


def _highest(places: Sequence[tuple[str, Entry]], column: str = "", by: str = "paper") -> str:
    """Our highest, of one column where there are several; the {by}’s highest, and whether it is the same place."""
    ours = [(place, entry) for place, entry in places if entry.estimate]
    best = max(ours, key=lambda one: one[1].estimate.mean if one[1].estimate else 0.0, default=None)
    printed, among = _printed_highest(ours or places, places)
    theirs = f"{printed[0]}, {number(printed[1].published or 0.0, printed[1].metric)}" if printed else ""
    if best is None or best[1].estimate is None:
        return f"No run has finished. The {by}’s highest is {theirs}." if printed else "No run has finished."
    if len(ours) > 1 and len({entry.estimate.mean for _, entry in ours if entry.estimate}) == 1:
        equal = f"{len(ours)} are equal here, {measured(best[1].estimate, best[1].metric)}"
        told = f"; the {by}’s highest{among} is {theirs}" if printed else ""
        return f"{f'{column}: all' if column else 'All'} {equal}{told}."
    opening = f"{column}: highest at" if column else "Highest here:"
    text, untold = f"{opening} {best[0]}, {measured(best[1].estimate, best[1].metric)}", _untold(best[1], ours)
    if printed is None:
        return f"{text}.{untold}"
    if printed[0] == best[0]:
        same = number(printed[1].published or 0.0, printed[1].metric)
        return f"{text}; it is the {by}’s highest{among} too ({same}).{untold}"
    return f"{text}; the {by}’s highest{among} is {theirs}.{untold}"


def _printed_highest(
    known: Sequence[tuple[str, Entry]], places: Sequence[tuple[str, Entry]]
) -> tuple[tuple[str, Entry] | None, str]:
    """The highest printed number where ours are known, and how to say that it is not of all places.

    None of fewer than two: a single number is the highest of nothing.
    """
    printed = [one for one in known if one[1].published is not None]
    best = max(printed, key=lambda one: one[1].published or 0.0) if len(printed) > 1 else None
    everything = sum(entry.published is not None for _, entry in places)
    return best, " of these places" if len(printed) < everything else ""


def _tau(entries: Sequence[Entry], least: int = FEWEST_RANKED) -> tuple[str, int]:
    """Kendall's τ of ours and the published numbers over the places that have both, and how many these are.

    No adjective goes with it: what counts as similar depends on how the places came about. Empty for too few places,
    or where one side has the same number throughout.
    """
    both = [(e.estimate.mean, e.published) for e in entries if e.estimate and e.published is not None]
    if len(both) < least:
        return "", len(both)
    tau = kendall([ours for ours, _ in both], [paper for _, paper in both])
    return "" if math.isnan(tau) else f"{round(tau, 2) + 0.0:.2f}".replace("-", "−"), len(both)


def _pooled(grid: Grid) -> str:
    """How far the order over a whole heatmap agrees; where operators meet, also without the one that leads it.

    A single operator that is far above the rest is enough for a τ that looks like agreement among all of them.
    """
    tau, count = _tau(grid.entries, FEWEST_RANKED + 1)
    if not tau:
        return ""
    text = f"Kendall’s τ between ours and the {grid.printed_by}’s numbers is {tau} over the {count} places both have"
    first = _leading(grid) if grid.diagonal else ""
    rest, _ = _tau([entry for row, column, entry in _crossings(grid) if first not in (row, column)])
    if first and rest:
        text += f"; {rest} without the row and column of {first}, our highest on average"
    return f"{text}."


def _crossings(grid: Grid) -> list[tuple[str, str, Entry]]:
    return [(row.names[0], c, entry) for row in grid.rows for c, entry in zip(grid.columns, row.entries, strict=True)]


def _leading(grid: Grid) -> str:
    """The operator whose row and column together have our highest mean."""
    means: dict[str, list[float]] = {}
    for row, column, entry in _crossings(grid):
        for name in dict.fromkeys((row, column)):
            means.setdefault(name, []).extend([entry.estimate.mean] if entry.estimate else [])
    return max(means, key=lambda name: sum(means[name]) / max(len(means[name]), 1), default="")


def _by_line(grid: Grid) -> str:
    """How far the order agrees along each line: over all together it would mostly say which line lies above which."""
    what = f"Kendall’s τ between ours and the {grid.printed_by}’s numbers is"
    found = [(column, *_tau([row.entries[index] for row in grid.rows])) for index, column in enumerate(grid.columns)]
    if not grid.column_label:
        return "".join(f"{what} {tau} over the {count} places both have." for _, tau, count in found if tau)
    label = "" if " / " in grid.column_label else f"{grid.column_label} "
    told = [f"{tau} along {label}{column} ({count} places both have)" for column, tau, count in found if tau]
    whole, places = _tau(grid.entries)
    if whole and len(found) > 1:  # beside, not instead: it also says which line lies above which
        told.append(f"{whole} over all {places} places together")
    return f"{what} {', and '.join(told)}." if told else ""


def _absent(entries: Sequence[Entry]) -> str:
    """``7 of 49 have no number: 3 failed, 4 not run. 12 have fewer seeds than planned.``"""
    none = Counter(str(entry.state) for entry in entries if entry.estimate is None)
    fewer = sum(entry.estimate is not None and entry.estimate.n < entry.asked for entry in entries)
    words = []
    if none:
        kinds = ", ".join(f"{none[state]} {state}" for state in State if none[state])
        words.append(f"{sum(none.values())} of {len(entries)} places have no number yet ({kinds}).")
    if fewer:
        words.append(f"{fewer} {'has' if fewer == 1 else 'have'} fewer seeds than planned.")
    single = sum(entry.estimate is not None and entry.estimate.n == 1 for entry in entries)
    if single:
        words.append(f"{single} of {len(entries)} rest on a single seed and carry no interval.")
    return " ".join(words)
