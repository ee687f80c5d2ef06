"""MoCo: the queue, the momentum encoder and the shuffle, step by step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss

from harness.methods.base import Method, trainable
from harness.models.norm import BatchNorm, Norm
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, built, example, random_batch

NOW = Progress(0, 80, 8)
ALONE = Norm(groups=1)


def step(model: Method, number: int = 0, lr: float = 0.1) -> dict[str, torch.Tensor]:
    return optimise(model, {"main": torch.optim.SGD(trainable(model), lr=lr)}, random_batch(8, seed=number), NOW)


def test_the_negatives_are_the_queue_and_nothing_else() -> None:
    """A naive loop; and lightly's loss over the same queue, which takes it as its memory bank."""
    model, batch = example("moco", norm=ALONE), random_batch(8)
    q, k = (F.normalize(model.head(model.encoder(view)), dim=1).detach() for view in batch.views)
    by_hand = []
    for own in range(8):
        logits = torch.stack([q[own] @ k[own], *(q[own] @ key for key in model.queue)]) / 0.2
        by_hand.append(-logits.log_softmax(0)[0])
    update = next(model.training_step(batch, NOW))
    torch.testing.assert_close(update.loss.detach(), torch.stack(by_hand).mean())
    theirs = NTXentLoss(temperature=0.2, memory_bank_size=(64, 8))
    theirs.memory_bank.bank = model.queue.clone()
    theirs.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    torch.testing.assert_close(update.loss.detach(), theirs(q, k))


def test_a_step_replaces_the_oldest_keys_and_no_others() -> None:
    model = example("moco", 1)  # a queue of 32, batches of 8
    for number in range(5):
        before, at = model.queue.clone(), int(model.place)
        step(model, number)
        changed = (model.queue != before).any(1).nonzero().flatten().tolist()
        assert at == 8 * number % 32 and changed == [*range(at, at + 8)]
        torch.testing.assert_close(model.queue.norm(dim=1), torch.ones(32))


def test_the_keys_network_follows_after_the_update_and_is_never_learned() -> None:
    model = example("moco", 2)  # momentum 0.5
    old = [one.clone() for one in model.keys.parameters()]
    query = torch.nn.Sequential(model.encoder, model.head)
    assert all(torch.equal(one, other) for one, other in zip(old, query.parameters(), strict=True)), "a copy"
    step(model, lr=1.0)
    for key, before, now in zip(model.keys.parameters(), old, query.parameters(), strict=True):
        torch.testing.assert_close(key, 0.5 * before + 0.5 * now)
        assert key.grad is None
    layers = [[one for one in net.modules() if isinstance(one, BatchNorm)] for net in (query, model.keys)]
    assert not torch.equal(layers[0][0].running_mean, layers[1][0].running_mean)


@pytest.mark.parametrize(("groups", "matters"), [(1, False), (4, True)])
def test_shuffling_matters_where_statistics_are_of_a_part_of_the_batch(groups: int, matters: bool) -> None:
    batch = random_batch(8)
    keys = [example("moco", number, norm=Norm(groups=groups))._key(batch.views[1], batch.rng) for number in (0, 4)]
    same = torch.allclose(*keys, atol=1e-5)
    assert same is not matters


def test_shuffled_keys_come_back_in_their_images_order() -> None:
    """Each key is that of its image among the shuffled groups: by hand, from the order that the images' draws give."""
    model, batch = example("moco", norm=Norm(groups=4)), random_batch(8)
    order = batch.rng.child("shuffle").bits(1)[:, 0].argsort(stable=True)
    assert order.tolist() != [*range(8)]
    found = model._key(batch.views[1], batch.rng)
    by_hand = torch.empty_like(found)
    network = example("moco", norm=ALONE)  # the same weights; statistics of whatever it is given
    for group in order.chunk(4):
        by_hand[group] = F.normalize(network.keys(batch.views[1][group]), dim=1)
    torch.testing.assert_close(found, by_hand, rtol=1e-3, atol=1e-4)


def test_versions_1_and_2_are_settings() -> None:
    """A linear head; two layers as wide as h, without batch norm, with biases (``moco/builder.py``)."""
    first = built("moco", head={"mlp": {"hidden_layers": 0, "out_dim": 8}}, method={"moco": {"queue": 24}})
    second = built("moco", head={"mlp": {"out_dim": 8, "batch_norm": False}}, method={"moco": {"queue": 24}})
    shapes = [[tuple(one.shape) for one in model.head.parameters()] for model in (first, second)]
    assert shapes == [[(8, 16), (8,)], [(16, 16), (16,), (8, 16), (8,)]]


def test_independent_keys_give_the_loss_of_chance() -> None:
    """``log K + 1 / (2 D tau^2)`` for random unit vectors, not ``log(K + 1)``."""
    draw = torch.Generator().manual_seed(0)
    q, k, queue = (F.normalize(torch.randn(n, 128, generator=draw), dim=1) for n in (512, 512, 4096))
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / 0.1
    found = float(F.cross_entropy(logits, torch.zeros(512, dtype=torch.long)))
    expected = float(torch.log(torch.tensor(4096.0))) + 1 / (2 * 128 * 0.01)
    assert found == pytest.approx(expected, abs=0.1)


def test_the_first_loss_is_low_and_rises_while_the_queue_fills() -> None:
    """At step 0 the two networks are one and the queue is noise: the key is found at once, not by chance.

    As keys of other images, all alike at the beginning, take the place of the noise, it becomes hard to find.
    """
    about = {"method": {"moco": {"queue": 64, "momentum": 0.999}}, "head": {"mlp": {"hidden_layers": 0}}}
    model = built("moco", batch_size=8, **about)
    made = {"main": torch.optim.SGD(trainable(model), lr=1e-3)}
    found = []
    for number in range(9):
        images = random_batch(8, views=1, seed=number).views[0]
        near = images + 0.05 * random_batch(8, views=1, seed=100 + number).views[0]
        found.append(optimise(model, made, batch_of([images, near]), Progress(number, 80, 8)))
    losses = [float(one["loss"]) for one in found]
    assert losses[0] < 0.1 and float(found[0]["top1"]) == 100.0
    assert losses[0] < losses[2] < losses[4] < losses[8] and losses[8] > 1.0
