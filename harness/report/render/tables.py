"""One table model for everything the page shows and :mod:`harness.report.render.export` writes.

A heatmap, a table and a line chart of the ``report:`` block are the same :class:`Grid` of entries; they differ in how
they are drawn. Each entry keeps its interval, its n, the published number and the runs it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config.errors import SpecError
from harness.config.matching import matches
from harness.report.judge.selection import pool
from harness.report.read.metrics import Metric
from harness.report.read.names import arm_name, change_names, printed_by, value_name
from harness.report.read.records import Cell, Experiment, Results
from harness.report.render.entries import Entry, Places, dropped
from harness.report.stats import Estimate, estimate


@dataclass(frozen=True)
class Row:
    """One row: a name per stub column, and the raw values behind them; ``baseline`` is what ``against`` names."""

    names: tuple[str, ...]
    values: tuple[Any, ...]
    entries: tuple[Entry, ...]
    baseline: bool = False


@dataclass(frozen=True)
class Reference:
    """A number of another experiment beside a block, for each of its metrics: the untrained encoder, say.

    ``anchor`` is the experiment's key and arm (empty where that experiment is not in these results).
    """

    name: str
    estimates: tuple[Estimate | None, ...]
    asked: int
    experiment: str
    arm: int = 0
    known: bool = True


@dataclass(frozen=True)
class Grid:
    """A report block as a table; ``columns`` are metrics (kind "table") or values of a path (the other two).

    ``refused`` says why a block has no rows: its ``best_of`` would have chosen by test images.
    """

    kind: str
    experiment: Experiment
    stubs: tuple[str, ...]
    column_label: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    fields: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    references: tuple[Reference, ...] = ()
    refused: str = ""

    @property
    def entries(self) -> list[Entry]:
        return [entry for row in self.rows for entry in row.entries]

    @property
    def beyond(self) -> bool:
        """Whether some mean ± half of it reaches past 0 or 100 %."""
        return any(one.metric.beyond(one.estimate) for one in self.entries)

    @property
    def metric(self) -> Metric:
        return self.metrics[0]

    @property
    def diagonal(self) -> bool:
        """Whether rows and columns are the same things, so that the diagonal is each of them alone."""
        return [row.names for row in self.rows] == [(column,) for column in self.columns]

    @property
    def published(self) -> str | None:
        """Name of the published table that stands beside it."""
        return self.fields.get("published")

    @property
    def printed_by(self) -> str:
        """Who printed the numbers beside ours: the paper, the summary, or a public run."""
        return printed_by(self.published)

    @property
    def printed_curve(self) -> bool:
        """Whether some line of a chart has two printed points: a single one is no chart, and is said in words."""
        columns = zip(*(row.entries for row in self.rows), strict=True)
        return any(sum(entry.published is not None for entry in column) > 1 for column in columns)

    @property
    def row_mean(self) -> str | None:
        """Heading of the column of row means, if there is one."""
        mean = self.fields.get("row_mean")
        return "Average" if mean is True else mean or None

    @property
    def log_x(self) -> bool:
        return bool(self.fields.get("log_x"))

    @property
    def where(self) -> str:
        """What the block is restricted to, in words."""
        return arm_name(self.fields["where"]) if self.fields.get("where") else ""

    @property
    def against(self) -> str:
        """Name of the row that the others are compared with; empty without one."""
        return next((", ".join(row.names) for row in self.rows if row.baseline), "")


def grids(results: Results, experiment: Experiment) -> list[Grid]:
    """All blocks of an experiment's ``report:``, in order; blocks of another kind are left to later versions."""
    builders = {"heatmap": heatmap_grid, "table": table_grid, "lines": lines_grid}
    return [
        _referenced(results, builders[kind](results, experiment, fields))
        for block in experiment.report
        for kind, fields in block.items()
        if kind in builders
    ]


def heatmap_grid(results: Results, experiment: Experiment, fields: Mapping[str, Any]) -> Grid:
    """Rows and columns are values of one path each."""
    return _crossed("heatmap", results, experiment, fields, fields["rows"], fields["columns"], str(fields["cell"]))


def lines_grid(results: Results, experiment: Experiment, fields: Mapping[str, Any]) -> Grid:
    """Rows are the x values, columns the lines; without ``lines`` there is one."""
    return _crossed("lines", results, experiment, fields, fields["x"], fields.get("lines") or {}, str(fields["y"]))


def table_grid(results: Results, experiment: Experiment, fields: Mapping[str, Any]) -> Grid:
    """Rows are combinations of one or more paths (without ``rows``: the arms, by what they change); columns metrics."""
    stubs: Mapping[str, str] = fields.get("rows") or {}
    labels = {str(label): Metric(str(path)) for label, path in fields["columns"].items()}
    metrics, names = tuple(labels.values()), tuple(stubs) or ("change",)
    grid = Grid("table", experiment, names, "", tuple(labels), (), fields, metrics)
    places = Places(results, experiment, fields)
    try:
        rows = _rows(places, stubs, metrics) if stubs else _arm_rows(places, metrics, fields)
    except SpecError as error:
        return replace(grid, refused=str(error))
    if fields.get("against"):
        rows = _against(rows, places, fields)
    return replace(grid, rows=_bold(rows))


def _rows(places: Places, stubs: Mapping[str, str], metrics: Sequence[Metric]) -> list[Row]:
    rows = []
    for key in places.combinations(tuple(stubs.values()), metrics):
        at = dict(zip(stubs.values(), key, strict=True))
        rows.append(Row(tuple(map(value_name, key)), key, tuple(places.entry(metric, at) for metric in metrics)))
    return rows


