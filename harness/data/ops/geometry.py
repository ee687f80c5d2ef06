"""What augmentations do to the places of pixels: crop, flip, blur, erase, filter, turn; parameters are arguments.

Crop, mirror and blur are separable linear maps, so each is two small matrices per image and two batched matrix
products (:func:`columns`, :func:`rows`): no grid, no loop over images, one code for any number of taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.ops.numba_cache import arrays, suits
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
    drawn = rng.uniform(0.0, 1.0, 2, ATTEMPTS)
    area = drawn[:, 0].mul_(scale[1] - scale[0]).add_(scale[0]).mul_((height * width).unsqueeze(-1))
    aspect = drawn[:, 1].mul_(math.log(ratio[1] / ratio[0])).add_(math.log(ratio[0])).exp_()
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
    spare = torch.stack([height - tall, width - wide], dim=1)
    corner = torch.where(found[:, None], rng.integers(spare + 1, 2), spare // 2)
    return Boxes(corner[:, 0], corner[:, 1], tall, wide, rng.bernoulli(flip))


def unit(images: Tensor) -> Tensor:
    """float32 in [0, 1]; the paper's code normalises no further."""
    return images if images.is_floating_point() else images.to(torch.float32).div_(255.0)


def repeated(images: Tensor, count: int) -> Tensor:
    """``count`` images, a multiple of those given: all of them, again and again."""
    return images if len(images) == count else images.repeat(count // len(images), 1, 1, 1)


def columns(images: Tensor, matrices: Tensor) -> Tensor:
    """Every row of an image times the transpose of its matrix: [B, C, H, W] by [B, w, W] -> [B, C, H, w]."""
    count, channels, height, width = images.shape
    mixed = torch.bmm(images.reshape(count, channels * height, width), matrices.transpose(1, 2))
    return mixed.view(count, channels, height, matrices.shape[1])


def rows(images: Tensor, matrices: Tensor) -> Tensor:
    """Every column of an image multiplied by its matrix: [B, C, H, W] by [B, h, H] -> [B, C, h, W]."""
    return torch.matmul(matrices[:, None], images)


def rows_between(images: Tensor, centers: Tensor) -> Tensor:
    """Linear interpolation between rows at ``centers`` [B, h] in [0, H - 1] -> [B, C, h, W].

    The same as :func:`rows` with the two weights of each center in a matrix, in a third of the time, since rows are
    contiguous.
    """
    count, channels, height, width = images.shape
    above = centers.floor().clamp_(max=height - 2)
    planes = torch.arange(count * channels, device=images.device).view(count, channels, 1) * height
    places = (planes + above.long()[:, None]).flatten()
    every = images.reshape(-1, width)
    shape = (count, channels, centers.shape[1], width)
    upper, lower = (every.index_select(0, x).view(shape) for x in (places, places + 1))
    return torch.lerp(upper, lower, (centers - above)[:, None, :, None])


def centers_of(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Where the ``size`` new pixels lie among the old, if ``first .. first + length`` are resized: float [B, size]."""
    return torch.arange(0.5, size, device=length.device) * (length / size)[:, None] + (first - 0.5)[:, None]


def within(centers: Tensor, first: Tensor, length: Tensor) -> Tensor:
    """Centers moved to the border pixel where they lie beyond it: what bilinear enlarging does at borders."""
    return torch.clamp(centers, first[:, None], (first + length - 1)[:, None])


def triangle(x: Tensor) -> Tensor:
    """The kernel of bilinear interpolation; ``x`` >= 0 is overwritten."""
    return x.neg_().add_(1.0).clamp_(min=0.0)


def keys_cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5, which torch (antialiased) and Pillow call bicubic; ``x`` >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1.0, near, far).masked_fill_(x >= 2.0, 0.0)


def resizing(centers: Tensor, first: Tensor, length: Tensor, full: int, interpolation: str) -> Tensor:
    """The matrices [B, size, full] that resize by any factor.

    Antialiased as in torch and Pillow: where the crop is larger than ``size`` the kernel widens with it; what
    of the kernel falls outside the crop is left out and the rest scaled to sum to one.
    """
    pixels = torch.arange(full, device=length.device)
    scale = (length / centers.shape[1]).clamp(min=1.0)[:, None, None]
    distance = (pixels - centers[..., None]).abs_().div_(scale)
    weights = triangle(distance) if interpolation == "bilinear" else keys_cubic(distance)
    weights *= ((pixels >= first[:, None]) & (pixels < (first + length)[:, None]))[:, None]
    return weights.div_(weights.sum(dim=2, keepdim=True))


def resized_crop(images: Tensor, boxes: Boxes, size: tuple[int, int], interpolation: str) -> Tensor:
    """Each box, resized to ``size`` (rows, columns) and mirrored where asked; -> [n, C, *size] in [0, 1].

    ``images`` [B, C, H, W], uint8 or float in [0, 1]. The i-th of the n boxes is cut from image i modulo B.
    """
    height, width = images.shape[-2:]
    top, left, tall, wide, mirrored = torch.stack(boxes).to(images.device, non_blocking=True)
    vertical = centers_of(top, tall, size[0])
    horizontal = centers_of(left, wide, size[1])
    # A mirror image reads the same centers from right to left: bit by bit the flipped crop.
    horizontal = torch.where(mirrored.bool()[:, None], horizontal.flip(1), horizontal)
    if interpolation == "bilinear" and 2 <= height <= size[0] and width <= size[1]:
        # No crop is larger than its target, so a new pixel lies between two old ones, in either direction.
        vertical, horizontal = within(vertical, top, tall), within(horizontal, left, wide)
        if kernels := suits(images) if width >= 2 else None:
            out = torch.empty(len(top), images.shape[1], *size)
            full = 1.0 if images.is_floating_point() else 255.0
            kernels.resample(*arrays(images, vertical, horizontal), full, *arrays(out))
            return out
        images = repeated(unit(images), len(top))
        pixels = torch.arange(width, device=images.device)
        return rows_between(columns(images, triangle((pixels - horizontal[..., None]).abs_())), vertical).clamp_(
            0.0, 1.0
        )
    if kernels := suits(images):
        out = torch.empty(len(top), images.shape[1], *size)
        full = 1.0 if images.is_floating_point() else 255.0
        corners = torch.stack([top, left, tall, wide], dim=1)
        cubic = interpolation == "bicubic"
        kernels.resize(*arrays(images, vertical, horizontal, corners), cubic, full, *arrays(out))
        return out
    images = repeated(unit(images), len(top))
    mixed = columns(images, resizing(horizontal, left, wide, width, interpolation))
    # Bicubic kernels overshoot, and rounding can leave [0, 1] by an ulp.
    return rows(mixed, resizing(vertical, top, tall, height, interpolation)).clamp_(0.0, 1.0)


def gaussian_blur(images: Tensor, sigma: Tensor, size: int) -> Tensor:
    """Gaussian of ``size`` (odd) taps and standard deviation ``sigma`` [B] in pixels; borders reflect."""
    sigma = sigma.to(images.device, non_blocking=True)
    reach = size // 2
    taps = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    if kernels := suits(images) if reach < min(images.shape[-2:]) else None:
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        kernels.blur(*arrays(images, kernel, out))
        return out

    def banded(length: int) -> Tensor:
        place = torch.arange(length, device=images.device)
        source = (place[:, None] + taps).abs()  # reflect without repeating the edge: -1 -> 1, length -> length - 2
        source = (length - 1) - ((length - 1) - source).abs()
        index = source.expand(len(images), -1, -1)
        return images.new_zeros(len(images), length, length).scatter_add_(2, index, kernel[:, None].expand(index.shape))

    mixed = columns(images, banded(images.shape[-1]))
    return rows(mixed, banded(images.shape[-2])).clamp_(0.0, 1.0)


def erase(images: Tensor, boxes: Tensor, fill: float) -> Tensor:
    """Sets each image's box (top, left, height, width; int64 [B, 4]) to ``fill``."""
    top, left, tall, wide = boxes.to(images.device, non_blocking=True).T[:, :, None]
    y = torch.arange(images.shape[-2], device=images.device)
    x = torch.arange(images.shape[-1], device=images.device)
    inside = ((y >= top) & (y < top + tall))[:, :, None] & ((x >= left) & (x < left + wide))[:, None]
    return images.masked_fill(inside[:, None], fill)


def sobel(images: Tensor, gain: float, offset: float) -> Tensor:
    """``offset + gain * (Gx + Gy)`` of every channel, clamped to [0, 1]; borders repeat the edge."""
    if kernels := suits(images):
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        kernels.sobel(*arrays(images), gain, offset, *arrays(out))
        return out
    gx = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(images.device, non_blocking=True)
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
