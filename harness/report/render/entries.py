"""What stands in each place of a report block: our cells there, what was chosen of them, the paper's number beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.claim import BestOf
from harness.config.matching import matches, plain
from harness.report.judge.selection import Choice, choose, pool
from harness.report.read.metrics import Metric
from harness.report.read.records import Cell, Experiment, PublishedCell, Results, State
from harness.report.stats import Estimate, estimate, paired


@dataclass(frozen=True)
class Entry:
    """One place in a table. ``asked`` is the number of seeds planned for it, 0 where this scale has no such arm.

    ``choice`` says which setting a ``best_of`` chose, ``drop`` is the difference to the table's baseline within each
    seed (negative: worse).
    """

    metric: Metric
    estimate: Estimate | None
    state: State
    asked: int
    published: float | None = None
    cell: Cell | None = None
    best: bool = False
    choice: Choice | None = None
    drop: Estimate | None = None

    @property
    def unconverged(self) -> int:
        """How many of its numbers are of probes that did not converge."""
        return len(self.cell.unconverged & self.cell.values.keys()) if self.cell else 0

    @property
    def difference(self) -> float | None:
        return None if self.estimate is None or self.published is None else self.estimate.mean - self.published

    @property
    def absent(self) -> str:
        """Why there is no number, in a word or two; empty when there is one."""
        if self.estimate is not None:
            return ""
        return "not at this scale" if not self.asked else str(self.state)


class Places:
    """Builds the entries of one block, restricted to its ``where``.

    Raises :class:`~harness.config.errors.SpecError` (from :meth:`entry`) where the block's ``best_of`` may not choose.
    """

    def __init__(self, results: Results, experiment: Experiment, fields: Mapping[str, Any]) -> None:
        self.results, self.experiment = results, experiment
        self.where: Mapping[str, Any] = fields.get("where") or {}
        self.best_of = BestOf.model_validate(fields["best_of"]) if fields.get("best_of") else None
        found = experiment.published.get(fields.get("published") or "")
        self.paper = [cell for cell in found.cells if self._here(cell)] if found else []
        self.arms = [index for index, arm in enumerate(experiment.arms) if matches(arm.settings, self.where)]
        self._cells: dict[Any, dict[Any, list[Cell]]] = {}

    def _here(self, cell: PublishedCell) -> bool:
        return all(path not in cell.at or plain(cell.at[path]) == plain(value) for path, value in self.where.items())

    def cells(self, metric: Metric, at: Mapping[str, Any]) -> list[Cell]:
        """The cells at these values of these paths; indexed, since a table asks for each of its places."""
        key = metric.path, *at
        if key not in self._cells:
            index = self._cells[key] = {}
            measured = self.results.cells(self.experiment, metric.path)
            for cell in (measured[arm] for arm in self.arms):
                if all(path in cell.settings for path in at):
                    index.setdefault(plain([cell.settings[path] for path in at]), []).append(cell)
        return self._cells[key].get(plain([*at.values()]), [])

    def combinations(self, paths: tuple[str, ...], metrics: Sequence[Metric]) -> list[tuple[Any, ...]]:
        """Values the paths take together: our arms first, then what only the paper has. Of a single path
        the numbers are sorted, behind what is none (a width of "none").
        """
        settings = [self.experiment.arms[arm].settings for arm in self.arms]
        wanted = {metric.path for metric in metrics}
        settings += [cell.at for cell in self.paper if cell.metric in wanted]
        found: dict[Any, tuple[Any, ...]] = {}
        for one in settings:
            if all(path in one for path in paths):
                found.setdefault(plain([one[path] for path in paths]), tuple(one[path] for path in paths))
        keys = list(found.values())
        if len(paths) == 1:
            keys.sort(key=lambda key: float(key[0]) if isinstance(key[0], int | float) else -math.inf)
        return keys

    def entry(self, metric: Metric, at: Mapping[str, Any]) -> Entry:
        """What stands at these values of these paths."""
        cells = self.cells(metric, at)
        published = self.published(metric, at, cells)
        if not cells:
            return Entry(metric, None, State.NOT_RUN, 0, published)
        return self._of(metric, cells, published)

    def of_arm(self, metric: Metric, arm: int) -> Entry:
        """What stands at one arm."""
        cell = self.results.cells(self.experiment, metric.path)[arm]
        return self._of(metric, [cell], self.published(metric, {}, [cell]))

    def _of(self, metric: Metric, cells: list[Cell], published: float | None) -> Entry:
        choice = None
        if self.best_of is not None:
            rule = self.best_of
            rule.check(metric.path, self.results.splits(self.experiment, rule.by))
            choice = choose(cells, self.results.cells(self.experiment, rule.by), rule)
        cell = choice.cell if choice else cells[0] if len(cells) == 1 else pool(cells)
        asked = min(one.planned for one in cells)
        ours = estimate([*cell.values.values()])
        return Entry(metric, ours, cell.state, asked, published, cell, choice=choice)

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


def dropped(entry: Entry, base: Cell | None) -> Estimate | None:
    """The difference of an entry to the baseline, within each seed that both have."""
    return estimate(paired(entry.cell.values, base.values)) if entry.cell and base else None
