"""Every evaluation, cut off at any moment at which it can be: what resumes finds the very same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import components
from harness.config.registry import evaluation
from harness.evaluate.measurement import recorded
from harness.evaluate.resume_state import ResumePoint, ResumeState
from harness.evaluate.trained import Trained
from harness.train import checkpoint
from harness.train.stop import Interrupted

Make = Callable[..., Trained]
assert components  # its import registers every data set
CPU = torch.device("cpu")
THERE: dict[str, Any] = {"data": {"synthetic": {"train_images": 60, "test_images": 40, "classes": 3, "image_size": 16}}}
SMALL: dict[str, list[dict[str, Any]]] = {
    "linear": [{"epochs": 4, "batch_size": 40}, {"epochs": 4, "augment": "none", "weight_decay": 0.01}],
    "fine_tune": [{"labels": 0.5, "epochs": 3, "batch_size": 20}],
    "head_information": [{"epochs": 3}],
    "transfer_linear": [{**THERE, "penalties": 4, "iterations": 20}],
    "transfer_fine_tune": [
        {**THERE, "steps": 3, "batch_size": 25, "learning_rates": (1e30, 0.2), "weight_decays": (0.0,)},
        {**THERE, "steps": 7, "batch_size": 25, "learning_rates": (0.2,), "weight_decays": (0.0,), "weights": "random"},
    ],
    "tsne": [{"images": 40, "perplexity": 5.0}],
}
RESUMED = {"linear", "fine_tune", "head_information", "transfer_linear", "transfer_fine_tune"}
"""The long ones. The others are passes of the encoder over a data set: minutes, and they start over."""
CASES = [(name, settings) for name in evaluation.names() for settings in SMALL.get(name, [{}])]


@dataclass
class Stops:
    """Asks an evaluation to stop at its ``last`` call, and keeps what it then leaves, as a checkpoint would."""

    path: Path
    last: int | None = None
    calls: int = 0
    latest: Callable[[], ResumeState] | None = None
    shares: tuple[float, ...] = ()

    def check(self) -> None:
        self.calls += 1
        if self.calls == self.last:
            if self.latest is not None:
                checkpoint.save(self.path, self.latest())
            raise Interrupted

    def keep(self, make: Callable[[], ResumeState], done: float) -> None:
        self.latest, self.shares = make, (*self.shares, done)
        self.check()


def found(make: Make, name: str, settings: dict[str, Any], stops: Stops) -> dict[str, Any]:
    """What the evaluation says, from what lies at ``stops.path`` on if something does."""
    trained = make()
    fresh = copy.deepcopy(trained.method)
    for method in (trained.method, fresh):
        method.encoder.out_dim = 8  # type: ignore[assignment]
    trained.untrained = lambda: copy.deepcopy(fresh)
    trained.interim = ResumePoint(checkpoint.load_whole(stops.path, CPU), stops.keep, stops.check)
    return recorded(evaluation.build({name: settings})(trained))


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_resumed_equals_uninterrupted(make_trained: Make, tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    whole = Stops(tmp_path / "whole.pt")
    expected = found(make_trained, name, settings, whole)
    assert whole.calls or name == "spectrum", "long or short, it can be stopped (a spectrum is of the head alone)"
    assert list(whole.shares) == sorted(whole.shares) and all(0 <= share <= 1 for share in whole.shares)
    assert bool(whole.shares) == (name in RESUMED)
    for last in sorted({*range(1, whole.calls + 1, max(whole.calls // 5, 1)), whole.calls} - {0}):
        stops = Stops(tmp_path / f"{last}.pt", last)
        with pytest.raises(Interrupted):
            found(make_trained, name, settings, stops)
        again = Stops(stops.path)
        assert found(make_trained, name, settings, again) == expected, f"stopped at call {last} of {whole.calls}"


@pytest.mark.parametrize("name", sorted(RESUMED))
def test_what_was_done_is_not_done_again(make_trained: Make, tmp_path: Path, name: str) -> None:
    settings = SMALL[name][0]
    whole = Stops(tmp_path / "whole.pt")
    found(make_trained, name, settings, whole)
    late = Stops(tmp_path / "late.pt", whole.calls)
    with pytest.raises(Interrupted):
        found(make_trained, name, settings, late)
    again = Stops(late.path)
    found(make_trained, name, settings, again)
    assert (
        len(again.shares) < len(whole.shares)
        and again.shares == whole.shares[-len(again.shares) or len(whole.shares) :]
    )


def test_a_state_is_taken_once() -> None:
    interim = ResumePoint({"epoch": 3})
    assert interim.take() == {"epoch": 3} and interim.take() is None


def test_a_part_keeps_what_is_around_it() -> None:
    kept: list[tuple[ResumeState, float]] = []
    whole = ResumePoint(keep=lambda make, done: kept.append((make(), done)))
    whole.part(None, 0.5, 0.75, scores=[1.0]).keep(lambda: {"step": 2}, 0.5)
    assert kept == [({"scores": [1.0], "part": {"step": 2}}, 0.625)]
