"""Records of submissions under ``results/jobs``, written before sbatch is called so that every job is known."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.store.attempts import now
from harness.store.results import Store, StoreError, read_json, write_json
from harness.store.run_lock import machine


@dataclass
class Chunk:
    """One array: ``tasks[i]`` are the runs of its i-th job. ``job`` is None until sbatch has answered."""

    name: str
    tasks: list[list[str]]
    cap: int
    minutes: int
    job: str | None = None
    over: str = ""  # ended, refused, cancelled, lost: nothing of it is in the queue
    settled: list[int] = field(default_factory=list)  # jobs that are over and whose ends were written down, once

    def task_id(self, index: int) -> str:
        """As SLURM writes it: a single job is no array."""
        return f"{self.job}_{index}" if len(self.tasks) > 1 else str(self.job)

    def task_ids(self) -> list[str]:
        """Of all its jobs; none before sbatch has answered."""
        return [self.task_id(index) for index in range(len(self.tasks))] if self.job else []


@dataclass
class Submission:
    """One call of the sweep that submitted something."""

    folder: Path
    experiment: str
    cluster: dict[str, Any]
    submitted: float
    chunks: list[Chunk] = field(default_factory=list)

    @cached_property
    def evaluations(self) -> frozenset[str]:
        """Handles of what its jobs evaluate, all of them the same. Raises ``OSError``, ``ValueError``."""
        return frozenset(one["handle"] for one in read_task(self.task_file(0, 0))["evaluations"])

    @property
    def logs(self) -> Path:
        """Logs and pickles of its jobs, which SLURM and submitit write."""
        return self.folder / "log"

    def log(self, task_id: str) -> Path:
        """What one job said on its standard error; SLURM opens it when the job begins."""
        return self.logs / f"{task_id}_0_log.err"

    def started(self, task_id: str) -> Path:
        """Written by the job as soon as it has reached Python."""
        return self.folder / "started" / task_id

    def task_file(self, chunk: int, index: int) -> Path:
        """The work order of one job."""
        return self.folder / "tasks" / f"{chunk}-{index:05d}.json"

    def save(self) -> None:
        """Write ``submission.json``."""
        about = {"experiment": self.experiment, "cluster": self.cluster, "submitted": self.submitted}
        write_json(self.folder / "submission.json", {**about, "chunks": [vars(chunk) for chunk in self.chunks]})


def submissions(store: Store) -> list[Submission]:
    """All that were ever made, oldest first. Raises :class:`StoreError` on a truncated record."""
    found = []
    for path in sorted(store.jobs.glob("*/submission.json")):
        held = read_json(path)
        try:
            chunks = [Chunk(**chunk) for chunk in held["chunks"]]
            found.append(Submission(path.parent, held["experiment"], held["cluster"], held["submitted"], chunks))
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path}: not a submission record ({error!r}); move it away") from None
    return sorted(found, key=lambda one: one.submitted)


@contextmanager
def submitting(store: Store, tell: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """One sweep submits at a time, so that two of the same file cannot both find the runs missing.

    ``tell`` hears whom it waits for, if it has to.
    """
    store.jobs.mkdir(parents=True, exist_ok=True)
    path = store.jobs / "lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"Waiting for another sweep that is submitting here: {path.read_text().strip() or 'unknown'}")
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(OSError):
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {machine()[0]}, since {now()}\n")
            file.flush()
        yield


@contextmanager
def asking(store: Store) -> Iterator[None]:
    """One process asks the queue at a time, and the others find its answer; not where nothing can be written."""
    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context((store.jobs / "squeue.lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def idle(store: Store) -> Iterator[bool]:
    """Whether no sweep is submitting; if so, none begins meanwhile. Records may be changed in an idle store only.

    False as well where the lock cannot be opened: in somebody else's results folder one may look, and change nothing.
    """
    with ExitStack() as stack:
        free = False
        with suppress(OSError):
            file = stack.enter_context((store.jobs / "lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        yield free


def write_task(path: Path, task: dict[str, Any]) -> None:
    """The frozen work order of one job."""
    write_json(path, task)


def read_task(path: Path) -> dict[str, Any]:
    """Read the work order of one job. Raises ``OSError`` and ``ValueError``."""
    task: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return task
