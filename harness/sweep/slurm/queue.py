"""Ask SLURM's queue, at most once a minute, and update our submissions from its answer.

The queue is evidence, never truth: an empty, failing or strange answer makes nothing FAILED. Accounting (``sacct``) is
not asked at all: sites switch it off, and it forgets array jobs that were cancelled while they waited.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field

from harness.store.results import Store, StoreError, read_json, write_json
from harness.sweep.slurm import finalize
from harness.sweep.slurm.submissions import Chunk, Submission, asking, idle, submissions, submitting

ASK_EVERY_S = 60.0
PATIENCE_S = 60.0
"""How long SLURM's commands may take: they wait, some of them for ever, for a controller that does not answer."""
SETTLE_S = 60.0
"""A job this young may not be in the queue's answer yet, and one answer without an older job may be a slip."""
LOST_AFTER_S = 300.0
"""A job absent for so long, seen twice, has ended, although nobody saw how."""
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"})
"""After these SLURM does not start a job again by itself; after NODE_FAIL and PREEMPTED it may, after seconds."""
TAKEN_AWAY = frozenset({"NODE_FAIL", "PREEMPTED", "REQUEUED"})
"""Last words of jobs that are no fault of their own, where they are not started again."""

STUCK = re.compile(
    r"TimeLimit|NodeLimit|PartitionConfig|NeverSatisfied|held|BadConstraints|Invalid|NotAllowed|PerJob", re.IGNORECASE
)
"""Of the reasons why a job waits: those that time does not mend."""


@dataclass
class Queue:
    """Runs that SLURM has or may have: run id -> its state there, in SLURM's word or ``unknown``."""

    runs: dict[str, str] = field(default_factory=dict)
    orders: dict[str, list[tuple[Submission, Chunk]]] = field(default_factory=dict)  # run id -> whose jobs have it

    stuck: dict[str, list[str]] = field(default_factory=dict)  # reason -> jobs that will not start as things are

    def waits_for(self, run: str) -> set[str]:
        """Handles of the evaluations that are ordered for a run. Raises ``OSError``, ``ValueError``."""
        return {evaluation_id for submission, _ in self.orders.get(run, ()) for evaluation_id in submission.evaluations}


@dataclass(frozen=True)
class _Answer:
    """What ``squeue`` said last, and what is remembered of the answers before."""

    time: float = 0.0
    names: tuple[str, ...] = ()  # of the arrays that were asked for
    jobs: dict[str, list[str]] | None = None  # job of an array -> its state, its name, its reason; None: no answer
    absent: dict[str, float] = field(default_factory=dict)  # jobs that it did not list, and since when
    last: dict[str, str] = field(default_factory=dict)  # the last word heard of a job

    def knows(self, chunk: Chunk) -> bool:
        return self.jobs is not None and chunk.name in self.names

    def state(self, task_id: str) -> str | None:
        return (self.jobs or {}).get(task_id, [None])[0]

    def reason(self, task_id: str) -> str:
        return ((self.jobs or {}).get(task_id, []) + [""] * 3)[2]

    def gone_s(self, name: str) -> float:
        """Between the first and the last of the answers in a row that did not list it; 0 after the first."""
        return self.time - self.absent.get(name, self.time)


def query(store: Store, *, now: float | None = None, exclusive: bool = False, read_only: bool = False) -> Queue:
    """Which runs are waiting or working in the queue.

    Jobs that are over are settled: ``failed.json`` for launches that certainly failed, ``cancelled.json`` for jobs that
    were cancelled. ``exclusive``: the caller holds ``submission.submitting``. ``read_only``:
    nothing is settled, and what the queue answers is not kept.
    """
    now = time.time() if now is None else now
    if not (open_ := _open(store)):
        return Queue()
    answer = _answer(store, [chunk for _, chunk in open_], now, keep=not read_only)
    if exclusive or read_only:
        return _sorted_out(store, open_, answer, now, settle=exclusive)
    with idle(store) as alone:  # read anew: a sweep may have submitted while the queue was asked
        return _sorted_out(store, _open(store), answer, now, settle=alone)


def _open(store: Store) -> list[tuple[Submission, Chunk]]:
    return [(one, chunk) for one in submissions(store) for chunk in one.chunks if not chunk.over]


