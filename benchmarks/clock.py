"""Measuring contenders against each other: one process, one thread, in turns (A B C, B C A, ...), medians of ratios.

Wall time on a shared machine measures the neighbours too; processor time (of this process and of the workers it
feeds on) does so far less, and a ratio of two neighbouring measurements least. So all three are kept, and judged by
the last. What remains: neighbours share caches and memory bandwidth, which inflates processor time as well.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FEWEST, MOST = 3, 60
"""Rounds, whatever the budget says; calls longer than ``LONG_S`` are measured twice only."""

LONG_S = 2.0

SHORTEST_S = 0.02
"""A shorter call is repeated within a measurement."""


class Effort(Enum):
    """How much is measured. A rehearsal takes every path once, on sizes so small that its numbers mean nothing."""

    FULL = "full"
    QUICK = "quick"
    REHEARSAL = "rehearsal"

    def of(self, full: T, quick: T, rehearsal: T) -> T:
        """Whichever of the three is meant."""
        return {Effort.FULL: full, Effort.QUICK: quick, Effort.REHEARSAL: rehearsal}[self]

    def seconds(self, full: float) -> float:
        """The budget of a measurement that gets ``full`` seconds; in a rehearsal as few rounds as there may be."""
        return self.of(full, full / 4, 0.0)


@dataclass(frozen=True)
class Contender:
    """``work()`` handles ``units`` things (views, images, steps); ``helpers()`` are processes that work for it."""

    name: str
    work: Callable[[], object]
    units: float = 1.0
    helpers: Callable[[], Sequence[int]] = tuple


@dataclass
class Timing:
    """Seconds per unit, one number per round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median_wall(self) -> float:
        return statistics.median(self.wall)

    @property
    def median_cpu(self) -> float:
        return statistics.median(self.cpu)

    def times(self, other: Timing) -> tuple[float, float, float]:
        """How many times the processor time of ``other`` this took: lower quartile, median, upper quartile."""
        ratios = sorted(mine / theirs for mine, theirs in zip(self.cpu, other.cpu, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, middle, high


def processor_seconds(helpers: Sequence[int] = ()) -> float:
    """User and system time of this process with all its threads, its finished children, and live ``helpers``."""
    ended = os.times()
    spent = time.process_time() + ended.children_user + ended.children_system
    for process in helpers:
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def measure(contender: Contender, calls: int) -> tuple[float, float]:
    """(wall, processor) seconds of ``calls`` calls."""
    before, began = processor_seconds(contender.helpers()), time.perf_counter()
    for _ in range(calls):
        contender.work()
    return time.perf_counter() - began, processor_seconds(contender.helpers()) - before


def in_turns(contenders: Sequence[Contender], *, budget_s: float) -> dict[str, Timing]:
    """Measure all, in turns, for about ``budget_s`` seconds in all; whoever begins changes from round to round.

    Warm-up calls come first; they decide how often a call is repeated and how many rounds fit. No budget at all, as in
    a rehearsal, is two rounds after one such call.
    """
    once = {one.name: measure(one, 1)[0] for one in contenders}
    if budget_s:
        once |= {one.name: measure(one, 1)[0] for one in contenders if once[one.name] < LONG_S}
    fewest = FEWEST if budget_s and max(once.values()) < LONG_S else 2
    calls = {name: max(1, round(SHORTEST_S / seconds)) for name, seconds in once.items()}
    rounds = int(budget_s / sum(once[name] * calls[name] for name in once))
    timings = {one.name: Timing() for one in contenders}
    for turn in range(max(fewest, min(MOST, rounds))):
        first = turn % len(contenders)
        for one in [*contenders[first:], *contenders[:first]]:
            wall, cpu = measure(one, calls[one.name])
            handled = calls[one.name] * one.units
            timings[one.name].wall.append(wall / handled)
            timings[one.name].cpu.append(cpu / handled)
    return timings
