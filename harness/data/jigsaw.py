"""The jigsaw of PIRL (Misra and van der Maaten 2020, section 3.3 and appendix A): nine tiles of an image, in any order.

As one image they are a view like any other; :func:`tiles` takes them apart again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from harness.config.registry import Examples, Nested, augmentation
from harness.data.augment import Augmentation, Fraction
from harness.data.rng import ImageRng

GRID = 3
"""Cells along a side."""
TILES = GRID**2


@augmentation("jigsaw")
@dataclass(frozen=True, kw_only=True)
class Jigsaw:
    """A random square out of each of 3 x 3 cells of the image, laid out in random order, 3 x 3 again.

    ``share``: side of a square over that of its cell; 64 of 85 pixels in the paper, of an image of 255. What comes out
    is therefore smaller than the image. All 9! orders are equally likely: 362,880, not the 3.6 million that the paper
    prints. ``each``: what is done to every square by itself, with draws of its own (in the official code: color).
    """

    tiny: ClassVar[Examples] = ({}, {"share": 0.4}, {"each": {"color": {}}})
    share: Fraction = 0.75
    each: Annotated[Augmentation | None, Nested(augmentation, optional=True)] = None

    def tile(self, size: int) -> int:
        """Side of a square in pixels, of images of ``size``."""
        return max(1, round(size // GRID * self.share))

    def side(self, size: int) -> int:
        """Side of what comes out in pixels, of images of ``size``."""
        return GRID * self.tile(size)

    def draw(self, rng: ImageRng, size: int) -> tuple[Tensor, Tensor]:
        """int64 [B, 9] each: top and left of the squares in images of ``size``, in the order they are laid out in."""
        cell = size // GRID
        inside = rng.integers(cell - self.tile(size) + 1, 2, TILES)
        place = torch.arange(TILES)
        top, left = inside[:, 0] + cell * (place // GRID), inside[:, 1] + cell * (place % GRID)
        order = rng.permutation(TILES)
        return top.gather(1, order), left.gather(1, order)

    def __call__(self, images: Tensor, rng: ImageRng) -> Tensor:
        """[B, 3, S, S] -> [B, 3, s, s], with s of :meth:`side`."""
        top, left = (one.to(images.device, non_blocking=True) for one in self.draw(rng, images.shape[-1]))
        within = torch.arange(self.tile(images.shape[-1]), device=images.device)
        image = torch.arange(len(images), device=images.device)[:, None, None, None]
        rows, columns = (top[:, :, None] + within)[..., None], (left[:, :, None] + within)[:, :, None]
        squares = images.permute(0, 2, 3, 1)[image, rows, columns].movedim(-1, 2)  # [B, 9, 3, t, t]
        if self.each is not None:
            streams = ImageRng.joined([rng.child(f"tile{place}") for place in range(TILES)])
            changed = self.each(squares.transpose(0, 1).flatten(0, 1).contiguous(), streams)
            squares = changed.view(TILES, *images.shape[:2], len(within), len(within)).transpose(0, 1)
        in_rows = squares.reshape(len(images), GRID, GRID, 3, len(within), len(within)).permute(0, 3, 1, 4, 2, 5)
        return in_rows.reshape(*images.shape[:2], GRID * len(within), GRID * len(within))


def tiles(images: Tensor) -> list[Tensor]:
    """The nine parts [B, C, s/3, s/3] of images [B, C, s, s], row by row. Raises ``ValueError`` unless 3 divides s."""
    if images.shape[-1] % GRID or images.shape[-2] % GRID:
        said = f"views of {images.shape[-1]} pixels do not divide into {GRID} x {GRID} tiles"
        raise ValueError(f"{said}: let the augmentation jigsaw come last")
    return [part for row in images.chunk(GRID, dim=2) for part in row.chunk(GRID, dim=3)]