def _sorted_out(
    store: Store, open_: Sequence[tuple[Submission, Chunk]], answer: _Answer, now: float, *, settle: bool
) -> Queue:
    queue = Queue()
    states = [[_state(one, chunk, index, answer, now) for index in range(len(chunk.tasks))] for one, chunk in open_]
    for (submission, chunk), words in zip(open_, states, strict=True):
        for index, (task, word) in enumerate(zip(chunk.tasks, words, strict=True)):
            if word == "PENDING" and STUCK.search(reason := answer.reason(chunk.task_id(index))):
                queue.stuck.setdefault(reason, []).append(chunk.task_id(index))
            for run in task if word is not None else ():
                queue.runs[run] = str(word)
                queue.orders.setdefault(run, []).append((submission, chunk))
    if not settle:
        return queue
    for (submission, chunk), words in zip(open_, states, strict=True):
        over = {index for index, word in enumerate(words) if word is None}
        before = {index for index in chunk.settled if words[index] in (None, "unknown")}  # the others came back
        for index in sorted(over - before):
            _settle(store, submission, chunk, index, answer, queue)
        held = chunk.settled, chunk.over
        chunk.settled, chunk.over = sorted(before | over), "ended" if len(over) == len(words) else ""
        if (chunk.settled, chunk.over) != held:
            submission.save()
    return queue


def _state(submission: Submission, chunk: Chunk, index: int, answer: _Answer, now: float) -> str | None:
    """SLURM's word for one job, ``unknown`` where it cannot be told, None if the job is certainly over."""
    if chunk.job is None or not answer.knows(chunk):
        return "unknown"  # without a job id: killed between sbatch and its answer; `adopt` decides
    task = chunk.task_id(index)
    state = answer.state(task)
    if (state or answer.last.get(task)) in ENDED:
        return None
    if state is not None:
        return state
    if 0 <= now - submission.submitted < SETTLE_S:
        return "unknown"
    wait_s = SETTLE_S if submission.started(task).exists() else LOST_AFTER_S
    return None if answer.gone_s(task) >= wait_s else "unknown"


def _settle(store: Store, submission: Submission, chunk: Chunk, index: int, answer: _Answer, queue: Queue) -> None:
    """Write down what became of the runs of a job that is over, where they did not do it themselves.

    Once for each job: a run that was asked for again since is not its business, nor is one that another job has by now.
    """
    task = chunk.task_id(index)
    runs = [store.run(run) for run in chunk.tasks[index] if run not in queue.runs]
    word, log = answer.last.get(task, ""), submission.log(task)
    started = submission.started(task).exists()
    if word in TAKEN_AWAY:
        return
    # A job of an array that is cancelled before it began leaves no trace in SLURM at all; SLURM opens the log first.
    if word == "CANCELLED" or (word not in ENDED and not started and not log.exists()):
        finalize.cancelled(runs, task)
    elif not started:
        finalize.launch_failed(runs, _ordered(submission), task, word, log)
    elif word in ENDED:
        finalize.died(runs, _ordered(submission), task, word, log)


def _ordered(submission: Submission) -> frozenset[str]:
    """What the jobs of a submission evaluate; nothing where its orders are not there any more."""
    with suppress(OSError, ValueError):
        return submission.evaluations
    return frozenset()


# --- asking -------------------------------------------------------------------------------------------------


def _answer(store: Store, chunks: Sequence[Chunk], now: float, *, keep: bool = True) -> _Answer:
    """From ``squeue.json`` if that is younger than a minute, else from ``squeue``. The one place that asks."""
    held = _held(store)
    if 0 <= now - held.time < ASK_EVERY_S:  # one from the future is old: the clock was set back
        return held
    with asking(store) if keep else nullcontext():
        held = _held(store)
        if -2 * PATIENCE_S <= now - held.time < ASK_EVERY_S:  # another has asked while we waited for it
            return held
        answer = _asked(chunks, now, held)
        if keep:
            with suppress(OSError):  # where nothing can be written, one may look all the same
                write_json(store.jobs / "squeue.json", vars(answer))
    return answer


def _held(store: Store) -> _Answer:
    with suppress(StoreError, TypeError):
        return _Answer(**(read_json(store.jobs / "squeue.json") or {}))
    return _Answer()


def _asked(chunks: Sequence[Chunk], now: float, held: _Answer) -> _Answer:
    """A new answer, after ``held``."""
    names = tuple(sorted({chunk.name for chunk in chunks}))
    jobs = ask_queue(names)
    if jobs is None:
        return _Answer(now, names, jobs, held.absent, held.last)
    listed = {*jobs, *(entry[1] for entry in jobs.values())}
    expected = [one for chunk in chunks for one in chunk.task_ids() or [chunk.name]]
    absent = {one: min(held.absent.get(one, now), now) for one in expected if one not in listed}
    last = {one: held.last[one] for one in absent if one in held.last}
    return _Answer(now, names, jobs, absent, last | {one: entry[0] for one, entry in jobs.items()})


