"""Several arms in one place of a table: their mean, or the one that a rule chooses on validation images.

Table 4 prints, for each loss, the best of a tuning grid (appendix B.10), and not by which images it was chosen. Here
the rule is written down (:class:`~harness.config.claim.BestOf`) and looks at validation images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.claim import BestOf
from harness.config.matching import plain
from harness.report.read.names import arm_name
from harness.report.read.records import Cell, State, combined
from harness.report.stats import mean


@dataclass(frozen=True)
class Choice:
    """What was chosen from ``candidates`` settings: its cell, its settings, and how sure the choice is."""

    cell: Cell
    settings: dict[str, Any]
    candidates: int
    waiting: int = 0
    diverged: int = 0

    @property
    def name(self) -> str:
        """``temperature 0.2`` (empty when there was nothing to choose from)."""
        return arm_name({path: value for path, value in self.settings.items() if value is not None})

    @property
    def note(self) -> str:
        """The whole rule in a sentence for the cell's title."""
        if self.candidates == 1:
            return f"{self.name}, the only setting"
        text = f"{self.name}, best of {self.candidates} on validation images"
        if self.diverged:
            text += f"; {self.diverged} diverged and cannot be chosen"
        return f"{text}; {self.waiting} of {self.candidates} still lack validation numbers" if self.waiting else text


def pool(cells: Sequence[Cell]) -> Cell:
    """Per-seed mean of several cells; a seed that one of them lacks is lacking."""
    seeds = set.intersection(*({*cell.values} for cell in cells))
    values = {seed: mean([cell.values[seed] for cell in cells]) for seed in sorted(seeds)}
    states = {seed: state for cell in cells for seed, state in cell.states.items()}
    for cell in cells:  # a diverged sibling is never hidden behind one that is merely missing
        states |= diverged(cell)
    arms = tuple(index for cell in cells for index in cell.arms)
    lost = frozenset[int]().union(*(cell.unconverged for cell in cells))
    terms = combined((cell.terms, 1 / len(cells)) for cell in cells)
    return Cell(cells[0].settings, values, states, arms, any(cell.selecting for cell in cells), lost, terms)


def diverged(cell: Cell) -> dict[int, State]:
    """The seeds of a cell that diverged."""
    return {seed: state for seed, state in cell.states.items() if state is State.DIVERGED}


def choose(cells: Sequence[Cell], validation: Sequence[Cell], rule: BestOf) -> Choice:
    """The setting with the highest mean validation number over its seeds; the first of the file among equals.

    ``cells`` are the reported numbers, ``validation`` those of all arms by ``rule.by``. A setting of which a run
    diverged is never chosen. Until every other has all its validation numbers the choice is ``waiting``: it is shown,
    and decides nothing. Nor does a choice that a diverged setting leads, by the runs it has left: one seed's luck more,
    and another would have been chosen.
    """
    pairs, lost = _candidates(cells, validation, rule)
    known = [one for one in pairs if one[1].values]
    waiting = sum(bool(scores.states) or not scores.values for _, scores in pairs)
    test, scores = max(known, key=_score) if known else (pairs or lost)[0]
    led = bool(known) and any(one[1].values and _score(one) > _score((test, scores)) for one in lost)
    settings = {path: test.settings.get(path) for path in rule.over}
    lost_probes = test.unconverged.union(*(one.unconverged for _, one in known))  # of the choice as well
    terms = test.terms if len(pairs) + len(lost) == 1 else None  # a choice may fall otherwise with other seeds
    cell = Cell(test.settings, test.values, test.states, test.arms, waiting > 0 or led, lost_probes, terms)
    return Choice(cell, settings, len(pairs) + len(lost), waiting, len(lost))


def _score(candidate: tuple[Cell, Cell]) -> float:
    """Mean validation number over the seeds that have one."""
    return mean([*candidate[1].values.values()])


def cross_chosen(cells: Sequence[Cell], validation: Sequence[Cell], rule: BestOf) -> Cell:
    """As :func:`choose`, but each seed's setting is chosen by the validation numbers of the *other* seeds.

    Test and validation numbers of one run rise and fall together, so the mean of the chosen setting's test numbers
    is a little too high even where selection never saw a test image, and the more so the larger the grid. Claims are
    judged on these numbers, in which no run's luck chooses itself. But seeds share in each other's choice, so these
    numbers correlate: :class:`~harness.report.judge.comparison.Comparison` allows for that.
    """
    chosen = choose(cells, validation, rule).cell
    pairs, _ = _candidates(cells, validation, rule)
    seeds = sorted({*chosen.values, *chosen.states})
    if chosen.selecting or len(pairs) < 2 or len(seeds) < 2:
        return chosen
    values, states, arms, lost = {}, {}, set(chosen.arms), set(chosen.unconverged)
    for seed in seeds:
        test, _ = max(pairs, key=lambda one: mean([v for s, v in one[1].values.items() if s != seed]))
        arms |= {*test.arms}
        lost |= test.unconverged & {seed}
        if seed in test.values:
            values[seed] = test.values[seed]
        else:
            states[seed] = test.states.get(seed, State.NOT_RUN)
    every = tuple(sorted(arms))
    return Cell(chosen.settings, values, states, every, unconverged=frozenset(lost), candidates=len(pairs))


def _candidates(
    cells: Sequence[Cell], validation: Sequence[Cell], rule: BestOf
) -> tuple[list[tuple[Cell, Cell]], list[tuple[Cell, Cell]]]:
    """(reported, validation) cell of every setting, and apart from them those of which a run diverged."""
    scores = {cell.arms: cell for cell in validation}
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(plain([cell.settings.get(path) for path in rule.over]), []).append(cell)
    found = [(pool(group), pool([scores[cell.arms] for cell in group])) for group in groups.values()]
    lost = [one for one in found if diverged(one[0]) or diverged(one[1])]
    return [one for one in found if one not in lost], lost
