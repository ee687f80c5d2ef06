"""Encoders of timm: its own networks and numbers, but for batch norm by groups, our streams, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from harness.config.errors import SpecError
from harness.config.registry import encoder
from harness.data.rng import ImageRng
from harness.models import foreign
from harness.models.foreign import ForeignNetwork, Timm
from harness.models.norm import BatchNorm, Norm
from harness.models.stochastic import DropPath, drawing

ARCHITECTURES = {
    "resnet18": "NCHW",
    "convnext_atto": "NCHW",
    "vit_tiny_patch16_224": "NLC",
    "efficientnet_b0": "NCHW",
    "swin_tiny_patch4_window7_224": "NHWC",
    "mobilenetv3_small_050": "NCHW",
}


def build(name: str, norm: Norm | None = None, size: int = 32, channels: int = 3, **arguments: Any) -> ForeignNetwork:
    torch.manual_seed(0)
    return Timm(name=name, arguments=arguments).build(norm or Norm(), size, channels)


def images(count: int = 4, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def streams(first: int, count: int) -> ImageRng:
    return ImageRng(seed=0, epoch=0, images=torch.arange(first, first + count))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_of_many_kinds_train_a_step_on_small_images(name: str) -> None:
    network = build(name)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    before = {key: one.clone() for key, one in network.state_dict().items()}
    with drawing(network, streams(0, 2)):
        h = network(images())
    h.square().mean().backward()
    optimizer.step()
    assert h.shape == (4, network.out_dim) and bool(h.isfinite().all())
    assert all(one.grad is not None for one in network.parameters())
    assert any(not torch.equal(one, before[key]) for key, one in network.state_dict().items())
    network.eval()
    with torch.no_grad():
        if ARCHITECTURES[name] == "NLC":
            tokens = network.tokens(images())
            assert tokens.shape == (4, 1 + 4, network.out_dim) and network.class_tokens == 1
            torch.testing.assert_close(network(images()), tokens[:, 0])
        else:
            maps = network.maps(images())
            assert maps.dim() == 4
            if name in ("resnet18", "swin_tiny_patch4_window7_224"):  # nothing follows the mean
                torch.testing.assert_close(network(images()), maps.mean((2, 3)))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_is_timms_network_as_timm_draws_it(name: str) -> None:
    """Names, first values and outputs; whether or not somebody has looked at such a network before."""
    size = {"img_size": 32} if name == "test_vit" else {}
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0, **size)
    foreign._form.cache_clear()
    for _ in range(2):
        ours = build(name)
        state = {key: one for key, one in theirs.state_dict().items() if "num_batches_tracked" not in key}
        found = ours.network.state_dict()
        assert list(found) == list(state) and all(torch.equal(found[key], one) for key, one in state.items())
    for training in (False, True):
        torch.testing.assert_close(ours.train(training)(images()), theirs.train(training)(images()))


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "levit_128s"])
def test_batch_norm_follows_the_groups(name: str) -> None:
    """Apart from torch's own, some have an activation in it (test_efficientnet), some take vectors (levit)."""
    torch.manual_seed(0)
    size = {"img_size": 32} if name.startswith("levit") else {}
    theirs = [timm.create_model(name, num_classes=0, **size).train() for _ in range(2)]
    ours = build(name, Norm(groups=2)).train()
    assert sum(isinstance(layer, BatchNorm) for layer in ours.modules()) == sum(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in theirs[0].modules()
    )
    for one in theirs:
        one.load_state_dict(ours.network.state_dict(), strict=False)
    found = ours(images(8))
    expected = torch.cat([one(part) for one, part in zip(theirs, images(8).chunk(2), strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for key, value in ours.network.state_dict().items():
        mean = torch.stack([one.state_dict()[key] for one in theirs]).mean(0)
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, build(name, Norm(groups=1)).train()(images(8)), atol=1e-3)


def test_momentum_and_eps_are_the_runs() -> None:
    norms = [layer.norm for layer in build("tf_efficientnet_b0", Norm(momentum=0.3, eps=0.01)).modules()
             if isinstance(layer, BatchNorm)]  # fmt: skip
    assert set(norms) == {Norm(momentum=0.3, eps=0.01)}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_vit", {"drop_path_rate": 0.5}),
        ("swin_tiny_patch4_window7_224", {}),  # has a rate of its own
        ("convnext_atto", {"drop_path_rate": 0.5, "ls_init_value": 1.0}),  # or its branches begin at nearly nothing
        ("nest_tiny", {"drop_path_rate": 0.5}),
    ],
)
def test_stochastic_depth_depends_on_the_image_alone(name: str, arguments: dict[str, Any]) -> None:
    network, pictures = build(name, **arguments), images(8)
    layers = [layer for layer in network.modules() if isinstance(layer, DropPath)]
    assert sorted(layer.number for layer in layers) == list(range(len(layers))) and layers
    with torch.no_grad():
        with drawing(network, streams(0, 4)):
            whole = network(pictures)
        parts = []
        for first in (0, 2):
            with drawing(network, streams(first, 2)):
                parts.append(network(pictures[2 * first : 2 * first + 4]))
        torch.testing.assert_close(torch.cat(parts), whole)
        with drawing(network, streams(4, 4)):
            assert not torch.allclose(network(pictures), whole, atol=1e-3)
    with pytest.raises(SpecError, match="drawing"):
        network(pictures)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("rexnet_100", {}, "Dropout 0.2 at head.drop"),
        ("test_vit", {"proj_drop_rate": 0.1}, "Dropout 0.1 at blocks.0.attn.proj_drop"),
        ("test_vit", {"attn_drop_rate": 0.1}, "Dropout 0.1 at blocks.0.attn.attn_drop"),  # a fused kernel gets its rate
        ("mobilenetv3_small_050", {"drop_rate": 0.1}, "draws random numbers"),  # a function does
        ("resnet18", {"drop_block_rate": 0.1}, "draws random numbers"),
    ],
)
def test_other_random_layers_are_refused(name: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        build(name, size=64, **arguments)
    assert caught.value.complaints[0].where == "encoder"


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_statistics_that_cannot_follow_the_groups_are_refused(groups: int) -> None:
    with pytest.raises(SpecError, match="EvoNorm2dB0 at bn1"):
        build("test_efficientnet", Norm(groups=groups), norm_layer="evonormb0")


@pytest.mark.parametrize("argument", foreign.OURS)
def test_what_the_experiment_may_not_say(argument: str) -> None:
    with pytest.raises(SpecError, match=re.escape(foreign.OURS[argument])):
        encoder.build({"timm": {"name": "resnet18", "arguments": {argument: 1}}})


@pytest.mark.parametrize(
    ("name", "said"),
    [("resnet81", "did you mean 'resnet18'"), ("resnet18.a1_in1k", "nothing is fetched"), ("hf-hub:a/b", "nothing is")],
)
def test_unknown_names(name: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        encoder.build({"timm": {"name": name}})


@pytest.mark.parametrize(
    ("name", "size", "arguments", "said"),
    [
        ("resnet18", 32, {"no_such": 1}, "no_such"),
        ("inception_v3", 32, {}, "cannot be built"),
        ("resnet18", 32, {"global_pool": ""}, "gives no vector"),
    ],
)
def test_what_timm_refuses_is_said_in_its_words(name: str, size: int, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build(name, size=size, **arguments)


def test_depth_is_timms_own_count_for_layer_wise_decay() -> None:
    network = build("test_convnext")
    assert network.depth_of("network.stem.0.weight") == 0
    assert network.depth_of("network.head.norm.weight") == network.depth + 1
    vit = build("vit_tiny_patch16_224")
    assert vit.depth == 12 and vit.depth_of("network.blocks.11.mlp.fc2.bias") == 12
    assert vit.depth_of("network.pos_embed") == 0


def test_images_of_other_channels_and_sizes() -> None:
    assert build("test_resnet", channels=1)(torch.rand(2, 1, 32, 32)).shape[0] == 2
    assert build("vit_tiny_patch16_224", size=64).state_dict()["network.pos_embed"].shape[1] == 1 + 16
