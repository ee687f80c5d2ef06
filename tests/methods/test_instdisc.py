"""InstDisc: a stale positive, negatives from the bank, and what the first epoch can and cannot show."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.methods.base import Method, trainable
from harness.methods.instdisc import InstDiscMethod
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, example, random_batch
from tests.methods.test_bank import nce_by_hand

NOW = Progress(0, 80, 8)


def codes(model: Method, images: torch.Tensor) -> torch.Tensor:
    return F.normalize(model.head(model.encoder(images)), dim=1).detach()


def loss_of(model: Method, images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return next(model.training_step(batch_of([images], places), NOW)).loss.detach()


def test_the_loss_is_that_of_the_official_code() -> None:
    """Cross-entropy over drawn rows; over the whole bank; noise-contrastive estimation."""
    batch = random_batch(8, views=1)
    places = torch.tensor([5, 1, 30, 2, 9, 8, 0, 20])
    drawn = batch_of(batch.views, places).rng.child("negatives").integers(40, 6)
    for number in (0, 2, 3):
        model = example("instdisc", number)
        assert isinstance(model, InstDiscMethod)
        f, rows = codes(model, batch.views[0]), model.bank.rows.clone()
        among = torch.cat([places[:, None], drawn], dim=1)
        logits = torch.stack([rows[one] @ v for one, v in zip(among, f, strict=True)]) / 0.2
        every = torch.stack([rows @ v for v in f]) / 0.2
        expected = {
            0: F.cross_entropy(logits, torch.zeros(8, dtype=torch.long)),
            2: F.cross_entropy(every, places),
            3: torch.tensor(nce_by_hand(logits, 40, 40 * float(logits.exp().mean()))),
        }[number]
        torch.testing.assert_close(loss_of(model, batch.views[0], places), expected, rtol=1e-4, atol=1e-4)


def test_the_positive_is_the_row_of_an_earlier_epoch_and_the_new_code_enters_after_the_update() -> None:
    model, batch = example("instdisc"), random_batch(8, views=1)
    assert isinstance(model, InstDiscMethod)
    before, f = model.bank.rows.clone(), codes(model, batch.views[0])
    values = optimise(model, {"main": torch.optim.SGD(trainable(model), lr=1.0)}, batch, NOW)
    torch.testing.assert_close(values["own_row"], F.cosine_similarity(f, before[:8]).mean())
    torch.testing.assert_close(model.bank.rows[:8], F.normalize(0.5 * before[:8] + 0.5 * f, dim=1))
    assert torch.equal(model.bank.rows[8:], before[8:])


def test_in_the_first_epoch_every_positive_is_noise_and_from_the_second_on_it_is_not() -> None:
    """Cosines with rows that were never visited are those of random vectors; then about half the row is the code."""
    model = example("instdisc")
    seen = []
    for step in range(10):
        places = torch.arange(8) + 8 * (step % 5)
        batch = batch_of(random_batch(8, views=1, seed=step % 5).views, places, epoch=step // 5)
        seen.append(float(optimise(model, {"main": torch.optim.SGD(trainable(model), lr=1e-3)}, batch, NOW)["own_row"]))
    assert abs(sum(seen[:5]) / 5) < 0.3 and min(seen[5:]) > 0.5


def test_the_proximal_term_pulls_towards_the_row() -> None:
    """Equation 8: the squared distance from the row before, which the official code leaves out."""
    with_it, without = example("instdisc", 6), example("instdisc")
    images, places = random_batch(8, views=1).views[0], torch.arange(8)
    f = codes(with_it, images)
    assert isinstance(with_it, InstDiscMethod)
    distance = (f - with_it.bank.rows[:8]).square().sum(1).mean()
    torch.testing.assert_close(loss_of(with_it, images, places) - loss_of(without, images, places), distance)


@pytest.mark.parametrize("number", [0, 3])
def test_it_learns_to_tell_images_apart(number: int) -> None:
    """Ten epochs over forty images of noise: their own rows are found more and more often."""
    model = example("instdisc", number)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)}
    found = []
    for step in range(60):
        places = torch.arange(8) + 8 * (step % 5)
        batch = batch_of(random_batch(8, views=1, seed=step % 5).views, places, epoch=step // 5)
        found.append(float(optimise(model, made, batch, Progress(step, 60, 5))["own_row"]))
    assert sum(found[-5:]) / 5 > 0.9
