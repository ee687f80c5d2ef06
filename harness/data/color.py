"""Color distortion of a batch, every image with its own factors in its own order; parameters are arguments.

Brightness, contrast and saturation are all clamp(A x + b) with a 3 x 3 matrix A per image, and only hue is not. So the
images are sorted by the place of hue in their order: then "the k-th affine step, before hue" concerns a tail of
the batch, "after hue" a head of it, and hue is computed once for all. Each step is one batched product over a
contiguous slice, whatever the orders; nothing is computed twice and nothing masked away.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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
    hue_at = (jitter.order == HUE).int().argmax(dim=1)
    rank = torch.where(jitter.jittered, hue_at, 4)  # images left alone go last
    order = rank.argsort(stable=True)
    ends = torch.bincount(rank, minlength=5).cumsum(0).tolist()  # ends[k]: number of images with hue at place <= k
    count = ends[3]
    chosen = order[:count]
    matrices, pulls, shifts = affine_steps(jitter, chosen)
    matrices, pulls, shifts = (x.to(device, non_blocking=True) for x in (matrices, pulls, shifts))
    turn = jitter.hue[chosen].to(device, non_blocking=True)

    images = images.index_select(0, order.to(device, non_blocking=True))
    pixels = images.flatten(2)
    for k in range(3):  # the k-th affine step of the images whose hue comes later
        affine_(pixels[ends[k] : count], *(x[ends[k] :, k] for x in (matrices, pulls, shifts)))
    if count:
        turn_hue_(pixels[:count], turn)
    for k in range(3):  # and of those whose hue is done
        affine_(pixels[: ends[k]], *(x[: ends[k], k] for x in (matrices, pulls, shifts)))
    images = images.index_select(0, order.argsort().to(device, non_blocking=True))

    places = jitter.grayed.nonzero().flatten().to(device, non_blocking=True)
    if len(places):
        images.index_copy_(0, places, gray(images.index_select(0, places))[:, None].expand(-1, 3, -1, -1))
    return images


def affine_steps(jitter: Jitter, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three affine steps of the ``chosen`` images, in their order of application.

    A step is x -> clamp(matrix x + pull * mean gray of x + shift): matrices [n, 3, 3, 3], pulls [n, 3], shifts [n, 3].
    """
    kinds = jitter.order[chosen]
    kinds = kinds[kinds != HUE].view(-1, 3)
    factors = torch.stack([jitter.brightness, jitter.contrast, jitter.saturation], dim=1)[chosen].gather(1, kinds)
    added = (kinds == BRIGHTNESS) & jitter.additive
    scale = torch.where(added, 1.0, factors)
    rest = 1.0 - factors
    to_gray = torch.where(kinds == SATURATION, rest, 0.0)[..., None, None]
    matrices = scale[..., None, None] * torch.eye(3) + to_gray * torch.tensor(LUMA).expand(3, 3)
    return matrices, torch.where(kinds == CONTRAST, rest, 0.0), torch.where(added, factors, 0.0)


def affine_(pixels: Tensor, matrices: Tensor, pulls: Tensor, shifts: Tensor) -> None:
    """One affine step in place: pixels [n, 3, HW], matrices [n, 3, 3], pulls and shifts [n]."""
    if len(pixels) == 0:
        return
    mean = pixels.mean(dim=2) @ torch.tensor(LUMA, device=pixels.device)
    bias = torch.addcmul(shifts, pulls, mean)[:, None, None].expand(-1, 3, -1)
    pixels.copy_(torch.baddbmm(bias, matrices, pixels).clamp_(0.0, 1.0))


def turn_hue_(pixels: Tensor, turn: Tensor) -> None:
    """Turns the hue by ``turn`` [n] of the circle in place: torchvision's ``adjust_hue`` without branches.

    Let R, G, B be the channels scaled so that the least is 0 and the greatest 1. Along the hexagon of hues, in
    units of its sides, a color lies 1 + G + B - R from red, on the green side where G > B. And back: a channel is
    clamp(2 - d, 0, 1) at distance d from its own corner.
    """
    red, green, blue = pixels.unbind(1)
    low = pixels.amin(dim=1)
    chroma = pixels.amax(dim=1).sub_(low)
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-12)).add_(1.0).copysign_(green - blue)
    corners = torch.tensor([0.0, 1 / 3, 2 / 3], device=pixels.device)
    away = torch.add((turn[:, None] - corners)[..., None], hue[:, None], alpha=1 / 6)  # in turns, from each corner
    away.sub_(away.round()).abs_()
    weights = torch.rsub(away, 2.0, alpha=6.0).clamp_(0.0, 1.0)
    torch.addcmul(low[:, None], weights, chroma[:, None], out=pixels)
