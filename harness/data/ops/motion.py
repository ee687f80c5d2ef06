"""Motion blur of a batch: every image smeared along a line of its own; parameters are arguments."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def line_kernels(angle: Tensor, size: int) -> Tensor:
    """``size`` (odd) equal weights a pixel apart on a line through the center, [B, size, size], each summing to one.

    ``angle`` [B] in radians, counter-clockwise from the horizontal; a weight between pixels is shared bilinearly.
    """
    reach = size // 2
    along = torch.arange(-reach, reach + 1, device=angle.device)
    pixels = along[:, None]
    x = triangle(along * angle.cos()[:, None, None] - pixels)  # [B, pixel, point of the line]
    y = triangle(-along * angle.sin()[:, None, None] - pixels)  # rows count downwards
    return torch.einsum("byk,bxk->byx", y, x) / size


def triangle(distance: Tensor) -> Tensor:
    """Return the weight of linear interpolation at a distance in pixels: 1 at 0, 0 from 1 on."""
    return (1.0 - distance.abs()).clamp_(min=0.0)


def motion_blur(images: Tensor, angle: Tensor, size: int) -> Tensor:
    """Each of the images [B, C, H, W] smeared over ``size`` pixels at its ``angle`` [B]; borders reflect."""
    count, channels, height, width = images.shape
    kernels = line_kernels(angle, size).to(images.device, non_blocking=True)
    reach = size // 2
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    planes = padded.view(1, count * channels, height + 2 * reach, width + 2 * reach)
    weights = kernels.repeat_interleave(channels, dim=0, output_size=count * channels)[:, None]
    return F.conv2d(planes, weights, groups=count * channels).view_as(images).clamp_(0.0, 1.0)
