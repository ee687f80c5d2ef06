"""The attempt log of a run, ``attempts/NNN.json``, and fingerprints of tracebacks.

An attempt is opened when work starts and closed with a cause. One that was never closed belongs to a process that
crashed; the process that notices closes it. What is unknown is never called failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.errors import SpecError
from harness.store.causes import DISK_ERRORS
from harness.store.causes import Cause as Cause
from harness.store.results import RunFolder, StoreError, read_json, write_json
from harness.store.run_lock import machine


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run, as the attempt log has it."""

    folder: RunFolder
    number: int

    @classmethod
    def begin(cls, folder: RunFolder, job: str | None = None) -> Attempt:
        """Open the next attempt for this process, which holds the lock; close one that was left open."""
        _close_open(folder, job)
        numbers = [int(path.stem) for path in folder.attempts.glob("*.json") if path.stem.isdigit()]
        opened = cls(folder, max(numbers, default=0) + 1)
        host, boot = machine()
        restarts = os.environ.get("SLURM_RESTART_COUNT", "") if job else ""
        life = {"restarts": int(restarts)} if restarts.isdigit() else {}  # of the job, so far
        opened._write({"host": host, "boot": boot, "pid": os.getpid(), "job": job, **life, "start": now()})
        return opened

    @classmethod
    def unfinished(cls, folder: RunFolder, pid: int) -> Attempt | None:
        """Return the attempt that process ``pid`` of this host opened and never closed."""
        newest = last(folder)
        if newest is None or "cause" in newest or (newest.get("pid"), newest.get("host")) != (pid, machine()[0]):
            return None
        return cls(folder, newest["attempt"])

    def end(self, cause: Cause, detail: str = "") -> None:
        """Close the attempt."""
        held = read_json(self._path) or {}
        self._write({**held, "end": now(), "cause": cause.value, "detail": detail})

    def _write(self, entry: dict[str, Any]) -> None:
        write_json(self._path, {"attempt": self.number, **entry})

    @property
    def _path(self) -> Any:
        return self.folder.attempts / f"{self.number:03d}.json"


def _close_open(folder: RunFolder, job: str | None) -> None:
    """Close an attempt left open by a crashed process. The caller holds the lock of the run."""
    newest = last(folder)
    if newest is None or "cause" in newest or "attempt" not in newest:
        return
    host, boot = machine()
    if newest.get("host") != host:
        again = ", and SLURM requeued the job" if job is not None and newest.get("job") == job else ""
        cause, detail = Cause.NODE, f"{newest.get('host')} stopped responding{again}"
    elif newest.get("boot", boot) != boot:
        cause, detail = Cause.NODE, f"{host} restarted"
    else:
        cause, detail = Cause.INTERRUPTED, "killed together with the sweep"
    Attempt(folder, int(newest["attempt"])).end(cause, f"{detail}; detected at the next attempt")


def entries(folder: RunFolder) -> list[Path]:
    """Return the files of the attempt log, newest first: by number, since 1000 sorts before 999 as a name."""
    found = (path for path in folder.attempts.glob("*.json") if path.stem.isdecimal())
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def last(folder: RunFolder) -> dict[str, Any] | None:
    """Return the newest readable attempt, if there is one."""
    for path in entries(folder):
        with contextlib.suppress(StoreError):
            entry = read_json(path)
            if isinstance(entry, dict):
                return entry
    return None


def now() -> str:
    """Return the time in UTC, to the second, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def describe(error: BaseException) -> dict[str, str]:
    """Type, message, traceback and fingerprint of an exception, as ``failed.json`` holds them."""
    frames = traceback.extract_tb(error.__traceback__)
    # Without line numbers and values: the same fault in another run, or after an edit above it, looks the same.
    shape = [f"{frame.filename.rpartition('/')[2]}:{frame.name}" for frame in frames]
    return {
        "type": type(error).__qualname__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "fingerprint": fingerprint(type(error).__qualname__, str(error), *shape),
    }


def fingerprint(*parts: str) -> str:
    """Eight hex digits that equal faults share: paths, addresses, ids and numbers are blanked first."""
    text = "\n".join(parts)
    text = re.sub(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b", "#", text)
    text = re.sub(r"(/[\w.@+-]+)+", "/", text)
    text = re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", text)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def fail(folder: RunFolder, cause: Cause, described: dict[str, str], attempt: int) -> None:
    """Write ``failed.json``."""
    write_json(folder.failure, {"run": folder.id, "attempt": attempt, "cause": cause.value, **described, "time": now()})


_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|std::bad_alloc", re.IGNORECASE)


def cause_of(error: BaseException) -> Cause:
    """The class of an exception that ended a run (torch's out-of-memory errors are told by their words)."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return Cause.DISK
    if isinstance(error, MemoryError) or _MEMORY.search(str(error)):
        return Cause.OOM
    return Cause.INPUT if isinstance(error, StoreError | SpecError) else Cause.CODE
