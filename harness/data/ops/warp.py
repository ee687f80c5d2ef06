"""Shear, translation and rotation of a batch as AutoAugment has them: nearest pixel, black beyond the border.

A map is three numbers for each coordinate: where a pixel of the result, (x, y, 1) from the image's center, comes from.
At given parameters the result equals ``torchvision.transforms.functional.affine`` and ``rotate`` of uint8 tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def shear_x(slope: Tensor, height: int, width: int) -> Tensor:
    """Rows move left by ``slope`` [B] times their distance from the upper edge; maps [B, 2, 3]."""
    return maps(1.0, slope, slope * (height / 2), 0.0, 1.0, 0.0, like=slope)


def shear_y(slope: Tensor, height: int, width: int) -> Tensor:
    """Columns move up by ``slope`` [B] times their distance from the left edge."""
    return maps(1.0, 0.0, 0.0, slope, 1.0, slope * (width / 2), like=slope)


def translate_x(pixels: Tensor, height: int, width: int) -> Tensor:
    """To the right by whole ``pixels`` [B]; a fraction is cut off."""
    return maps(1.0, 0.0, -pixels.trunc(), 0.0, 1.0, 0.0, like=pixels)


def translate_y(pixels: Tensor, height: int, width: int) -> Tensor:
    """Downwards by whole ``pixels`` [B]; a fraction is cut off."""
    return maps(1.0, 0.0, 0.0, 0.0, 1.0, -pixels.trunc(), like=pixels)


def rotate(degrees: Tensor, height: int, width: int) -> Tensor:
    """Counter-clockwise about the center."""
    angle = torch.deg2rad(degrees)
    return maps(angle.cos(), -angle.sin(), 0.0, angle.sin(), angle.cos(), 0.0, like=degrees)


def maps(*entries: float | Tensor, like: Tensor) -> Tensor:
    """Six numbers, each one for all or one per image, -> [B, 2, 3]."""
    full = [one if isinstance(one, Tensor) else torch.full_like(like, one) for one in entries]
    return torch.stack(full, dim=-1).view(-1, 2, 3)


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Each image through its map, [B, 2, 3] on the CPU; [B, C, H, W] -> the same shape."""
    height, width = images.shape[-2:]
    # Scaled to grid_sample's [-1, 1] before the sum, as torchvision does: where a source lies midway between two
    # pixels, the rounding decides.
    inverse = (inverse.float() / torch.tensor([[width / 2], [height / 2]])).to(images.device, non_blocking=True)
    x = torch.arange(0.5 - width / 2, width / 2, device=images.device)
    y = torch.arange(0.5 - height / 2, height / 2, device=images.device)[:, None]
    # Sums, not a matrix product: that may run in TensorFloat-32, too coarse to find the nearest of 224 pixels.
    grid = torch.stack(
        [a * x + b * y + c for a, b, c in (row[..., None, None].unbind(1) for row in inverse.unbind(1))], -1
    )
    return F.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)
