"""Values that change while a run trains: learning rate, weight decay, momentum of a target, temperature of a teacher.

In YAML such a value is a number, or a schedule by name: ``momentum: 0.99`` or
``momentum: {cosine: {start: 0.99, end: 1.0}}``. A schedule is a function of :class:`Progress` alone, so a run that is
resumed, or shared by several processes, sees the same values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from harness.config.errors import SpecError
from harness.config.registry import Examples, Nested, schedule

Epochs = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Progress:
    """How far a run is before its step ``step`` (from 0) of ``steps``."""

    step: int
    steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> float:
        """Epochs done: 3.25 is a quarter into the fourth."""
        return self.step / self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Share of the run that is done: 0 at its first step, and never quite 1."""
        return min(self.step / max(self.steps, 1), 1.0)

    @property
    def first_of_epoch(self) -> bool:
        """Whether this step begins an epoch."""
        return self.step % self.steps_per_epoch == 0

    def after(self, epochs: float) -> Progress:
        """The same moment of a run that began ``epochs`` later."""
        skipped = round(epochs * self.steps_per_epoch)
        return replace(self, step=max(self.step - skipped, 0), steps=max(self.steps - skipped, 1))


class Schedule(ABC):
    """A value as a function of progress."""

    @abstractmethod
    def __call__(self, progress: Progress) -> float:
        """The value at the step that ``progress`` is before."""

    @property
    @abstractmethod
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value it can take."""


Scheduled = float | Schedule
"""What a field holds whose value may change: a number, or a schedule. Annotate it with :func:`scheduled`."""


def value_of(scheduled: Scheduled, progress: Progress) -> float:
    """The value of a field at a moment of a run."""
    return scheduled(progress) if isinstance(scheduled, Schedule) else float(scheduled)


def scheduled(*, low: float | None = None, high: float | None = None, above: bool = False) -> Nested:
    """The annotation of a field that holds a :data:`Scheduled` within bounds (``above``: without ``low`` itself)."""
    return Nested(schedule, number=True, low=low, high=high, above=above)


Fraction = Annotated[Scheduled, scheduled(low=0.0, high=1.0)]
"""A momentum, for instance: 0 to 1, both included."""

Positive = Annotated[Scheduled, scheduled(low=0.0, above=True)]
"""A temperature, for instance."""


def _portion(progress: Progress, epochs: float | None) -> float:
    """Share of the schedule that is done: of the run, or of its first ``epochs``."""
    if epochs is None:
        return progress.fraction
    return min(progress.epoch / epochs, 1.0) if epochs else 1.0


@dataclass(frozen=True, kw_only=True)
class _Between(Schedule):
    """From ``start`` to ``end`` over the run, or over its first ``epochs``; then it stays at ``end``."""

    tiny: ClassVar[Examples] = ({"start": 0.5, "end": 1.0}, {"start": 0.2}, {"end": 0.0}, {"epochs": 2})
    start: float
    end: float
    epochs: Epochs | None = None

    @property
    def extremes(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)


@schedule("cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine(_Between):
    """Half a cosine: ``end - (end - start) (1 + cos(pi t)) / 2``, with t the share of the run that is done.

    BYOL's momentum is ``{start: 0.996, end: 1}`` (section 3.2 of Grill et al. 2020).
    """

    def __call__(self, progress: Progress) -> float:
        return self.end - (self.end - self.start) * 0.5 * (1 + math.cos(math.pi * _portion(progress, self.epochs)))


@schedule("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(_Between):
    """A straight line."""

    def __call__(self, progress: Progress) -> float:
        return self.start + (self.end - self.start) * _portion(progress, self.epochs)


@schedule("step")
@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """``start`` times ``factor`` for each of ``epochs`` that has passed.

    MoCo v1's rate is ``{start: 0.03, factor: 0.1, epochs: [120, 160]}`` of 200 epochs (section 4.1).
    """

    tiny: ClassVar[Examples] = ({"start": 1.0, "epochs": (1, 2)}, {"start": 0.5}, {"factor": 0.5}, {"epochs": (3,)})
    start: float
    factor: Annotated[float, Field(gt=0)] = 0.1
    epochs: Annotated[tuple[Epochs, ...], Field(min_length=1)]

    def __call__(self, progress: Progress) -> float:
        return self.start * self.factor ** sum(progress.epoch >= epoch for epoch in self.epochs)

    @property
    def extremes(self) -> tuple[float, float]:
        last = self.start * self.factor ** len(self.epochs)
        return min(self.start, last), max(self.start, last)


@schedule("warmup")
@dataclass(frozen=True, kw_only=True)
class Warmup(Schedule):
    """A straight line from ``start`` to where ``then`` begins, over ``epochs``; then ``then``, over what is left.

    A step of ``then`` counts its epochs from the beginning of the run; everything else, from the end of the warm-up.
    """

    tiny: ClassVar[Examples] = (
        {"epochs": 1, "then": {"cosine": {"start": 1.0, "end": 0.0}}},
        {"epochs": 2},
        {"start": 0.2},
        {"then": {"linear": {"start": 1.0, "end": 0.0}}},
        {"then": {"step": {"start": 1.0, "epochs": [3]}}},
        {"then": 1.0},
    )
    epochs: Epochs
    start: float = 0.0
    then: Annotated[Scheduled, scheduled()]

    def __post_init__(self) -> None:
        if isinstance(self.then, Warmup):
            raise SpecError("then: a warm-up after a warm-up: one with the epochs of both does the same")

    def __call__(self, progress: Progress) -> float:
        left = progress if isinstance(self.then, Step) else progress.after(self.epochs)
        if progress.epoch >= self.epochs:
            return value_of(self.then, left)
        first = value_of(self.then, replace(progress, step=0))
        return self.start + (first - self.start) * progress.epoch / self.epochs

    @property
    def extremes(self) -> tuple[float, float]:
        smallest, largest = self.then.extremes if isinstance(self.then, Schedule) else (self.then, self.then)
        return min(self.start, smallest), max(self.start, largest)
