"""The results folder: paths, atomic writes, and the state of a run as its files show it (law 5).

Nothing here is a database or a flag: a run is done when its outcome and the evaluations asked for are there, valid
and carry its id; it is running when a live process holds its lock; what cannot be known is UNKNOWN, never FAILED.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.store.run_lock import Holder, RunLock, process_start


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
    UNKNOWN = "unknown"  # locked by another host that stopped responding
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


def read_json(path: Path | str) -> Any:
    """Read one JSON file; ``None`` where there is none. Raises :class:`StoreError` naming a broken one."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: unreadable ({error}); move it away, and the next sweep computes it again") from None


@dataclass(frozen=True)
class RunStatus:
    """The state of one run, and what was read to know it."""

    state: State
    evaluations: Mapping[str, Any] = field(default_factory=dict)
    """Handle -> what its file holds, None where there is none; empty unless the run is trained and has not diverged."""


@dataclass(frozen=True)
class RunFolder:
    """All paths of one run, and the questions that are asked of them."""

    path: Path

    @property
    def id(self) -> str:
        """The id of the run, which names its folder."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """``run.json``: its specification."""
        return self.path / "run.json"

    @property
    def provenance(self) -> Path:
        """``provenance.json``: code, versions and hardware that made it."""
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        """``metrics.jsonl``: one line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def outcome(self) -> Path:
        """``outcome.json``: trained or diverged."""
        return self.path / "outcome.json"

    @property
    def failure(self) -> Path:
        """``failed.json``: why it failed."""
        return self.path / "failed.json"

    @property
    def progress(self) -> Path:
        """``progress.json``: its live state."""
        return self.path / "progress.json"

    @property
    def cancelled(self) -> Path:
        """``cancelled.json``: somebody cancelled it."""
        return self.path / "cancelled.json"

    @property
    def log(self) -> Path:
        """``run.log``: what its processes printed."""
        return self.path / "run.log"

    @property
    def attempts(self) -> Path:
        """``attempts``: one file for each attempt."""
        return self.path / "attempts"

    @property
    def checkpoints(self) -> Path:
        """``checkpoints``: resume points and final weights."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """``checkpoints/final.pt``: the trained weights."""
        return self.checkpoints / "final.pt"

    def evaluation(self, evaluation_id: str) -> Path:
        """The file of one evaluation, e.g. ``evaluations/linear-1a2b3c4d.json``."""
        return self.path / "evaluations" / f"{evaluation_id}.json"

    def partial(self, evaluation_id: str) -> Path:
        """Where an evaluation that was cut off goes on from."""
        return self.checkpoints / f"{evaluation_id}.part.pt"

    def create(self, spec: dict[str, Any]) -> None:
        """Write ``run.json`` if it is not there. Raises :class:`StoreError` if another specification is."""
        held = read_json(self.spec)
        if held is None:
            write_json(self.spec, {"id": self.id, "spec": spec})
        elif held.get("spec") != spec:
            raise StoreError(f"{self.spec}: holds another specification under the same id; move the folder away")

    def missing(self, evaluation_ids: Iterable[str]) -> list[str]:
        """The evaluations among ``evaluation_ids`` that are not there, valid and of this run."""
        return [evaluation_id for evaluation_id, held in self._evaluations(evaluation_ids).items() if held is None]

    def _evaluations(self, evaluation_ids: Iterable[str]) -> dict[str, Any]:
        return {
            evaluation_id: self._held(f"evaluations/{evaluation_id}.json", "values") for evaluation_id in evaluation_ids
        }

    def read(self, name: str) -> Any:
        """As :func:`read_json`, of a file of this run. For readers of very many: to make a path takes as long."""
        return read_json(f"{self.path}/{name}")

    def _held(self, name: str, key: str) -> dict[str, Any] | None:
        """What a file of this run holds, if it is there. Raises :class:`StoreError` if it is not whole or another's."""
        held = self.read(name)
        if held is not None and (not isinstance(held, dict) or held.get("run") != self.id or key not in held):
            raise StoreError(f"{self.path}/{name}: does not belong to run {self.id}; move it away")
        return held

    def state(self, evaluation_ids: Iterable[str] = ()) -> State:
        """Derived from the files alone, most certain evidence first."""
        return self.status(evaluation_ids).state

    def status(self, evaluation_ids: Iterable[str] = ()) -> RunStatus:
        """The state with what was read for it, each file once."""
        found: dict[str, Any] = {}
        try:
            outcome = self._held("outcome.json", "status")
            if outcome is not None:
                if outcome["status"] == "diverged":
                    return RunStatus(State.DIVERGED)
                found = self._evaluations(evaluation_ids)
                if None not in found.values():
                    return RunStatus(State.DONE, found)
            locked = self.lock_state()
            if locked is not None:
                return RunStatus(locked, found)
            if self.failure.exists():
                return RunStatus(State.FAILED, found)
        except StoreError:
            return RunStatus(State.BROKEN)
        if self.cancelled.exists():
            return RunStatus(State.CANCELLED, found)
        return RunStatus(State.TODO if outcome is None else State.TRAINED, found)

    def clear_leftovers(self) -> None:
        """Remove what processes that were killed inside a write left behind. Call it as the holder of the lock only."""
        for path in self.path.rglob(".*.tmp"):
            if path.name.startswith(".claim."):  # others may be trying to lock the run now
                continue
            writer = path.name.split(".")[-3]  # as write_atomic names it; a `--cancel` may be writing at this moment
            if not writer.isdecimal() or int(writer) == os.getpid() or process_start(writer) is None:
                path.unlink(missing_ok=True)
        self.lock.clear_removal_locks()
        if self.outcome.exists():  # killed between the outcome and the removal of what it no longer needs
            for path in self.checkpoints.glob("step-*.pt*"):
                path.unlink(missing_ok=True)
            for path in self.checkpoints.glob("*.part.pt"):  # the same, of an evaluation
                if self.evaluation(path.name.removesuffix(".part.pt")).exists():
                    path.unlink(missing_ok=True)

    @property
    def lock(self) -> RunLock:
        """The lock that at most one process holds while it works on this run."""
        return RunLock(self.path / "claim.json", self.progress)

    def lock_state(self, job: str | None = None) -> State | None:
        """Return RUNNING (a live process holds the lock), UNKNOWN (another machine, silent), or None (free)."""
        return {Holder.NOBODY: None, Holder.ALIVE: State.RUNNING, Holder.SILENT: State.UNKNOWN}[self.lock.holder(job)]


