"""Track the progress of a run: throughput, time left, a line an epoch in its log, and ``progress.json``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.distributed import on_first_rank
from harness.runtime import Runtime
from harness.store.causes import DISK_ERRORS
from harness.store.results import RunFolder, write_json


class Clock:
    """Throughput, estimated time left, the progress line, and when a checkpoint is due."""

    def __init__(
        self, folder: RunFolder, runtime: Runtime, total_steps: int, steps_per_epoch: int, step: int, earlier: float
    ) -> None:
        self.folder, self.runtime, self.earlier = folder, runtime, earlier
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.step = self.first_step = step
        self.images = 0
        self.save_seconds = 0.0
        self.started_at = time.time()
        self.began = self.last_save = self.last_word = time.monotonic()

    def seconds(self) -> float:
        """Of this attempt."""
        return time.monotonic() - self.began

    def total_seconds(self) -> float:
        """Of this attempt and of those it resumed from."""
        return self.earlier + self.seconds()

    def images_per_second(self) -> float:
        """Throughput of this attempt."""
        return self.images / max(self.seconds(), 1e-9)

    def tick(self, step: int, images: int) -> None:
        """Once a step; writes ``progress.json`` every few seconds."""
        self.step = step
        self.images += images
        if time.monotonic() - self.last_word >= self.runtime.progress_s:
            self.write()

    def eta_seconds(self) -> float:
        """Estimated time left, at the speed of this attempt."""
        done = max(self.step - self.first_step, 1)
        return self.seconds() / done * (self.total_steps - self.step)

    def write(self, stage: str = "training") -> None:
        """``progress.json``, which is also a heartbeat of the lock."""
        self.last_word = time.monotonic()
        report_progress(
            self.folder,
            stage,
            epoch=self.step // self.steps_per_epoch,
            epochs=self.total_steps // self.steps_per_epoch,
            step=self.step,
            steps=self.total_steps,
            images_per_second=round(self.images_per_second(), 1),
            eta_seconds=round(self.eta_seconds(), 1),
        )

    def say(self, what: str) -> None:
        """One line an epoch in the run's log."""
        epoch, epochs = self.step // self.steps_per_epoch, self.total_steps // self.steps_per_epoch
        rate, eta = self.images_per_second(), self.eta_seconds()
        print(f"epoch {epoch}/{epochs}  {what}  {rate:,.0f} images/s  ETA {eta:,.0f} s", flush=True)

    def checkpoint_due(self) -> bool:
        """Whether a checkpoint within an epoch is due."""
        return time.monotonic() - self.last_save >= 60 * self.runtime.checkpoint_minutes

    def epoch_checkpoint_due(self) -> bool:
        """Not so often that saving takes more than a part in twenty: on a GPU, small epochs last seconds."""
        gap = self.runtime.checkpoint_gap_s
        return time.monotonic() - self.last_save >= (max(gap, 20 * self.save_seconds) if gap else 0.0)

    def saved(self, began: float) -> None:
        """A checkpoint has just been written, or tried; ``began`` is when (monotonic seconds)."""
        self.last_save = time.monotonic()
        self.save_seconds = self.last_save - began


@on_first_rank
def report_progress(folder: RunFolder, stage: str, **about: Any) -> None:
    """Write ``progress.json`` (live state; never committed)."""
    with made_up_for_later(folder.progress.name):
        write_json(folder.progress, {"stage": stage, "time": time.time(), **about})


@contextmanager
def made_up_for_later(what: str) -> Iterator[None]:
    """Where results cannot be written right now, say so and go on: the next write of this kind replaces this one.

    Only for what a run can lose. To end it would give up its turn on the cluster, and what it has not saved, for a
    disk that may have room again in a minute.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(f"{what} could not be written, continuing without it: {error}", flush=True)
