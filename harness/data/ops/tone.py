"""What augmentations do to the levels of pixels, on the 8-bit scale they are defined on; parameters are arguments.

Equalizing, posterizing and AutoAugment's other operators count and cut *levels*, whole numbers 0..255. Our images are
float in [0, 1] and, once cropped and distorted, no longer on that scale, so :func:`levels` rounds them to it. Here a
batch of levels is float32 [B, 3, H, W] holding whole numbers, and every function equals torchvision's
(``torchvision.transforms.functional`` on uint8 tensors) at the same parameters, level by level, truncation included.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.ops.color import LUMA

BOUND = 255.0


def levels(images: Tensor) -> Tensor:
    """[0, 1] -> whole numbers 0..255, rounded to the nearest; a new tensor."""
    return images.mul(BOUND).round_()


def unlevelled(pixels: Tensor) -> Tensor:
    """Back to [0, 1], in place, as :func:`harness.data.ops.geometry.unit` takes uint8 there."""
    return pixels.div_(BOUND)


def solarize(images: Tensor, threshold: float | Tensor, bound: float = 1.0) -> Tensor:
    """Everything from ``threshold`` (a number, or one per image [B]) on is inverted within [0, ``bound``]."""
    if isinstance(threshold, Tensor):
        threshold = per_image(threshold, images)
    return torch.where(images >= threshold, bound - images, images)


def invert(pixels: Tensor) -> Tensor:
    """Invert levels 0..255."""
    return BOUND - pixels


def posterize(pixels: Tensor, bits: Tensor) -> Tensor:
    """Keeps the leading ``bits`` [B] of eight."""
    step = torch.exp2(8.0 - per_image(bits, pixels))
    return pixels.div(step).floor_().mul_(step)


def equalize(pixels: Tensor) -> Tensor:
    """Histogram equalization, each channel of each image on its own.

    Pillow's rule, which is torchvision's: a level maps to the number of darker pixels divided by ``step``, a 255th
    of all pixels but the brightest level's. A channel of (nearly) one level, where ``step`` is 0, stays as it is.
    """
    count, channels, height, width = pixels.shape
    planes = pixels.reshape(count * channels, height * width).long()
    histogram = torch.zeros(len(planes), 256, dtype=torch.int64, device=pixels.device)
    histogram.scatter_add_(1, planes, torch.ones_like(planes))
    brightest = histogram.gather(1, planes.amax(dim=1, keepdim=True))
    step = (height * width - brightest) // 255
    darker = histogram.cumsum(dim=1) - histogram
    table = ((darker + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=pixels.device), table)
    return table.gather(1, planes).to(pixels.dtype).view_as(pixels)


def autocontrast(pixels: Tensor) -> Tensor:
    """Stretches each channel of each image to 0..255; a channel of one level stays as it is."""
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    flat = high == low
    scale = torch.where(flat, 1.0, BOUND / (high - low))
    return (pixels - torch.where(flat, 0.0, low)).mul_(scale).clamp_(0.0, BOUND).floor_()


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """``factor`` [B] of the image, the rest black."""
    return blend(pixels, torch.zeros_like(pixels[:, :, :1, :1]), factor)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """``factor`` [B] of the image, the rest its mean luminance."""
    return blend(pixels, luminance(pixels).mean((1, 2, 3), keepdim=True), factor)


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """``factor`` [B] of the image, the rest its luminance (AutoAugment's "Color")."""
    return blend(pixels, luminance(pixels), factor)


def sharpness(pixels: Tensor, factor: Tensor) -> Tensor:
    """``factor`` [B] of the image, the rest smoothed by a 3x3 kernel (center 5/13, others 1/13); borders stay."""
    if min(pixels.shape[-2:]) <= 2:
        return pixels
    kernel = torch.ones(3, 3, device=pixels.device)
    kernel[1, 1] = 5.0
    kernel = (kernel / kernel.sum()).expand(pixels.shape[1], 1, 3, 3)
    smooth = pixels.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(pixels, kernel, groups=pixels.shape[1]).round_()
    return blend(pixels, smooth, factor)


def luminance(pixels: Tensor) -> Tensor:
    """[B, 3, H, W] -> whole numbers [B, 1, H, W]; torchvision's order of additions, which decides what is cut off."""
    red, green, blue = pixels[:, 0:1], pixels[:, 1:2], pixels[:, 2:3]
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).floor_()


def blend(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``factor`` [B] (float64) of ``pixels`` and one less ``factor`` of ``other``, cut off to whole numbers."""
    mixed = per_image(factor, pixels) * pixels + per_image(1.0 - factor, pixels) * other
    return mixed.clamp_(0.0, BOUND).floor_()


def per_image(values: Tensor, pixels: Tensor) -> Tensor:
    """[B] on the CPU -> [B, 1, 1, 1] beside the pixels, without waiting."""
    return values.to(pixels.device, pixels.dtype, non_blocking=True)[:, None, None, None]
