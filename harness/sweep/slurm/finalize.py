"""Record the end of runs of a SLURM job that ended before their own processes could.

SLURM's last word of the job is the evidence. A run that is done, or that a live process has, is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from harness.store.attempts import Attempt, fail, fingerprint, last, now
from harness.store.causes import Cause
from harness.store.results import RunFolder, StoreError, write_json

TAIL = 2000
CAUSES = {"OUT_OF_MEMORY": Cause.OOM, "TIMEOUT": Cause.TIMEOUT, "DEADLINE": Cause.TIMEOUT}
MEMORY = re.compile(r"oom.?kill|exceeded (job|step)? ?memory limit", re.IGNORECASE)
"""Where SLURM polls memory itself, a job that took too much has merely FAILED; the log says why."""


def cancelled(runs: Iterable[RunFolder], task: str) -> None:
    """``cancelled.json``: the next sweep does them."""
    for folder in runs:
        with suppress(StoreError):
            if not folder.outcome.exists() and folder.lock_state() is None:
                write_json(folder.cancelled, {"run": folder.id, "job": task, "time": now()})


def launch_failed(
    runs: Iterable[RunFolder],
    evaluation_ids: Iterable[str],
    task: str,
    word: str,
    log: Path,
    when: str = "Python started",
) -> None:
    """Write ``failed.json`` with the end of the job's log for runs that lack one of ``evaluation_ids``."""
    about = {
        "type": "LaunchFailed",
        "message": f"job {task} ended {f'({word}) ' if word else ''}before {when}; see {log}",
        "traceback": _tail(log),
        "fingerprint": fingerprint("launch"),
    }
    for folder in _left(runs, evaluation_ids):
        if not folder.failure.exists():
            fail(folder, Cause.LAUNCH, about, 0)


def died(runs: Iterable[RunFolder], evaluation_ids: Iterable[str], task: str, word: str, log: Path) -> None:
    """A job that had reached Python has ended, and with it what it was working on (``word`` is its last).

    Attempts that it left open are closed with what SLURM says of it. If it failed without as much as one attempt at any
    of its runs, it would do so again, with every sweep: a failed launch.
    """
    runs, evaluation_ids = list(runs), list(evaluation_ids)
    if word == "COMPLETED":
        return
    tried = [folder for folder in runs if (last(folder) or {}).get("job") == task]
    for folder in tried:
        with suppress(OSError, StoreError):
            folder.lock.release_of_job(task)  # else it would seem to be alive for a quarter of an hour
    for folder in _left(tried, evaluation_ids):
        _close(folder, task, word, log)
    if word == "FAILED" and not tried:
        launch_failed(runs, evaluation_ids, task, word, log, "it began a run")


def _close(folder: RunFolder, task: str, word: str, log: Path) -> None:
    entry = last(folder) or {}
    if "cause" in entry or "attempt" not in entry:
        return
    cause = CAUSES.get(word, Cause.INTERRUPTED)
    if word == "FAILED" and MEMORY.search(_tail(log)):
        cause = Cause.OOM
    said = f"SLURM job {task} ended with state {word}; see {log}"
    Attempt(folder, int(entry["attempt"])).end(cause, said)
    if cause.failed and not folder.failure.exists():
        about = {"type": word, "message": said, "traceback": _tail(log), "fingerprint": fingerprint(word)}
        fail(folder, cause, about, int(entry["attempt"]))


def _left(runs: Iterable[RunFolder], evaluation_ids: Iterable[str]) -> Iterator[RunFolder]:
    """Those that lack something, and that nobody works on."""
    wanted = list(evaluation_ids)
    for folder in runs:
        with suppress(StoreError):
            if not folder.state(wanted).finished and folder.lock_state() is None:
                yield folder


def _tail(log: Path) -> str:
    with suppress(OSError):
        return log.read_text(encoding="utf-8", errors="replace")[-TAIL:]
    return ""
