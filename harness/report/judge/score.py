"""One line of the scoreboard: a judged claim in the words and figures that are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.report.judge.comparison import Comparison
from harness.report.judge.judging import Judged
from harness.report.judge.verdicts import DECIDED, Verdict
from harness.report.read.metrics import Metric
from harness.report.read.names import signed, slug, value_name
from harness.report.stats import CONFIDENCE


@dataclass(frozen=True)
class Reading:
    """The deciding comparison in figures: ``crop over color``, ``+9.2``, ``[+8.1, +10.3]`` (empty for one seed).

    ``unit`` is empty for points, which is what nearly all differences are in.
    """

    name: str
    mean: str
    bounds: str
    level: str = ""
    unit: str = ""


MOST_DECIMALS = 3


def reading(
    comparison: Comparison | None,
    mean: float | None = None,
    bounds: tuple[float, float] | None = None,
    confidence: float = CONFIDENCE,
    metric: Metric | None = None,
) -> Reading | None:
    """A comparison as it is printed; None when it has no number. As many decimals as its metric is written with, and
    more where a bound of the interval would otherwise look as if it were on the line that it has to clear.
    ``mean``: of the seeds of a look, where that is not all of them.
    """
    if comparison is None or not comparison.sample:
        return None
    decimals = 2 if not comparison.signed else metric.decimals if metric else 1
    while bounds and decimals < MOST_DECIMALS and _touches(comparison, bounds, decimals):
        decimals += 1
    inside = f"[{_write(comparison, bounds[0], decimals)}, {_write(comparison, bounds[1], decimals)}]" if bounds else ""
    level = f"{100 * confidence:.4g} %" if bounds and confidence != CONFIDENCE else ""
    unit = metric.unit if metric and metric.unit != "%" and comparison.signed else ""
    middle = comparison.mean if mean is None else mean
    return Reading(comparison.name, _write(comparison, middle, decimals), inside, level, unit)


def _write(comparison: Comparison, value: float, decimals: int) -> str:
    return signed(value, decimals) if comparison.signed else f"{value:.{decimals}f}".replace("-", "−")


def _touches(comparison: Comparison, bounds: tuple[float, float], decimals: int) -> bool:
    lines = [line for line in (comparison.above, comparison.below) if math.isfinite(line)]
    return any(round(bound - line, decimals) == 0 for bound in bounds for line in lines)


@dataclass(frozen=True)
class Score:
    """One line of the scoreboard."""

    judged: Judged

    @property
    def ours(self) -> Reading | None:
        ours = self.judged.ours
        mean = ours.seen.mean if ours.seen else None
        return reading(ours.deciding, mean, ours.bounds, ours.confidence, Metric(self.judged.metric))

    @property
    def paper(self) -> str:
        """``holds`` or ``does not hold`` by the printed numbers, or why there is nothing to say."""
        if self.judged.paper is None:
            return self.judged.paper_note
        return "holds" if self.judged.paper[0] else "does not hold"

    @property
    def paper_reading(self) -> Reading | None:
        return reading(self.judged.paper[1], metric=Metric(self.judged.metric)) if self.judged.paper else None

    @property
    def summary(self) -> str:
        """What the summary says, whichever of its forms the file uses."""
        summary = self.judged.claim.summary
        if isinstance(summary, Mapping):
            text = summary.get("text")
            return str(text) if text is not None else value_name(summary.get("value"))
        return "" if summary is None else str(summary)

    @property
    def summary_reading(self) -> Reading | None:
        return reading(self.judged.summary[1], metric=Metric(self.judged.metric)) if self.judged.summary else None

    @property
    def summary_verdict(self) -> str:
        """What the summary's figures say of the claim, held against the paper's own."""
        agrees = self.judged.summary_agrees
        if agrees is None:
            return "on the line" if self.judged.summary else ""
        return "agrees with the paper" if agrees else "contradicts the paper"

    @property
    def count(self) -> str:
        """Seeds that are in, and how many were planned where that is more: ``2/3``."""
        ours = self.judged.ours
        return f"{ours.n}/{ours.planned}" if ours.planned > ours.n else str(ours.n)

    @property
    def decide(self) -> str:
        """What would decide it; of a verdict, whether it stands together with the others of its table too."""
        judged, others = self.judged, self.judged.together_with - 1
        if judged.ours.verdict not in DECIDED or others < 1:
            return judged.ours.decide
        if judged.jointly:
            return f"decided, also together with the {others} other claims here"
        return f"decided by itself, but not together with the {others} other claims here"

    @property
    def direction_holds(self) -> bool:
        """Whether of a claim about a size, which is open or refuted, the direction alone is reproduced."""
        judged = self.judged
        return (
            judged.ours.verdict in (Verdict.INCONCLUSIVE, Verdict.DIRECTION)
            and judged.direction is not None
            and judged.direction.verdict is Verdict.REPRODUCED
        )

    @property
    def ruled_out(self) -> str:
        """Of a claim whose difference is too small to matter: what is ruled out."""
        ours = self.judged.ours
        if ours.verdict is not Verdict.TOO_SMALL or ours.seen is None or ours.seen.reach is None:
            return ""
        reach = _write(ours.seen.of, ours.seen.reach, 2).lstrip("+")
        return (
            f"a difference of {reach} or more, which the look at {ours.seen.looks[-1]} seeds would find, is ruled out"
        )

    @property
    def how(self) -> str:
        """Which look this is, its level, and how much one seed's difference varies, by whose word."""
        seen = self.judged.ours.seen
        if seen is None:
            return ""
        looks = ", ".join(map(str, seen.looks))
        text = f"Look {seen.looks.index(seen.seeds) + 1} of {len(seen.looks)} (at {looks} seeds), "
        text += f"level {100 * seen.level(self.judged.ours.alpha):.2g} %"
        if seen.deviation is None:
            return f"{text}."
        text += f"; one seed’s difference deviates by {seen.deviation:.2g}, {seen.freedom:.3g} degrees of freedom"
        if seen.contrast is None:
            return f"{text} (its own)."
        return f"{text} (its own and those of {seen.contrast.spread.arms} settings)."

    @property
    def alone(self) -> bool:
        """Whether a verdict stands by itself only, and not together with the others of its table."""
        judged = self.judged
        return judged.ours.verdict in DECIDED and judged.together_with > 1 and not judged.jointly

    @property
    def anchor(self) -> str:
        return slug(self.judged.key)

    @property
    def required(self) -> str:
        """What the numbers would have to be, e.g. ``more than +3.0``."""
        one = self.judged.ours.deciding
        if one is None:
            return ""

        def write(line: float) -> str:
            if not one.signed or not line:
                return f"{line:g}"
            return signed(line) if round(line, 1) == line else f"{line:+g}".replace("-", "−")  # 0.04 is not 0.0

        low, high = one.above > float("-inf"), one.below < float("inf")
        if low and high:
            return f"between {write(one.above)} and {write(one.below)}"
        return f"more than {write(one.above)}" if low else f"less than {write(one.below)}"
