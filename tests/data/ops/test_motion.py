from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.ops.motion import line_kernels, motion_blur

ANGLES = torch.linspace(0.0, math.pi, 7)[:-1]


def pictures(count: int, size: tuple[int, int] = (12, 15)) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def reflected(place: int, length: int) -> int:
    """-1 -> 1 and length -> length - 2: the edge is not repeated."""
    place = abs(place)
    return place if place < length else 2 * (length - 1) - place


def slow(image: Tensor, angle: float, size: int) -> Tensor:
    """For every pixel the mean over the points of the line, each read by bilinear interpolation."""
    height, width = image.shape[-2:]
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            for step in range(-(size // 2), size // 2 + 1):
                y, x = row - step * math.sin(angle), column + step * math.cos(angle)
                top, left = math.floor(y), math.floor(x)
                for at_y, at_x in [(top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)]:
                    weight = (1 - abs(y - at_y)) * (1 - abs(x - at_x))
                    source = image[:, reflected(at_y, height), reflected(at_x, width)]
                    result[:, row, column] += weight / size * source
    return result


@pytest.mark.parametrize("size", [1, 3, 5])
def test_equals_a_walk_along_the_line(size: int) -> None:
    images = pictures(len(ANGLES))
    expected = torch.stack([slow(image, float(a), size) for image, a in zip(images, ANGLES, strict=True)])
    torch.testing.assert_close(motion_blur(images, ANGLES, size), expected, atol=2e-6, rtol=0.0)


def test_horizontal_and_vertical_lines_are_box_filters() -> None:
    images = pictures(2)
    across = motion_blur(images, torch.tensor([0.0, 0.0]), 5)
    torch.testing.assert_close(across, F.avg_pool2d(F.pad(images, (2, 2, 0, 0), mode="reflect"), (1, 5), stride=1))
    down = motion_blur(images, torch.tensor([math.pi / 2] * 2), 5)
    expected = F.avg_pool2d(F.pad(images, (0, 0, 2, 2), mode="reflect"), (5, 1), stride=1)
    torch.testing.assert_close(down, expected, atol=2e-6, rtol=0.0)


@pytest.mark.parametrize("size", [1, 3, 23])
def test_kernels_keep_the_mean_and_are_symmetric(size: int) -> None:
    kernels = line_kernels(ANGLES, size)
    assert kernels.shape == (len(ANGLES), size, size)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(len(ANGLES)))
    torch.testing.assert_close(kernels, kernels.flip(1, 2))


def test_a_rising_line_smears_upwards_to_the_right() -> None:
    point = torch.zeros(1, 3, 9, 9)
    point[..., 4, 4] = 1.0
    smeared = motion_blur(point, torch.tensor([math.pi / 4]), 5)[0, 0]
    assert smeared[3, 5] > smeared[3, 3] and smeared[5, 3] > smeared[5, 5]
