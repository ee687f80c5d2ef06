"""Execute one process of a run: take the lock, write the log, train, and record the attempt.

The local pool and SLURM jobs run the same function. Where several processes share a run, the first one holds the lock
and writes the attempt log; the others follow it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import harness
from harness.runtime import ALONE, Rank, Runtime
from harness.store import provenance
from harness.store.attempts import Attempt, cause_of, describe, fail, last, now
from harness.store.causes import Cause
from harness.store.results import RunFolder, State
from harness.sweep.worker.parent_watchdog import stop_without_sweep
from harness.train.stop import Interrupted, TakenOver

if TYPE_CHECKING:
    from harness.components import Evaluation

Execute = Callable[[RunFolder, "Sequence[Evaluation]", Runtime], None]
"""What does the work: trains what is untrained and evaluates what is missing; raises on failure."""

EXIT_FAILED, EXIT_DISK, EXIT_INTERRUPTED, EXIT_ELSEWHERE, EXIT_LOST, EXIT_OOM = 1, 74, 75, 76, 77, 78
"""LOST: another process of the run is no more; whoever started them knows why. OOM: a pool's word for one killed so."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
BEAT_S, WAIT_S = 10.0, 2.0
WARNED_S = "HARNESS_WARNED_S"
"""The environment's word for how long before the time limit the scheduler warns a job, in seconds."""


def train(folder: RunFolder, asked: Sequence[Evaluation], runtime: Runtime) -> None:
    """The loop. Imported here, so that planning never meets it and a job runs the code it finds."""
    from harness.train.loop import execute

    execute(folder, asked, runtime)


@dataclass(frozen=True)
class Assignment:
    """All that one process needs to know."""

    folder: RunFolder
    asked: tuple[Evaluation, ...]
    runtime: Runtime
    execute: Execute = train
    job: str | None = None
    gpu: str | None = None
    code: Path | None = None  # the snapshot that has to be imported
    rank: Rank = ALONE

    @property
    def log(self) -> Path:
        """Of this process: the run's own for the first, one beside it for each of the others."""
        return self.folder.path / f"run.rank{self.rank.rank}.log" if self.rank.rank else self.folder.log


def work(assignment: Assignment) -> NoReturn:
    """Run as the main function of a run's process. Always ends in ``SystemExit``: 0, or one of the ``EXIT_`` codes."""
    with contextlib.suppress(OSError):
        os.setsid()  # its own group: Ctrl-C reaches the sweep alone, and a kill reaches loader workers too
    for number in STOP_SIGNALS:  # ignored so far, as by the fork server; once the loop runs, it listens itself
        signal.signal(number, _leave)
    if assignment.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = assignment.gpu
    try:
        redirect(assignment.log)
        stop_without_sweep()
        sys.exit(take_part(assignment))
    except OSError as error:
        if cause_of(error) is not Cause.DISK:
            raise
        sys.exit(EXIT_DISK)  # neither the lock nor the attempt log could be written


def take_part(assignment: Assignment) -> int:
    """Meet the other processes of the run, if there are any, and do this one's part; returns the exit code."""
    if assignment.rank.world == 1:
        return _claimed(assignment)
    from harness import distributed

    distributed.initialise(assignment.rank)
    try:
        code = _followed(assignment) if assignment.rank.rank else _claimed(assignment)
    except Exception as error:  # before the work began
        if not distributed.lost_another(error):
            raise
        traceback.print_exception(error)
        code = EXIT_LOST
    if code in (0, EXIT_INTERRUPTED, EXIT_ELSEWHERE):  # to part takes all of them: who failed would wait for the others
        distributed.shutdown()
    return code


def _say(assignment: Assignment, go: bool) -> bool:
    """Let the first process tell the others whether there is something to do; return what it said."""
    if assignment.rank.world == 1:
        return go
    from harness import distributed

    return distributed.from_first(lambda: go)


def _followed(assignment: Assignment) -> int:
    """Work as any process but the first: without lock and attempt log. Its failure is a failure of the run."""
    if not _say(assignment, False):
        return 0
    try:
        _execute(assignment)
    except Exception as error:
        if isinstance(error, Interrupted):
            return EXIT_INTERRUPTED
        described = describe(error)
        print(described["traceback"], file=sys.stderr, flush=True)
        if _lost_another(error):
            return EXIT_LOST
        number = (last(assignment.folder) or {}).get("attempt", 0)
        fail(assignment.folder, cause_of(error), described, number)
        return EXIT_FAILED
    return 0


def _leave(*_: object) -> NoReturn:
    """Exit on a stop signal before training starts: unwind, so that the lock is released."""
    sys.exit(EXIT_INTERRUPTED)


def _ignore_stops() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _claimed(assignment: Assignment) -> int:
    folder, evaluation_ids = assignment.folder, [one.id for one in assignment.asked]
    if not _take_lock(folder, assignment.job):
        print(f"{now()} another process is running this run; exiting")
        _say(assignment, False)
        return EXIT_ELSEWHERE
    heartbeat = Heartbeat(folder, assignment.job)
    try:
        folder.clear_leftovers()
        if folder.state(evaluation_ids).finished:
            _say(assignment, False)
            return 0
        attempt = Attempt.begin(folder, assignment.job)  # before the others begin: a fault of theirs names its number
        print(f"{now()} attempt {attempt.number}: pid {os.getpid()}, job {assignment.job or '-'}", flush=True)
        _say(assignment, True)
        return _attempted(assignment, attempt)
    finally:
        heartbeat.stop()  # first: it would take the lock again
        with contextlib.suppress(OSError):
            folder.lock.release()


