"""SimCLR and its supervised baseline against the paper's algorithm, and parts that do not go with them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.config.errors import SpecError
from harness.optim.schedules import Progress
from tests.methods.pieces import built, random_batch

NOW = Progress(0, 8, 4)


def test_simclr_is_algorithm_1() -> None:
    model, batch = built("simclr"), random_batch()
    (update,) = model.training_step(batch, NOW)
    rows = torch.stack([view[k] for k in range(6) for view in batch.views])
    z = F.normalize(model.head(model.encoder(rows)), dim=1)
    similarity = (z @ z.T / 0.5).fill_diagonal_(-1e9)
    torch.testing.assert_close(update.loss, F.cross_entropy(similarity, torch.arange(12) ^ 1))


def test_supervised_counts_every_view() -> None:
    model, batch = built("supervised", head="none", objective="cross_entropy"), random_batch()
    (update,) = model.training_step(batch, NOW)
    rows = torch.stack([view[k] for k in range(6) for view in batch.views])
    logits = model.classifier(model.encoder(rows))  # type: ignore[operator]
    twice = batch.labels.repeat_interleave(2)
    torch.testing.assert_close(update.loss, F.cross_entropy(logits, twice))
    assert float(update.log["top1"]) == pytest.approx(100 * float((logits.argmax(1) == twice).float().mean()))


@pytest.mark.parametrize(
    ("name", "parts", "said"),
    [
        ("simclr", {"objective": "cross_entropy"}, r"contrastive objective .*nt_xent"),
        ("simclr", {"objective": None}, r"contrastive objective .*nt_xent"),
        ("supervised", {"objective": "nt_xent"}, "objective: cross_entropy"),
        ("supervised", {"objective": "cross_entropy", "head": "linear"}, "head: none"),
        ("byol", {"head": {"mlp": {"out_dim": 8}}}, "give it out_dim: 8"),
        ("simsiam", {"head": {"mlp": {"out_dim": 8}}}, "give it out_dim: 8"),
        ("moco", {"method": {"moco": {"queue": 16}}}, "the nearest is 18"),
        ("moco_v3", {"head": {"mlp": {"out_dim": 8}}}, "give it out_dim: 8"),
        ("instdisc", {"method": {"instdisc": {"negatives": None}}}, "or loss: softmax"),
        ("dino", {"head": "linear"}, "head: prototypes"),
        ("dino", {"head": "none"}, "head: prototypes"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(name: str, parts: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        built(name, **parts)
