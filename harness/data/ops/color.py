"""Color distortion of a batch, every image with its own factors in its own order; parameters are arguments.

Brightness, contrast and saturation are all clamp(a x + plane) with a plane per image, and only hue is not. So the
images are sorted by the place of hue in their order: then "the k-th affine step, before hue" concerns a tail of
the batch, "after hue" a head of it, and hue is computed once for all. Each step works in place on a contiguous
slice, whatever the orders; nothing is computed twice and nothing masked away.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.data.ops.numba_cache import arrays, suits

LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of gray (ITU-R 601-2)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Jitter(NamedTuple):
    """All float32 [B] unless noted, on the CPU.

    ``hue`` in turns of the circle; ``order`` int64 [B, 4], the operators' numbers (above) in order of application;
    ``jittered``, ``grayed`` bool [B]; ``additive``: brightness is added, not multiplied.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor
    jittered: Tensor
    grayed: Tensor
    additive: bool


def gray(images: Tensor) -> Tensor:
    """Luminance, [B, 3, H, W] -> [B, H, W]; torchvision's ``rgb_to_grayscale``."""
    red, green, blue = images.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def distort(images: Tensor, jitter: Jitter) -> Tensor:
    """Jitter, then gray, each where asked. [B, 3, H, W] in [0, 1] -> the same."""
    device = images.device
    if kernels := suits(images):
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        steps = affine_steps(jitter, torch.arange(len(images)))
        asked = (jitter.order, jitter.hue, jitter.jittered, jitter.grayed)
        kernels.distort(*arrays(images, steps, *asked, out))
        return out
    hue_at = (jitter.order == HUE).int().argmax(dim=1)
    rank = torch.where(jitter.jittered, hue_at, 4)  # images left alone go last
    order = rank.argsort(stable=True)
    ends = torch.bincount(rank, minlength=5).cumsum(0).tolist()  # ends[k]: number of images with hue at place <= k
    count = ends[3]
    steps = affine_steps(jitter, order[:count]).to(device, non_blocking=True)
    turn = jitter.hue[order[:count]].to(device, non_blocking=True)

    pixels = images.index_select(0, order.to(device, non_blocking=True))
    for k in range(3):  # the k-th affine step of the images whose hue comes later
        affine_(pixels[ends[k] : count], steps[ends[k] :, k])
    turn_hue_(pixels[:count], turn)
    for k in range(3):  # and of those whose hue is done
        affine_(pixels[: ends[k]], steps[: ends[k], k])
    images = pixels.index_select(0, order.argsort().to(device, non_blocking=True))

    places = jitter.grayed.nonzero().flatten().to(device, non_blocking=True)
    if len(places):
        images.index_copy_(0, places, gray(images.index_select(0, places))[:, None].expand(-1, 3, -1, -1))
    return images


def affine_steps(jitter: Jitter, chosen: Tensor) -> Tensor:
    """The three affine steps of the ``chosen`` images, in their order of application: [n, 3, 4].

    The numbers (scale, tint, pull, shift) mean x -> clamp(scale x + tint gray(x) + pull mean(gray(x)) + shift).
    """
    kinds = jitter.order[chosen]
    kinds = kinds[kinds != HUE].view(-1, 3)
    factors = torch.stack([jitter.brightness, jitter.contrast, jitter.saturation], dim=1)[chosen].gather(1, kinds)
    added = (kinds == BRIGHTNESS) & jitter.additive
    rest = 1.0 - factors
    scale = torch.where(added, 1.0, factors)
    return torch.stack([scale, rest * (kinds == SATURATION), rest * (kinds == CONTRAST), factors * added], dim=2)


def affine_(pixels: Tensor, step: Tensor) -> None:
    """One affine step in place: ``pixels`` [n, 3, H, W], ``step`` [n, 4]."""
    if len(pixels) == 0:
        return
    scale, tint, pull, shift = step[:, :, None, None].unbind(1)
    plane = gray(pixels)
    constant = torch.addcmul(shift, pull, plane.mean((1, 2), keepdim=True))
    plane.mul_(tint).add_(constant)
    torch.addcmul(plane[:, None], pixels, scale[:, None], out=pixels).clamp_(0.0, 1.0)


def turn_hue_(pixels: Tensor, turn: Tensor) -> None:
    """Turns the hue by ``turn`` [n] of the circle in place: torchvision's ``adjust_hue`` without branches.

    Let R, G, B be the channels scaled so that the least is 0 and the greatest 1. Along the hexagon of hues, in
    units of its sides, a color lies 1 + G + B - R from red, on the green side where G > B. And back: a channel is
    clamp(2 - d, 0, 1) at distance d from its own corner.
    """
    if len(pixels) == 0:
        return
    red, green, blue = pixels.unbind(1)
    low = torch.minimum(red, green)
    torch.minimum(low, blue, out=low)
    chroma = torch.maximum(red, green)
    torch.maximum(chroma, blue, out=chroma).sub_(low)
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-12)).add_(1.0).copysign_(green - blue)
    for channel, corner in zip((red, green, blue), (0.0, 1 / 3, 2 / 3), strict=True):
        away = torch.add((turn - corner)[:, None, None], hue, alpha=1 / 6)  # in turns, from this channel's corner
        torch.round(away, out=channel)
        away.sub_(channel).abs_().mul_(-6.0).add_(2.0).clamp_(0.0, 1.0)
        torch.addcmul(low, away, chroma, out=channel)
