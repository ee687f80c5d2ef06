"""L*a*b* against the formula of its standard, pixel by pixel, and colors whose values are known."""

from __future__ import annotations

import pytest
import torch

from harness.data.ops.lab import centred, lab


def by_hand(red: float, green: float, blue: float) -> list[float]:
    """One color, from the constants of skimage.color (``xyz_from_rgb``, ``xyz_tristimulus_values``, ``xyz2lab``)."""
    linear = [((one + 0.055) / 1.055) ** 2.4 if one > 0.04045 else one / 12.92 for one in (red, green, blue)]
    rows = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    found = []
    for row, white in zip(rows, (0.95047, 1.0, 1.08883), strict=True):
        value = sum(weight * one for weight, one in zip(row, linear, strict=True)) / white
        found.append(value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116)
    x, y, z = found
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def test_every_color_is_what_the_formula_says() -> None:
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images[0, :, 0] *= 0.05  # where the curves are straight lines
    found = lab(images)
    for image in range(2):
        for row in range(4):
            for column in range(5):
                expected = torch.tensor(by_hand(*images[image, :, row, column].tolist()))
                torch.testing.assert_close(found[image, :, row, column], expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_colors_of_known_values(color: tuple[float, ...], expected: tuple[float, ...]) -> None:
    found = lab(torch.tensor(color).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0.0, atol=0.02)


def test_centred_fills_the_range_from_minus_one_to_one() -> None:
    """Over all colors: the official code's bounds are those of sRGB."""
    levels = torch.linspace(0, 1, 33)
    colors = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 33, -1)
    for channel in centred(colors)[0]:
        torch.testing.assert_close(
            torch.stack([channel.min(), channel.max()]), torch.tensor([-1.0, 1.0]), atol=2e-3, rtol=0.0
        )


def test_black_has_a_gradient() -> None:
    black = torch.zeros(1, 3, 2, 2, requires_grad=True)
    centred(black).sum().backward()  # type: ignore[no-untyped-call]
    assert black.grad is not None and black.grad.isfinite().all()
