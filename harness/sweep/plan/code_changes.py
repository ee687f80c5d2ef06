"""Record digests of the code that trains, and compare them with those of today's code.

    results/digests/<code>-<place>.json    committed with the results that they explain
    ~/.cache/harness/digests/              today's, computed for a plan that had others to compare with

All of it takes half a minute of one core, in a process of its own, and only where it was not done before. None of it
ever fails a sweep: where there is no file, nothing is claimed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from harness.digests.compare import Record, RecordComparison, Use, file_stem
from harness.digests.platform import platform_of
from harness.store import provenance
from harness.store.results import Store, StoreError, read_json, write_atomic
from harness.store.snapshot import Snapshot

SWITCH = "HARNESS_DIGESTS"
"""Environment variable: ``off`` neither records nor computes any."""

PATIENCE_S = 600.0
"""So long a sweep that is done waits for them."""


def cache() -> Path:
    """Where this user's are kept between plans."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness" / "digests"


def switched_off() -> bool:
    """Return whether the environment switches digests off."""
    return os.environ.get(SWITCH) == "off"


def read(path: Path) -> Record | None:
    """The record of a file; None where there is none, or none that can be used."""
    with suppress(StoreError):
        return Record.of(read_json(path))
    return None


# --- writing them down ---------------------------------------------------------------------------------------------


class Recording:
    """Within, a process beside the trainings writes down the digests of this code, unless they are there.

    ``code`` is the snapshot that the runs execute, if they do. ``say`` hears what is worth a word.
    At the end they are waited for, unless the block raises or :meth:`drop` was called.
    """

    def __init__(self, store: Store, say: Callable[[str], None], code: Snapshot | None = None) -> None:
        self.store, self.say, self.code = store, say, code
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Recording:
        if not switched_off():
            with suppress(OSError):  # whoever trains will say that nothing can be written
                self._begin()
        return self

    def _begin(self) -> None:
        stem = file_stem(provenance.code_fingerprint(), platform_of())
        self.path = self.store.digests / f"{stem}.json"
        if read(self.path) is not None:
            return
        if (known := read(cache() / self.path.name)) is not None:
            write_atomic(self.path, known.as_text())
            return
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (until drop)
        with nullcontext() if self.code is None else self.code.exported():
            self._process = _start(self.path, self._said.fileno())

    def drop(self) -> None:
        """They are not waited for: another sweep will do it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait()
            self._said.close()
        self._process = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self._process is not None:
            try:
                if self._process.poll() is None:
                    self.say("Writing down digests of what this code computes, once; half a minute at most.")
                if self._process.wait(PATIENCE_S):
                    self.say(f"No digests of this code were written down: {_last_line(self._said.fileno())}")
            except subprocess.TimeoutExpired:
                self.say(f"No digests of this code were written down: not done after {PATIENCE_S:.0f} s.")
            finally:
                self.drop()
        self.drop()


def _start(path: Path, errors: int) -> subprocess.Popen[bytes]:
    """One thread, no GPU: the digests are of the CPU's arithmetic."""
    command = [sys.executable, "-m", "harness.digests", str(path.resolve())]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):  # of torchrun
        variables.pop(name, None)
    return subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    lines = os.pread(descriptor, 4000, max(0, size - 4000)).decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it ended without a word")


# --- comparing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Staleness:
    """What digests say of what another code made: it would come out otherwise today, the same, or that is not known."""

    kind: Literal["stale", "equal", "unknown"]
    said: str = ""


@dataclass
class Digests:
    """Digests of earlier code in a results folder against those of ``code``, today's."""

    store: Store
    code: str
    _compared: dict[str, RecordComparison | Staleness] = field(default_factory=dict)
    _today: Record | Staleness | None = None

    def verdict(self, code: str, using: Callable[[], Iterable[Use]]) -> Staleness:
        """Of results that ``code`` made with what ``using`` yields, which is asked only where there is an answer."""
        if code not in self._compared:
            self._compared[code] = self._compare(code)
        found = self._compared[code]
        if isinstance(found, Staleness):
            return found
        used = list(using())
        if differences := found.about(used):
            return Staleness("stale", ", ".join(map(str, differences)))
        if missing := found.unknown(used):
            return Staleness("unknown", f"that used {', '.join(missing)}, of which there are no digests to compare")
        for use in used:
            if causes := found.doubtful.get(use.label):
                why = f"because its examples use {', '.join(causes)}, which computes something else today"
                return Staleness("unknown", f"whose {use.label} cannot be compared, {why}")
        return Staleness("equal")

    def _compare(self, code: str) -> RecordComparison | Staleness:
        records = [one for one in map(read, sorted(self.store.digests.glob(f"{code}-*.json"))) if one is not None]
        if not records:
            return Staleness("unknown", "whose digests were not recorded")
        if self._today is None:
            self._today = self._find()
        if isinstance(self._today, Staleness):
            return self._today
        here = [one for one in records if one.place == self._today.place]
        return RecordComparison.of((here or records)[0], self._today)

    def _find(self) -> Record | Staleness:
        """Today's, computed if need be: of the only code that can be run here."""
        stem = file_stem(self.code, platform_of())
        for folder in (self.store.digests, cache()):
            if (known := read(folder / f"{stem}.json")) is not None:
                return known
        if self.code != provenance.code_fingerprint() or switched_off():
            return Staleness("unknown", "that was not compared, for today's digests are not here")
        print("Computing digests of what today's code computes, once; half a minute at most.", file=sys.stderr)
        with tempfile.TemporaryDirectory() as made_in, tempfile.TemporaryFile() as said:
            path = Path(made_in) / f"{stem}.json"
            try:
                _start(path, said.fileno()).wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                return Staleness("unknown", f"that was not compared: today's digests took more than {PATIENCE_S:.0f} s")
            if (made := read(path)) is None:
                why = _last_line(said.fileno())
                return Staleness("unknown", f"that was not compared: today's digests could not be computed ({why})")
            with suppress(OSError):
                write_atomic(cache() / path.name, made.as_text())
        return made
