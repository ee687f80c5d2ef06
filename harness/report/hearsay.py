"""What the third-party summary says, number by number, beside what the paper prints and what we measured."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.entries import Metric
from harness.report.judging import is_summary, printed_cells
from harness.report.names import arm_name
from harness.report.records import Experiment, Results
from harness.report.selection import pool
from harness.report.stats import Estimate, estimate
from harness.spec.matching import matches

TOLERANCE = 1.0
"""Points: the summary rounds ("about 33"), so a number this near to the paper's is the paper's."""


@dataclass(frozen=True)
class Said:
    """One of the summary's numbers; the paper's is a range where several of its cells fit the summary's words."""

    place: str
    metric: Metric
    summary: float
    paper: tuple[float, float] | None
    ours: Estimate | None

    @property
    def agrees(self) -> bool | None:
        """Whether it is within a point of what the paper prints; None where the paper prints nothing."""
        if self.paper is None:
            return None
        return self.paper[0] - TOLERANCE <= self.summary <= self.paper[1] + TOLERANCE

    @property
    def printed(self) -> str:
        """``33.1``, or ``60.0 to 61.3``."""
        if self.paper is None:
            return "not in the paper"
        low, high = (f"{value:.{self.metric.decimals}f}" for value in self.paper)
        return low if low == high else f"{low} to {high}"


def said(results: Results, experiment: Experiment) -> list[Said]:
    """Every number of the summary about this artefact."""
    found = []
    for name in sorted(experiment.published):
        if not is_summary(name):
            continue
        for cell in experiment.published[name].cells:
            papers = [
                paper.values[0]
                for other in experiment.published
                if not is_summary(other)
                for paper in printed_cells(experiment, other, cell.metric)
                if matches(paper.settings, cell.at)
            ]
            ours = [one for one in results.cells(experiment, cell.metric) if matches(one.settings, cell.at)]
            mine = estimate([*pool(ours).values.values()]) if ours else None
            paper = (min(papers), max(papers)) if papers else None
            found.append(Said(arm_name(cell.at), Metric(cell.metric), cell.value, paper, mine))
    return found
