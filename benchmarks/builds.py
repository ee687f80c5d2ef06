"""This build beside an earlier one: SimCLR's step in pairs of bursts (part of section b).

Each build runs in a process of its own that knows nothing of the other (:mod:`benchmarks.burst`): its packages are
those of its checkout, its step is the body of the loop as its own ``benchmarks.pretraining`` has it. Bursts alternate,
and whoever begins a pair changes. What is judged is the lower end of a 95 % interval of the median of the pairs' ratios
in processor time: order statistics, which assume nothing of how the ratios are distributed.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from benchmarks.clock import Effort, Timing
from benchmarks.record import OURS, Section, Target, rows_of

HERE = Path(__file__).resolve().parent.parent
BATCH, STEPS, PAIRS = 256, 4, 20
TINY_BATCH, FEWEST_PAIRS = 8, 6
"""With fewer pairs no interval of the median has a confidence of 95 %."""


class Build:
    """The process of one checkout. Raises ``RuntimeError`` where it dies, or imports another's packages."""

    def __init__(self, checkout: Path, batch: int, steps: int) -> None:
        self.checkout = checkout.resolve()
        # -P: the script's own folder, this build's, is not searched; the checkout is, before what is installed.
        command = [sys.executable, "-P", str(HERE / "benchmarks" / "burst.py"), str(batch), str(steps)]
        environment = {**os.environ, "PYTHONPATH": str(self.checkout)}
        self.process = subprocess.Popen(
            command, cwd=self.checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            (found,) = self._answer()
            if not Path(str(found)).is_relative_to(self.checkout):
                raise RuntimeError(f"{self.checkout}: no checkout of the harness; its process imported {found}")
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Build:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.communicate()  # closes its standard input, at which it ends

    def burst(self) -> tuple[float, float]:
        """(wall, processor) seconds per image of some steps."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, cpu = self._answer()
        return float(wall), float(cpu)

    def _answer(self) -> list[float | str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.checkout}: its process ended with exit code {self.process.wait()}; see above")
        answer: list[float | str] = json.loads(line)
        return answer


def commit(checkout: Path) -> str:
    """Its short name, or that of the folder where git knows none."""
    asked = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or checkout.name


def paired(ours: Build, theirs: Build, pairs: int) -> tuple[Timing, Timing]:
    """Bursts in turns, after one of each that does not count."""
    timings = {ours: Timing(), theirs: Timing()}
    for pair in range(-1, pairs):
        for build in (ours, theirs) if pair % 2 else (theirs, ours):
            wall, cpu = build.burst()
            if pair >= 0:
                timings[build].wall.append(wall)
                timings[build].cpu.append(cpu)
    return timings[ours], timings[theirs]


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(lower end, median, upper end) of the narrowest interval of order statistics that has 95 % or more.

    The median lies below the k-th smallest of n values with the chance that a fair coin shows heads fewer than k times
    in n. Raises ``ValueError`` for fewer than six values.
    """
    count, ordered = len(values), sorted(values)
    below, rank = 0.0, 0
    while below + math.comb(count, rank) / 2**count <= 0.025:
        below += math.comb(count, rank) / 2**count
        rank += 1
    if rank == 0:
        raise ValueError(f"{count} values: the median has an interval of 95 % from {FEWEST_PAIRS} on")
    return ordered[rank - 1], statistics.median(ordered), ordered[count - rank]


def measure(section: Section, effort: Effort, against: Path) -> None:
    """Add the pair, and the target that this build is no slower."""
    size = effort.of((BATCH, STEPS), (BATCH, STEPS), (TINY_BATCH, 1))
    pairs = effort.of(2 * PAIRS, PAIRS, FEWEST_PAIRS)
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(Build(one, *size)) for one in (HERE, against))
        mine, other = paired(ours, theirs, pairs)
    name = f"build {commit(against)}"
    case = f"micro, SimCLR, {pairs} pairs"
    section.rows += rows_of(case, {OURS: mine, name: other}, unit="ms per image")
    low, middle, high = median_interval([b / a for a, b in zip(mine.cpu, other.cpu, strict=True)])
    section.notes[-1:-1] = [f"Speed over {name}: {middle:.3f} ({low:.3f} – {high:.3f}, 95 %, median of {pairs} pairs)."]
    section.targets.append(Target(f"{case}: speed over {name}, lower end of 95 %", low, at_least=0.97))
