"""What a claim is judged on: cells by their settings, sides of a comparison, groups along a path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.config.claim import BestOf
from harness.config.matching import matches, plain, split_side
from harness.report.judge.selection import cross_chosen, diverged, pool
from harness.report.read.names import arm_name, value_name
from harness.report.read.records import Cell, combined

Where = dict[str, Any]


class NoEvidence(ValueError):
    """The experiment has no arm (or the paper no number) that the claim speaks of; the message says which."""


@dataclass(frozen=True)
class Evidence:
    """The cells a claim is judged on (ours, or the paper's own), and the paper's cells by name for reference."""

    cells: Sequence[Cell]
    published: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    measured: Callable[[str], Sequence[Cell]] = lambda metric: ()
    """The same cells under another metric, for a side that says ``on``."""
    best_of: BestOf | None = None
    """How one is chosen where several arms stand for one side; None: their mean."""

    def where(self, settings: Where) -> list[Cell]:
        """All cells with these settings. Raises :class:`NoEvidence` if there are none."""
        found = [cell for cell in self.cells if matches(cell.settings, settings)]
        if not found:
            raise NoEvidence(f"nothing here has {arm_name(settings)}")
        return found

    def together(self, cells: Sequence[Cell]) -> Cell:
        """Several cells as one: their mean within each seed, or what the claim's ``best_of`` chooses."""
        if self.best_of is None:
            return pool(cells)
        return cross_chosen(cells, self.measured(self.best_of.by), self.best_of)

    def side(self, side: Where) -> Cell:
        """All cells with these settings as one, for each seed that all of them have.

        Two keys of a side are not paths: ``on`` measures it by another metric (h against z), ``minus`` takes away the
        cell that differs by the settings it names (the gap between two batch sizes, to compare gaps).
        """
        settings, on, minus = split_side(side)
        evidence = self._by(on)
        whole = self.together(evidence.where(settings))
        if minus is None:
            return whole
        rest = self.together(evidence.where(settings | minus))
        values = {seed: whole.values[seed] - rest.values[seed] for seed in whole.values if seed in rest.values}
        states = {**rest.states, **whole.states, **diverged(rest)}
        selecting, lost = whole.selecting or rest.selecting, whole.unconverged | rest.unconverged
        terms = combined([(whole.terms, 1.0), (rest.terms, -1.0)])
        candidates = max(whole.candidates, rest.candidates)
        return Cell(whole.settings, values, states, whole.arms + rest.arms, selecting, lost, terms, candidates)

    def _by(self, metric: str | None) -> Evidence:
        return self if metric is None else replace(self, cells=self.measured(metric))

    def name(self, side: Where, other: Where) -> str:
        """A side in words, without the settings that the other side has too: ``nonlinear (mean of 3)``.

        How many cells are averaged is said because it is easily overlooked, and need not be as many as in the paper.
        """
        (settings, on, minus), (against, *_) = split_side(side), split_side(other)
        several = len(self._by(on).where(settings)) if self.best_of is None else 1
        measured = f" ({on.rpartition('/')[0]})" if on else ""
        gap = f" (less {arm_name(minus)})" if minus else ""
        return f"{arm_name(settings, against)}{measured}{gap}{f' (mean of {several})' if several > 1 else ''}"

    def groups(self, path: str, where: Where) -> list[tuple[Any, Cell]]:
        """Value of ``path`` -> its cells as one, numbers ascending and anything else in order of appearance.

        Raises :class:`NoEvidence` where values would be means over different other settings of ours: a difference
        between them may be one of those. (The paper's own tables are taken as they are printed.)
        """
        found: dict[Any, list[Cell]] = {}
        for cell in self.where(where):
            if path in cell.settings:
                found.setdefault(plain(cell.settings[path]), []).append(cell)
        if self.best_of is None:
            _refuse_unbalanced(path, list(found.values()))
        groups = [(cells[0].settings[path], self.together(cells)) for cells in found.values()]
        if all(is_number(value) for value, _ in groups):
            groups.sort(key=lambda group: float(group[0]))
        return groups


def _refuse_unbalanced(path: str, groups: Sequence[Sequence[Cell]]) -> None:
    """One arm for each value is a comparison of arms, whatever else differs; means are to be of the same arms.

    A setting that goes with the value (the rate of each batch size) is part of what is compared.
    """
    ours = all(cell.arms for cells in groups for cell in cells)
    if not ours or all(len(cells) == 1 for cells in groups):
        return
    keys = sorted({key for cells in groups for one in cells for key in one.settings} - {path})
    free = [key for key in keys if any(len({plain(one.settings.get(key)) for one in cells}) > 1 for cells in groups)]
    with_what = [{tuple(plain(one.settings.get(key)) for key in free) for one in cells} for cells in groups]
    if any(others != with_what[0] for others in with_what):
        counts = ", ".join(f"{value_name(cells[0].settings[path])} with {len(cells)}" for cells in groups)
        said = f"the values of {path} were not tried with the same other settings ({counts})"
        raise NoEvidence(f"{said}: say which in the claim's where")


def is_number(value: Any) -> bool:
    """Whether a setting has a place on a scale; yes and no have none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def matched(evidence: Evidence, published: Sequence[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """For each published cell ours with its settings, as one, where there are any."""
    for paper in published:
        found = [cell for cell in evidence.cells if matches(cell.settings, paper.settings)]
        if found:
            yield evidence.together(found), paper
