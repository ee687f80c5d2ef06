"""The augmentations that appendix B.2 adds to SimCLR's own: equalize, solarize and motion blur (Sobel is Figure 4's).

The paper names them ("Sobel filtering, additional color distortion (equalize, solarize), and motion blur") and gives
what they bring (+0.7 points at 1x); it gives no probability, no strength, no order and no code. Their definitions
here are Pillow's, as everywhere since AutoAugment. The default probability of 0.2 is the one that BYOL (Grill et al.,
2020, appendix B) chose for solarizing one of its two views; for the others it is our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.config.registry import Examples, augmentation
from harness.data.augment import Fraction, Probability, on_some
from harness.data.ops import tone
from harness.data.ops.motion import motion_blur
from harness.data.rng import ImageRng


@augmentation("equalize")
@dataclass(frozen=True, kw_only=True)
class Equalize:
    """Histogram equalization of each channel with probability ``p`` (appendix B.2; Pillow's ``ImageOps.equalize``).

    Defined on levels 0..255, to which the pixels are rounded first. A channel with fewer than 255 pixels below its
    brightest level (any of an image smaller than 16 x 16, say) stays as it is, as in Pillow.
    """

    tiny: ClassVar[Examples] = ({"p": 0.8}, {"p": 0.3})
    p: Probability = 0.2

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        return on_some(images, rng.bernoulli(self.p), lambda some, _: tone.unlevelled(tone.equalize(tone.levels(some))))


@augmentation("solarize")
@dataclass(frozen=True, kw_only=True)
class Solarize:
    """Inverts everything from ``threshold`` on, with probability ``p`` (appendix B.2).

    ``threshold``: a fraction of the range; 0.5 separates the levels 127 and 128 as Pillow's default does. Nothing has
    to be rounded to levels for this.
    """

    tiny: ClassVar[Examples] = ({"p": 0.8}, {"p": 0.3}, {"threshold": 0.3})
    p: Probability = 0.2
    threshold: Probability = 0.5

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        return on_some(images, rng.bernoulli(self.p), lambda some, _: tone.solarize(some, self.threshold))


@augmentation("motion_blur")
@dataclass(frozen=True, kw_only=True)
class MotionBlur:
    """Blur along a straight line of random direction, with probability ``p`` (appendix B.2).

    Not parametrised in the paper. ``kernel``: length of the line as a fraction of the height, made odd as SimCLR's
    Gaussian blur makes its kernel, 2 * floor(height * kernel / 2) + 1: 23 pixels at 224, 3 at 32. Weights
    along the line are equal, its direction is uniform, borders reflect.
    """

    tiny: ClassVar[Examples] = ({"p": 0.8}, {"p": 0.3}, {"kernel": 0.5})
    p: Probability = 0.2
    kernel: Fraction = 0.1

    def draw(self, rng: ImageRng) -> Tensor:
        """float32 [B]: direction in radians, counter-clockwise from the horizontal."""
        return rng.uniform(0.0, math.pi)

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        angle, size = self.draw(rng), 2 * (int(images.shape[-2] * self.kernel) // 2) + 1
        return on_some(images, rng.bernoulli(self.p), lambda some, at: motion_blur(some, angle[at], size))
