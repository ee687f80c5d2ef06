"""What is not finite between features and scores is diverged: in every evaluation, ours or not, and never class 0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness import components
from harness.config.registry import REGISTRIES
from harness.data.augment import Color, Crop
from harness.data.datasets import Synthetic
from harness.data.views import Views
from harness.evaluate.linear import Linear, accuracies
from harness.evaluate.measurement import recorded
from harness.evaluate.scores import measured
from harness.evaluate.trained import Trained
from harness.objectives.contrastive import NTXent
from tests.evaluate.conftest import TinyMethod

assert components  # its import registers every component
DIVERGED = {"values": {}, "diverged": True}
FORMS: dict[str, list[dict[str, Any]]] = {
    "linear": [{}, {"augment": "none"}, {"features": "z"}, {"epochs": 100, "batch_size": 512, "solver": "lbfgs",
               "augment": "none", "weight_decay": 1e-3, "standardize": True}],
    "knn": [{}, {"features": "z"}],
    "head_information": [{}, {"features": "z"}],
}  # fmt: skip
"""More settings of an evaluation that take other ways through it."""


def trained() -> Trained:
    torch.manual_seed(0)
    method = TinyMethod(NTXent())
    method.encoder.out_dim = 8  # type: ignore[assignment]
    method.head = nn.Linear(8, 8)
    data = Synthetic(train_images=120, validation_images=60, test_images=60, image_size=16, classes=7).load(Path())
    about: dict[str, Any] = {"views": Views(both=(Crop(), Color())), "batch_size": 64, "seed": 5}
    return Trained(method=method, data=data, device=torch.device("cpu"), **about)


def poisoned(value: float) -> Trained:
    """A network whose weights and statistics are not finite."""
    one = trained()
    with torch.no_grad():
        for tensor in one.method.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(value)
    return one


def cases() -> Iterator[Any]:
    for name in REGISTRIES["evaluation"].names():
        for index, form in enumerate(FORMS.get(name, [{}])):
            yield pytest.param(
                name, dict(getattr(REGISTRIES["evaluation"].get(name), "tiny", ({},))[0]) | form, id=f"{name}-{index}"
            )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "fields"), [*cases()])
def test_a_network_that_is_not_finite_has_diverged_in_every_evaluation(
    name: str, fields: dict[str, Any], value: float
) -> None:
    component = REGISTRIES["evaluation"].build({name: fields})
    assert recorded(component(trained()))["values"]
    assert recorded(component(poisoned(value))) == DIVERGED


def test_a_rate_that_blows_the_probe_up_is_diverged_and_no_share_of_class_0() -> None:
    """Issue 13's table: base_lr 30 and a weight decay of 1 made NaN weights, and 25.0 % of four classes."""
    probe = Linear(epochs=200, batch_size=128, base_lr=30.0, weight_decay=1.0, augment="none")
    assert recorded(probe(trained())) == DIVERGED


def test_evaluations_from_outside_are_held_to_the_same() -> None:
    def by_features(one: Trained) -> Any:
        yield "length", float(one.features("test")[0].norm(dim=1).mean())

    def by_hand(one: Trained) -> Any:
        """Looks at the networks itself, and at nothing else."""
        classifier = nn.Linear(8, 7)
        labels = one.split("test").labels
        predicted = classifier(one.method.represent(torch.rand(60, 3, 16, 16))).argmax(1)
        yield "top1", 100 * float((predicted == labels).double().mean())

    for outside in (by_features, by_hand):
        assert recorded(outside(trained()))["values"]
        assert recorded(outside(poisoned(float("nan")))) == DIVERGED


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("several", [False, True])
def test_scores_that_are_not_finite_have_no_measure(several: bool, value: float) -> None:
    labels = torch.eye(4).long() if several else torch.arange(4)
    scores = torch.eye(4)
    assert measured(scores, labels)
    scores[1, 2] = value
    for measure in (measured,) if several else (measured, lambda *given: list(accuracies(*given))):
        with pytest.raises(FloatingPointError, match="scores are not finite"):
            measure(scores, labels)
