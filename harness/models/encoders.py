"""The convolutional encoders f of section 2.1. The ResNets are post-activation residual networks.

Parameter names are torchvision's, so a state loads into ``torchvision.models.resnet50`` (without ``fc``) and back.
Initialisation follows resnet.py of google-research/simclr: variance scaling of the convolutions (fan-in,
truncated normal), and the last batch norm of every block starts at zero, so that a block starts as identity.
One departure: the official ResNet-18 and 34 project the first skip connection too, though its shape stays; ours,
like torchvision's and He et al.'s, is the identity there (4352 numbers fewer at width 1).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, cast

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from harness.config.registry import Examples, encoder
from harness.models.encoder import Encoder
from harness.models.norm import Norm

# The standard deviation of a standard normal truncated at two, which TensorFlow's initialiser divides out.
TRUNCATED_STD = 0.87962566103423978


def whole_or_half(width: float) -> float:
    """Return a width that is valid; raise ``ValueError`` otherwise."""
    if width != 0.5 and (width < 1 or width != int(width)):
        raise ValueError("a width is a whole number from 1 on, or 0.5")
    return width


Width = Annotated[int | float, AfterValidator(whole_or_half)]

ChannelsOf8 = Annotated[int, Field(ge=8, multiple_of=8)]
"""Whole vectors of channels. Not only for speed: of other numbers outside software crashed (torch 2.15, on a CPU)."""


class ConvNet(nn.Sequential, Encoder):
    """Stem, stages ``layer1`` to ``layer{depth}``, then the mean over H and W: h [N, ``out_dim``], for any H and W."""

    def __init__(self, layers: dict[str, nn.Module], out_dim: int, depth: int) -> None:
        super().__init__(OrderedDict(layers))
        self.out_dim, self.depth = out_dim, depth

    def depth_of(self, name: str) -> int:
        """By stage: 0 is the stem."""
        part = name.partition(".")[0]
        return int(part.removeprefix("layer")) if part.startswith("layer") else 0

    def maps(self, images: Tensor) -> Tensor:
        """What the last stage gives, [N, ``out_dim``, h, w]."""
        for name, layer in self.named_children():
            if name == "avgpool":
                break
            images = layer(images)
        return images


class Block(nn.Module, ABC):
    """A residual block: ``relu(x + residual(x))``, with a projection where the shape changes."""

    expansion: ClassVar[int]
    downsample: nn.Module | None

    def shortcut(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module | None:
        """The projection of the skip connection (ResNet's option B); ``None`` stands for the identity."""
        if stride == 1 and in_channels == out_channels:
            return None
        return nn.Sequential(convolution(in_channels, out_channels, 1, stride), norm.build(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H/stride, W/stride]."""
        skip = x if self.downsample is None else self.downsample(x)
        return (self.residual(x) + skip).relu_()

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """The branch that ends in a batch norm with gamma zero at the start."""


class BasicBlock(Block):
    """Two 3x3 convolutions (ResNet-18, ResNet-34, micro)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, channels, 3, stride)
        self.bn1 = norm.build(channels)
        self.conv2 = convolution(channels, channels, 3)
        self.bn2 = norm.build(channels)
        self.downsample = self.shortcut(in_channels, channels, stride, norm)
        nn.init.zeros_(self.bn2.weight)

    def residual(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu_()
        return cast(Tensor, self.bn2(self.conv2(x)))


class Bottleneck(Block):
    """1x1, 3x3, 1x1; the stride sits on the 3x3 as in the official code (and torchvision's "v1.5")."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = convolution(in_channels, channels, 1)
        self.bn1 = norm.build(channels)
        self.conv2 = convolution(channels, channels, 3, stride)
        self.bn2 = norm.build(channels)
        self.conv3 = convolution(channels, out_channels, 1)
        self.bn3 = norm.build(out_channels)
        self.downsample = self.shortcut(in_channels, out_channels, stride, norm)
        nn.init.zeros_(self.bn3.weight)

    def residual(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        return cast(Tensor, self.bn3(self.conv3(x)))


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded to keep H and W at stride 1, initialised as the module says."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    std = math.sqrt(1 / (in_channels * kernel**2)) / TRUNCATED_STD
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    return layer


def stem(inputs: int, channels: int, kernel: int, stride: int, norm: Norm, *, pool: bool) -> dict[str, nn.Module]:
    """First convolution of images of ``inputs`` channels, batch norm, ReLU and, for large images, max-pooling."""
    layers: dict[str, nn.Module] = {
        "conv1": convolution(inputs, channels, kernel, stride),
        "bn1": norm.build(channels),
        "relu": nn.ReLU(inplace=True),
    }
    return layers | ({"maxpool": nn.MaxPool2d(3, 2, padding=1)} if pool else {})


def encoder_of(first: dict[str, nn.Module], stages: Sequence[nn.Module], out_dim: int) -> ConvNet:
    """Stem ``first``, then ``layer1``, ``layer2``, ..., then the mean over H and W."""
    layers = first | {f"layer{index}": stage for index, stage in enumerate(stages, start=1)}
    return ConvNet(layers | {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}, out_dim, len(stages))


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """Fields shared by the ResNets of the paper; ``build`` gives [N, C, H, W] -> [N, 512 or 2048 * width].

    ``stem``: ``imagenet`` is the 7x7 convolution of stride 2 and a max-pool; ``cifar`` a 3x3 convolution of
    stride 1 and no max-pool (appendix B.9). ``width`` multiplies *all* channels, as the paper's 2x and 4x do
    (torchvision's ``wide_resnet`` widens the 3x3 convolutions only); 0.5 halves them.
    """

    tiny: ClassVar[Examples] = ({}, {"stem": "cifar"}, {"width": 2}, {"width": 0.5})
    depths: ClassVar[tuple[int, int, int, int]]
    block: ClassVar[type[BasicBlock] | type[Bottleneck]]

    stem: Literal["cifar", "imagenet"] = "imagenet"
    width: Width = 1

    def build(self, norm: Norm, image_size: int = 32, channels: int = 3) -> ConvNet:
        """A freshly initialised network (torch's global generator), the same for every ``image_size``."""
        wide, large = int(64 * self.width), self.stem == "imagenet"
        first = stem(channels, wide, 7 if large else 3, 2 if large else 1, norm, pool=large)
        stages = []
        for index, depth in enumerate(self.depths):
            blocks = []
            for place in range(depth):
                width, stride = int(64 * self.width) * 2**index, 2 if index > 0 and place == 0 else 1
                blocks.append(self.block(wide, width, stride, norm))
                wide = width * self.block.expansion
            stages.append(nn.Sequential(*blocks))
        return encoder_of(first, stages, wide)


@encoder("resnet18")
@dataclass(frozen=True, kw_only=True)
class ResNet18(ResNet):
    """ResNet-18: 11.2M parameters, h of 512 (Figure 7; README of the official code for CIFAR-10)."""

    depths = (2, 2, 2, 2)
    block = BasicBlock


@encoder("resnet34")
@dataclass(frozen=True, kw_only=True)
class ResNet34(ResNet):
    """ResNet-34: 21.3M parameters, h of 512 (Figure 7)."""

    depths = (3, 4, 6, 3)
    block = BasicBlock


@encoder("resnet50")
@dataclass(frozen=True, kw_only=True)
class ResNet50(ResNet):
    """ResNet-50: 23.6M parameters (94.0M at width 2, 375.6M at 4), h of 2048: the paper's default."""

    depths = (3, 4, 6, 3)
    block = Bottleneck


@encoder("resnet101")
@dataclass(frozen=True, kw_only=True)
class ResNet101(ResNet):
    """ResNet-101: 42.6M parameters, h of 2048 (Figure 7)."""

    depths = (3, 4, 23, 3)
    block = Bottleneck


@encoder("resnet152")
@dataclass(frozen=True, kw_only=True)
class ResNet152(ResNet):
    """ResNet-152: 58.3M parameters, h of 2048 (Figure 7)."""

    depths = (3, 8, 36, 3)
    block = Bottleneck


@encoder("micro")
@dataclass(frozen=True, kw_only=True)
class Micro:
    """A narrow network for 32x32 images that one laptop core trains in minutes; not in the paper.

    Every stage halves the resolution with a 3x3 convolution of stride 2, batch norm and ReLU: the stem to 16x16,
    then one stage per entry of ``widths``, each followed by ``depth`` basic residual blocks. h is as wide as the last
    stage. Without residual blocks by default: at equal time per image, width bought more than depth.
    """

    tiny: ClassVar[Examples] = ({"widths": (8, 16)}, {"stem": 8}, {"widths": (8, 24)}, {"depth": 1})
    stem: ChannelsOf8 = 16
    widths: Annotated[tuple[ChannelsOf8, ...], Field(min_length=1)] = (40, 80, 160)
    depth: Annotated[int, Field(ge=0)] = 0

    def build(self, norm: Norm, image_size: int = 32, channels: int = 3) -> ConvNet:
        """A freshly initialised network (torch's global generator), the same for every ``image_size``."""
        wide, stages = self.stem, []
        for width in self.widths:
            halve = [convolution(wide, width, 3, 2), norm.build(width), nn.ReLU(inplace=True)]
            stages.append(nn.Sequential(*halve, *(BasicBlock(width, width, 1, norm) for _ in range(self.depth))))
            wide = width
        return encoder_of(stem(channels, self.stem, 3, 2, norm, pool=False), stages, wide)
