"""Where a run executes: everything that must not change its numbers, in types of its own (law 3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.spec.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Place:
    """Device, threads, paths. ``device`` is ``auto``, ``cpu`` or ``cuda[:n]``; 0 threads leaves torch its own number.

    ``images_per_pass``: most images that a process takes through its networks at once; 0: its whole part of the batch
    (see :func:`passes`). A checkpoint is written at the end of an epoch, unless the last one is younger than
    ``checkpoint_gap_s``, and within an epoch every ``checkpoint_minutes``.
    """

    data: Path = Path("data")
    device: str = "auto"
    threads: int = 0
    images_per_pass: int = 0
    checkpoint_minutes: float = 10.0
    checkpoint_gap_s: float = 5.0
    progress_s: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One process among the ``world`` processes of one run, and where they meet.

    ``meeting``: ``file:///folder/file`` (all on one machine; the file does not exist yet), ``tcp://host:port/name`` (a
    store that somebody keeps there; the name is this run's own) or ``env://`` (torchrun's variables).
    """

    rank: int = 0
    world: int = 1
    meeting: str = "env://"

    @property
    def on_one_machine(self) -> bool:
        """Whether all of them certainly are."""
        return self.meeting.startswith(("file:", "tcp://localhost:"))


ALONE = Rank()


def passes(*, batch_size: int, groups: int, world: int, images_per_pass: int = 0) -> int:
    """Into how many passes each of ``world`` processes cuts its part of a batch: the fewest that are small enough.

    ``groups`` is ``norm.groups``. Every process, and every pass, must hold whole groups (or a group whole processes),
    because the images of a group share their batch statistics. Raises :class:`SpecError` where that cannot be.
    """
    if batch_size % world:
        raise SpecError(f"a batch of {batch_size} images cannot be shared evenly among {world} processes")
    if groups % world and world % groups:
        raise SpecError(f"norm.groups: {groups} groups of a batch cannot be shared evenly among {world} processes")
    here = batch_size // world
    if not images_per_pass or here <= images_per_pass:
        return 1
    whole = max(groups // world, 1)
    for count in range(2, whole + 1):
        if whole % count == 0 and here // count <= images_per_pass:
            return count
    raise SpecError(
        f"at most {images_per_pass} images per pass: the {batch_size // groups} images of one batch-norm group (batch "
        f"size {batch_size}, norm.groups {groups}) share their statistics, so a pass of fewer would change the "
        f"statistics and with them the result; allow {here // whole} images per pass, or use more processes"
    )
