"""The random streams: each draw a function of its address, all of them well distributed."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from harness.data.rng import ImageRng, mixed, signed

pytestmark = pytest.mark.usefixtures("each_way")


def rng(count: int = 20_000, seed: int = 0, epoch: int = 0) -> ImageRng:
    return ImageRng(seed=seed, epoch=epoch, images=torch.arange(count))


def splitmix(x: int) -> int:
    """The finaliser in Python integers, from the reference implementation."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15])
def test_hash_is_splitmix64(value: int) -> None:
    assert mixed(torch.tensor([signed(value)])).item() == signed(splitmix(value))


def test_draws_are_pinned() -> None:
    # These literals change only if every result ever computed is to change its randomness.
    one = ImageRng(seed=3, epoch=5, images=torch.tensor([0, 49_999])).child("view0").child("crop")
    assert one.bits(2).tolist() == [
        [-2305857078690075848, -1700567861528326585],
        [-2517869491566740377, 2970982559284218100],
    ]


DRAWS = {
    "uniform": lambda r: r.uniform(-1.0, 3.0, 2, 3),
    "bernoulli": lambda r: r.bernoulli(0.3),
    "integers": lambda r: r.integers(17, 4),
    "normal": lambda r: r.normal(3, 5),
    "permutation": lambda r: r.permutation(4),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draw_depends_on_its_address_alone(draw) -> None:
    whole = draw(rng(64))
    assert torch.equal(whole, draw(rng(64)))
    scattered = torch.tensor([40, 3, 3, 17])
    assert torch.equal(whole[scattered], draw(ImageRng(seed=0, epoch=0, images=scattered)))
    assert not torch.equal(whole, draw(rng(64, seed=1)))
    assert not torch.equal(whole, draw(rng(64, epoch=1)))
    assert not torch.equal(whole, draw(rng(64).child("a")))
    twice = rng(64)
    draw(twice)
    assert not torch.equal(whole, draw(twice))


def test_children_do_not_depend_on_what_their_parent_drew() -> None:
    fresh, used = rng(8), rng(8)
    used.uniform(0.0, 1.0, 5)
    assert torch.equal(fresh.child("a").bits(3), used.child("a").bits(3))
    assert not torch.equal(fresh.child("a").bits(3), fresh.child("b").bits(3))
    assert not torch.equal(fresh.child("a").child("b").bits(3), fresh.child("b").child("a").bits(3))


def test_joined_streams_are_their_parts() -> None:
    parts = [rng(3, seed=1), rng(5, seed=2)]
    assert torch.equal(ImageRng.joined(parts).bits(4), torch.cat([one.bits(4) for one in parts]))


def test_moving_a_stream_begins_it_anew() -> None:
    used = rng(8)
    first = used.bits(3)
    assert torch.equal(used.to("cpu").bits(3), first)


def test_seeds_epochs_and_images_do_not_alias() -> None:
    """(seed, epoch + 1, image) must not repeat (seed + 1, epoch, image), nor any of its neighbours."""
    keys = [rng(50, seed=s, epoch=e).keys for s in range(-2, 5) for e in range(7)]
    assert torch.cat(keys).unique().numel() == 50 * 49


@pytest.mark.parametrize("axis", ["images", "positions", "epochs", "streams"])
def test_uniform_along_every_axis(axis: str) -> None:
    """Numbers that neighbour one another in any direction are independent and uniform."""
    n = 20_000
    drawn = {
        "images": lambda: rng(n).uniform(0.0, 1.0),
        "positions": lambda: rng(1).uniform(0.0, 1.0, n)[0],
        "epochs": lambda: torch.cat([rng(1, epoch=e).uniform(0.0, 1.0) for e in range(2_000)]),
        "streams": lambda: torch.cat([rng(1).child(str(i)).uniform(0.0, 1.0) for i in range(2_000)]),
    }[axis]().double()
    assert scipy.stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([drawn[1:], drawn[:-1]]))[0, 1].item()) < 4 / math.sqrt(len(drawn))


def test_every_bit_is_fair() -> None:
    bits = rng(20_000).bits(2)
    for place in range(64):
        share = ((bits >> place) & 1).double().mean().item()
        assert abs(share - 0.5) < 4.5 * 0.5 / math.sqrt(bits.numel()), place


def test_normal() -> None:
    drawn = rng(2_000).normal(3, 3)
    assert drawn.shape == (2_000, 3, 3)
    assert drawn.isfinite().all()
    assert scipy.stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(torch.corrcoef(drawn.flatten(1).T) - torch.eye(9)).max().item() < 0.1


def test_integers_cover_their_range() -> None:
    counts = rng(30_000).integers(6).bincount(minlength=6)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3
    limits = torch.arange(1, 101)
    drawn = rng(100).integers(limits)
    assert (drawn >= 0).all() and (drawn < limits).all()


def test_bernoulli_is_exact_at_the_ends() -> None:
    assert not rng().bernoulli(0.0).any()
    assert rng().bernoulli(1.0).all()
    assert abs(rng().bernoulli(0.8).double().mean().item() - 0.8) < 0.02


def test_permutations_are_equally_likely() -> None:
    orders = rng(24_000).permutation(4)
    assert (orders.sort(dim=1).values == torch.arange(4)).all()
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3
