"""Evaluate a trained run: one file for every evaluation that is missing, resumed where it was interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.components import Evaluation
from harness.config.errors import SpecError
from harness.config.registry import evaluation as evaluations
from harness.evaluate.measurement import recorded
from harness.evaluate.resume_state import ResumePoint, ResumeState
from harness.evaluate.trained import Trained
from harness.runtime import Runtime
from harness.store import provenance
from harness.store.results import RunFolder, write_json
from harness.train import checkpoint
from harness.train.progress import made_up_for_later, report_progress
from harness.train.stop import Interrupted, check_ours


def evaluate(
    folder: RunFolder, asked: Sequence[Evaluation], trained: Trained, runtime: Runtime, stop: threading.Event
) -> None:
    """Write one file for every evaluation that is missing; each has its own identity and never retrains.

    Raises :class:`Interrupted` after a signal.
    """
    missing = set(folder.missing(one.id for one in asked))
    for one in asked:
        if one.id not in missing:
            continue
        if stop.is_set():
            raise Interrupted(f"stopped by a signal before {one.label}")
        report_progress(folder, f"evaluating {one.label}")
        trained.looked_at = dict(trained.own)
        interim = Resumable(folder, one, runtime, stop, trained)
        trained.interim = ResumePoint(interim.resume(), interim.keep, interim.check)
        found = recorded(evaluations.build(one.resolved)(trained))
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in found["values"].items())
        said = "diverged" if "diverged" in found else found.get("unavailable", numbers)
        print(f"{one.label}: {said}", flush=True)
        interim.check_data()
        seen = {key: trained.looked_at[key] for key in ("digest", "images") if key in trained.looked_at}
        check_ours(folder, folder.evaluation(one.id))
        write_json(
            folder.evaluation(one.id),
            {
                "run": folder.id,
                "handle": one.id,
                "name": next(iter(one.resolved)),
                "label": one.label,
                "evaluation": one.resolved,
                **found,
                "data": seen,
                "code": provenance.code_fingerprint(),
                "wall_seconds": round(interim.seconds(), 3),
            },
        )
        interim.path.unlink(missing_ok=True)


@dataclass
class Resumable:
    """The checkpoint of one evaluation: ``checkpoints/<id>.part.pt``, written every ``checkpoint_minutes``."""

    folder: RunFolder
    asked: Evaluation
    runtime: Runtime
    stop: threading.Event
    trained: Trained
    earlier: float = 0.0
    began: float = field(default_factory=time.monotonic)
    begun_at: float = 0.0
    """The share that was done when this attempt began."""
    latest: Callable[[], ResumeState] | None = None
    began_on: str | None = None
    """Digest of the data that an earlier attempt looked at; None where there was none, or it did not say."""

    def __post_init__(self) -> None:
        self.saved = self.told = self.began

    @property
    def path(self) -> Path:
        """``checkpoints/<id>.part.pt``."""
        return self.folder.partial(self.asked.id)

    def seconds(self) -> float:
        """Of this attempt and of those it resumed from."""
        return self.earlier + time.monotonic() - self.began

    def resume(self) -> ResumeState | None:
        """What an earlier attempt left, if the same code left it: a number is never of two codes."""
        held = checkpoint.load_whole(self.path, torch.device("cpu"))
        if held is None or held["run"] != self.folder.id or held["code"] != provenance.code_fingerprint():
            return None
        self.earlier, self.begun_at, self.began_on = held["seconds"], held["done"], held.get("data")
        print(f"{self.asked.label}: resumed at {held['done']:.0%}", flush=True)
        state: ResumeState = held["state"]
        return state

    def check_data(self) -> None:
        """Raises :class:`SpecError` where an earlier attempt looked at other data: no number is of two."""
        here = self.trained.looked_at.get("digest")
        if self.began_on not in (None, here):
            raise SpecError(
                f"{self.path}: {self.asked.label} was begun on other data of the same name ({self.began_on}, here lies "
                f"{here}); bring that back, or remove this file to begin anew"
            )

    def keep(self, make: Callable[[], ResumeState], done: float) -> None:
        """As :class:`ResumePoint` has it."""
        self.check_data()
        self.latest = lambda: self._about(make(), done)
        self._tell(done)
        if not self.stop.is_set() and time.monotonic() - self.saved >= 60 * self.runtime.checkpoint_minutes:
            with made_up_for_later(self.path.name):
                self._save()
        self.check()

    def check(self) -> None:
        """As :class:`ResumePoint` has it."""
        if self.stop.is_set():
            if self.latest is not None:
                self._save()
            raise Interrupted(f"stopped by a signal within {self.asked.label}")

    def _save(self) -> None:
        assert self.latest is not None, "offered before"
        checkpoint.save(self.path, self.latest())
        self.saved = time.monotonic()

    def _about(self, state: ResumeState, done: float) -> dict[str, Any]:
        about: dict[str, Any] = {"run": self.folder.id, "code": provenance.code_fingerprint()}
        about |= {"data": self.trained.looked_at.get("digest"), "seconds": self.seconds()}
        return {**about, "done": done, "state": state}

    def _tell(self, done: float) -> None:
        now = time.monotonic()
        if now - self.told < self.runtime.progress_s:
            return
        self.told = now
        share = (done - self.begun_at) / max(now - self.began, 1e-9)  # a second
        eta = {"eta_seconds": round((1 - done) / share, 1)} if share > 0 else {}
        report_progress(self.folder, f"evaluating {self.asked.label} {done:.0%}", **eta)
