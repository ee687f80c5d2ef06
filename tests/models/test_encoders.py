"""The convolutional encoders, against torchvision's networks and the sizes that the paper prints."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
import torch
import torchvision
from torch import nn

from harness.config.registry import encoder
from harness.models import encoders
from harness.models.encoders import BasicBlock, Bottleneck, ConvNet
from harness.models.norm import Norm

NAMES = [name for name in encoder.names() if encoder.get(name).__module__ == encoders.__name__]
RESNETS = [name for name in NAMES if name.startswith("resnet")]
VARIANTS = [
    (name, {"stem": stem} if name in RESNETS else {})
    for name in NAMES
    for stem in (get_args(get_type_hints(encoder.get(name))["stem"]) if name in RESNETS else ("only",))
]


def build(name: str, device: str = "cpu", **fields: Any) -> ConvNet:
    with torch.device(device):
        network: ConvNet = encoder.build({name: fields}).build(Norm())
    return network


@pytest.mark.parametrize(("name", "fields"), VARIANTS)
def test_gives_a_vector_of_the_promised_width(name: str, fields: dict[str, Any]) -> None:
    network = build(name, "meta", **fields)
    assert network(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, network.out_dim)


@pytest.mark.parametrize("name", ["micro", "resnet18"])
def test_h_is_the_mean_of_the_maps_for_images_of_any_channels_and_size(name: str) -> None:
    torch.manual_seed(0)
    network = encoder.build(name).build(Norm(), 64, channels=2).eval()
    images = torch.rand(2, 2, 64, 96)
    torch.testing.assert_close(network(images), network.maps(images).mean((2, 3)))
    assert network.maps(images).shape[1] == network.out_dim


def test_depth_is_counted_in_stages() -> None:
    network = build("resnet18", "meta")
    found = {name: network.depth_of(name) for name in ("conv1.weight", "bn1.bias", "layer1.0.conv1.weight")}
    assert found == {"conv1.weight": 0, "bn1.bias": 0, "layer1.0.conv1.weight": 1}
    assert network.depth_of("layer4.1.bn2.weight") == network.depth == 4


@pytest.mark.parametrize("name", ["micro", "resnet18"])
def test_every_parameter_learns_and_the_layout_does_not_matter(name: str) -> None:
    torch.manual_seed(0)
    network = build(name)
    # At the start the last batch norm of every block is zero and nothing flows past it.
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1)
    images = torch.rand(3, 3, 32, 32)
    h = network(images)
    h.square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    turned = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(turned, h, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", RESNETS)
def test_is_torchvisions_network_tensor_for_tensor(name: str) -> None:
    ours = build(name, "meta")
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    shapes = {key: value.shape for key, value in theirs.state_dict().items() if "num_batches" not in key}
    del shapes["fc.weight"], shapes["fc.bias"]
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_computes_what_torchvision_computes_with_the_same_weights(name: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)()
    theirs.fc = nn.Identity()
    ours = build(name)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if "num_batches" not in k})
    images = torch.rand(2, 3, 32, 32)
    for training in (True, False):
        torch.testing.assert_close(ours.train(training)(images), theirs.train(training)(images), rtol=1e-4, atol=1e-5)


# Figure 7 prints millions that count the moving averages of batch norm (R50: 23.51M learnt + 0.05M averages) and, in
# ResNet-18 and 34, a projection on the first skip connection, which changes no shape and which we leave out.
PUBLISHED = {
    ("resnet18", 1): 11.2,
    ("resnet18", 2): 44.7,
    ("resnet18", 4): 178.7,
    ("resnet34", 1): 21.3,
    ("resnet34", 2): 85.1,
    ("resnet34", 4): 340.4,
    ("resnet50", 1): 23.6,
    ("resnet50", 2): 94.0,
    ("resnet50", 4): 375.6,
    ("resnet101", 1): 42.6,
    ("resnet101", 2): 170.0,
    ("resnet152", 1): 58.3,
    ("resnet152", 2): 232.6,
}


@pytest.mark.parametrize(("name", "width"), PUBLISHED)
def test_has_the_size_of_figure_7(name: str, width: int) -> None:
    network = build(name, "meta", width=width)
    channels = 64 * width
    projection = channels**2 + 4 * channels if name in ("resnet18", "resnet34") else 0
    millions = (sum(tensor.numel() for tensor in network.state_dict().values()) + projection) / 1e6
    assert millions == pytest.approx(PUBLISHED[name, width], abs=0.05)


def test_starts_as_the_official_code_does() -> None:
    torch.manual_seed(0)
    network = build("resnet18")
    kernel = network.get_submodule("layer4.1.conv2").weight.detach()
    assert float(kernel.std()) == pytest.approx((512 * 9) ** -0.5, rel=0.01)
    assert float(kernel.abs().max()) <= 2.0 * (512 * 9) ** -0.5 / 0.8796
    for module in network.modules():
        if isinstance(module, BasicBlock):
            assert not module.bn2.weight.any() and module.bn1.weight.all()
    block = Bottleneck(8, 2, 1, Norm())
    assert not block.bn3.weight.any() and block.bn2.weight.all()


def test_the_cifar_stem_keeps_the_resolution() -> None:
    def after_the_stem(stem: str) -> tuple[int, ...]:
        x = torch.empty(2, 3, 32, 32, device="meta")
        for name, layer in build("resnet18", "meta", stem=stem).named_children():
            if name == "layer1":
                break
            x = layer(x)
        return tuple(x.shape[2:])

    assert after_the_stem("cifar") == (32, 32)
    assert after_the_stem("imagenet") == (8, 8)


CHANGES = {"stem": {"resnet": "cifar", "micro": 8}, "width": 2, "widths": [8, 16], "depth": 2}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in NAMES for field in encoder.fields(name)])
def test_every_field_changes_the_network(name: str, field: str) -> None:
    change = CHANGES[field]
    value = change["resnet" if name in RESNETS else name] if isinstance(change, dict) else change

    def shapes(network: ConvNet) -> list[torch.Size]:
        return [tensor.shape for tensor in network.state_dict().values()]

    assert shapes(build(name, "meta")) != shapes(build(name, "meta", **{field: value}))
