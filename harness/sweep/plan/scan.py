"""Read the state of each planned run from the results folder: done, stale, broken or to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.config.run import Run
from harness.digests.compare import Use, evaluated_with, trained_with
from harness.store.results import RunFolder, RunStatus, State, Store, StoreError, read_json
from harness.store.snapshot import what_changed
from harness.sweep.plan.code_changes import Digests, Staleness
from harness.sweep.plan.unavailable import UnavailableEvaluation, unavailable_of


@dataclass(frozen=True)
class PlannedRun:
    """One run, and what the results folder says of it."""

    run: Run
    folder: RunFolder
    label: str
    state: State
    why: str = ""  # why it is broken, failed or unknown
    stale: str = ""  # what of its numbers would come out otherwise by today's code
    other_code: str = ""  # by other code than today's, and yet not stale: what is said of all such runs
    also_in: tuple[str, ...] = ()  # other experiments that ask for it
    lacking: tuple[str, ...] = ()  # evaluations that a trained run does not have
    weights_missing: bool = False  # and cannot get: its weights are elsewhere (they are not committed)
    unavailable: tuple[UnavailableEvaluation, ...] = ()  # evaluations that were asked for in vain

    @property
    def to_do(self) -> bool:
        """A sweep would start it: neither finished nor under way, nor waiting for ``--retry`` or for its weights."""
        return self.state in (State.TODO, State.TRAINED, State.UNKNOWN, State.CANCELLED) and not self.weights_missing


@dataclass(frozen=True)
class Scan:
    """What the files say of one run after the other."""

    store: Store
    evaluation_ids: list[str]
    code: str | None
    others: Mapping[str, tuple[str, ...]]
    present: frozenset[str]  # listed once: to ask for ten thousand folders one by one is slow on a network
    digests: Digests | None = None
    reasons: dict[str, str] = field(default_factory=dict)  # in what another code differs, found out once

    def at(self, run_id: str, run: Run, name: str) -> PlannedRun:
        """Return one planned run with its state. Reads its files only if its folder exists."""
        folder = self.store.run(run_id)
        also_in = self.others.get(run_id, ())
        if run_id not in self.present:
            return PlannedRun(run, folder, name, State.TODO, also_in=also_in)
        seen = folder.status(self.evaluation_ids)
        state = seen.state
        try:
            why = self._why(folder, state)
            trained = state in (State.DONE, State.DIVERGED, State.TRAINED)
            stale, other = self._code(folder, run, seen) if trained else ("", "")
        except StoreError as error:
            state, why, stale, other = State.BROKEN, str(error), "", ""
        if state is State.TRAINED:
            lacking = tuple(evaluation_id for evaluation_id, held in seen.evaluations.items() if held is None)
            weights_missing = not folder.weights.exists()
            return PlannedRun(
                run, folder, name, state, why, stale, other, also_in, lacking, weights_missing, unavailable_of(seen)
            )
        return PlannedRun(run, folder, name, state, why, stale, other, also_in, unavailable=unavailable_of(seen))

    def _why(self, folder: RunFolder, state: State) -> str:
        if state is State.BROKEN:
            folder.missing(self.evaluation_ids)  # raises what state() found
            read_json(folder.outcome)
            return f"{folder.path}: is incomplete or belongs to another run; move it away"
        if state is State.FAILED:
            held = read_json(folder.failure)
            return f"{held.get('cause', 'code')}: {held.get('type')}: {held.get('message')}"
        if state is State.UNKNOWN:
            return "locked by a process of another machine that has not responded for 15 minutes"
        held = folder.read("run.json")
        if held is not None and held.get("id") != folder.id:
            raise StoreError(f"{folder.spec}: belongs to another run; move {folder.path} away")
        return ""

    def _code(self, folder: RunFolder, run: Run, seen: RunStatus) -> tuple[str, str]:
        """Why it is stale, or else what there is to say of the other code that made it; both empty for today's."""
        about = folder.read("provenance.json") or {}
        if self.code is None:
            return "", ""
        found: list[tuple[Staleness, Mapping[str, Any]]] = []
        for code in about.get("codes") or [about.get("code")]:
            if code != self.code:
                found.append((self._verdict(code, partial(trained_with, run.spec(), about.get("processes", 1))), about))
        for evaluation_id in self.evaluation_ids:
            made = seen.evaluations[evaluation_id] if seen.evaluations else read_json(folder.evaluation(evaluation_id))
            if made is not None and made.get("code", self.code) != self.code:
                found.append((self._verdict(made["code"], partial(evaluated_with, made.get("evaluation", {}))), made))
        if stale := list(dict.fromkeys(one.said for one, _ in found if one.kind == "stale")):
            return f"{', '.join(stale)} from the code that made it", ""
        for one, _ in found:
            if one.kind == "unknown":
                return "", f"of earlier code {one.said}; still counted as done"
        for _, made in found:
            return "", f"of other code ({self._changed(made)}); the digests of all that was used are equal"
        return "", ""

    def _verdict(self, code: Any, used: Callable[[], list[Use]]) -> Staleness:
        if self.digests is None or not isinstance(code, str):
            return Staleness("unknown", "that was not recorded")
        return self.digests.verdict(code, used)

    def _changed(self, about: Mapping[str, Any]) -> str:
        key = str(about.get("code"))
        if key not in self.reasons:
            self.reasons[key] = what_changed(self.store, about)
        return self.reasons[key]