def _take_lock(folder: RunFolder, job: str | None) -> bool:
    """Take the lock. If an earlier life of this job on a lost node holds it, wait until that is silent or done.

    To leave instead would end the job as if it had succeeded, and nobody would train the run. The node may be cut off
    rather than dead; then its process continues, keeps the lock, and is not disturbed.
    """
    while not folder.lock.take(job):
        if job is None or not folder.lock.held_by(job):
            return False
        time.sleep(WAIT_S)
    return True


class Heartbeat:
    """Touch the lock from a thread, whatever the run is doing.

    End the process if another holds the lock now. Let it save and stop if the run is cancelled.
    """

    def __init__(self, folder: RunFolder, job: str | None) -> None:
        self.folder, self.job, self.over = folder, job, threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.over.set()
        self.thread.join()

    def _beat(self) -> None:
        while not self.over.wait(BEAT_S):
            with contextlib.suppress(OSError):
                if not self.folder.lock.beat(self.job):
                    print(f"{now()} frozen for so long that another process took over this run; exiting", flush=True)
                    os._exit(EXIT_ELSEWHERE)
                if self.folder.cancelled.exists():  # `--cancel` cannot signal to another machine
                    os.kill(os.getpid(), signal.SIGTERM)


def _attempted(assignment: Assignment, attempt: Attempt) -> int:
    folder, evaluation_ids = assignment.folder, [one.id for one in assignment.asked]
    try:
        _execute(assignment)
        if not folder.state(evaluation_ids).finished:
            raise RuntimeError("training returned without all of its results")
    except Exception as error:
        if isinstance(error, Interrupted):
            cancelled = folder.cancelled.exists()
            attempt.end(Cause.INTERRUPTED if cancelled else stop_cause(), f"{'cancelled: ' * cancelled}{error}")
            return EXIT_INTERRUPTED
        if isinstance(error, TakenOver):
            print(f"{now()} {error}; leaving", flush=True)
            return EXIT_ELSEWHERE  # its successor has closed the entry
        described = describe(error)
        print(described["traceback"], file=sys.stderr, flush=True)
        if _lost_another(error):
            return EXIT_LOST  # the entry stays open for whoever knows why
        cause = cause_of(error)
        with contextlib.suppress(OSError) if cause is Cause.DISK else contextlib.nullcontext():
            attempt.end(cause, f"{described['type']}: {described['message']}")
        if cause.failed:
            fail(folder, cause, described, attempt.number)
        return EXIT_DISK if cause is Cause.DISK else EXIT_FAILED
    diverged = folder.state(evaluation_ids) is State.DIVERGED
    attempt.end(Cause.DIVERGED if diverged else Cause.DONE)
    folder.failure.unlink(missing_ok=True)
    return 0


def _execute(assignment: Assignment) -> None:
    try:
        _check_code(assignment.code)
        assignment.execute(assignment.folder, assignment.asked, assignment.runtime)
    except SystemExit as left:  # told once more while the loop was leaving: what it said of where it stopped counts
        if isinstance(left.__context__, Interrupted):
            raise left.__context__ from None
        raise
    finally:
        _ignore_stops()  # the sweep asks again and again; what is left to do takes milliseconds


def _check_code(submitted: Path | None) -> None:
    """Refuse to compute with other code than the run was submitted with.

    Components from outside are not in the snapshot (what an installed package needs besides its Python files, nobody
    knows), so their files have to be what they were.
    """
    if submitted is None:
        return
    imported = Path(harness.__file__).resolve().parents[1]
    if imported.name != submitted.name:
        raise ImportError(f"harness was imported from {imported}, not from the snapshot {submitted}")
    before, today = provenance.origin().get("outside", {}), provenance.outside_files()
    if changed := sorted(name for name in {*before, *today} if before.get(name) != today.get(name)):
        raise ImportError(f"plugin components changed since the run was submitted: {', '.join(changed)}")


def _lost_another(error: BaseException) -> bool:
    from harness import distributed

    return distributed.lost_another(error)


def stop_cause() -> Cause:
    """TIMEOUT if the scheduler's time limit is at hand, else INTERRUPTED (``SLURM_JOB_END_TIME``: Unix seconds)."""
    end, warned = os.environ.get("SLURM_JOB_END_TIME", ""), os.environ.get(WARNED_S, "")
    ahead = (int(warned) if warned.isdigit() else 180) + 90  # SLURM may warn a minute early, and saving takes a while
    near = end.isdigit() and int(end) - time.time() < ahead
    return Cause.TIMEOUT if near else Cause.INTERRUPTED


class Log(io.FileIO):
    """A log that cannot be written, on a full disk, must not be what ends a run."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def redirect(log: Path) -> None:
    """Everything this process and its children print goes to the run's own log; crashes leave a stack there."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = io.TextIOWrapper(Log(1, "w", closefd=False), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(Log(2, "w", closefd=False), encoding="utf-8", write_through=True)
    faulthandler.enable(file=2)
