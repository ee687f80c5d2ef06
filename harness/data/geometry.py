"""What augmentations do to the places of pixels: crop, flip, blur, erase, filter, turn; parameters are arguments.

Crop, flip and blur are separable linear maps, so each is two small matrices per image and two batched matrix
products (:func:`separable`): no gather, no grid, no loop over images, one code for any number of taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.rng import ImageRng

Operator = Callable[[Tensor, Tensor], Tensor]
ATTEMPTS = 10  # of torchvision's RandomResizedCrop


class Boxes(NamedTuple):
    """Crops in whole pixels, int64 [B] each, and whether the result is mirrored, bool [B]."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


def random_boxes(
    rng: ImageRng,
    height: int | Tensor,
    width: int | Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip: float,
) -> Boxes:
    """Draws like ``torchvision.transforms.RandomResizedCrop.get_params``, all attempts of all images at once.

    ``height``, ``width``: of the images, in pixels; int64 [B] where they differ.
    """
    height, width = torch.as_tensor(height), torch.as_tensor(width)
    area = (height * width).unsqueeze(-1) * rng.uniform(*scale, ATTEMPTS)
    aspect = rng.uniform(math.log(ratio[0]), math.log(ratio[1]), ATTEMPTS).exp_()
    wide = (area * aspect).sqrt_().round_().long()
    tall = (area / aspect).sqrt_().round_().long()
    fits = (wide > 0) & (wide <= width.unsqueeze(-1)) & (tall > 0) & (tall <= height.unsqueeze(-1))
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    # Where nothing fitted: the largest central crop whose aspect is allowed.
    tallest = torch.minimum(height, (width / ratio[0]).round().long())
    widest = torch.minimum(width, (height * ratio[1]).round().long())
    tall = torch.where(found, tall.gather(1, first)[:, 0], tallest)
    wide = torch.where(found, wide.gather(1, first)[:, 0], widest)
    top = torch.where(found, rng.integers(height - tall + 1), (height - tall) // 2)
    left = torch.where(found, rng.integers(width - wide + 1), (width - wide) // 2)
    return Boxes(top, left, tall, wide, rng.bernoulli(flip))


def separable(images: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """``vertical[b] @ image @ horizontal[b]^T``: [B, C, H, W] by [B, h, H] and [B, w, W] -> [B, C, h, w]."""
    count, channels, height, width = images.shape
    rows = torch.bmm(images.reshape(count, channels * height, width), horizontal.transpose(1, 2))
    return torch.matmul(vertical[:, None], rows.view(count, channels, height, horizontal.shape[1]))


def triangle(x: Tensor) -> Tensor:
    """The kernel of bilinear interpolation; ``x`` >= 0 is overwritten."""
    return x.neg_().add_(1.0).clamp_(min=0.0)


def keys_cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5, which torch (antialiased) and Pillow call bicubic; ``x`` >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1.0, near, far).masked_fill_(x >= 2.0, 0.0)


def resizing(first: Tensor, length: Tensor, size: int, full: int, interpolation: str, reverse: Tensor | None) -> Tensor:
    """[B, size, full]: resizes pixels ``first .. first + length`` of ``full`` to ``size``; reversed where asked.

    Antialiased as in torch and Pillow: where the crop is larger than ``size`` the kernel widens with it; what
    of the kernel falls outside the crop is left out and the rest scaled to sum to one.
    """
    scale = length.float()[:, None, None] / size
    out = torch.arange(size, device=length.device)
    places = out if reverse is None else torch.where(reverse[:, None], size - 1 - out, out)
    centers = (places[..., None] + 0.5) * scale
    pixels = torch.arange(full, device=length.device) - first[:, None]
    distance = (pixels[:, None] + 0.5 - centers).abs_().div_(scale.clamp(min=1.0))
    weights = triangle(distance) if interpolation == "bilinear" else keys_cubic(distance)
    weights *= ((pixels >= 0) & (pixels < length[:, None]))[:, None]
    return weights.div_(weights.sum(dim=2, keepdim=True))


def resized_crop(images: Tensor, boxes: Boxes, size: tuple[int, int], interpolation: str) -> Tensor:
    """Each image's box, resized to ``size`` (rows, columns) and mirrored where asked; -> [B, C, *size] in [0, 1]."""
    height, width = images.shape[-2:]
    top, left, tall, wide, mirrored = torch.stack(boxes).to(images.device, non_blocking=True)
    vertical = resizing(top, tall, size[0], height, interpolation, None)
    horizontal = resizing(left, wide, size[1], width, interpolation, mirrored.bool())
    # Bicubic kernels overshoot, and rounding can leave [0, 1] by an ulp.
    return separable(images, vertical, horizontal).clamp_(0.0, 1.0)


def gaussian_blur(images: Tensor, sigma: Tensor, size: int) -> Tensor:
    """Gaussian of ``size`` (odd) taps and standard deviation ``sigma`` [B] in pixels; borders reflect."""
    sigma = sigma.to(images.device, non_blocking=True)
    reach = size // 2
    taps = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)

    def banded(length: int) -> Tensor:
        place = torch.arange(length, device=images.device)
        source = (place[:, None] + taps).abs()  # reflect without repeating the edge: -1 -> 1, length -> length - 2
        source = (length - 1) - ((length - 1) - source).abs()
        index = source.expand(len(images), -1, -1)
        return images.new_zeros(len(images), length, length).scatter_add_(2, index, kernel[:, None].expand(index.shape))

    return separable(images, banded(images.shape[-2]), banded(images.shape[-1])).clamp_(0.0, 1.0)


def erase(images: Tensor, boxes: Tensor, fill: float) -> Tensor:
    """Sets each image's box (top, left, height, width; int64 [B, 4]) to ``fill``."""
    top, left, tall, wide = boxes.to(images.device, non_blocking=True).T[:, :, None]
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    inside = ((rows >= top) & (rows < top + tall))[:, :, None] & ((columns >= left) & (columns < left + wide))[:, None]
    return images.masked_fill(inside[:, None], fill)


def sobel(images: Tensor, gain: float, offset: float) -> Tensor:
    """``offset + gain * (Gx + Gy)`` of every channel, clamped to [0, 1]; borders repeat the edge."""
    gx = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device)
    planes = F.pad(images.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    edges = F.conv2d(planes, (gx + gx.T)[None, None])
    return edges.mul_(gain).add_(offset).clamp_(0.0, 1.0).view_as(images)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Rotates each (square) image counter-clockwise by ``turns`` [B] right angles."""
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"quarter turns need square images, got {tuple(images.shape[-2:])}")
    turned = images.clone()
    for turn in (1, 2, 3):
        places = (turns == turn).nonzero().flatten().to(images.device, non_blocking=True)
        turned.index_copy_(0, places, images.index_select(0, places).rot90(turn, (2, 3)))
    return turned
