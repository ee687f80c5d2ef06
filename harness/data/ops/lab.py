"""sRGB to CIE L*a*b*, as scikit-image converts it (``rgb2lab``; white of D65, 2 degrees)."""

from __future__ import annotations

import torch
from torch import Tensor

XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""Linear RGB to XYZ (ITU-R 709), row by row."""
WHITE = (0.95047, 1.0, 1.08883)
MIDDLE = (50.0, (98.233 - 86.183) / 2, (94.478 - 107.857) / 2)
HALF = (50.0, (98.233 + 86.183) / 2, (94.478 + 107.857) / 2)
"""Middle and half length of the range that sRGB takes up along L, a and b (``train_CMC.py``)."""


def lab(images: Tensor) -> Tensor:
    """float [B, 3, H, W] in [0, 1] -> float32 [B, 3, H, W]: L in [0, 100], a and b about -108 to 98."""
    images = images.float()
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).clamp(min=0) ** 2.4, images / 12.92)
    red, green, blue = linear.unbind(1)
    x, y, z = (
        (red * ratios[0] + green * ratios[1] + blue * ratios[2]) / white
        for ratios, white in zip(XYZ, WHITE, strict=True)
    )
    x, y, z = (torch.where(one > 0.008856, one.clamp(min=1e-6) ** (1 / 3), 7.787 * one + 16 / 116) for one in (x, y, z))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def centred(images: Tensor) -> Tensor:
    """The same, each channel moved and scaled such that sRGB fills [-1, 1]."""
    middle, half = (torch.tensor(one, device=images.device).view(3, 1, 1) for one in (MIDDLE, HALF))
    return (lab(images) - middle) / half
