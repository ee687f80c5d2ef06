"""One run in one process: claim it, keep its log, call the loop, leave a ledger entry and, at worst, ``failed.json``.

The same function runs under the local pool and inside a SLURM job.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import harness
from harness.store import RunFolder, State
from harness.sweep.attempts import Attempt, Cause, cause_of, describe, fail, now
from harness.train.place import Place

if TYPE_CHECKING:
    from harness.components import Evaluation

Execute = Callable[[RunFolder, "Sequence[Evaluation]", Place], None]
"""What does the work: trains what is untrained and evaluates what is missing; raises on failure."""

EXIT_FAILED, EXIT_INTERRUPTED, EXIT_ELSEWHERE = 1, 75, 76
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
BEAT_S, WAIT_S = 10.0, 2.0


def train(folder: RunFolder, asked: Sequence[Evaluation], place: Place) -> None:
    """The loop. Imported here, so that planning never meets it and a job runs the code it finds."""
    from harness.train.loop import execute

    execute(folder, asked, place)


@dataclass(frozen=True)
class Assignment:
    """All that one process needs to know."""

    folder: RunFolder
    asked: tuple[Evaluation, ...]
    place: Place
    execute: Execute = train
    job: str | None = None
    gpu: str | None = None
    code: Path | None = None  # the snapshot that has to be imported


def work(assignment: Assignment) -> NoReturn:
    """The body of a run's process. Always ends in ``SystemExit``: 0, or one of the ``EXIT_`` codes."""
    with contextlib.suppress(OSError):
        os.setsid()  # its own group: Ctrl-C reaches the sweep alone, and a kill reaches loader workers too
    for number in STOP_SIGNALS:  # ignored so far, as by the fork server; once the loop runs, it listens itself
        signal.signal(number, _leave)
    if assignment.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = assignment.gpu
    _redirect(assignment.folder.log)
    sys.exit(_claimed(assignment))


def _leave(*_: object) -> NoReturn:
    """Told to stop while nothing is lost by it: unwind, so that the claim is given back."""
    sys.exit(EXIT_INTERRUPTED)


def _ignore_stops() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _claimed(assignment: Assignment) -> int:
    folder, handles = assignment.folder, [one.handle for one in assignment.asked]
    if not _take_claim(folder, assignment.job):
        print(f"{now()} a live process holds this run; leaving it alone")
        return EXIT_ELSEWHERE
    threading.Thread(target=_beat, args=(folder,), daemon=True).start()
    try:
        if folder.state(handles).finished:
            return 0
        attempt = Attempt.begin(folder, assignment.job)
        print(f"{now()} attempt {attempt.number}: pid {os.getpid()}, job {assignment.job or '-'}", flush=True)
        return _attempted(assignment, attempt)
    finally:
        folder.release_claim()


def _take_claim(folder: RunFolder, job: str | None) -> bool:
    """A claim in this job's own name is of its life on a node that was lost: wait until that is silent, or is done.

    To leave instead would end the job as if it had succeeded, and nobody would train the run. The node may be cut off
    rather than dead; then its process goes on, keeps its claim, and is not disturbed.
    """
    while not folder.take_claim(job):
        if job is None or not folder.claimed_by(job):
            return False
        time.sleep(WAIT_S)
    return True


def _beat(folder: RunFolder) -> None:
    """Heartbeat of the claim, whatever the run is busy with; ends with the process."""
    while True:
        time.sleep(BEAT_S)
        folder.beat()


def _attempted(assignment: Assignment, attempt: Attempt) -> int:
    folder, handles = assignment.folder, [one.handle for one in assignment.asked]
    try:
        try:
            _check_code(assignment.code)
            assignment.execute(folder, assignment.asked, assignment.place)
        finally:
            _ignore_stops()  # the sweep asks again and again; what is left to do takes milliseconds
        if not folder.state(handles).finished:
            raise RuntimeError("the loop returned, but its results are not all there")
    except Exception as error:
        if _asked_to_stop(error):
            attempt.end(stop_cause(), str(error))
            return EXIT_INTERRUPTED
        described = describe(error)
        print(described["traceback"], file=sys.stderr, flush=True)
        attempt.end(cause_of(error), f"{described['type']}: {described['message']}")
        fail(folder, cause_of(error), described, attempt.number)
        return EXIT_FAILED
    diverged = folder.state(handles) is State.DIVERGED
    attempt.end(Cause.DIVERGED if diverged else Cause.DONE)
    folder.failure.unlink(missing_ok=True)
    return 0


def _check_code(submitted: Path | None) -> None:
    """Refuse to compute with other code than the run was submitted with."""
    imported = Path(harness.__file__).resolve().parents[1]
    if submitted is not None and imported.name != submitted.name:
        raise ImportError(f"harness was imported from {imported}, not from the snapshot {submitted}")


def _asked_to_stop(error: BaseException) -> bool:
    from harness.train.loop import Interrupted

    return isinstance(error, Interrupted)


def stop_cause() -> Cause:
    """TIMEOUT if the scheduler's time limit is at hand, else INTERRUPTED (``SLURM_JOB_END_TIME``: Unix seconds)."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    near = end.isdigit() and int(end) - time.time() < 300
    return Cause.TIMEOUT if near else Cause.INTERRUPTED


def _redirect(log: Path) -> None:
    """Everything this process and its children print goes to the run's own log; crashes leave a stack there."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 (lives as long as we do)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    faulthandler.enable(file=2)
