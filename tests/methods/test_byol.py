"""BYOL against lightly's loss, the numbers of the reference notes, and what people get wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity
from torch import nn

from harness.methods.base import trainable
from harness.methods.byol import regression
from harness.models.norm import BatchNorm
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import example, random_batch

X = torch.tensor([[1.0, 2.0], [3.0, 5.0], [-1.0, 0.0], [2.0, -2.0]])
Y = torch.tensor([[0.5, 1.5], [2.5, 4.0], [-1.5, 0.5], [1.0, -1.0]])
NOW = Progress(0, 80, 8)


def test_the_loss_of_one_direction_is_a_squared_distance_of_unit_rows() -> None:
    """Equation 2. lightly's is minus the cosine alone, without the 2 + 2 of the official code."""
    assert float(regression(X, Y)) == pytest.approx(0.030766, abs=1e-6)
    distance = (X / X.norm(dim=1, keepdim=True) - Y / Y.norm(dim=1, keepdim=True)).square().sum(1).mean()
    torch.testing.assert_close(regression(X, Y), distance)
    torch.testing.assert_close(regression(X, Y), 2 + 2 * NegativeCosineSimilarity()(X, Y))


def test_both_directions_are_summed_and_each_view_goes_alone() -> None:
    model, batch = example("byol"), random_batch(8)
    update = next(model.training_step(batch, NOW))
    online = [model.predictor(model.head(model.encoder(view))) for view in batch.views]
    target = [model.target.net(view) for view in batch.views]
    unit = [[F.normalize(one, dim=1) for one in two] for two in (online, target)]
    by_hand = sum((unit[0][one] - unit[1][1 - one]).square().sum(1).mean() for one in (0, 1))
    torch.testing.assert_close(update.loss, by_hand)
    assert 0 <= float(update.loss.detach()) <= 8


def test_the_target_follows_what_the_online_network_has_become() -> None:
    """``momentum * old + (1 - momentum) * new``, with the parameters after the update, and of parameters alone."""
    model = example("byol", 1)  # momentum 0.5
    old = [one.clone() for one in model.target.parameters()]
    optimise(model, {"main": torch.optim.SGD(trainable(model), lr=1.0)}, random_batch(8), NOW)
    online = nn.Sequential(model.encoder, model.head)
    for target, before, now in zip(model.target.parameters(), old, online.parameters(), strict=True):
        torch.testing.assert_close(target, 0.5 * before + 0.5 * now)
        assert target.grad is None
    layers = [[one for one in net.modules() if isinstance(one, BatchNorm)] for net in (online, model.target)]
    for one, other in zip(*layers, strict=True):
        assert not torch.equal(one.running_mean, other.running_mean), "its running statistics are its own"


@pytest.mark.parametrize(("number", "equal"), [(0, False), (5, True)])
def test_the_target_is_drawn_on_its_own_or_starts_as_a_copy(number: int, equal: bool) -> None:
    model = example("byol", number)
    online = nn.Sequential(model.encoder, model.head)
    kernels = [
        torch.equal(one, other)
        for one, other in zip(online.parameters(), model.target.parameters(), strict=True)
        if one.ndim > 1
    ]
    assert kernels == [equal] * len(kernels)


def test_projector_and_predictor_end_without_a_bias() -> None:
    model = example("byol")
    assert list(model.head.children())[-1].bias is None


def collapse(number: int, steps: int = 60) -> float:
    model = example("byol", number, batch_size=32)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.5, momentum=0.9)}
    values = {}
    for step in range(steps):
        values = optimise(model, made, random_batch(32, seed=step), Progress(step, steps, 8))
    return float(values["feature_std"]) * 8**0.5


def test_without_a_predictor_it_collapses() -> None:
    """Table 5b. One over the root of D is what directions spread evenly have."""
    with_it, without = collapse(1), collapse(3)
    assert without < 0.5 * with_it
