"""VICReg against lightly's loss, the numbers of the reference notes, and its collapse."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import VICRegLoss
from torch import Tensor

from harness.data.views import Batch
from harness.methods.base import trainable
from harness.methods.vicreg import penalties
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, built, example, random_batch, tiny_run
from tests.methods.test_byol import X, Y

NOW = Progress(0, 80, 8)


def loss(x: Tensor, y: Tensor, variance: float = 25.0) -> float:
    s, v, c = penalties(x, y)
    return float(25 * s + variance * v + c)


def test_the_numbers_of_the_reference_notes() -> None:
    """The variance term is halved in the code and not in the paper's Algorithm 1."""
    torch.testing.assert_close(torch.stack(penalties(X, Y)), torch.tensor([0.53125, 0.0, 8.897569]))
    assert loss(X, Y) == pytest.approx(22.178819, rel=1e-5)
    assert loss(0.1 * X, 0.1 * Y) == pytest.approx(19.847758, rel=1e-5)
    assert loss(0.1 * X, 0.1 * Y, variance=50.0) == pytest.approx(39.561814, rel=1e-5)
    still = torch.ones(4, 2)
    assert loss(still, still) == pytest.approx(24.75, rel=1e-5)
    assert loss(still, still, variance=50.0) == pytest.approx(49.5, rel=1e-5)


def test_the_loss_is_lightlys_and_that_of_a_naive_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = 0.7 * torch.randn(2, 12, 5, generator=draw)
    assert loss(x, y) == pytest.approx(float(VICRegLoss()(x, y)), rel=1e-5)
    by_hand = 25 * float((x - y).square().mean())
    for z in (x, y):
        for i in range(5):
            by_hand += 25 / 2 * max(0.0, 1 - float((z[:, i].var() + 1e-4).sqrt())) / 5
            for j in range(5):
                covariance = float(((z[:, i] - z[:, i].mean()) * (z[:, j] - z[:, j].mean())).sum()) / 11
                by_hand += covariance**2 / 5 if i != j else 0.0
    assert loss(x, y) == pytest.approx(by_hand, rel=1e-5)


def test_an_offset_of_both_views_costs_nothing_and_that_of_one_only_invariance() -> None:
    s, v, c = penalties(X, Y)
    torch.testing.assert_close(penalties(X + 3, Y + 3), (s, v, c))
    other = penalties(X + 3, Y)
    torch.testing.assert_close(other[1:], (v, c))
    assert float(other[0]) > float(s)


def test_its_step_weighs_the_terms() -> None:
    settings = {"invariance": 3.0, "variance": 5.0, "covariance": 7.0}
    model = built("vicreg", method={"vicreg": settings}, head=tiny_run("vicreg")["head"])
    batch = random_batch(8)
    update = next(model.training_step(batch, NOW))
    s, v, c = penalties(*(model.head(model.encoder(view)) for view in batch.views))
    torch.testing.assert_close(update.loss, 3 * s + 5 * v + 7 * c)


def pair(seed: int) -> Batch:
    """Two views of 32 images of noise that differ by a little more noise."""
    images, more = random_batch(32, seed=seed).views
    return batch_of([images, 0.7 * images + 0.3 * more])


def deviation(number: int, steps: int = 60) -> float:
    """Mean deviation of the columns of the embedding of fresh images after some steps on others."""
    model = example("vicreg", number, batch_size=32)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.02, momentum=0.9)}
    for step in range(steps):
        optimise(model, made, pair(step), Progress(step, steps, 8))
    with torch.no_grad():
        return float(model.project(model.represent(pair(99).views[0])).std(0).mean())


def test_without_the_variance_term_it_collapses() -> None:
    """Table 7. With it, deviations end near the hinge at 1."""
    with_it, without = deviation(0), deviation(2)
    assert with_it > 0.5 and without < 0.1 * with_it
