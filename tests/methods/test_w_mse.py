"""W-MSE against lightly's loss; what whitening does, and what happens without it."""

from __future__ import annotations

import pytest
import torch
from lightly.loss.wmse_loss import WMSELoss
from torch import Tensor

from harness.methods import w_mse
from harness.methods.base import trainable
from harness.methods.w_mse import WMSEMethod, whitened
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, example, random_batch

NOW = Progress(0, 80, 8)


def test_the_covariance_becomes_the_identity() -> None:
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(64, 5, generator=draw) @ torch.randn(5, 5, generator=draw) + 3
    torch.testing.assert_close(whitened(z).T.cov(), torch.eye(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(whitened(z).mean(0), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("number", "size"), [(1, 4), (3, 8)])
def test_the_loss_is_lightlys_over_the_same_sub_batches(
    number: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = example("w_mse", number)
    assert isinstance(model, WMSEMethod)
    batch = random_batch(16, views=3)
    (order,) = model._orders(batch.rng)
    assert order.tolist() != [*range(16)] and sorted(order.tolist()) == [*range(16)]
    monkeypatch.setattr(torch, "randperm", lambda count: order)
    rows = torch.cat([model.encoder(view) for view in batch.views]).view(3, 16, -1)
    z = model.head(rows.transpose(0, 1).flatten(0, 1)).view(16, 3, 4).transpose(0, 1).flatten(0, 1)
    theirs = WMSELoss(
        embedding_dim=2, w_size=size, num_samples=3, eps=model.settings.epsilon, track_running_stats=False
    )
    theirs.whitening.num_features = 4
    torch.testing.assert_close(next(model.training_step(batch, NOW)).loss, theirs(z), rtol=1e-4, atol=1e-5)


def test_each_repeat_is_another_division_of_the_batch_and_each_image_has_its_own_draw() -> None:
    model, batch = example("w_mse", 2), random_batch(16)
    assert isinstance(model, WMSEMethod)
    first, second = model._orders(batch.rng)
    assert first.tolist() != second.tolist()
    elsewhere = batch_of([view.flip(0) for view in batch.views], torch.arange(16).flip(0))
    assert model._orders(elsewhere.rng).__next__().tolist() == [15 - one for one in first.tolist()]


def spread(steps: int = 60) -> float:
    model = example("w_mse", batch_size=32)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)}
    values: dict[str, Tensor] = {}
    for step in range(steps):
        values = optimise(model, made, random_batch(32, seed=step), Progress(step, steps, 8))
    return float(values["feature_std"]) * 4**0.5


def test_without_whitening_it_collapses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 3: whitening is all that keeps embeddings apart."""
    with_it = spread()
    monkeypatch.setattr(w_mse, "whitened", lambda z, epsilon: z)
    assert spread() < 0.5 * with_it
