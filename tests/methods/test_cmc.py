"""CMC: which bank each encoder looks into, what each sees, and that both are evaluated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.ops.lab import centred
from harness.methods.base import trainable
from harness.methods.cmc import CMCMethod
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, example, random_batch
from tests.methods.test_bank import nce_by_hand

NOW = Progress(0, 80, 8)


def fresh(number: int = 0) -> CMCMethod:
    model = example("cmc", number)
    assert isinstance(model, CMCMethod)
    return model


def codes(model: CMCMethod, images: Tensor) -> tuple[Tensor, Tensor]:
    channels = centred(images)
    found = []
    for part, head, seen in zip(model.encoder.parts, model.head.heads, (channels[:, :1], channels[:, 1:]), strict=True):  # type: ignore[arg-type]
        found.append(F.normalize(head(part(seen)), dim=1).detach())
    return found[0], found[1]


def parts_of(model: CMCMethod, images: Tensor) -> float:
    return float(next(model.training_step(batch_of([images]), NOW)).loss.detach())


def test_each_code_looks_for_the_others_row_among_the_same_negatives() -> None:
    """Both directions, summed; each has a constant of its own."""
    model, images = fresh(), random_batch(8, views=1).views[0]
    among = torch.cat([torch.arange(8)[:, None], batch_of([images]).rng.child("negatives").integers(40, 6)], dim=1)
    expected = 0.0
    for code, rows in zip(codes(model, images), (model.bank_of_ab.rows, model.bank_of_l.rows), strict=True):
        logits = torch.stack([rows[one] @ v for one, v in zip(among, code, strict=True)]) / 0.2
        expected += nce_by_hand(logits, 40, 40 * float(logits.exp().mean()))
    assert parts_of(model, images) == pytest.approx(expected, rel=1e-4)


def test_the_code_of_l_depends_on_the_bank_of_ab_and_not_on_its_own() -> None:
    """With the banks exchanged it would train two InstDiscs, and look as if it worked."""
    images, gradients = random_batch(8, views=1).views[0], []
    for bank in (None, "bank_of_l", "bank_of_ab"):
        model = fresh(2)
        if bank is not None:
            getattr(model, bank).rows[0].neg_()
        of_l = next(model.encoder.parts[0].parameters())  # type: ignore[index]
        gradients.append(torch.autograd.grad(next(model.training_step(batch_of([images]), NOW)).loss, of_l)[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert not torch.allclose(gradients[2], gradients[0], rtol=1e-3)


def test_both_banks_take_the_codes_after_the_update() -> None:
    model, images = fresh(), random_batch(8, views=1).views[0]
    before = [bank.rows.clone() for bank in (model.bank_of_l, model.bank_of_ab)]
    found = codes(model, images)
    optimise(model, {"main": torch.optim.SGD(trainable(model), lr=1.0)}, batch_of([images]), NOW)
    for bank, rows, code in zip((model.bank_of_l, model.bank_of_ab), before, found, strict=True):
        torch.testing.assert_close(bank.rows[:8], F.normalize(rows[:8] + code, dim=1))
        assert torch.equal(bank.rows[8:], rows[8:])


def test_one_encoder_is_blind_to_color_and_the_other_sees_what_is_left() -> None:
    """A gray image gives the encoder of ab nothing to see; both halves of h are there for a probe."""
    model = fresh().eval()
    images = random_batch(4, views=1).views[0]
    gray = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    h, of_gray = model.represent(images), model.represent(gray)
    assert h.shape == (4, 2 * 16) and model.encoder.out_dim == 32
    torch.testing.assert_close(of_gray[:, 16:], of_gray[:1, 16:].expand(4, 16), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(of_gray[0, :16], of_gray[1, :16], rtol=1e-3)
    assert not torch.allclose(h[0, 16:], h[1, 16:], rtol=1e-3)


def test_rates_by_layer_know_both_encoders() -> None:
    encoder = fresh().encoder
    depths = {encoder.depth_of(name) for name, _ in encoder.named_parameters()}  # type: ignore[operator]
    assert depths == {0, 1, 2} and encoder.depth == 2