def ask_queue(names: Iterable[str]) -> dict[str, list[str]] | None:
    """``squeue``: every job of the arrays so named -> its state, name and reason; None if it does not answer properly.

    ``--states=all`` lists jobs that have ended as well, for as long as the controller remembers them (minutes).
    """
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%j|%r", "--name=" + ",".join(names)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
    lines = [line.strip().split("|", 3) for line in done.stdout.splitlines() if line.count("|") >= 2]
    return {task: about for task, *about in lines}


# --- acting -------------------------------------------------------------------------------------------------


def adopt(store: Store, *, now: float | None = None) -> list[str]:
    """Settle submissions that were killed between sbatch and writing down the job id; returns what was done.

    A job whose pickles all lie where it looks for them is adopted; one that would not find them is cancelled; one that
    two answers of the queue do not know was never submitted. Until that is clear, they stay as they are. For callers
    inside :func:`~harness.sweep.slurm.submissions.submitting`.
    """
    now = time.time() if now is None else now
    open_ = _open(store)
    orphans = [(one, chunk) for one, chunk in open_ if chunk.job is None]
    if not orphans:
        return []
    answer = _answer(store, [chunk for _, chunk in open_], now)
    done = []
    for submission, chunk in orphans:
        if not answer.knows(chunk):
            why = "the queue was asked a moment ago" if answer.jobs is not None else "the queue does not answer"
            done.append(f"{chunk.name} may have been submitted, and {why}: sweep again in a minute")
            continue
        done.append(_adopt(submission, chunk, answer))
        submission.save()
    return done


def _adopt(submission: Submission, chunk: Chunk, answer: _Answer) -> str:
    found = sorted({task.partition("_")[0] for task, entry in (answer.jobs or {}).items() if entry[1] == chunk.name})
    if not found and answer.gone_s(chunk.name) < SETTLE_S:
        return f"{chunk.name} may have been submitted, and is not in the queue: sweep again in a minute"
    if not found:
        chunk.over = "lost"
        return f"{chunk.name} was not submitted; its runs are to do again"
    if len(found) == 1 and _pickled(submission, chunk, found[0]):
        chunk.job = found[0]
        return f"{chunk.name} is adopted as job {found[0]}"
    if complaint := _scancel(found):
        return f"{chunk.name} was half-submitted and could not be cancelled ({complaint}); sweep again to try again"
    chunk.over = "cancelled"
    return f"{chunk.name} was half-submitted and is cancelled; its runs are to do again"


def _pickled(submission: Submission, chunk: Chunk, job: str) -> bool:
    tasks = Chunk(**{**vars(chunk), "job": job}).task_ids()
    return all((submission.logs / f"{task}_submitted.pkl").exists() for task in tasks)


def cancel(store: Store, runs: set[str]) -> tuple[int, list[str]]:
    """``scancel`` every job that has work for ``runs`` only (what others of it are done).

    Returns how many SLURM cancelled, and a line for every array of which it did not: those stay as they are.
    """
    cancelled, complaints = 0, list[str]()
    if not store.jobs.exists():
        return 0, []
    with submitting(store):  # what a sweep submits at this moment is cancelled after it
        for submission, chunk in _open(store):
            if chunk.job is None:
                continue
            hit = [index for index, task in enumerate(chunk.tasks) if _only_for(store, task, runs)]
            # The whole array at once where possible: SLURM forgets single jobs of it that were still waiting.
            whole = len(hit) == len(chunk.tasks)
            targets = [chunk.job] if whole else [chunk.task_id(index) for index in hit]
            if complaint := _scancel(targets) if targets else "":
                complaints.append(f"{', '.join(targets)}: not cancelled: {complaint}")
                continue
            cancelled += len(hit)
            chunk.over = "cancelled" if whole else ""
            submission.save()
    return cancelled, complaints


def _scancel(jobs: Sequence[str]) -> str:
    """Nothing if SLURM has cancelled them, else why not, in one line."""
    try:
        done = subprocess.run(["scancel", *jobs], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        return f"no answer from SLURM in {error.timeout:.0f} s"
    except OSError as error:
        return f"scancel: {error.strerror}"
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split()) or f"scancel ended with exit code {done.returncode}"


def _only_for(store: Store, task: Iterable[str], runs: set[str]) -> bool:
    task = set(task)
    return bool(task & runs) and all(store.run(run).outcome.exists() for run in task - runs)
