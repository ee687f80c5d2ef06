"""The augmentations of SimCLR: appendix A (crop, flip, color, blur) and Figures 4 and 5 (cutout, sobel, noise, rotate).

All work on a whole batch, with parameters of its own for every image. An operator draws its parameters on the
CPU (the host then knows them and never waits for a GPU) and hands them to a function of pixels alone, which lives
in ``geometry`` or ``color``; that function at given parameters equals torchvision's, which tests hold it to.
The paper gives no parameters for cutout, sobel, noise and rotate, and no code for Figure 5 was ever released; their
defaults are what the panels of Figure 4 measure to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from harness.config.registry import Examples, augmentation
from harness.data.ops import color, geometry
from harness.data.rng import ImageRng

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


def ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    """Return bounds whose lower one comes first; raise ``ValueError`` otherwise."""
    if bounds[0] > bounds[1]:
        raise ValueError("the lower bound comes first")
    return bounds


Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


class Augmentation(Protocol):
    """``images`` float [B, 3, H, W] in [0, 1] -> the same shape and range, the argument untouched.

    One that makes images of another size has a method ``side``: of a square image's side, that of what comes out.
    """

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor: ...


def on_some(images: Tensor, chosen: Tensor, operator: geometry.Operator) -> Tensor:
    """``operator(images[chosen], places)``, the others as they are; ``chosen`` bool [B] lies on the CPU, so no sync."""
    places = chosen.nonzero().flatten()
    if len(places) == 0:
        return images
    if len(places) == len(images):
        return operator(images, places)
    changed = operator(images.index_select(0, places.to(images.device, non_blocking=True)), places)
    origin = torch.arange(len(images))
    origin[places] = torch.arange(len(images), len(images) + len(places))
    # Copying rows by selection is three times as fast as index_copy on a CPU.
    return torch.cat([images, changed]).index_select(0, origin.to(images.device, non_blocking=True))


@augmentation("crop")
@dataclass(frozen=True, kw_only=True)
class Crop:
    """Random crop of random area and aspect, resized back to the full size (appendix A; "Inception-style").

    Or to the size of its branch of views, where that has one (crops of several sizes).

    ``scale``: bounds of the area as a fraction of the image, uniform. ``ratio``: bounds of width / height, uniform
    in the logarithm, relative to square as in torchvision's ``RandomResizedCrop``, whose drawing rule this is (ten
    attempts, then the largest central crop). ``flip``: probability of a horizontal flip of the result; Figure 5's
    "crop" includes flips (section 3.1). The official code resizes bicubically, the paper's reference code and
    torchvision bilinearly, our default.
    """

    tiny: ClassVar[Examples] = (
        {},
        {"scale": (0.5, 0.6)},
        {"ratio": (0.5, 2.0)},
        {"flip": 0.5},
        {"interpolation": "bicubic"},
    )
    scale: Annotated[tuple[Fraction, Fraction], AfterValidator(ascending)] = (0.08, 1.0)
    ratio: Annotated[tuple[Positive, Positive], AfterValidator(ascending)] = (0.75, 1.3333333333333333)
    flip: Probability = 0.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def draw(self, rng: ImageRng, height: int | Tensor, width: int | Tensor) -> geometry.Boxes:
        return geometry.random_boxes(rng, height, width, self.scale, self.ratio, self.flip)

    def __call__(
        self, images: Tensor, rng: ImageRng, mirrored: Tensor | None = None, size: int | None = None
    ) -> Tensor:
        """``mirrored`` bool [B]: the images that a :class:`Flip` after this one will mirror; done in the same pass.

        ``size``: side of what comes out, in pixels, where it is not that of the images.
        """
        height, width = images.shape[-2:]
        boxes = self.draw(rng, height, width)
        if mirrored is not None:
            boxes = boxes._replace(mirrored=boxes.mirrored ^ mirrored)
        return geometry.resized_crop(images, boxes, (size or height, size or width), self.interpolation)


@augmentation("flip")
@dataclass(frozen=True, kw_only=True)
class Flip:
    """Horizontal mirror image with probability ``p`` (appendix A)."""

    tiny: ClassVar[Examples] = ({}, {"p": 0.3})
    p: Probability = 0.5

    def draw(self, rng: ImageRng) -> Tensor:
        """bool [B]: which images are mirrored."""
        return rng.bernoulli(self.p)

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        return on_some(images, self.draw(rng), lambda some, _: some.flip(-1))


@augmentation("color")
@dataclass(frozen=True, kw_only=True)
class Color:
    """Color distortion of strength s: jitter, then color dropping (appendix A; Table 1 varies s).

    Brightness, contrast and saturation change by factors from [max(0, 1 - 0.8 s), 1 + 0.8 s], hue by up to 0.2 s of
    the circle (at most half), clamped to [0, 1] after each. ``jitter_p``, ``gray_p``: probabilities of the two parts.
    ``order``: a new order of the four for every image (torchvision, the official code) or brightness, contrast,
    saturation, hue (the paper's TensorFlow listing, which also clamps but once). ``brightness``: ``additive`` adds
    [-0.8 s, 0.8 s] instead, as that listing and the code behind the paper did; the paper's PyTorch listing and the
    later code multiply. Contrast and saturation are torchvision's throughout; TensorFlow's contrast pulls each channel
    to its own mean and its saturation works in HSV.
    """

    tiny: ClassVar[Examples] = (
        {},
        {"strength": 0.3},
        {"jitter_p": 0.2},
        {"gray_p": 0.7},
        {"order": "fixed"},
        {"brightness": "additive"},
    )
    strength: NonNegative = 1.0
    jitter_p: Probability = 0.8
    gray_p: Probability = 0.2
    order: Literal["random", "fixed"] = "random"
    brightness: Literal["multiplicative", "additive"] = "multiplicative"

    def draw(self, rng: ImageRng) -> color.Jitter:
        spread = 0.8 * self.strength
        low, high = max(0.0, 1.0 - spread), 1.0 + spread
        additive = self.brightness == "additive"
        hue = min(0.2 * self.strength, 0.5)
        drawn = rng.uniform(0.0, 1.0, 6).unbind(1)
        factors = [one * (high - low) + low for one in drawn[:3]]
        return color.Jitter(
            brightness=drawn[0] * (2 * spread) - spread if additive else factors[0],
            contrast=factors[1],
            saturation=factors[2],
            hue=drawn[3] * (2 * hue) - hue,
            order=rng.permutation(4) if self.order == "random" else torch.arange(4).expand(len(drawn[0]), 4),
            jittered=drawn[4] < self.jitter_p,
            grayed=drawn[5] < self.gray_p,
            additive=additive,
        )

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        return color.distort(images, self.draw(rng))


@augmentation("blur")
@dataclass(frozen=True, kw_only=True)
class Blur:
    """Gaussian blur with probability ``p`` (appendix A).

    ``sigma``: bounds of the standard deviation in pixels, uniform, one per image (the official code draws one per
    replica and view). ``kernel``: support as a fraction of the height, made odd as the official code does,
    2 * floor(height * kernel / 2) + 1: 23 at 224, 3 at 32. Borders reflect as in torchvision; the official code pads
    with zeros.
    """

    tiny: ClassVar[Examples] = ({}, {"p": 0.3}, {"sigma": (3.0, 4.0)}, {"kernel": 0.5})
    p: Probability = 0.5
    sigma: Annotated[tuple[Positive, Positive], AfterValidator(ascending)] = (0.1, 2.0)
    kernel: Fraction = 0.1

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        sigma, size = rng.uniform(*self.sigma), 2 * (int(images.shape[-2] * self.kernel) // 2) + 1
        blurred = rng.bernoulli(self.p)
        return on_some(images, blurred, lambda some, at: geometry.gaussian_blur(some, sigma[at], size))


@augmentation("cutout")
@dataclass(frozen=True, kw_only=True)
class Cutout:
    """One square of constant gray at a random place wholly inside the image.

    Not parametrised in the paper. Figure 4's panel: ``size``, side over image side, 136 / 272; ``fill`` 149 / 255.
    """

    tiny: ClassVar[Examples] = ({}, {"p": 0.3}, {"size": 0.2}, {"fill": 0.1})
    p: Probability = 1.0
    size: Fraction = 0.5
    fill: Probability = 0.584

    def draw(self, rng: ImageRng, height: int, width: int) -> Tensor:
        """int64 [B, 4]: top, left, height, width."""
        tall, wide = max(1, round(height * self.size)), max(1, round(width * self.size))
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        return torch.stack([top, left, torch.full_like(top, tall), torch.full_like(top, wide)], dim=1)

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        boxes = self.draw(rng, *images.shape[-2:])
        return on_some(images, rng.bernoulli(self.p), lambda some, at: geometry.erase(some, boxes[at], self.fill))


@augmentation("sobel")
@dataclass(frozen=True, kw_only=True)
class Sobel:
    """Signed edges, per color channel: ``offset`` + ``gain`` * (horizontal + vertical Sobel response).

    Not parametrised in the paper. Figure 4's panel is this, with gain 1/8 and offset 119 / 255,
    and is not the magnitude of the gradient (R^2 0.94 against 0.01). Borders repeat the edge pixels, our choice.
    """

    tiny: ClassVar[Examples] = ({}, {"p": 0.3}, {"gain": 0.3}, {"offset": 0.1})
    p: Probability = 1.0
    gain: Positive = 0.125
    offset: Probability = 0.467

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        return on_some(images, rng.bernoulli(self.p), lambda some, _: geometry.sobel(some, self.gain, self.offset))


@augmentation("noise")
@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise, independent for every pixel and channel, clamped to [0, 1].

    Not parametrised in the paper. The level is random (caption of Figure 4); the panel's is 0.114 of the range,
    so we draw ``std`` uniformly from 0 to about twice that.
    """

    tiny: ClassVar[Examples] = ({}, {"p": 0.3}, {"std": (0.3, 0.4)})
    p: Probability = 1.0
    std: Annotated[tuple[NonNegative, NonNegative], AfterValidator(ascending)] = (0.0, 0.2)

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        std = rng.uniform(*self.std) * rng.bernoulli(self.p)
        grain = rng.child("grain").to(images.device).normal(*images.shape[1:])
        return torch.addcmul(images, grain, std.to(images.device, non_blocking=True)[:, None, None, None]).clamp_(0, 1)


@augmentation("rotate")
@dataclass(frozen=True, kw_only=True)
class Rotate:
    """Rotation by a multiple of a right angle, counter-clockwise, drawn from {90, 180, 270} degrees (Figure 4).

    ``upright``: draw 0 degrees as well, as the prediction task of Table 3 does. Square images only.
    """

    tiny: ClassVar[Examples] = ({}, {"p": 0.3}, {"upright": True})
    p: Probability = 1.0
    upright: bool = False

    def draw(self, rng: ImageRng) -> Tensor:
        """int64 [B]: number of quarter turns."""
        turns = rng.integers(4) if self.upright else 1 + rng.integers(3)
        return turns * rng.bernoulli(self.p)

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        return geometry.quarter_turns(images, self.draw(rng))
