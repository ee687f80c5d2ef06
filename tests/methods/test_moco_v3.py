"""MoCo v3: the batch as dictionary, the factor of the temperature, heads, and the momentum network."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from harness.methods.base import trainable
from harness.methods.moco_v3 import MoCoV3Method, contrast
from harness.models.norm import BatchNorm
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import example, random_batch

NOW = Progress(0, 80, 8)


@pytest.mark.parametrize("number", [0, 3])
def test_each_query_looks_for_the_other_views_key_among_those_of_the_batch(number: int) -> None:
    """Both directions, summed, times twice the temperature. Keys of the query's own view are no negatives."""
    model, batch, t = example("moco_v3", number), random_batch(8), (1.0, 0.2)[number > 0]
    assert isinstance(model, MoCoV3Method)
    update = next(model.training_step(batch, NOW))
    q = [model.predictor(model.head(model.encoder(view))) for view in batch.views]
    k = [model.keys.net(view) for view in batch.views]
    total = torch.zeros(())
    for mine, theirs in ((q[0], k[1]), (q[1], k[0])):
        for row in range(8):
            logits = torch.stack([F.cosine_similarity(mine[row], key, dim=0) for key in theirs]) / t
            total = total - 2 * t * logits.log_softmax(0)[row] / 8
    torch.testing.assert_close(update.loss, total)


@pytest.mark.parametrize(("t", "expected"), [(1.0, 22.18), (0.2, 4.44)])
def test_independent_codes_give_the_loss_of_chance(t: float, expected: float) -> None:
    """``4 t log N``; and no code can leave 2 / t of it, for each half of it."""
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(256, 256, generator=draw), torch.randn(256, 256, generator=draw)
    found = float(contrast(q, k, t)[0] + contrast(k, q, t)[0])
    assert found == pytest.approx(expected, abs=0.1) and expected == pytest.approx(4 * t * math.log(256), abs=0.01)
    best = float(contrast(q, q, t)[0])
    assert best / (2 * t) >= math.log(256) - 2 / t


def test_the_momentum_network_follows_after_the_update_without_the_predictor() -> None:
    model = example("moco_v3", 1)  # momentum 0.5
    assert isinstance(model, MoCoV3Method)
    old = [one.clone() for one in model.keys.parameters()]
    query = torch.nn.Sequential(model.encoder, model.head)
    assert all(torch.equal(one, other) for one, other in zip(old, query.parameters(), strict=True)), "a copy"
    optimise(model, {"main": torch.optim.SGD(trainable(model), lr=1.0)}, random_batch(8), NOW)
    for key, before, now in zip(model.keys.parameters(), old, query.parameters(), strict=True):
        torch.testing.assert_close(key, 0.5 * before + 0.5 * now)
        assert key.grad is None


def test_the_heads_are_those_of_the_official_code() -> None:
    """No bias anywhere; the projector ends in batch norm without a scale, the predictor without batch norm."""
    model = example("moco_v3")
    assert isinstance(model, MoCoV3Method)
    linear = [
        one for head in (model.head, model.predictor) for one in head.modules() if isinstance(one, torch.nn.Linear)
    ]
    assert len(linear) == 4 and all(one.bias is None for one in linear)
    last = [list(head.children())[-1] for head in (model.head, model.predictor)]
    assert isinstance(last[0], BatchNorm) and last[0].bias is None and not last[0].weight.requires_grad
    assert isinstance(last[1], torch.nn.Linear)
