"""One table model for everything the page shows and :mod:`harness.report.export` writes.

A heatmap, a table and a line chart of the ``report:`` block are the same :class:`Grid` of entries; they differ in how
they are drawn. Each entry keeps its interval, its n, the published number and the runs it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.report.names import value_name
from harness.report.records import Cell, Experiment, PublishedCell, Results, State
from harness.report.selection import pool
from harness.report.stats import Estimate, estimate
from harness.spec.matching import matches, plain

HIGHER_IS_BETTER = ("top1", "top5")


@dataclass(frozen=True)
class Metric:
    """How a metric such as ``linear@z/top1`` is written."""

    path: str

    @property
    def name(self) -> str:
        label, _, name = self.path.rpartition("/")
        return f"{label} {name.replace('top', 'top-')}".replace("@", " on ").strip()

    @property
    def unit(self) -> str:
        last = self.path.rpartition("/")[2]
        return "%" if last in HIGHER_IS_BETTER else "nats" if last == "entropy" else ""

    @property
    def decimals(self) -> int:
        return 1 if self.unit == "%" else 2


@dataclass(frozen=True)
class Entry:
    """One place in a table. ``asked`` is the number of seeds planned for it, 0 where this scale has no such arm."""

    metric: Metric
    estimate: Estimate | None
    state: State
    asked: int
    published: float | None = None
    cell: Cell | None = None
    best: bool = False

    @property
    def difference(self) -> float | None:
        return None if self.estimate is None or self.published is None else self.estimate.mean - self.published

    @property
    def absent(self) -> str:
        """Why there is no number, in a word or two; empty when there is one."""
        if self.estimate is not None:
            return ""
        return "not at this scale" if not self.asked else str(self.state)


@dataclass(frozen=True)
class Row:
    """One row: a name per stub column, and the raw values behind them."""

    names: tuple[str, ...]
    values: tuple[Any, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Grid:
    """A report block as a table; ``columns`` are metrics (kind "table") or values of a path (the other two)."""

    kind: str
    experiment: Experiment
    stubs: tuple[str, ...]
    column_label: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    published: str | None = None
    row_mean: str | None = None
    log_x: bool = False

    @property
    def entries(self) -> list[Entry]:
        return [entry for row in self.rows for entry in row.entries]

    @property
    def metric(self) -> Metric:
        return self.rows[0].entries[0].metric if self.rows else Metric("linear/top1")


def grids(results: Results, experiment: Experiment) -> list[Grid]:
    """All blocks of an experiment's ``report:``, in order; blocks of another kind are left to later versions."""
    builders = {"heatmap": heatmap_grid, "table": table_grid, "lines": lines_grid}
    return [
        builders[kind](results, experiment, fields)
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
    """Rows are combinations of one or more paths, columns are metrics."""
    stubs = fields["rows"]
    metrics = {str(label): Metric(str(path)) for label, path in fields["columns"].items()}
    build = _Entries(results, experiment, fields.get("published"))
    keys = build.combinations(tuple(stubs.values()), tuple(metrics.values()))
    rows = [
        Row(
            tuple(map(value_name, key)),
            key,
            tuple(build(metric, dict(zip(stubs.values(), key, strict=True))) for metric in metrics.values()),
        )
        for key in keys
    ]
    return Grid("table", experiment, tuple(stubs), "", tuple(metrics), _bold(rows), fields.get("published"))


def _crossed(
    kind: str,
    results: Results,
    experiment: Experiment,
    fields: Mapping[str, Any],
    down: Mapping[str, str],
    across: Mapping[str, str],
    path: str,
) -> Grid:
    metric, build = Metric(path), _Entries(results, experiment, fields.get("published"))
    paths = tuple(across.values())
    columns = build.combinations(paths, (metric,)) if paths else [()]
    rows = []
    for key in build.combinations(tuple(down.values()), (metric,)):
        at = dict(zip(down.values(), key, strict=True))
        entries = tuple(build(metric, at | dict(zip(paths, column, strict=True))) for column in columns)
        rows.append(Row(tuple(map(value_name, key)), key, entries))
    names = tuple(", ".join(map(value_name, column)) if column else metric.name for column in columns)
    published, mean = fields.get("published"), fields.get("row_mean")
    mean = "Average" if mean is True else mean or None
    return Grid(
        kind,
        experiment,
        tuple(down),
        " / ".join(across),
        names,
        tuple(rows),
        published,
        mean,
        bool(fields.get("log_x")),
    )


class _Entries:
    """Builds the entries of one block."""

    def __init__(self, results: Results, experiment: Experiment, published: str | None) -> None:
        self.results, self.experiment = results, experiment
        found = experiment.published.get(published or "")
        self.paper: list[PublishedCell] = list(found.cells) if found else []
        self._cells: dict[Any, dict[Any, list[Cell]]] = {}

    def cells(self, metric: Metric, at: Mapping[str, Any]) -> list[Cell]:
        """The cells at these values of these paths; indexed, since a table asks for each of its places."""
        key = metric.path, *at
        if key not in self._cells:
            index = self._cells[key] = {}
            for cell in self.results.cells(self.experiment, metric.path):
                if all(path in cell.settings for path in at):
                    index.setdefault(plain([cell.settings[path] for path in at]), []).append(cell)
        return self._cells[key].get(plain([*at.values()]), [])

    def combinations(self, paths: tuple[str, ...], metrics: Sequence[Metric]) -> list[tuple[Any, ...]]:
        """Values the paths take together: our arms first, then what only the paper has; one number alone is sorted."""
        settings = [arm.settings for arm in self.experiment.arms]
        wanted = {metric.path for metric in metrics}
        settings += [cell.at for cell in self.paper if cell.metric in wanted]
        found: dict[Any, tuple[Any, ...]] = {}
        for one in settings:
            if all(path in one for path in paths):
                found.setdefault(plain([one[path] for path in paths]), tuple(one[path] for path in paths))
        keys = list(found.values())
        if len(paths) == 1 and all(isinstance(key[0], int | float) for key in keys):
            keys.sort(key=lambda key: float(key[0]))
        return keys

    def __call__(self, metric: Metric, at: Mapping[str, Any]) -> Entry:
        cells = self.cells(metric, at)
        published = self.published(metric, at, cells)
        if not cells:
            return Entry(metric, None, State.NOT_RUN, 0, published)
        cell = cells[0] if len(cells) == 1 else pool(cells)
        asked = min(len(one.values) + len(one.states) for one in cells)
        return Entry(metric, estimate([*cell.values.values()]), cell.state, asked, published, cell)

    def published(self, metric: Metric, at: Mapping[str, Any], cells: Sequence[Cell]) -> float | None:
        """The paper's number for these arms; where this scale has no such arm, for these row and column values.

        None where several of its numbers lie in one place: our mean over them is not any one of them.
        """
        found = [
            paper.value
            for paper in self.paper
            if paper.metric == metric.path
            and (any(matches(cell.settings, paper.at) for cell in cells) or (not cells and matches(paper.at, at)))
        ]
        return found[0] if len(found) == 1 else None


def _bold(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Mark the highest mean of each column in which higher is better and two or more are measured."""
    best: dict[int, float] = {}
    for index in range(len(rows[0].entries) if rows else 0):
        column = [row.entries[index] for row in rows]
        means = [entry.estimate.mean for entry in column if entry.estimate]
        if len(means) > 1 and column[0].metric.path.rpartition("/")[2] in HIGHER_IS_BETTER:
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


def row_mean(row: Row) -> tuple[Estimate | None, float | None]:
    """Ours and the paper's mean over a row, the diagonal included; None unless every cell of it has a number."""
    cells = [entry.cell for entry in row.entries if entry.cell is not None]
    whole = len(cells) == len(row.entries) and bool(cells)
    printed = [entry.published for entry in row.entries if entry.published is not None]
    ours = estimate([*pool(cells).values.values()]) if whole else None
    return ours, sum(printed) / len(printed) if len(printed) == len(row.entries) and printed else None