@dataclass(frozen=True)
class Store:
    """The results folder."""

    root: Path

    @cached_property
    def runs(self) -> Path:
        """One folder for each run."""
        return self.root / "runs"

    @property
    def experiments(self) -> Path:
        """Expanded experiments, which the report reads."""
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
        """Sums of every numeric file, one JSON file for each code that made a result."""
        return self.root / "sources"

    @property
    def digests(self) -> Path:
        """What each code computes on tiny examples, one JSON file for each code and place."""
        return self.root / "digests"

    @property
    def encoders(self) -> Path:
        """Encoders that are committed, in half precision."""
        return self.root / "encoders"

    def encoder(self, run_id: str) -> Path:
        """The committed encoder of one run, e.g. ``encoders/1a2b3c4d5e6f.safetensors``."""
        return self.encoders / f"{run_id}.safetensors"

    def run(self, run_id: str) -> RunFolder:
        """The folder of one run (which need not exist)."""
        return RunFolder(self.runs / run_id)

    def experiment(self, name: str, scale: str) -> Path:
        """The expanded experiment that the report reads."""
        return self.experiments / f"{name}@{scale}.json"

    def run_ids(self) -> list[str]:
        """The id of every run folder there is, sorted. The directory is listed, and no folder of it asked."""
        if not self.runs.is_dir():
            return []
        with os.scandir(self.runs) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    def all_runs(self) -> Iterator[RunFolder]:
        """Every run folder there is, sorted by id."""
        return (self.run(run_id) for run_id in self.run_ids())
