"""Pixel by pixel what torchvision's AutoAugment does to uint8 images, one image at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as tv
from torch import Tensor

from harness.data.ops import warp

SIZES = [(32, 32), (20, 27), (33, 64), (96, 96)]
COUNT = 20


def pictures(size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, *size), generator=generator, dtype=torch.uint8)


def affine(image: Tensor, **settings: Any) -> Tensor:
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    moved: Tensor = tv.affine(image, **{**still, **settings})
    return moved


def degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


ORACLES: dict[str, tuple[Any, Any, float]] = {
    "shear x": (warp.shear_x, lambda x, m: affine(x, shear=[degrees(m), 0.0], center=[0, 0]), 0.3),
    "shear y": (warp.shear_y, lambda x, m: affine(x, shear=[0.0, degrees(m)], center=[0, 0]), 0.3),
    "translate x": (warp.translate_x, lambda x, m: affine(x, translate=[int(m), 0]), 9.7),
    "translate y": (warp.translate_y, lambda x, m: affine(x, translate=[0, int(m)]), 9.7),
    "rotate": (warp.rotate, tv.rotate, 30.0),
}


def midway(inverse: Tensor, height: int, width: int) -> Tensor:
    """[B, H, W]: whether a pixel's source lies midway between two, so that the last bit of a sum decides.

    torchvision's sum is a matrix product, which processors with fused multiply-add round otherwise than those without.
    """
    x = torch.arange(0.5 - width / 2, width / 2, dtype=torch.float64)
    y = torch.arange(0.5 - height / 2, height / 2, dtype=torch.float64)[:, None]
    near = torch.zeros(len(inverse), height, width, dtype=torch.bool)
    for row, half in zip(inverse.unbind(1), (width / 2, height / 2), strict=True):
        a, b, c = row[..., None, None].unbind(1)
        near |= ((a * x + b * y + c + half) % 1.0 - torch.tensor([0.0, 1.0])[:, None, None, None]).abs().amin(0) < 1e-4
    return near


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_torchvision(name: str, size: tuple[int, int]) -> None:
    """At strengths 0 to 9 in both directions; those of shears hit the midpoints between pixels at some sizes."""
    ours, theirs, last = ORACLES[name]
    strengths = torch.linspace(0.0, last, 10)
    values = torch.cat([strengths, -strengths]).double()
    images = pictures(size)
    maps = ours(values, *size)
    result = warp.warp(images.float(), maps)
    expected = torch.stack([theirs(one, value.item()) for one, value in zip(images, values, strict=True)])
    differs, doubtful = (result != expected.float()).any(1), midway(maps, *size)
    assert not (differs & ~doubtful).any() and doubtful.double().mean() < 0.05
    assert (result[9] != images[9]).any()


def test_a_translation_moves_and_leaves_black_behind() -> None:
    images = pictures((32, 32)).float()
    moved = warp.warp(images, warp.translate_x(torch.full((COUNT,), 3.9, dtype=torch.float64), 32, 32))
    assert torch.equal(moved[..., 3:], images[..., :-3])
    assert (moved[..., :3] == 0).all()
