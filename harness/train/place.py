"""Where a run executes: everything that must not change its numbers, in a type of its own (law 3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Place:
    """Device, threads, paths. ``device`` is ``auto``, ``cpu`` or ``cuda[:n]``; 0 threads leaves torch its own number.

    A checkpoint is written at the end of an epoch, unless the last one is younger than ``checkpoint_gap_s``, and within
    an epoch every ``checkpoint_minutes``.
    """

    data: Path = Path("data")
    device: str = "auto"
    threads: int = 0
    checkpoint_minutes: float = 10.0
    checkpoint_gap_s: float = 5.0
    progress_s: float = 2.0
