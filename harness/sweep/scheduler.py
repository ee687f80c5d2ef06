"""What we know of jobs: records of submissions under ``results/jobs``, and SLURM's queue, asked once a minute at most.

The queue is evidence, never truth: an empty, failing or strange answer makes nothing FAILED.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.store import Store, StoreError, read_json, write_json
from harness.sweep.attempts import Cause, fail, fingerprint

ASK_EVERY_S = 60.0
SETTLE_S = 60.0
"""A job this young may not be in the queue's answer yet."""
LOST_AFTER_S = 300.0
"""A job absent for so long, seen twice, has ended; if it never reached Python, its launch failed."""


@dataclass
class Chunk:
    """One array: ``tasks[i]`` are the runs of its i-th job. ``job`` is None until sbatch has answered."""

    name: str
    tasks: list[list[str]]
    cap: int
    minutes: int
    job: str | None = None
    over: str = ""  # refused, cancelled, lost: nothing of it is in the queue

    def task_id(self, index: int) -> str:
        """As SLURM writes it: a single job is no array."""
        return f"{self.job}_{index}" if len(self.tasks) > 1 else str(self.job)


@dataclass
class Submission:
    """One call of the sweep that submitted something. Written before sbatch, so that no job is ever unknown."""

    folder: Path
    experiment: str
    cluster: dict[str, Any]
    submitted: float
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    def task_file(self, chunk: int, index: int) -> Path:
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


@dataclass
class Queue:
    """Runs that SLURM has or may have: run id -> its state there, in SLURM's word or ``unknown``."""

    runs: dict[str, str] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)  # the jobs behind them


def look(store: Store, *, now: float | None = None) -> Queue:
    """Which runs are waiting or working in the queue. Writes ``failed.json`` for launches that certainly failed."""
    now = time.time() if now is None else now
    queue = Queue()
    open_ = [(one, chunk) for one in submissions(store) for chunk in one.chunks if not chunk.over]
    if not open_:
        return queue
    answer = _answer(store, [chunk for _, chunk in open_], now)
    for submission, chunk in open_:
        for index, task in enumerate(chunk.tasks):
            state = _task_state(store, submission, chunk, index, answer, now)
            if state is not None:
                queue.runs.update(dict.fromkeys(task, state))
                queue.alive.add(chunk.task_id(index))
        if not any(chunk.task_id(index) in queue.alive for index in range(len(chunk.tasks))):
            chunk.over = "ended"
            submission.save()
    return queue


def _task_state(
    store: Store, submission: Submission, chunk: Chunk, index: int, answer: _Answer, now: float
) -> str | None:
    """SLURM's word for one job, ``unknown`` where it cannot be told, None if the job is certainly over."""
    known = chunk.task_id(index)
    if answer.tasks is not None and known in answer.tasks:
        return answer.tasks[known]
    young = now - submission.submitted < SETTLE_S
    if chunk.job is None or answer.tasks is None or chunk.name not in answer.names or young:
        return "unknown"  # without a job id: killed between sbatch and its answer; `adopt` decides
    return None if _lost(store, submission, chunk, index, now - answer.absent.get(known, now)) else "unknown"


def _lost(store: Store, submission: Submission, chunk: Chunk, index: int, gone_s: float) -> bool:
    """Whether a job that has left the queue is certainly over; one that never reached Python fails its runs."""
    if (submission.folder / "started" / chunk.task_id(index).replace("/", "_")).exists():
        return True
    if gone_s < LOST_AFTER_S:
        return False
    log = submission.logs / f"{chunk.task_id(index)}_0_log.err"
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
    said = f"job {chunk.task_id(index)} ended before Python started; see {log}"
    for run in chunk.tasks[index]:
        folder = store.run(run)
        with suppress(StoreError):
            if not folder.outcome.exists() and folder.claim_state() is None and not folder.failure.exists():
                about = {
                    "type": "LaunchFailed",
                    "message": said,
                    "traceback": tail,
                    "fingerprint": fingerprint("launch"),
                }
                fail(folder, Cause.LAUNCH, about, 0)
    return True


@dataclass(frozen=True)
class _Answer:
    """The last answer of the queue, and since when the jobs that were missing in it have been missing."""

    names: frozenset[str]
    tasks: dict[str, str] | None  # None: it did not answer
    absent: dict[str, float]


