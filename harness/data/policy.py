"""AutoAugment (Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", 2019), as in torchvision.

A policy is 25 pairs of operators, each with a probability and a strength from 0 to 9; every image draws one pair.
SimCLR's Table 1 compares color distortion with AutoAugment, a policy found *with labels*. The paper does not say which
policy, nor what of its own augmentation stays; we read it as the ImageNet policy after crop and flip, in place of color
distortion and without blur. Nor does it say whose code it used or how borders are filled; we follow
``torchvision.transforms.AutoAugment`` on uint8 tensors: nearest pixels, black borders, and its table of pairs, which a
test compares with ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from harness.config.registry import Examples, augmentation
from harness.data.ops import tone, warp
from harness.data.rng import ImageRng

PolicyStep = tuple[str, float, int | None]
"""Operator, probability, strength (None where it has none)."""

POLICIES: dict[str, tuple[tuple[PolicyStep, PolicyStep], ...]] = {
    "imagenet": (
        (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, None)),
        (("Equalize", 0.8, None), ("Equalize", 0.6, None)),
        (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
        (("Equalize", 0.4, None), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, None), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, None)),
        (("Posterize", 0.8, 5), ("Equalize", 1.0, None)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, None), ("Posterize", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, None)),
        (("Equalize", 0.0, None), ("Equalize", 0.8, None)),
        (("Invert", 0.6, None), ("Equalize", 1.0, None)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, None)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, None)),
        (("Color", 0.4, 0), ("Equalize", 0.6, None)),
        (("Equalize", 0.4, None), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, None)),
        (("Invert", 0.6, None), ("Equalize", 1.0, None)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, None), ("Equalize", 0.6, None)),
    ),
    "cifar10": (
        (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
        (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
        (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
        (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
        (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
        (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
        (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
        (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
        (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
        (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
        (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
        (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
        (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
        (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
        (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
        (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
        (("Color", 0.9, 9), ("Equalize", 0.6, None)),
        (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
        (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
        (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
        (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
        (("Equalize", 0.8, None), ("Invert", 0.1, None)),
        (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
    ),
}

STRENGTHS = 10
"""Strength s of an operator means its s-th of so many magnitudes (torchvision's bins)."""


def evenly(last: float) -> Tensor:
    """0 .. ``last`` in ten steps, float64 but rounded to float32 as in torchvision."""
    return torch.linspace(0.0, last, STRENGTHS).double()


def magnitudes(height: int, width: int) -> dict[str, Tensor]:
    """Operator -> float64 [10], in its own units: slope, pixels, degrees, change of a factor, bits, level."""
    reach = 150.0 / 331.0  # the search was done with translations of up to 150 of 331 pixels
    change = evenly(0.9)
    return {
        "ShearX": evenly(0.3),
        "ShearY": evenly(0.3),
        "TranslateX": evenly(reach * width),
        "TranslateY": evenly(reach * height),
        "Rotate": evenly(30.0),
        "Brightness": change,
        "Color": change,
        "Contrast": change,
        "Sharpness": change,
        "Posterize": 8.0 - (torch.arange(STRENGTHS) / ((STRENGTHS - 1) / 4)).round().double(),
        "Solarize": torch.linspace(255.0, 0.0, STRENGTHS).double(),
    }


SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
"""Operators of which each image draws the direction."""

PixelFunction = Callable[[Tensor, Tensor], Tensor]
"""Levels [n, 3, H, W] and their magnitudes, float64 [n] on the CPU -> levels."""


def warped(coefficients: Callable[[Tensor, int, int], Tensor]) -> PixelFunction:
    """Make an operator of pixels from the map of coordinates that a magnitude gives."""
    return lambda pixels, magnitude: warp.warp(pixels, coefficients(magnitude, *pixels.shape[-2:]))


OPERATORS: dict[str, PixelFunction] = {
    "ShearX": warped(warp.shear_x),
    "ShearY": warped(warp.shear_y),
    "TranslateX": warped(warp.translate_x),
    "TranslateY": warped(warp.translate_y),
    "Rotate": warped(warp.rotate),
    "Brightness": lambda pixels, change: tone.brightness(pixels, 1.0 + change),
    "Color": lambda pixels, change: tone.saturation(pixels, 1.0 + change),
    "Contrast": lambda pixels, change: tone.contrast(pixels, 1.0 + change),
    "Sharpness": lambda pixels, change: tone.sharpness(pixels, 1.0 + change),
    "Posterize": tone.posterize,
    "Solarize": lambda pixels, level: tone.solarize(pixels, level, tone.BOUND),
    "AutoContrast": lambda pixels, _: tone.autocontrast(pixels),
    "Equalize": lambda pixels, _: tone.equalize(pixels),
    "Invert": lambda pixels, _: tone.invert(pixels),
}
NAMES = tuple(OPERATORS)
NOTHING = -1


class Steps(NamedTuple):
    """Two operators an image: place in ``NAMES`` or ``NOTHING``, int64 [B, 2], and magnitude, float64 [B, 2]."""

    operator: Tensor
    magnitude: Tensor


@augmentation("autoaugment")
@dataclass(frozen=True, kw_only=True)
class AutoAugment:
    """One of the 25 pairs of operators of a learned ``policy`` for every image (Table 1, in place of color distortion).

    Pixels are rounded to 0..255 first and whole numbers after every operator, as on the 8-bit images of the original.
    ``policy``: ``imagenet``, the paper's, or ``cifar10``, learned on CIFAR-10, for our smaller scales.
    """

    tiny: ClassVar[Examples] = ({}, {"policy": "cifar10"})
    policy: Literal["imagenet", "cifar10"] = "imagenet"

    def draw(self, rng: ImageRng, height: int, width: int) -> Steps:
        """A pair for each image, which of its operators act, and in which direction."""
        policy, table = POLICIES[self.policy], magnitudes(height, width)
        none = torch.zeros(STRENGTHS, dtype=torch.float64)
        operator = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in policy])
        chance = torch.tensor([[p for _, p, _ in pair] for pair in policy])
        magnitude = torch.stack([torch.stack([table.get(n, none)[s or 0] for n, _, s in pair]) for pair in policy])
        signed = torch.tensor([[name in SIGNED for name, _, _ in pair] for pair in policy])

        pair, acts, sign = rng.integers(len(policy)), rng.uniform(0.0, 1.0, 2), 2 * rng.integers(2, 2) - 1
        operator = torch.where(acts < chance[pair], operator[pair], NOTHING)
        return Steps(operator, magnitude[pair] * torch.where(signed[pair], sign, 1))

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        return tone.unlevelled(perform(tone.levels(images), self.draw(rng, *images.shape[-2:])))


def perform(pixels: Tensor, steps: Steps) -> Tensor:
    """Both operators of every image, in turn, each operator on all images that have it; ``pixels`` is overwritten."""
    for operator, magnitude in zip(steps.operator.T, steps.magnitude.T, strict=True):
        for place in operator.unique().tolist():
            if place != NOTHING:
                chosen = (operator == place).nonzero().flatten()
                here = chosen.to(pixels.device, non_blocking=True)
                changed = OPERATORS[NAMES[place]](pixels.index_select(0, here), magnitude[chosen])
                pixels.index_copy_(0, here, changed)
    return pixels
