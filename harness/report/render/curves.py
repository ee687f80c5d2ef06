"""Learning curves: one small panel per arm, one thin line per seed, drawn by hand so that a thousand stay light.

A line that ends in a cross diverged; one that ends in a ring before the right edge is unfinished. Each is also said in
words, since a colour alone says nothing to many. Panels whose objective is the same share one axis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from harness.report.read.records import Experiment, Run, State
from harness.report.stats import mean

WIDTH, HEIGHT, EDGE = 240, 110, 6
BUCKETS = 20
"""A curve is drawn as the least and the greatest value of at most so many stretches: no spike is lost."""
MOST_PANELS = 64
MOST_LINES = 300
"""Above so many arms all curves share one picture, with at most so many lines that finished and that did not."""
NOT_MEASURED = ("epoch", "step", "lr")


@dataclass(frozen=True)
class Curve:
    """One run's values of one metric; ``end`` is done, diverged, or unfinished."""

    seed: int
    values: tuple[float, ...]
    planned: int
    end: str


@dataclass(frozen=True)
class CurvePanel:
    """One arm: ``title`` with a link to ``arm``, its SVG, and what is to be said about its lines."""

    title: str
    arm: int
    svg: str
    range: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Curves:
    """One metric over all arms of an experiment; ``wrong`` counts the lines that are diverged or unfinished."""

    metric: str
    panels: tuple[CurvePanel, ...]
    runs: int
    diverged: int
    unfinished: int

    @property
    def wrong(self) -> int:
        return self.diverged + self.unfinished


def curves(experiment: Experiment, runs: Mapping[str, Run], names: Sequence[str]) -> list[Curves]:
    """One per metric of the runs' ``metrics.jsonl``, the loss first; ``names`` are those of the arms."""
    measured = dict.fromkeys(name for run in experiment.ids for line in runs[run].history[:1] for name in line)
    metrics = sorted((name for name in measured if name not in NOT_MEASURED), key=lambda name: (name != "loss", name))
    return [_metric(experiment, runs, names, metric) for metric in metrics]


def _metric(experiment: Experiment, runs: Mapping[str, Run], names: Sequence[str], metric: str) -> Curves:
    drawn = [
        [curve for seed, run in sorted(arm.runs.items()) if (curve := _curve(seed, runs[run], metric))]
        for arm in experiment.arms
    ]
    every = [curve for arm in drawn for curve in arm]
    if len(drawn) > MOST_PANELS:
        shown = _some([c for c in every if c.end == "done"]) + _some([c for c in every if c.end != "done"])
        said = (f"{len(shown)} of {len(every)} lines are drawn",) if len(shown) < len(every) else ()
        panels = [CurvePanel("all settings", -1, _svg(shown, _span(every), "all settings"), _range(every), said)]
    else:
        objectives = [_objective(arm.runs.values(), runs) for arm in experiment.arms]
        shared: dict[str, list[Curve]] = {}
        for objective, arm_curves in zip(objectives, drawn, strict=True):
            shared.setdefault(objective, []).extend(arm_curves)
        spans = {objective: _span(held) for objective, held in shared.items()}
        panels = [
            CurvePanel(
                name, index, _svg(held, spans[objective], f"{name}: {metric}"), _range(held), tuple(_notes(held))
            )
            for index, (name, held, objective) in enumerate(zip(names, drawn, objectives, strict=True))
            if held
        ]
    ends = [curve.end for curve in every]
    return Curves(metric, tuple(panels), len(every), ends.count("diverged"), ends.count("unfinished"))


def _some(held: list[Curve]) -> list[Curve]:
    """At most ``MOST_LINES``, evenly over the arms."""
    return held[:: math.ceil(len(held) / MOST_LINES)] if held else held


def _objective(ids: Iterable[str], runs: Mapping[str, Run]) -> str:
    specs = (runs[run].spec for run in ids)
    minimised = (spec.get("objective") or spec.get("method") for spec in specs)  # a method may have a loss of its own
    return next((json.dumps(one, sort_keys=True) for one in minimised if one), "")


def _curve(seed: int, run: Run, metric: str) -> Curve | None:
    values = tuple(line[metric] for line in run.history if math.isfinite(line.get(metric, math.nan)))
    if not values:
        return None
    end = "diverged" if run.state is State.DIVERGED else "done" if len(values) >= run.epochs else "unfinished"
    return Curve(seed, values, max(run.epochs, len(values)), end)


def _span(held: Sequence[Curve]) -> tuple[float, float]:
    values = [value for curve in held for value in curve.values]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return low, high if high > low else low + 1.0


def _range(held: Sequence[Curve]) -> str:
    """``6.12 to 4.20``: mean of the first and of the last epoch over the seeds."""
    if not held:
        return ""
    first, last = mean([curve.values[0] for curve in held]), mean([curve.values[-1] for curve in held])
    return f"{first:.2f} to {last:.2f}"


def _notes(held: Sequence[Curve]) -> Iterator[str]:
    for curve in held:
        if curve.end == "diverged":
            yield f"seed {curve.seed} diverged after epoch {len(curve.values)} of {curve.planned}"
        elif curve.end == "unfinished":
            yield f"seed {curve.seed} at epoch {len(curve.values)} of {curve.planned}"


def _svg(held: Sequence[Curve], span: tuple[float, float], label: str) -> str:
    """One panel; x runs over the planned epochs, so that an unfinished line stops short of the right edge."""
    longest = max((curve.planned for curve in held), default=1)
    said = "; ".join([f"{label}, {_range(held)}", *_notes(held)][:9])
    parts = [f'<svg role="img" aria-label="{escape(said)}" viewBox="0 0 {WIDTH} {HEIGHT}">']
    for curve in sorted(held, key=lambda one: one.end != "done"):
        points = [(_x(index, longest), _y(value, span)) for index, value in _thinned(curve.values)]
        parts.append(f'<polyline class="{curve.end}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>')
        x, y = points[-1]
        if curve.end == "diverged":
            parts.append(f'<path class="diverged" d="M{x - 6},{y - 6}l12,12m0,-12l-12,12"/>')
        elif curve.end == "unfinished" or len(points) == 1:
            parts.append(f'<circle class="{curve.end}" cx="{x}" cy="{y}" r="5"/>')
    return "".join([*parts, "</svg>"])


def _x(index: int, longest: int) -> int:
    return round(EDGE + index / max(longest - 1, 1) * (WIDTH - 2 * EDGE))


def _y(value: float, span: tuple[float, float]) -> int:
    return round(HEIGHT - EDGE - (value - span[0]) / (span[1] - span[0]) * (HEIGHT - 2 * EDGE))


def _thinned(values: Sequence[float]) -> list[tuple[int, float]]:
    """(index, value) of the ends and of the extremes of each stretch, in order."""
    numbered = list(enumerate(values))
    if len(values) <= 2 * BUCKETS:
        return numbered
    keep = {0, len(values) - 1}
    for bucket in range(BUCKETS):
        stretch = numbered[bucket * len(values) // BUCKETS : (bucket + 1) * len(values) // BUCKETS]
        keep |= {min(stretch, key=lambda one: one[1])[0], max(stretch, key=lambda one: one[1])[0]}
    return [numbered[index] for index in sorted(keep)]
