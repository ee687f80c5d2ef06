"""SimSiam against lightly's loss and its own paper's ablations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity

from harness.methods.base import trainable
from harness.models.norm import BatchNorm
from harness.optim.optimizers import SGD, Rates
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import example, random_batch

NOW = Progress(0, 80, 8)


def test_the_loss_is_half_of_both_directions() -> None:
    """lightly's counterpart does not detach: its user has to."""
    model, batch = example("simsiam"), random_batch(8)
    update = next(model.training_step(batch, NOW))
    z = [model.head(model.encoder(view)) for view in batch.views]
    p = [model.predictor(one) for one in z]
    theirs = NegativeCosineSimilarity()
    torch.testing.assert_close(update.loss, (theirs(p[0], z[1].detach()) + theirs(p[1], z[0].detach())) / 2)
    naive = [-(F.normalize(a, dim=1) * F.normalize(b, dim=1)).sum(1).mean() for a, b in ((p[0], z[1]), (p[1], z[0]))]
    torch.testing.assert_close(update.loss, sum(naive) / 2)


def test_no_gradient_comes_through_the_target() -> None:
    """With the predictor cut off, nothing reaches the encoder; without the stop-gradient, much does."""
    reached = []
    for number in (0, 3):
        model = example("simsiam", number)
        for one in model.predictor.parameters():
            one.requires_grad_(False)
        model.predictor.register_forward_hook(lambda *seen: seen[-1].detach())
        update = next(model.training_step(random_batch(8), NOW))
        reached.append(update.loss.requires_grad)
    assert reached == [False, True]


@pytest.mark.parametrize(("number", "last"), [(0, 0.1), (2, 0.0)])
def test_the_predictors_rate_is_constant_unless_scheduled(number: int, last: float) -> None:
    model = example("simsiam", number)
    settings = SGD(lr=0.1, lr_scaling="none")
    made = settings.build(model, model.groups("main"))
    Rates(settings, 8, warmup_steps=0, decay_steps=80)(made, Progress(80, 80, 8))
    own = {id(one) for one in model.predictor.parameters()}
    rates = {group["lr"] for group in made.param_groups for one in group["params"] if id(one) in own}
    assert rates == {last}
    assert {g["lr"] for g in made.param_groups for one in g["params"] if id(one) not in own} == {0.0}


def test_the_projectors_output_is_normalised_without_a_scale_of_its_own() -> None:
    last = list(example("simsiam").head.children())[-1]
    assert isinstance(last, BatchNorm) and last.bias is None and not last.weight.requires_grad


def spread(number: int, steps: int = 80) -> tuple[float, float]:
    """(loss, deviation of unit projections times the root of D) after some steps on noise."""
    model = example("simsiam", number, batch_size=32)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.2, momentum=0.9)}
    values = {}
    for step in range(steps):
        values = optimise(model, made, random_batch(32, seed=step), Progress(step, steps, 8))
    return float(values["loss"]), float(values["feature_std"]) * 8**0.5


def test_without_a_stop_gradient_it_collapses() -> None:
    """Figure 2: the loss falls to -1, and the deviation to 0; with it, the deviation stays near 1 / sqrt(D)."""
    (_, with_it), (loss, without) = spread(0), spread(3)
    assert loss < -0.9 and without < 0.5 * with_it and with_it > 0.7
