"""How a metric is named, in which unit it is written, and where its scale ends."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.stats import Estimate

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

    def bounds(self, of: Estimate) -> tuple[float | None, float | None]:
        """The interval of a mean, cut off at the ends of a scale of percentages: Student's t knows of none."""
        if self.unit != "%" or of.low is None or of.high is None:
            return of.low, of.high
        return min(max(of.low, 0.0), 100.0), min(max(of.high, 0.0), 100.0)

    def beyond(self, of: Estimate | None) -> bool:
        """Whether the interval of a mean reaches past an end of its scale, where it is written as mean ± half."""
        return of is not None and self.bounds(of) != (of.low, of.high)

    @property
    def higher_is_better(self) -> bool:
        return self.path.rpartition("/")[2] in HIGHER_IS_BETTER
