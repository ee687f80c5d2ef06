"""Stop the jobs of a submission after three equal failures: the circuit breaker that they share as files.

A job has a pool of its own, often of a single run; that three runs died alike is seen only by all of them together.
Beneath the submission's folder lie ``succeeded``, ``died/<fingerprint>/<run>.json`` and, once it has come to that,
``held.json``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.store.attempts import now
from harness.store.results import StoreError, read_json, write_json
from harness.store.run_lock import machine

HOLD_AFTER = 3
"""So many runs that die alike, before any has succeeded, hold the rest of the sweep."""


@dataclass(frozen=True)
class CircuitBreaker:
    """``settings`` names the setting of a run (without its seed), of ``different`` that the submission has.

    Jobs end in any order, the ones that fail first: three seeds of one bad setting say nothing of the others, so the
    three have to be of as many settings, where there are so many.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    different: int = 1

    def succeeded(self) -> None:
        """A run has got through: from now on nothing is held."""
        with suppress(OSError):
            (self.folder / "succeeded").touch()

    def died(self, run: str, failure: dict[str, Any]) -> None:
        """A run has failed, as its ``failed.json`` says."""
        about = {"run": run, "setting": self.settings.get(run, ""), "host": machine()[0], "time": now()}
        about["said"] = f"{failure.get('type')}: {failure.get('message')}"
        with suppress(OSError):
            write_json(self.folder / "died" / str(failure.get("fingerprint", "unknown")) / f"{run}.json", about)

    def held(self) -> str:
        """Why no job of the submission is to begin anything more; empty as long as they may."""
        with suppress(OSError, StoreError):
            if (self.folder / "succeeded").exists():
                return ""
            if (before := read_json(self.folder / "held.json")) is not None:
                return str(before["why"])
            for kind in sorted((self.folder / "died").glob("*")):
                dead = [read_json(path) for path in sorted(kind.glob("*.json"))]
                settings = {one["setting"] for one in dead}
                if len(dead) >= HOLD_AFTER and len(settings) >= min(HOLD_AFTER, self.different):
                    return self._hold(dead)
        return ""

    def _hold(self, dead: list[dict[str, Any]]) -> str:
        hosts = sorted({str(one["host"]) for one in dead})
        why = f"{dead[0]['said']} (on {', '.join(hosts)})"
        write_json(self.folder / "held.json", {"why": why, "runs": [one["run"] for one in dead], "time": now()})
        return why
