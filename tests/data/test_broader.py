"""What appendix B.2's operators promise beside what holds of every augmentation (see test_augment)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as tv
from torch import Tensor

from harness.data import broader
from harness.data.ops.motion import motion_blur
from harness.data.rng import ImageRng

BATCH = 16


def pictures(size: int = 32) -> Tensor:
    return torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0)) ** 2


def streams(count: int = BATCH) -> ImageRng:
    return ImageRng(seed=0, epoch=0, images=torch.arange(count))


def test_equalize_is_torchvisions_after_rounding_to_levels() -> None:
    levels = (pictures() * 255.0).round().to(torch.uint8)
    result = broader.Equalize(p=1.0)(pictures(), streams())
    assert torch.equal(result, tv.equalize(levels) / 255.0)


def test_solarize_is_torchvisions_without_rounding() -> None:
    result = broader.Solarize(p=1.0, threshold=0.3)(pictures(), streams())
    assert torch.equal(result, tv.solarize(pictures(), 0.3))


def test_the_default_threshold_is_pillows_on_levels() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    result = broader.Solarize(p=1.0)(levels / 255.0, streams(1))
    torch.testing.assert_close(result, tv.solarize(levels, 128) / 255.0)


@pytest.mark.parametrize(("size", "length"), [(32, 3), (64, 7), (224, 23)])
def test_motion_blur_is_as_long_as_the_gaussian_kernel_is_wide(size: int, length: int) -> None:
    operator = broader.MotionBlur(p=1.0)
    line = torch.zeros(1, 3, size, size)
    line[..., size // 2, :] = 1.0  # a row, so only the vertical reach shows
    angle = operator.draw(streams(1).child("x"))
    result = operator(line, streams(1).child("x"))
    torch.testing.assert_close(result, motion_blur(line, angle, length), atol=1e-6, rtol=0.0)


def test_directions_are_uniform_over_the_half_circle() -> None:
    angles = broader.MotionBlur().draw(streams(4_000))
    shares = (angles / math.pi * 4).long().bincount(minlength=4) / 4_000
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0.0)


@pytest.mark.parametrize("operator", [broader.Equalize(), broader.Solarize(), broader.MotionBlur()], ids=str)
def test_the_default_is_one_image_in_five(operator: Any) -> None:
    images = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)).expand(2_000, -1, -1, -1)
    changed = (operator(images, streams(2_000)) != images).flatten(1).any(dim=1)
    assert changed.double().mean().item() == pytest.approx(0.2, abs=0.03)
