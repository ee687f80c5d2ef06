"""Our vision transformer against timm's with the same weights, and against loops written out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.config.errors import SpecError
from harness.config.registry import encoder
from harness.models.norm import Norm
from harness.models.stochastic import DropPath
from harness.models.vit import Transformer, ViT, resized, sine_cosine

SMALL: dict[str, Any] = {"patch_size": 4, "width": 24, "depth": 2, "heads": 3}


def build(size: int = 16, channels: int = 3, **fields: Any) -> Transformer:
    torch.manual_seed(0)
    return ViT(**(SMALL | fields)).build(Norm(), size, channels).eval()


def images(count: int = 2, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_computes_what_timms_network_computes_with_the_same_weights(pool: str) -> None:
    ours = build(pool=pool)
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=0, fc_norm=False,
        class_token=pool == "class", global_pool="token" if pool == "class" else "avg",
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(images()), theirs(images()))
    torch.testing.assert_close(ours.tokens(images()), theirs.forward_features(images()))
    assert ours.class_tokens == theirs.num_prefix_tokens


def test_has_the_size_of_dinos_small_network() -> None:
    with torch.device("meta"):
        network = ViT().build(Norm(), 224)
    assert sum(one.numel() for one in network.parameters()) == 21_665_664


def by_hand(network: Transformer, image: Tensor, places: list[int], hidden: set[int]) -> Tensor:
    """Tokens of one image, patch after patch: [class token and the patches at ``places``, D]."""
    size, columns = network.spec.patch_size, image.shape[2] // network.spec.patch_size
    kernel, bias = network.patch_embed.proj.weight, network.patch_embed.proj.bias
    rows = [network.cls_token[0, 0] + network.pos_embed[0, 0]]
    for place in places:
        down, across = place // columns * size, place % columns * size
        patch = image[:, down : down + size, across : across + size]
        row = torch.stack([(kernel[channel] * patch).sum() for channel in range(len(kernel))]) + bias
        row = network.mask_token[0, 0] if place in hidden else row
        rows.append(row + network.pos_embed[0, 1 + place])
    x = torch.stack(rows)[None]
    for block in network.blocks:
        x = block(x)
    found: Tensor = network.norm(x)[0]
    return found


def test_keeping_and_masking_happen_before_the_blocks() -> None:
    network = build()
    network.add_mask_token()
    nn.init.normal_(network.mask_token)
    keep = torch.tensor([[3, 0, 9], [15, 14, 2]])
    masked = torch.zeros(2, 16, dtype=torch.bool)
    masked[0, 0] = masked[1, 14] = masked[1, 7] = True
    everything = list(range(16))
    for image, (part, hidden) in enumerate(zip(keep.tolist(), [{0}, {14, 7}], strict=True)):
        one = images()[image]
        torch.testing.assert_close(network.tokens(images())[image], by_hand(network, one, everything, set()))
        torch.testing.assert_close(network.tokens(images(), keep=keep)[image], by_hand(network, one, part, set()))
        found = network.tokens(images(), masked=masked)[image]
        torch.testing.assert_close(found, by_hand(network, one, everything, hidden))
        found = network.tokens(images(), keep=keep, masked=masked)[image]
        torch.testing.assert_close(found, by_hand(network, one, part, hidden))


def test_keeping_all_patches_in_another_order_gives_the_tokens_in_that_order() -> None:
    network = build(pool="mean")
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(seed)) for seed in range(2)])
    plain, found = network.tokens(images()), network.tokens(images(), keep=order)
    for image in range(2):
        torch.testing.assert_close(found[image], plain[image][order[image]])


def test_h_and_maps_come_from_the_tokens() -> None:
    network, mean = build(), build(pool="mean")
    tokens = network.tokens(images())
    torch.testing.assert_close(network(images()), tokens[:, 0])
    torch.testing.assert_close(mean(images()), mean.tokens(images()).mean(1))
    maps = network.maps(images())
    assert maps.shape == (2, 24, 4, 4)
    torch.testing.assert_close(maps[:, :, 2, 1], tokens[:, 1 + 2 * 4 + 1])


def test_a_mask_token_is_there_only_where_asked_for() -> None:
    network = build()
    assert "mask_token" not in network.state_dict()
    with pytest.raises(SpecError, match="add_mask_token"):
        network.tokens(images(), masked=torch.zeros(2, 16, dtype=torch.bool))
    network.add_mask_token()
    assert not network.state_dict()["mask_token"].any() and network.depth_of("mask_token") == 0
    network.tokens(images(), masked=torch.eye(2, 16, dtype=torch.bool)).square().sum().backward()
    assert network.mask_token.grad.abs().sum() > 0


def test_fixed_positions_are_maes_formula() -> None:
    rows, columns, width = 3, 5, 16
    found = sine_cosine(rows, columns, width)[0]
    for place in range(rows * columns):
        for half, at in enumerate((place % columns, place // columns)):  # MAE's "w goes first"
            for wave in range(width // 4):
                angle = at / 10000 ** (wave / (width / 4))
                start = half * width // 2 + wave
                assert float(found[place, start]) == pytest.approx(math.sin(angle), abs=1e-6)
                assert float(found[place, start + width // 4]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_fixed_positions_fit_every_size_and_are_not_learned() -> None:
    small, large = build(size=16, positions="sincos"), build(size=32, positions="sincos")
    assert not [name for name in small.state_dict() if "pos" in name]
    torch.testing.assert_close(small(images(size=32)), large(images(size=32)))
    no_places = build(size=16)
    with torch.no_grad():
        no_places.pos_embed.zero_()
        no_places.pos_embed[:, 1:] = sine_cosine(4, 4, 24)
    no_places.load_state_dict(small.state_dict(), strict=False)
    torch.testing.assert_close(small(images()), no_places(images()))


@pytest.mark.parametrize("new", [(2, 2), (8, 8), (3, 6)])
def test_learned_positions_are_interpolated_bicubically(new: tuple[int, int]) -> None:
    places = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    grid = places.T.reshape(1, 5, 4, 4)
    expected = F.interpolate(grid, size=new, mode="bicubic").reshape(5, -1).T
    torch.testing.assert_close(resized((4, 4), new) @ places, expected)


def test_crops_of_another_size_have_their_positions() -> None:
    network, crop = build(size=16), images(size=8)
    expected = build(size=8)
    state = network.state_dict()
    first, places = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    grid = F.interpolate(places.mT.reshape(1, 24, 4, 4), size=(2, 2), mode="bicubic").flatten(2).mT
    expected.load_state_dict(state | {"pos_embed": torch.cat([first, grid], dim=1)})
    torch.testing.assert_close(network(crop), expected(crop))
    assert network.maps(torch.rand(1, 3, 8, 16)).shape == (1, 24, 2, 4)
    network(crop).sum().backward()
    assert network.pos_embed.grad.abs().sum() > 0


def test_starts_as_dinos_network_does() -> None:
    network = build(width=192, depth=1)
    for name, one in network.named_parameters():
        if name.startswith("blocks") and name.endswith("bias"):
            assert not one.any(), name
        elif name in ("cls_token", "pos_embed") or (one.ndim == 2 and name.startswith("blocks")):
            assert float(one.detach().std()) == pytest.approx(0.02, rel=0.15), name
        elif "norm" in name:
            assert bool((one == (0 if name.endswith("bias") else 1)).all()), name
    bound = (3 * 4 * 4) ** -0.5  # torch's own for a convolution
    assert 0.95 * bound < float(network.patch_embed.proj.weight.detach().abs().max()) <= bound


def test_branches_are_dropped_more_often_the_deeper_they_lie() -> None:
    network = build(depth=5, drop_path=0.2)
    rates = {layer.number: layer.p for layer in network.modules() if isinstance(layer, DropPath)}
    assert rates == {number: pytest.approx(0.05 * (number // 2)) for number in range(2, 10)}


@pytest.mark.parametrize(
    ("name", "depth"),
    [("cls_token", 0), ("pos_embed", 0), ("patch_embed.proj.bias", 0), ("blocks.0.norm1.weight", 1), ("norm.bias", 3)],
)
def test_depth_is_counted_as_in_beit(name: str, depth: int) -> None:
    network = build()
    assert name in dict(network.named_parameters()) and network.depth_of(name) == depth


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match="divide into 5 heads"):
        encoder.build({"vit": {"heads": 5}})
    with pytest.raises(SpecError, match="multiple of 4"):
        encoder.build({"vit": {"width": 6, "heads": 3, "positions": "sincos"}})
    with pytest.raises(SpecError, match="30x30 pixels do not divide into patches of 4"):
        build(size=30)
    with pytest.raises(SpecError, match="16x10 pixels"):
        build()(torch.rand(1, 3, 16, 10))
