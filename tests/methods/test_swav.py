"""SwAV against lightly's loss, the numbers of the reference notes, and the order of its steps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from torch import Tensor

from harness.methods.base import trainable
from harness.methods.sinkhorn import sinkhorn
from harness.methods.swav import SwAVMethod
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, built, example, random_batch

LATE = Progress(40, 80, 8)
S = torch.tensor([[0.9, 0.1, -0.3], [0.8, 0.2, 0.0], [-0.5, 0.6, 0.4], [0.7, 0.65, 0.1]])


def crops(seed: int = 0, *, images: int = 8) -> list[Tensor]:
    """Two large and two small views of noise."""
    return [*random_batch(images, seed=seed).views, *random_batch(images, seed=seed + 1000, size=8).views]


def test_the_codes_of_the_reference_notes() -> None:
    """After three iterations rows are distributions, and columns not yet of one mass: 4 / 3 each comes after many."""
    by_hand = [
        [0.999952, 0.000042, 0.000006],
        [0.981161, 0.002258, 0.016581],
        [0, 0.119881, 0.880119],
        [0.007156, 0.986241, 0.006603],
    ]
    codes = sinkhorn(S / 0.05, 3)
    torch.testing.assert_close(codes, torch.tensor(by_hand), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(codes.sum(0), torch.tensor([1.988269, 1.108424, 0.903307]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        sinkhorn(S / 0.05, 1)[1], torch.tensor([0.996392, 0.000766, 0.002841]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(sinkhorn(S / 0.05, 200).sum(0), torch.full((3,), 4 / 3), atol=1e-4, rtol=0)
    assert bool(sinkhorn(S / 0.001, 3).isfinite().all()), "the exponentials of 900 would not be"


def test_the_loss_is_lightlys_and_that_of_all_pairs() -> None:
    model, views = example("swav"), crops()
    update = next(model.training_step(batch_of(views), Progress(0, 80, 8)))  # before the queue is full
    assert isinstance(model, SwAVMethod)
    h = [model.encoder(torch.stack(pair, 1).flatten(0, 1)).view(8, 2, -1) for pair in (views[:2], views[2:])]
    z = F.normalize(model.head(torch.cat(h, 1).flatten(0, 1)), dim=1).view(8, 4, -1).unbind(1)
    scores = [(one @ F.normalize(model.prototypes.weight, dim=1).T).detach() for one in z]
    pairs = []
    for i in range(2):
        for v in range(4):
            if v != i:
                code = sinkhorn(scores[i] / 0.05, 3)
                pairs.append(-(code * (scores[v] / 0.1).log_softmax(1)).sum(1).mean())
    torch.testing.assert_close(update.loss.detach(), torch.stack(pairs).mean())
    torch.testing.assert_close(update.loss.detach(), SwaVLoss()(scores[:2], scores[2:])[0])


def test_a_full_queue_takes_part_in_the_codes_and_a_filling_one_does_not() -> None:
    model, other = example("swav", batch_size=8), example("swav", 6, batch_size=8)  # the latter has none
    assert isinstance(model, SwAVMethod)
    made = [{"main": torch.optim.SGD(trainable(one), lr=0.1)} for one in (model, other)]
    equal = []
    for step in range(6):
        batch, before = batch_of(crops(step)), model.queue.clone()
        ours, theirs = (
            optimise(one, by, batch, Progress(step, 80, 8)) for one, by in zip((model, other), made, strict=True)
        )
        equal.append(bool(ours["loss"] == theirs["loss"]))
        changed = (model.queue != before).any(2)
        place = step * 8 % 32
        assert changed.nonzero()[:, 1].tolist() == [*range(place, place + 8)] * 2
    assert equal == [True] * 4 + [False] * 2


def test_prototypes_are_unit_vectors_at_every_step_and_wait_to_learn() -> None:
    model = example("swav", 8)  # freeze_prototypes 1
    assert isinstance(model, SwAVMethod)
    made = {"main": torch.optim.SGD(trainable(model), lr=1.0, weight_decay=0.1)}
    before = F.normalize(model.prototypes.weight.detach().clone(), dim=1)
    seen: list[Tensor] = []
    model.prototypes.register_forward_hook(lambda layer, *_: seen.append(layer.weight.norm(dim=1)))
    optimise(model, made, batch_of(crops()), Progress(7, 80, 8))
    torch.testing.assert_close(model.prototypes.weight.detach(), before)
    optimise(model, made, batch_of(crops()), Progress(8, 80, 8))
    assert not torch.allclose(model.prototypes.weight, before, atol=1e-3), "it ends the step as the update left it"
    optimise(model, made, batch_of(crops()), Progress(9, 80, 8))
    for norms in seen:
        torch.testing.assert_close(norms, torch.ones(16))


def untrained(views: list[Tensor]) -> float:
    """The first loss of 128 prototypes in 128 dimensions, less log K."""
    settings = {"prototypes": 128, "freeze_prototypes": 0.0}
    head = {"mlp": {"hidden_dim": 64, "out_dim": 128}}
    model = built("swav", method={"swav": settings}, head=head, images=64)
    return float(next(model.training_step(batch_of(views), LATE)).loss.detach()) - math.log(128)


def test_an_untrained_loss_is_near_log_k_and_not_at_it() -> None:
    """Within [-1.2, 0.5] of it: above for unrelated views, well below for equal ones."""
    images, others = random_batch(64).views
    unrelated, equal = untrained([images, others]), untrained([images, images])
    assert 0 < unrelated < 0.5 and -1.2 < equal < -0.3


def trained(number: int, lr: float, steps: int = 60) -> list[dict[str, float]]:
    """What is logged at every step on pairs of views that differ by some noise."""
    model = example("swav", number, batch_size=32)
    made = {"main": torch.optim.SGD(trainable(model), lr=lr, momentum=0.9)}
    found = []
    for step in range(steps):
        images, more = random_batch(32, seed=step).views
        batch = batch_of([images, 0.7 * images + 0.3 * more])
        values = optimise(model, made, batch, Progress(step, steps, 80))
        found.append({name: float(value) for name, value in values.items()})
    return found


def test_the_loss_may_rise_at_first() -> None:
    """At a high rate it is above its first value for some steps, and falls all the same."""
    losses = [one["loss"] for one in trained(0, lr=0.3)]
    assert max(losses[1:8]) > losses[0] + 0.2 and losses[-1] < losses[0] - 0.5


def test_without_equal_masses_everything_ends_in_one_cluster() -> None:
    """The trivial solution (section 3.1): a loss of 0, one prototype for all images."""
    equal, free = trained(0, lr=0.1)[-1], trained(4, lr=0.1)[-1]
    assert free["loss"] < 0.01 and free["prototypes_used"] == 1
    assert equal["loss"] > 1 and equal["prototypes_used"] > 4
