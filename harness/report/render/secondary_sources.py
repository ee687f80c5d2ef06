"""What the third-party summary says, number by number, beside what the paper prints and what we measured."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.matching import matches
from harness.report.judge.judging import is_summary, printed_cells, published_order
from harness.report.judge.selection import pool
from harness.report.read.metrics import Metric
from harness.report.read.names import arm_name
from harness.report.read.records import Experiment, PublishedCell, Results
from harness.report.stats import Estimate, estimate

TOLERANCE = 1.0
"""Points: the summary rounds ("about 33"), so a number this near to the paper's is the paper's."""


FEW = 3
"""Up to so many numbers of one table are printed one by one; more as a range."""


@dataclass(frozen=True)
class Source:
    """The numbers of one of the paper's tables that fit the summary's words, in ascending order."""

    name: str
    values: tuple[float, ...]

    def written(self, decimals: int) -> str:
        """``57.5``, ``60.0 or 61.3``, ``48.1 to 49.0``."""
        shown = list(dict.fromkeys(f"{value:.{decimals}f}" for value in self.values))
        return " or ".join(shown) if len(shown) <= FEW else f"{shown[0]} to {shown[-1]}"


@dataclass(frozen=True)
class Said:
    """One of the summary's numbers, and by table those of the paper that it may be."""

    place: str
    metric: Metric
    summary: float
    paper: tuple[Source, ...]
    ours: Estimate | None

    @property
    def agrees(self) -> bool | None:
        """Whether it is within a point of a number that the paper prints; None where the paper prints nothing.

        Between two of them is no agreement: 70 is neither ImageNet's 57.5 nor CIFAR-10's 83.9.
        """
        if not self.paper:
            return None
        return any(_near(self.summary, value) for source in self.paper for value in source.values)

    @property
    def printed(self) -> str:
        """``33.1``, or ``57.5 (Figure 9) or 83.9 (Figure B.7)``."""
        if not self.paper:
            return "not in the paper"
        if len(self.paper) == 1:
            return self.paper[0].written(self.metric.decimals)
        return " or ".join(f"{source.written(self.metric.decimals)} ({source.name})" for source in self.paper)


def _near(summary: float, paper: float) -> bool:
    return round(abs(summary - paper), 9) <= TOLERANCE


def said(results: Results, experiment: Experiment) -> list[Said]:
    """Every number of the summary about this artefact."""
    found = []
    for name in sorted(experiment.published):
        if not is_summary(name):
            continue
        for cell in experiment.published[name].cells:
            ours = [one for one in results.cells(experiment, cell.metric) if matches(one.settings, cell.at)]
            mine = estimate([*pool(ours).values.values()]) if ours else None
            found.append(Said(arm_name(cell.at), Metric(cell.metric), cell.value, _sources(experiment, cell), mine))
    return found


def _sources(experiment: Experiment, said: PublishedCell) -> tuple[Source, ...]:
    """The paper's tables that have numbers at the place of one of the summary's."""
    found = []
    for name in published_order(experiment):
        cells = [] if is_summary(name) else printed_cells(experiment, name, said.metric)
        values = sorted(cell.values[0] for cell in cells if matches(cell.settings, said.at))
        if values:
            found.append(Source(experiment.published[name].where.partition(",")[0] or name, tuple(values)))
    return tuple(found)