def _arm_rows(places: Places, metrics: Sequence[Metric], fields: Mapping[str, Any]) -> list[Row]:
    """One row per arm, named by what it changes against the baseline (for leave-one-out tables)."""
    arms, base = places.experiment.arms, _baseline(places, fields)
    return [
        Row(
            (change_names(arms[min(base)].settings, arms[arm].settings) or "baseline",),
            (arm,),
            tuple(places.of_arm(metric, arm) for metric in metrics),
        )
        for arm in places.arms
    ]


def _baseline(places: Places, fields: Mapping[str, Any]) -> set[int]:
    """The arms that ``against`` names: those with its settings, or the first."""
    wanted, arms = fields.get("against"), places.experiment.arms
    named = {arm for arm in places.arms if isinstance(wanted, Mapping) and matches(arms[arm].settings, wanted)}
    return named or set(places.arms[:1])


def _against(rows: list[Row], places: Places, fields: Mapping[str, Any]) -> list[Row]:
    """With the difference of every row to the baseline (``against: first``, or its settings), ranked if asked for."""
    chosen = _baseline(places, fields)
    base = next((row for row in rows if any(e.cell and chosen & {*e.cell.arms} for e in row.entries)), None)
    if base is None:
        return rows
    compared = [
        replace(
            row,
            baseline=row is base,
            entries=tuple(
                entry if row is base else replace(entry, drop=dropped(entry, of.cell))
                for entry, of in zip(row.entries, base.entries, strict=True)
            ),
        )
        for row in rows
    ]
    return sorted(compared, key=_rank) if fields.get("sort") == "drop" else compared


def _rank(row: Row) -> tuple[int, float]:
    """The baseline first, then the largest drop in the first column, then what has no number yet."""
    drop = row.entries[0].drop
    return (0, 0.0) if row.baseline else (2, 0.0) if drop is None else (1, drop.mean)


def _crossed(
    kind: str,
    results: Results,
    experiment: Experiment,
    fields: Mapping[str, Any],
    down: Mapping[str, str],
    across: Mapping[str, str],
    path: str,
) -> Grid:
    metric, places = Metric(path), Places(results, experiment, fields)
    paths = tuple(across.values())
    columns = places.combinations(paths, (metric,)) if paths else [()]
    names = tuple(", ".join(map(value_name, column)) if column else metric.name for column in columns)
    grid = Grid(kind, experiment, tuple(down), " / ".join(across), names, (), fields, (metric,))
    rows = []
    try:
        for key in places.combinations(tuple(down.values()), (metric,)):
            at = dict(zip(down.values(), key, strict=True))
            entries = tuple(places.entry(metric, at | dict(zip(paths, column, strict=True))) for column in columns)
            rows.append(Row(tuple(map(value_name, key)), key, entries))
    except SpecError as error:
        return replace(grid, refused=str(error))
    return replace(grid, rows=_bold_all(rows) if kind == "heatmap" else _bold(rows))


def _referenced(results: Results, grid: Grid) -> Grid:
    """With the numbers of other experiments at the same scale that its ``reference`` names."""
    found = []
    for name, about in (grid.fields.get("reference") or {}).items():
        wanted, at = str(about["experiment"]), about.get("at") or {}
        other = next(
            (one for one in results.experiments if (one.name, one.scale) == (wanted, grid.experiment.scale)), None
        )
        if other is None:
            found.append(Reference(name, (None,) * len(grid.metrics), 0, wanted, known=False))
            continue
        cells = [_together(results, other, metric, at) for metric in grid.metrics]
        held = [cell for cell in cells if cell is not None]
        estimates = tuple(estimate([*cell.values.values()]) if cell else None for cell in cells)
        asked, arm = (held[0].planned, held[0].arms[0]) if held else (0, 0)
        found.append(Reference(name, estimates, asked, other.key, arm))
    return replace(grid, references=tuple(found))


def _together(results: Results, experiment: Experiment, metric: Metric, at: Mapping[str, Any]) -> Cell | None:
    cells = [cell for cell in results.cells(experiment, metric.path) if matches(cell.settings, at)]
    return pool(cells) if cells else None


def _bold(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Mark the highest mean of each column in which higher is better and two or more are measured."""
    best: dict[int, float] = {}
    for index in range(len(rows[0].entries) if rows else 0):
        column = [row.entries[index] for row in rows]
        means = [entry.estimate.mean for entry in column if entry.estimate]
        if len({*means}) > 1 and column[0].metric.higher_is_better:  # of equal ones none is the highest
            best[index] = max(means)
    return tuple(
        replace(
            row,
            entries=tuple(
                replace(e, best=e.estimate is not None and best.get(i) == e.estimate.mean)
                for i, e in enumerate(row.entries)
            ),
        )
        for row in rows
    )


def _bold_all(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Mark the highest mean of a heatmap, whose columns are no rankings of their own."""
    entries = [entry for row in rows for entry in row.entries]
    means = [entry.estimate.mean for entry in entries if entry.estimate and entry.metric.higher_is_better]
    best = max(means) if len(means) > 1 else None

    def marked(entry: Entry) -> Entry:
        return replace(entry, best=entry.estimate is not None and entry.estimate.mean == best)

    return tuple(replace(row, entries=tuple(map(marked, row.entries))) for row in rows)


def row_mean(row: Row) -> tuple[Estimate | None, float | None]:
    """Ours and the paper's mean over a row, the diagonal included; None unless every cell of it has a number."""
    cells = [entry.cell for entry in row.entries if entry.cell is not None]
    whole = len(cells) == len(row.entries) and bool(cells)
    printed = [entry.published for entry in row.entries if entry.published is not None]
    ours = estimate([*pool(cells).values.values()]) if whole else None
    return ours, sum(printed) / len(printed) if len(printed) == len(row.entries) and printed else None
