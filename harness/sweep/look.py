"""One planned run after the other, and what the results folder says of it: done, stale, broken, to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.spec.run import Run
from harness.store import RunFolder, Seen, State, Store, StoreError, read_json
from harness.sweep.gaps import Gap, gaps
from harness.sweep.snapshot import why_stale


@dataclass(frozen=True)
class PlannedRun:
    """One run, and what the results folder says of it."""

    run: Run
    folder: RunFolder
    label: str
    state: State
    why: str = ""  # why it is broken, failed or unknown
    stale: str = ""  # why it counts as made by other numeric code than today's
    also_in: tuple[str, ...] = ()  # other experiments that ask for it
    lacking: tuple[str, ...] = ()  # evaluations that a trained run does not have
    weightless: bool = False  # and cannot get: its weights are elsewhere (they are not committed)
    gaps: tuple[Gap, ...] = ()  # evaluations that were asked for in vain

    @property
    def to_do(self) -> bool:
        """A sweep would start it: neither finished nor under way, nor waiting for ``--retry`` or for its weights."""
        return self.state in (State.TODO, State.TRAINED, State.UNKNOWN, State.CANCELLED) and not self.weightless


@dataclass(frozen=True)
class Look:
    """What the files say of one run after the other."""

    store: Store
    handles: list[str]
    code: str | None
    others: Mapping[str, tuple[str, ...]]
    present: frozenset[str]  # listed once: to ask for ten thousand folders one by one is slow on a network
    reasons: dict[str, str] = field(default_factory=dict)  # why a fingerprint is stale, found out once

    def at(self, run_id: str, run: Run, name: str) -> PlannedRun:
        folder = self.store.run(run_id)
        also_in = self.others.get(run_id, ())
        if run_id not in self.present:
            return PlannedRun(run, folder, name, State.TODO, also_in=also_in)
        seen = folder.look(self.handles)
        state = seen.state
        try:
            why = self._why(folder, state)
            stale = self._stale(folder, seen) if state in (State.DONE, State.DIVERGED, State.TRAINED) else ""
        except StoreError as error:
            state, why, stale = State.BROKEN, str(error), ""
        if state is State.TRAINED:
            lacking = tuple(handle for handle, held in seen.evaluations.items() if held is None)
            weightless = not folder.weights.exists()
            return PlannedRun(run, folder, name, state, why, stale, also_in, lacking, weightless, gaps(seen))
        return PlannedRun(run, folder, name, state, why, stale, also_in, gaps=gaps(seen))

    def _why(self, folder: RunFolder, state: State) -> str:
        if state is State.BROKEN:
            folder.missing(self.handles)  # raises what state() found
            read_json(folder.outcome)
            return f"{folder.path}: does not hold what it should; move it away"
        if state is State.FAILED:
            held = read_json(folder.failure)
            return f"{held.get('cause', 'code')}: {held.get('type')}: {held.get('message')}"
        if state is State.UNKNOWN:
            return "claimed by a process of another machine that has been silent for a quarter of an hour"
        held = folder.read("run.json")
        if held is not None and held.get("id") != folder.id:
            raise StoreError(f"{folder.spec}: belongs to another run; move {folder.path} away")
        return ""

    def _stale(self, folder: RunFolder, seen: Seen) -> str:
        """Of the pretraining, or of what other code has begun, or else of the first evaluation that other code made."""
        about = folder.read("provenance.json") or {}
        if self.code is None:
            return ""
        if about.get("code") != self.code:
            return self._changed(about)
        for earlier in about.get("codes", ()):
            if earlier != self.code:
                return f"trained in part by other code, {self._changed({'code': earlier})}"
        for handle in self.handles:
            made = seen.evaluations[handle] if seen.evaluations else read_json(folder.evaluation(handle))
            if made is not None and made.get("code", self.code) != self.code:
                return f"{handle} {self._changed(made)}"
        return ""

    def _changed(self, about: dict[str, Any]) -> str:
        key = str(about.get("code"))
        if key not in self.reasons:
            self.reasons[key] = why_stale(self.store, about)
        return self.reasons[key]
