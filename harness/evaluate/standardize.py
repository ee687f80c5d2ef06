"""Features on one scale: zero mean and unit deviation over the training images, whatever they are multiplied by.

A probe of fixed rate or fixed penalty depends on the scale of what it is given, and arms differ in that by a factor of
a hundred. So the deviation that a feature is divided by is its own, with no constant added: an absolute epsilon would
eat the features of a network whose output is small. What is left to decide is when a deviation is one at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.evaluate.measurement import Collapse

ROUNDINGS = 64
"""A deviation is noise below so many roundings (2^-23 in float32) of the feature's own largest magnitude.

One rounding is the least by which a feature can differ between two images, and a few dozen are what the layers before
it add up to: what is left above are fewer than 17 of float32's 23 bits, all of which can carry something.
"""
_ELEMENTS = 2**24


@dataclass(frozen=True)
class Standard:
    """Mean and deviation [D] of features over some images, float64; ``varies`` [D] says which of them do vary."""

    mean: Tensor
    deviation: Tensor
    varies: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, x: Tensor) -> Standard:
        """Of features [N, D]. Sums are float64 and of differences to the first image, so that no mean eats them."""
        first, n = x[0].double(), len(x)
        rows = max(1, _ELEMENTS // x.shape[1])
        shift = sum(((some.double() - first).sum(0) for some in torch.split(x, rows)), torch.zeros_like(first)) / n
        mean = first + shift
        squares = sum(((some.double() - mean).square().sum(0) for some in torch.split(x, rows)), torch.zeros_like(mean))
        deviation = (squares / n).sqrt()
        largest = torch.stack([some.abs().amax(0) for some in torch.split(x, rows)]).amax(0).double()
        rounding = torch.finfo(x.dtype).eps if x.dtype != torch.float64 else torch.finfo(torch.float32).eps
        return cls(mean, deviation, deviation > ROUNDINGS * rounding * largest)

    @torch.no_grad()
    def __call__(self, x: Tensor, *, in_place: bool = False) -> Tensor:
        """Features [N, D] with zero mean and unit deviation; those that do not vary are zero.

        In the type of ``x``: what the mean is rounded to there moves all images alike, which a bias takes up.
        """
        scale = torch.where(self.varies, 1 / self.deviation, 0.0)
        out = x if in_place else torch.empty_like(x)
        rows = max(1, _ELEMENTS // x.shape[1])
        for given, made in zip(torch.split(x, rows), torch.split(out, rows), strict=True):
            made.copy_((given.double() - self.mean) * scale)
        return out

    def kept(self, x: Tensor) -> Tensor:
        """Features [N, D] on their own scale, those that do not vary zero: of them there is noise to fit, and no more.

        Beside a free bias a constant feature has no part in any optimum.
        """
        return x if bool(self.varies.all()) else torch.where(self.varies, x, 0.0)

    @property
    def collapse(self) -> Collapse:
        """How many features say nothing; all of them where the representation has collapsed to a point."""
        return Collapse(features=int((~self.varies).sum()), of=len(self.varies))