def _answer(store: Store, chunks: Sequence[Chunk], now: float) -> _Answer:
    """From ``squeue.json`` if that is younger than a minute, else from ``squeue``."""
    cache = store.jobs / "squeue.json"
    held: dict[str, Any] = {}
    with suppress(StoreError):
        held = read_json(cache) or {}
    if now - held.get("time", 0.0) >= ASK_EVERY_S:
        names = [chunk.name for chunk in chunks]
        tasks, before = ask_queue(names), held.get("absent", {})
        expected = [chunk.task_id(index) for chunk in chunks if chunk.job for index in range(len(chunk.tasks))]
        absent = before if tasks is None else {one: before.get(one, now) for one in expected if one not in tasks}
        held = {"time": now, "names": names, "tasks": tasks, "absent": absent}
        write_json(cache, held)
    return _Answer(frozenset(held["names"]), held["tasks"], held["absent"])


def ask_queue(names: Iterable[str]) -> dict[str, str] | None:
    """``squeue``, one line a job of an array; None if it does not answer properly. Looked up by our own job names."""
    command = ["squeue", "--noheader", "--array", "--format=%i|%T", "--name=" + ",".join(names)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
    return dict(line.strip().split("|", 1) for line in done.stdout.splitlines() if line.count("|") == 1)


def adopt(store: Store) -> list[str]:
    """Settle submissions that were killed between sbatch and writing down the job id; returns what was done.

    A job whose pickles all lie where it looks for them is adopted; one that would not find them is cancelled.
    """
    done = []
    for submission in submissions(store):
        for chunk in submission.chunks:
            if chunk.job is not None or chunk.over:
                continue
            answer = ask_queue([chunk.name])
            if answer is None:
                continue
            jobs = {task.partition("_")[0] for task in answer}
            if not jobs:
                chunk.over = "lost"
                done.append(f"{chunk.name} was never submitted; its runs are to do again")
            elif len(jobs) == 1 and _pickled(submission, chunk, job := next(iter(jobs))):
                chunk.job = job
                done.append(f"{chunk.name} is adopted as job {job}")
            else:
                subprocess.run(["scancel", *sorted(jobs)], capture_output=True, timeout=60, check=False)
                chunk.over = "cancelled"
                done.append(f"{chunk.name} was half-submitted and is cancelled; its runs are to do again")
            submission.save()
    return done


def _pickled(submission: Submission, chunk: Chunk, job: str) -> bool:
    chunk = Chunk(**{**vars(chunk), "job": job})
    return all(
        (submission.logs / f"{chunk.task_id(index)}_submitted.pkl").exists() for index in range(len(chunk.tasks))
    )


def cancel(store: Store, runs: set[str]) -> int:
    """``scancel`` every job that works for one of ``runs`` only; returns how many."""
    cancelled = 0
    for submission in submissions(store):
        for chunk in submission.chunks:
            if chunk.job is None or chunk.over:
                continue
            hit = [index for index, task in enumerate(chunk.tasks) if set(task) <= runs]
            # The whole array at once where possible: accounting forgets single tasks that were still pending.
            targets = [chunk.job] if len(hit) == len(chunk.tasks) else [chunk.task_id(index) for index in hit]
            if targets:
                subprocess.run(["scancel", *targets], capture_output=True, timeout=60, check=False)
                cancelled += len(hit)
            if len(hit) == len(chunk.tasks):
                chunk.over = "cancelled"
                submission.save()
    return cancelled


def max_array_size() -> int:
    """The site's MaxArraySize; 1001, SLURM's default, where it cannot be learnt."""
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=True)
        for line in done.stdout.splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "MaxArraySize":
                return max(1, int(value))
    return 1001


@contextmanager
def submitting(store: Store) -> Iterator[None]:
    """One sweep submits at a time, so that two of the same file cannot both find the runs missing."""
    store.jobs.mkdir(parents=True, exist_ok=True)
    with (store.jobs / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_task(path: Path, task: dict[str, Any]) -> None:
    """The frozen work order of one job."""
    write_json(path, task)


def read_task(path: Path) -> dict[str, Any]:
    task: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return task
