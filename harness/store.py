"""results/ on disk: every path, every atomic write, and the state of a run read off its files (law 5).

Nothing here is a database or a flag: a run is done when its outcome and the evaluations asked for are there, valid
and carry its id; it is running when a live process holds its claim; what cannot be known is UNKNOWN, never FAILED.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

STALE_HEARTBEAT_S = 15 * 60.0
"""A claim of another host without a heartbeat for this long belongs to a dead process."""
FORMER_LIFE_S = 60.0
"""The same for a claim in the name of the job that asks: SLURM took it from that host and started it anew here."""


class StoreError(RuntimeError):
    """A file under results/ is unreadable or does not belong where it lies; the message names it."""


class State(StrEnum):
    """What the files say about one run."""

    DONE = "done"
    DIVERGED = "diverged"  # a scientific outcome, not a crash
    TRAINED = "trained"  # evaluations are missing
    RUNNING = "running"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # claimed by another host that has not been heard of lately
    BROKEN = "broken"  # a file is truncated or belongs to another run
    TODO = "to do"

    @property
    def finished(self) -> bool:
        """Nothing is left to compute."""
        return self in (State.DONE, State.DIVERGED)


def write_atomic(path: Path, text: str | bytes) -> None:
    """Temporary name, fsync, ``os.replace``: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given (a table's columns have one); NaN is refused."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file; ``None`` where there is none. Raises :class:`StoreError` naming a broken one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: unreadable ({error}); move it away to compute it again") from None


@dataclass(frozen=True)
class RunFolder:
    """All paths of one run, and the questions that are asked of them."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Path:
        return self.path / "run.json"

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def outcome(self) -> Path:
        return self.path / "outcome.json"

    @property
    def failure(self) -> Path:
        return self.path / "failed.json"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def claim(self) -> Path:
        return self.path / "claim.json"

    @property
    def cancelled(self) -> Path:
        return self.path / "cancelled.json"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def attempts(self) -> Path:
        return self.path / "attempts"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        return self.checkpoints / "final.pt"

    def evaluation(self, handle: str) -> Path:
        """The file of one evaluation, e.g. ``evaluations/linear-1a2b3c4d.json``."""
        return self.path / "evaluations" / f"{handle}.json"

    def create(self, spec: dict[str, Any]) -> None:
        """Write ``run.json`` if it is not there. Raises :class:`StoreError` if another specification is."""
        held = read_json(self.spec)
        if held is None:
            write_json(self.spec, {"id": self.id, "spec": spec})
        elif held.get("spec") != spec:
            raise StoreError(f"{self.spec}: holds another specification under the same id; move the folder away")

    def missing(self, handles: Iterable[str]) -> list[str]:
        """The evaluations among ``handles`` that are not there, valid and of this run."""
        return [handle for handle in handles if not self._valid(self.evaluation(handle), "values")]

    def _valid(self, path: Path, key: str) -> bool:
        held = read_json(path)
        if held is None:
            return False
        if not isinstance(held, dict) or held.get("run") != self.id or key not in held:
            raise StoreError(f"{path}: does not belong to run {self.id}; move it away")
        return True

    def state(self, handles: Iterable[str] = ()) -> State:
        """Derived from the files alone, most certain evidence first."""
        try:
            if self._valid(self.outcome, "status"):
                if read_json(self.outcome)["status"] == "diverged":
                    return State.DIVERGED
                if not self.missing(handles):
                    return State.DONE
                trained = True
            else:
                trained = False
            claimed = self.claim_state()
            if claimed is not None:
                return claimed
            if self.failure.exists():
                return State.FAILED
        except StoreError:
            return State.BROKEN
        if self.cancelled.exists():
            return State.CANCELLED
        return State.TRAINED if trained else State.TODO

    # --- claims: at most one process works on a run -----------------------------------------------------------

    def claim_state(self, job: str | None = None) -> State | None:
        """RUNNING (a live process holds the claim), UNKNOWN (another host, silent), or None (free).

        ``job`` is the scheduler's name of whoever asks, if it has one.
        """
        try:
            holder = json.loads(self.claim.read_text(encoding="utf-8"))
            heard = max(path.stat().st_mtime for path in (self.claim, self.progress) if path.exists())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            holder, heard = {}, time.time()  # being written at this moment
        if holder.get("host") == socket.gethostname():
            alive = holder.get("started") == process_start(int(holder.get("pid", -1)))
            return State.RUNNING if alive else None
        ours = job is not None and holder.get("job") == job
        if time.time() - heard < (FORMER_LIFE_S if ours else STALE_HEARTBEAT_S):
            return State.RUNNING
        return State.UNKNOWN

    def claimed_by(self, job: str) -> bool:
        """Whether the claim is in the name of this job: of another life of it, if not of this one."""
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads(self.claim.read_text(encoding="utf-8")).get("job") == job)
        return False

    def beat(self) -> None:
        """Sign of life of whoever holds the claim."""
        with contextlib.suppress(OSError):
            os.utime(self.claim)

    def take_claim(self, job: str | None = None) -> bool:
        """Claim this run for this process; False if a live process holds it already."""
        self.path.mkdir(parents=True, exist_ok=True)
        mine = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": process_start(os.getpid()),
            "job": job,
        }
        temporary = self.path / f".claim.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        temporary.write_text(json.dumps(mine), encoding="utf-8")
        try:
            for _ in range(2):
                try:
                    os.link(temporary, self.claim)  # atomic, also on NFS, and never replaces a file
                    return True
                except FileExistsError:
                    if self.claim_state(job) is State.RUNNING:
                        return False
                    with contextlib.suppress(FileNotFoundError):  # another process may bury it first
                        self.claim.rename(self.path / f".claim.dead.{secrets.token_hex(4)}.tmp")
            return False
        finally:
            temporary.unlink(missing_ok=True)
            for buried in self.path.glob(".claim.dead.*.tmp"):
                buried.unlink(missing_ok=True)

    def release_claim(self) -> None:
        """Give the claim back, if it is this process's."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            if json.loads(self.claim.read_text(encoding="utf-8")).get("pid") == os.getpid():
                self.claim.unlink(missing_ok=True)


@dataclass(frozen=True)
class Store:
    """The results folder."""

    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def experiments(self) -> Path:
        return self.root / "experiments"

    @property
    def jobs(self) -> Path:
        """Submission records and the scheduler's logs."""
        return self.root / "jobs"

    @property
    def code(self) -> Path:
        """Snapshots of the code that runs were submitted with."""
        return self.root / "code"

    @property
    def sources(self) -> Path:
        """Digests of every numeric file, one JSON file for each code that made a result."""
        return self.root / "sources"

    def run(self, run_id: str) -> RunFolder:
        """The folder of one run (which need not exist)."""
        return RunFolder(self.runs / run_id)

    def experiment(self, name: str, scale: str) -> Path:
        """The expanded experiment that the report reads."""
        return self.experiments / f"{name}@{scale}.json"

    def all_runs(self) -> Iterator[RunFolder]:
        """Every run folder there is, sorted by id."""
        if self.runs.is_dir():
            yield from (RunFolder(path) for path in sorted(self.runs.iterdir()) if path.is_dir())


def process_start(pid: int) -> str | None:
    """Start time of a live process (so that a reused pid is another process); None if there is none, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
