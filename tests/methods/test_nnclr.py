"""NNCLR: neighbours as lightly finds them, the loss as a naive loop of the paper's equation has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightly.models.modules import NNMemoryBankModule

from harness.methods.base import trainable
from harness.methods.nnclr import NNCLRMethod
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import example, random_batch

NOW = Progress(0, 80, 8)


def test_a_neighbour_finds_the_other_views_prediction_among_those_of_the_batch() -> None:
    """lightly's neighbours; the loss by hand, whose negatives are the predictions of one view alone."""
    model, batch = example("nnclr"), random_batch(8)
    assert isinstance(model, NNCLRMethod)
    update = next(model.training_step(batch, NOW))
    z = [model.head(model.encoder(view)) for view in batch.views]
    p = [F.normalize(model.predictor(one), dim=1) for one in z]
    bank = NNMemoryBankModule(size=(64, 8))
    bank.bank, bank.bank_ptr = model.queue.clone(), torch.zeros(1, dtype=torch.long)
    by_hand = []
    for own, other in ((0, 1), (1, 0)):
        near = bank(z[own].detach())
        for i in range(8):
            logits = torch.stack([near[i] @ p[other][k] for k in range(8)]) / 0.2
            by_hand.append(-logits.log_softmax(0)[i])
    torch.testing.assert_close(update.loss, torch.stack(by_hand).mean())


def test_only_predictions_carry_a_gradient() -> None:
    """A neighbour is a constant: with the predictor cut off, nothing reaches the encoder."""
    model = example("nnclr")
    assert isinstance(model, NNCLRMethod)
    model.predictor.register_forward_hook(lambda *seen: seen[-1].detach())
    assert not next(model.training_step(random_batch(8), NOW)).loss.requires_grad


def test_a_step_replaces_the_oldest_rows_by_the_first_views_projections() -> None:
    model = example("nnclr", 2)  # a queue of 32, batches of 8
    assert isinstance(model, NNCLRMethod)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.1)}
    for number in range(5):
        before, at, batch = model.queue.clone(), 8 * number % 32, random_batch(8, seed=number)
        with torch.no_grad():
            z = F.normalize(model.head(model.encoder(batch.views[0])), dim=1)
        optimise(model, made, batch, NOW)
        changed = (model.queue != before).any(1).nonzero().flatten().tolist()
        assert changed == [*range(at, at + 8)]
        torch.testing.assert_close(model.queue[at : at + 8], z)


def test_equal_predictions_cost_log_b() -> None:
    model = example("nnclr")
    assert isinstance(model, NNCLRMethod)
    model.predictor.register_forward_hook(lambda *seen: torch.ones_like(seen[-1]))
    loss = next(model.training_step(random_batch(8), NOW)).loss
    torch.testing.assert_close(loss, torch.tensor(8.0).log())
