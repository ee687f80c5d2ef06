"""Barlow Twins against lightly's loss, the numbers of the reference notes, and what people get wrong."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from torch import Tensor

from harness.methods.barlow_twins import cross_correlation, deviations
from harness.methods.base import trainable
from harness.optim.optimizers import LarsOptimizer, Rates
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import built, example, random_batch, tiny_run
from tests.methods.test_byol import X, Y

NOW = Progress(0, 80, 8)


def loss(x: Tensor, y: Tensor, redundancy: float = 0.005) -> Tensor:
    on, off = deviations(cross_correlation(x, y))
    return on + redundancy * off


def test_the_numbers_of_the_reference_notes() -> None:
    """With the biased variance of the code; the unbiased one of the pseudo-code would give .131990."""
    correlation = cross_correlation(X, Y)
    torch.testing.assert_close(
        correlation, torch.tensor([[0.989471, 0.441144], [0.565908, 0.995934]]), atol=1e-6, rtol=0
    )
    on, off = deviations(correlation)
    assert float(on) == pytest.approx(0.000127394, abs=1e-8) and float(off) == pytest.approx(0.514860, abs=1e-6)


def test_the_loss_is_lightlys_and_that_of_a_naive_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 12, 7, generator=draw)
    torch.testing.assert_close(loss(x, y), BarlowTwinsLoss(lambda_param=5e-3)(x, y))
    a, b = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (x, y))
    by_hand = 0.0
    for i in range(7):
        for j in range(7):
            c = float((a[:, i] * b[:, j]).mean())
            by_hand += (1 - c) ** 2 if i == j else 0.005 * c**2
    assert float(loss(x, y)) == pytest.approx(by_hand, rel=1e-5)


def test_constant_embeddings_cost_their_width_and_scales_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 64, 5, generator=draw)
    assert float(loss(torch.ones(64, 5), torch.ones(64, 5))) == 5.0
    torch.testing.assert_close(loss(3 * x + 1, y - 2), loss(x, y), rtol=1e-4, atol=1e-4)
    assert float(loss(x, x)) < 0.01


def test_gradients_come_through_both_views() -> None:
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    loss(x, y).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and y.grad is not None and bool(x.grad.any()) and bool(y.grad.any())


def test_the_rate_of_biases_stands_for_a_smaller_loss() -> None:
    """Where LARS adapts it does not see the scale of a loss, elsewhere it does: a loss times 0.024 moves the same."""
    moved = []
    for scale, share in ((1.0, 0.024), (0.024, 1.0)):
        settings = {"invariance": scale, "redundancy": 0.005 * scale, "bias_lr_scale": share}
        model = built("barlow_twins", method={"barlow_twins": settings}, head=tiny_run("barlow_twins")["head"])
        lars = LarsOptimizer(lr=0.2, weight_decay=0.0)
        made, rates = lars.build(model, model.groups("main")), Rates(lars, 2048, warmup_steps=0, decay_steps=80)
        before = [one.detach().clone() for one in trainable(model)]
        optimise(model, {"main": made}, random_batch(32), NOW, set_rates=rates)
        moved.append([now.detach() - old for now, old in zip(trainable(model), before, strict=True)])
    for ours, theirs in zip(*moved, strict=True):
        assert bool(ours.any())
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


def trained(number: int, steps: int = 60) -> dict[str, float]:
    model = example("barlow_twins", number, batch_size=32)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.03, momentum=0.9)}
    values: dict[str, Tensor] = {}
    for step in range(steps):
        values = optimise(model, made, random_batch(32, seed=step), Progress(step, steps, 8))
    return {name: float(value) for name, value in values.items()}


def test_without_invariance_views_have_nothing_to_do_with_each_other() -> None:
    """Table 5: redundancy reduction alone learns nothing (0.1), as any noise satisfies it."""
    both, alone = trained(0), trained(2)
    assert alone["on_diagonal"] > 2 * both["on_diagonal"] and alone["off_diagonal"] < both["off_diagonal"]
