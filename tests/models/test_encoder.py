"""What every registered encoder promises: h, and tokens and maps of the promised shapes or a clear refusal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import components
from harness.config.errors import SpecError
from harness.config.experiment import load_scale
from harness.config.grid import normalised
from harness.config.registry import encoder
from harness.data.rng import ImageRng
from harness.models.encoder import Encoder
from harness.models.norm import Norm
from harness.models.stochastic import drawing

assert components  # its import registers every encoder
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "timm": [{"name": name} for name in ("test_resnet", "test_vit", "swin_tiny_patch4_window7_224", "volo_d1_224")],
    "vit": [{"pool": "class"}, {"pool": "mean"}],
}
CASES = [pytest.param({name: one}, id=f"{name}-{one}") for name in encoder.names() for one in EXAMPLES.get(name, [{}])]


def build(entry: dict[str, Any], size: int = 32, channels: int = 3) -> Encoder:
    with torch.device("meta"):
        network: Encoder = encoder.build(entry).build(Norm(), size, channels)
    return network


def images(size: int = 32, channels: int = 3) -> Tensor:
    return torch.empty(2, channels, size, size, device="meta")


@pytest.mark.parametrize("entry", CASES)
@pytest.mark.parametrize(("size", "channels"), [(32, 3), (64, 1)])
def test_gives_a_vector_of_the_promised_width(entry: dict[str, Any], size: int, channels: int) -> None:
    network = build(entry, size, channels)
    with drawing(network, ImageRng(seed=0, epoch=0, images=torch.arange(2), device="meta")):
        assert network(images(size, channels)).shape == (2, network.out_dim)


@pytest.mark.parametrize("entry", CASES)
def test_tokens_and_maps_are_there_or_refused(entry: dict[str, Any]) -> None:
    network, found = build(entry).eval(), set()
    try:
        maps = network.maps(images())
        assert maps.dim() == 4 and len(maps) == 2 and maps.shape[2] == maps.shape[3]
        found.add("maps")
    except SpecError as error:
        assert error.complaints[0].where == "encoder" and "no feature maps" in str(error)
    try:
        tokens = network.tokens(images())
        assert tokens.dim() == 3 and len(tokens) == 2 and tokens.shape[1] > network.class_tokens
        found.add("tokens")
    except SpecError as error:
        assert error.complaints[0].where == "encoder" and "no tokens" in str(error)
    ((name, fields),) = entry.items()
    expected = {"test_vit": {"tokens"}, "volo_d1_224": set()}.get(fields.get("name", ""), {"maps"})
    assert found == ({"tokens", "maps"} if name == "vit" else expected)
    if name != "vit":
        keep, masked = torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.bool)
        for work in (
            lambda: network.tokens(images(), keep=keep),
            lambda: network.tokens(images(), masked=masked),
            network.add_mask_token,
        ):
            with pytest.raises(SpecError):
                work()


@pytest.mark.parametrize("entry", CASES)
def test_depth_rises_from_the_stem_to_the_last_block(entry: dict[str, Any]) -> None:
    network = build(entry)
    depths = [network.depth_of(name) for name, _ in network.named_parameters()]
    assert network.depth > 1 and min(depths) == 0
    assert set(range(network.depth + 1)) <= set(depths) <= set(range(network.depth + 2))
    blocks = [depth for depth in depths if 0 < depth <= network.depth]
    assert blocks == sorted(blocks), "deeper blocks come later"


def test_an_encoder_that_does_not_say_how_long_h_is() -> None:
    @dataclass(frozen=True)
    class Mute:
        def build(self, norm: Norm, size: int, channels: int) -> nn.Module:
            return nn.Flatten()

    run = components.resolve(normalised(load_scale(ROOT / "experiments", "smoke").tree), seed=0)
    parts = replace(components.build(run), encoder=Mute())
    with pytest.raises(SpecError) as caught:
        parts.build_method(images=64, classes=10)
    (complaint,) = caught.value.complaints
    assert complaint.where == "encoder" and "out_dim" in complaint.what
