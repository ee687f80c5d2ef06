"""What evaluations say of the probe behind a number: how far it ended from its optimum, and what it was given.

A number of a probe that did not converge is one of the probe as much as of the encoder: it is shown with a mark, and no
verdict rests on it. Files from before probes said so hold nothing; their numbers count, and the page says what is not
known of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.read.records import Run

FITTED = ("linear", "transfer_linear")
"""Evaluations whose problem has one optimum, so that without a word on it something is missing."""


@dataclass(frozen=True)
class Fit:
    """``gap`` in nats per image above the optimum, at most; ``gradient`` as a share of that at the start."""

    gap: float
    tolerance: float
    gradient: float | None = None

    @property
    def converged(self) -> bool:
        return self.gap <= self.tolerance

    @property
    def note(self) -> str:
        """``gap 3.1e-08, gradient 7.4e-06``, for small print beside the number."""
        said = f"gap {self.gap:.2g}" + ("" if self.gradient is None else f", gradient {self.gradient:.2g}")
        return said if self.converged else f"not converged: {said}"


def fit_of(held: Any) -> Fit | None:
    """From an evaluation's ``convergence``; None where it says nothing that could decide (a whole network's loss)."""
    numbers = held if isinstance(held, Mapping) else {}
    gap, tolerance, gradient = (_number(numbers.get(key)) for key in ("gap", "tolerance", "gradient"))
    return None if gap is None or tolerance is None else Fit(gap, tolerance, gradient)


def collapse_of(held: Any) -> tuple[int, int] | None:
    """How many features do not vary, and of how many; from an evaluation's ``collapsed``."""
    numbers = held if isinstance(held, Mapping) else {}
    dead, width = numbers.get("features"), numbers.get("of")
    return (dead, width) if isinstance(dead, int) and isinstance(width, int) and 0 < dead <= width else None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


@dataclass(frozen=True)
class Probes:
    """All fits of one evaluation in a section: ``known`` of ``numbers`` say how they ended.

    ``collapsed`` are runs in which no feature varies; ``constant`` is the most that do not in any other, of ``width``.
    """

    label: str
    numbers: int
    fits: tuple[Fit, ...]
    collapsed: tuple[str, ...] = ()
    constant: int = 0
    width: int = 0

    @property
    def unknown(self) -> int:
        return self.numbers - len(self.fits)

    @property
    def lost(self) -> int:
        """Fits that did not converge."""
        return sum(not fit.converged for fit in self.fits)

    @property
    def worst(self) -> Fit:
        """Of the fits there are, the one furthest from its optimum."""
        return max(self.fits, key=lambda fit: fit.gap)

    @property
    def steepest(self) -> float:
        return max((fit.gradient for fit in self.fits if fit.gradient is not None), default=0.0)


def probes(evaluations: Mapping[str, str], runs: Iterable[Run]) -> list[Probes]:
    """For each evaluation (label -> handle) that fits something, or has seen features that do not vary."""
    listed, found = list(runs), []
    for label, handle in evaluations.items():
        held = [run for run in listed if run.evaluations.get(handle)]
        dead = {run.id: run.collapsed[handle] for run in held if handle in run.collapsed}
        fits = tuple(run.fits[handle] for run in held if handle in run.fits)
        fitted = handle.rpartition("-")[0] in FITTED
        if not held or not (fitted or dead or fits):
            continue
        whole = tuple(run for run, (features, width) in dead.items() if features == width)
        part = [features for features, width in dead.values() if features < width]
        widths = [width for _, width in dead.values()]
        numbers = len(held) if fitted else len(fits)
        found.append(Probes(label, numbers, fits, whole, max(part, default=0), max(widths, default=0)))
    return found
