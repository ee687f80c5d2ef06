"""Stochastic depth: what it computes, and that a draw belongs to an image and to nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.config.errors import SpecError
from harness.data.rng import ImageRng
from harness.models.norm import Norm
from harness.models.stochastic import DropPath, drawing
from harness.models.vit import ViT


def streams(images: range | list[int], *, seed: int = 0, epoch: int = 0) -> ImageRng:
    return ImageRng(seed=seed, epoch=epoch, images=torch.tensor(list(images)))


def kept(rng: ImageRng, views: int = 1, *, p: float = 0.4, number: int = 0) -> Tensor:
    """What becomes of ones, [rows]."""
    layer = DropPath(p, number)
    with drawing(layer, rng):
        rows: Tensor = layer(torch.ones(views * len(rng), 3, 2))
    assert torch.equal(rows, rows[:, :1, :1].expand_as(rows)), "a row is dropped as a whole"
    return rows[:, 0, 0]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_drops_as_often_as_asked_and_keeps_the_expectation(p: float) -> None:
    found = kept(streams(range(20_000)), p=p)
    values = found.unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / (1 - p)]))
    spread = (p / (1 - p) / 20_000) ** 0.5
    assert float(found.mean()) == pytest.approx(1, abs=4 * spread)


def test_a_slice_of_the_batch_in_another_order_draws_the_same() -> None:
    whole = kept(streams(range(64)), 2).view(64, 2)
    halves = torch.cat([kept(streams(range(32)), 2), kept(streams(range(32, 64)), 2)]).view(64, 2)
    assert torch.equal(whole, halves)
    order = [5, 63, 0, 17]
    assert torch.equal(kept(streams(order), 2).view(4, 2), whole[order])


def test_everything_a_draw_belongs_to_changes_it() -> None:
    found = [
        kept(streams(range(64))),
        kept(streams(range(64), seed=1)),
        kept(streams(range(64), epoch=1)),
        kept(streams(range(64, 128))),
        kept(streams(range(64)), number=1),
        kept(streams(range(64)), 2).view(64, 2)[:, 1],
        kept(streams(range(64)).child("another pass")),
    ]
    assert len({tuple(one.tolist()) for one in found}) == len(found)
    assert torch.equal(kept(streams(range(64)), 3).view(64, 3)[:, 0], found[0])  # the first view's draws stay


def transformer(p: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return ViT(patch_size=8, width=16, depth=3, heads=2, drop_path=p).build(Norm(), 16)


def test_a_recomputed_pass_draws_what_the_first_one_drew() -> None:
    images, grads = torch.rand(8, 3, 16, 16), []
    for recompute in (False, True):
        network = transformer()

        def embed(chunk: Tensor, first: int, network: nn.Module = network) -> Tensor:
            with drawing(network, streams(range(first, first + 2))):  # two views each
                h: Tensor = network(chunk)
            return h

        chunks = [(images[:4], 0), (images[4:], 2)]
        h = [checkpoint(embed, *one, use_reentrant=False) if recompute else embed(*one) for one in chunks]
        torch.cat(h).square().sum().backward()
        grads.append([one.grad for one in network.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


def test_a_copy_of_a_network_draws_as_the_network_does() -> None:
    network, images = transformer(), torch.rand(4, 3, 16, 16)
    both = nn.ModuleList([network, copy.deepcopy(network)])
    with drawing(both, streams(range(4))):
        first, second = (one(images) for one in both)
        assert torch.equal(network(images), first), "a second pass draws what the first one drew"
    assert torch.equal(first, second)
    with drawing(network, streams(range(4, 8))):
        assert not torch.equal(network(images), first)


def test_says_who_has_to_name_the_images() -> None:
    layer = DropPath(0.5, 0)
    rows = torch.ones(4, 2)
    with pytest.raises(SpecError, match=r"drawing\(network, rng\)"):
        layer(rows)
    assert layer.eval()(rows) is rows and DropPath(0.0, 0)(rows) is rows
    layer.train()
    with pytest.raises(SpecError, match="4 rows are not the views of 3 images"), drawing(layer, streams(range(3))):
        layer(rows)
    with drawing(layer, streams(range(4))), drawing(layer, streams(range(2))):
        layer(rows)
    with pytest.raises(SpecError):  # left again, after an error too
        layer(rows)
    with pytest.raises(SpecError, match=r"\[0, 1\)"):
        DropPath(1.0, 0)


@pytest.mark.slow
def test_a_compiled_network_is_one_graph_and_draws_the_same() -> None:
    network, images = transformer(), torch.rand(4, 3, 16, 16)
    compiled = torch.compile(network.forward, backend="eager", fullgraph=True, dynamic=False)
    try:
        for seed in range(2):
            with drawing(network, streams(range(2), seed=seed)):
                assert torch.equal(compiled(images), network(images))
    finally:
        torch.compiler.reset()
