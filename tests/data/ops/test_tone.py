"""Level by level what torchvision does to uint8 images, one image at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.functional as tv
from torch import Tensor

from harness.data.ops import tone

FACTORS = torch.linspace(0.1, 1.9, 19).double()
BITS = torch.tensor([4.0, 5.0, 6.0, 7.0, 8.0], dtype=torch.float64)
THRESHOLDS = torch.linspace(255.0, 0.0, 10).double()
NOTHING = torch.zeros(1, dtype=torch.float64)


def pictures(kind: str, size: tuple[int, int], count: int = 20) -> Tensor:
    """uint8 images of several kinds: histograms that are full, sparse, narrow, or of one or two levels."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    made = {
        "noise": noise,
        "coarse": noise // 16 * 16,
        "bright": (torch.randn(noise.shape, generator=generator) * 10 + 220).clamp(0, 255).to(torch.uint8),
        "two levels": noise // 128 * 7 + 3,
        "flat": torch.full_like(noise, 77),
    }
    return made[kind]


KINDS = ["noise", "coarse", "bright", "two levels", "flat"]
SIZES = [(32, 32), (8, 8), (20, 17), (2, 9)]

Ours = Callable[[Tensor, Tensor], Tensor]
Theirs = Callable[[Tensor, float], Tensor]
OPERATORS: dict[str, tuple[Ours, Theirs, Tensor]] = {
    "solarize": (lambda x, t: tone.solarize(x, t, tone.BOUND), tv.solarize, THRESHOLDS),
    "invert": (lambda x, _: tone.invert(x), lambda x, _: tv.invert(x), NOTHING),
    "posterize": (tone.posterize, lambda x, bits: tv.posterize(x, int(bits)), BITS),
    "equalize": (lambda x, _: tone.equalize(x), lambda x, _: tv.equalize(x), NOTHING),
    "autocontrast": (lambda x, _: tone.autocontrast(x), lambda x, _: tv.autocontrast(x), NOTHING),
    "brightness": (tone.brightness, tv.adjust_brightness, FACTORS),
    "contrast": (tone.contrast, tv.adjust_contrast, FACTORS),
    "saturation": (tone.saturation, tv.adjust_saturation, FACTORS),
    "sharpness": (tone.sharpness, tv.adjust_sharpness, FACTORS),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_torchvision(name: str, kind: str, size: tuple[int, int]) -> None:
    ours, theirs, values = OPERATORS[name]
    images = pictures(kind, size)
    values = values[torch.arange(len(images)) % len(values)]
    before = images.float()
    result = ours(before.clone(), values)
    expected = torch.stack([theirs(one, float(value)) for one, value in zip(images, values, strict=True)])
    assert torch.equal(result, expected.float())


@pytest.mark.parametrize("name", OPERATORS)
def test_the_argument_is_untouched(name: str) -> None:
    ours, _, values = OPERATORS[name]
    pixels = pictures("noise", (16, 16), 1).float()
    before = pixels.clone()
    ours(pixels, values[:1])
    assert torch.equal(pixels, before)


def test_levels_are_the_nearest_and_lead_back() -> None:
    every = torch.arange(256.0)
    assert torch.equal(tone.levels(every / 255.0), every)
    assert torch.equal(tone.levels((every + 0.4) / 255.0), every)
    assert torch.equal(tone.unlevelled(every.clone()), every / 255.0)


def test_equalize_spreads_the_levels_evenly() -> None:
    """A gray ramp squeezed into a quarter of the range comes out over the whole of it (63 * 85 is 21 * 255)."""
    ramp = torch.arange(64.0).repeat(85, 1).expand(1, 3, 85, 64)
    spread = tone.equalize(ramp + 96.0)
    assert spread.min() == 0.0 and spread.max() == 255.0
    steps = spread[0, 0, 0].diff()
    assert steps.min() >= 4.0 and steps.max() <= 5.0


def test_solarize_takes_fractions_of_the_range_as_well() -> None:
    levels = torch.arange(256.0).expand(1, 3, 1, 256)
    by_level = tone.solarize(levels, torch.tensor([128.0]), tone.BOUND)
    torch.testing.assert_close(tone.solarize(levels / 255.0, 0.5) * 255.0, by_level)
