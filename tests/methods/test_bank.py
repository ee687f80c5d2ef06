"""The memory bank and its losses, against naive loops written from the equations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.rng import ImageRng
from harness.methods import bank as module
from harness.methods.bank import NCE, Bank, Softmax


def filled(images: int = 20, dim: int = 4, *, unit: bool = False) -> Bank:
    torch.manual_seed(0)
    return Bank(images, dim, unit=unit)


def codes(count: int, dim: int = 4) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(1)), dim=1)


def test_rows_start_with_a_norm_of_about_one_or_of_exactly_one() -> None:
    """The official code of InstDisc and CMC, and that of PIRL."""
    norms = filled(20_000, 128).rows.norm(dim=1)
    assert float(norms.mean()) == pytest.approx(1.0, abs=0.01) and float(norms.std()) == pytest.approx(0.04, abs=0.005)
    torch.testing.assert_close(filled(20, unit=True).rows.norm(dim=1), torch.ones(20))


def test_only_visited_rows_move_and_to_unit_length() -> None:
    bank, places, new = filled(), torch.tensor([3, 0, 11]), codes(3)
    before = bank.rows.clone()
    bank.put(places, new, 0.25)
    for row in range(20):
        if row not in places:
            assert torch.equal(bank.rows[row], before[row])
            continue
        moved = 0.25 * before[row] + 0.75 * new[places.tolist().index(row)]
        torch.testing.assert_close(bank.rows[row], moved / moved.norm())


def test_of_an_image_that_occurs_twice_the_last_code_counts() -> None:
    ours, theirs, new = filled(), filled(), codes(5)
    ours.put(torch.tensor([7, 2, 7, 9, 7]), new, 0.5)
    theirs.put(torch.tensor([9, 7, 2]), new[[3, 4, 1]], 0.5)
    assert torch.equal(ours.rows, theirs.rows)


@pytest.mark.parametrize("dense", [0, 16], ids=["rows asked for", "products with all"])
def test_similarities_are_dot_products(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    monkeypatch.setattr(module, "DENSE", dense)
    bank, new = filled(), codes(3).requires_grad_()
    places = torch.tensor([[0, 5, 5], [1, 19, 2], [3, 3, 3]])
    found = bank.similarities(new, places)
    for row in range(3):
        for column in range(3):
            torch.testing.assert_close(found[row, column], new[row] @ bank.rows[places[row, column]])
    (gradient,) = torch.autograd.grad(found.sum(), new)
    torch.testing.assert_close(gradient, bank.rows[places].sum(1))
    torch.testing.assert_close(bank.similarities(new), new @ bank.rows.T)


def test_noise_is_drawn_by_the_image_from_all_rows_its_own_included() -> None:
    bank, places = filled(), torch.arange(20)
    rng = ImageRng(seed=0, epoch=0, images=places)
    found = bank.with_noise(places, rng.child("n"), 500)
    assert torch.equal(found[:, 0], places) and found.shape == (20, 501)
    counts = torch.stack([torch.bincount(one[1:], minlength=20) for one in found])
    assert int(counts.min()) > 5 and int(counts.max()) < 50, "every row is noise for every image, 25 times of 500"
    part = bank.with_noise(places[4:6], ImageRng(seed=0, epoch=0, images=places[4:6]).child("n"), 500)
    assert torch.equal(part, found[4:6]), "whatever the rest of the batch"


def nce_by_hand(logits: Tensor, images: int, constant: float) -> float:
    """Sums and means as in ``NCECriterion`` of lemniscate.pytorch, with its 1e-7."""
    noise, total = (logits.shape[1] - 1) / images, 0.0
    for row in logits.tolist():
        p = [math.exp(one) / constant for one in row]
        total -= math.log(p[0] / (p[0] + noise + 1e-7))
        total -= sum(math.log(noise / (one + noise + 1e-7)) for one in p[1:])
    return total / len(logits)


def test_nce_keeps_the_constant_of_its_first_batch() -> None:
    loss = NCE(20)
    first, second = (torch.randn(6, 9, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    constant = 20 * float(first.exp().mean())
    for logits in (first, second):
        assert float(loss(logits)) == pytest.approx(nce_by_hand(logits, 20, constant), rel=1e-5)
    assert float(loss.log_constant.exp()) == pytest.approx(constant, rel=1e-6)


def test_nce_is_finite_where_probabilities_are_not() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = NCE(20)(logits)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize(("temperature", "constant"), [(0.07, 2.22), (0.1, 1.48)])
def test_at_step_0_the_losses_are_above_chance(temperature: float, constant: float) -> None:
    """``log K + 1 + v / 2`` with v = 1 / (D t^2) for NCE, not ``log(K + 1)``; without the 1 for the softmax.

    Whatever the codes are, as the bank is noise. The constant is n times ``exp(v / 2)``.
    """
    torch.manual_seed(0)
    images, noise, half = 20_000, 4096, 1 / (2 * 128 * temperature**2)
    bank, places = Bank(images, 128), torch.arange(512)
    among = bank.with_noise(places, ImageRng(seed=0, epoch=0, images=places).child("n"), noise)
    logits = bank.similarities(codes(512, 128), among) / temperature
    loss = NCE(images)
    assert float(loss(logits)) == pytest.approx(math.log(noise) + 1 + half, abs=0.2)
    assert float(loss.log_constant.exp()) / images == pytest.approx(constant, rel=0.03)
    assert float(Softmax()(logits)) == pytest.approx(math.log(noise) + half, abs=0.2)
