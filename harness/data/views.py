"""From a data set to batches of views: the transformations t, t' ~ T of SimCLR's Figure 2, and Figure 5's variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.data.augment import Augmentation, Crop, Flip
from harness.data.datasets import Split, Window
from harness.data.geometry import repeated, unit
from harness.data.rng import ImageRng
from harness.spec.registry import augmentation


@dataclass(frozen=True)
class Batch:
    """B images as a method gets them.

    ``views``: float32 [B, 3, H, W] in [0, 1] each; ``indices``: int64 [B], places in the split; ``columns``: what else
    the split knows of them, [B, ...] each, ``label`` always among it; ``rng``: random numbers for the method's own use
    (masks, noise, choices), a function of the run's seed, the epoch and the image, never those that made the views. It
    draws on the CPU; ``rng.to(device)`` elsewhere, the same numbers.
    """

    views: list[Tensor]
    indices: Tensor
    columns: Mapping[str, Tensor]
    rng: ImageRng

    @property
    def labels(self) -> Tensor:
        """int64 [B], or [B, C] where an image has several."""
        return self.columns["label"]


@dataclass(frozen=True, kw_only=True)
class Views:
    """How ``count`` views of an image come about.

    ``shared`` is applied once, before the branches part; ``both`` to every branch with draws of its own; ``targeted``
    to the first branch only. SimCLR: ``both = (crop, flip, color, blur)``. Figure 5 (section 3.1): ``shared = (crop,)``
    and ``targeted`` = what is studied. Each operator of each branch has its own random stream, named after it and not
    after its place: adding, removing or swapping operators leaves the draws of the others alone, so arms are paired.
    """

    shared: tuple[Augmentation, ...] = ()
    both: tuple[Augmentation, ...] = ()
    targeted: tuple[Augmentation, ...] = ()
    count: int = 2

    @torch.no_grad()
    def __call__(self, images: Tensor | Sequence[Tensor], rng: ImageRng) -> list[Tensor]:
        """``images`` uint8 [B, 3, H, W], or float in [0, 1], -> ``count`` float32 views; they may share memory.

        A sequence holds images whose leading crop (:meth:`windows`) is already done: one, or one per view.
        """
        whole = isinstance(images, Tensor)
        bases = [images] if isinstance(images, Tensor) else list(images)
        done = 0 if whole or self.leading is None else 1
        # Under autocast the products that crop and blur would run in 16 bits.
        with torch.autocast(bases[0].device.type, enabled=False):
            if self.shared:
                bases = [apply(self.shared, one, rng.child("shared"), done) for one in bases]
            elif not self.both:
                bases = [unit(one) for one in bases]
            views = bases if len(bases) == self.count else bases * self.count
            if self.both:  # all branches as one batch: calls, not pixels, are what small images cost
                every = ImageRng.joined([rng.child(f"view{i}") for i in range(self.count)])
                base = bases[0] if len(bases) == 1 else torch.cat(bases)
                views = list(apply(self.both, base, every, 0 if self.shared else done).chunk(self.count))
            views[0] = apply(self.targeted, views[0], rng.child("targeted"))
        return views

    @property
    def leading(self) -> Crop | None:
        """The crop that comes before everything else, if there is one."""
        first = (self.shared or self.both)[:1]
        return first[0] if first and isinstance(first[0], Crop) else None

    def windows(self) -> tuple[Window, ...]:
        """The leading crops with the streams that :meth:`__call__` would draw them from, for decoders that crop."""
        crop = self.leading
        branches = ("shared",) if self.shared else tuple(f"view{i}" for i in range(self.count))
        return () if crop is None else tuple(Window(crop, (branch, "crop")) for branch in branches)


def apply(operators: Sequence[Augmentation], images: Tensor, rng: ImageRng, done: int = 0) -> Tensor:
    """The operators in turn, without the first ``done``; the n-th of a name draws from the n-th stream of that name.

    uint8 or float in [0, 1] -> float32. Where there are more streams than ``images``, these are repeated.
    """
    seen: dict[str, int] = {}
    steps: list[tuple[Augmentation, ImageRng]] = []
    for operator in operators:
        name = augmentation.name_of(operator)
        seen[name] = seen.get(name, 0) + 1
        steps.append((operator, rng.child(name if seen[name] == 1 else f"{name} {seen[name]}")))
    place = done
    while place < len(steps):
        operator, draws = steps[place]
        if not isinstance(operator, Crop):  # which does this as it reads
            images = repeated(unit(images), len(draws))
        after, its_draws = steps[place + 1] if place + 1 < len(steps) else (None, draws)
        if isinstance(operator, Crop) and isinstance(after, Flip):
            images = operator(images, draws, mirrored=after.draw(its_draws))
            place += 2
        else:
            images = operator(images, draws)
            place += 1
    return repeated(unit(images), len(rng))


def steps_of_epoch(
    count: int, *, batch_size: int, seed: int, epoch: int, shuffle: bool, drop_last: bool, rank: int, world: int
) -> list[Tensor]:
    """The images of every step, int64 on the CPU: the global batch is drawn first, then cut into ``world`` pieces."""
    if drop_last and batch_size > count:
        raise ValueError(f"a batch of {batch_size} does not fit in {count} images")
    if drop_last and batch_size % world:
        raise ValueError(f"a batch of {batch_size} cannot be shared evenly among {world} ranks")
    order = torch.arange(count)
    if shuffle:
        order = ImageRng(seed=seed, epoch=epoch, images=order).child("order").bits(1)[:, 0].argsort(stable=True)
    whole = [order[first : first + batch_size] for first in range(0, count, batch_size)]
    if drop_last and len(whole[-1]) < batch_size:
        whole.pop()
    return [batch[len(batch) * rank // world : len(batch) * (rank + 1) // world] for batch in whole]


def batches(
    split: Split,
    views: Views,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    device: torch.device | str,
    first_step: int = 0,
    shuffle: bool = True,
    drop_last: bool = True,
    rank: int = 0,
    world: int = 1,
    workers: int | None = None,
) -> Iterator[Batch]:
    """One epoch from ``first_step`` on, this rank's contiguous part of every global batch of ``batch_size`` images.

    What a batch holds depends on (seed, epoch, step) alone: not on ``world``, ``workers`` (decoding threads of an
    image folder, by default one per CPU) or where the epoch was taken up again. Raises :class:`ValueError` if the
    batch is larger than the split or does not divide among the ranks.
    """
    steps = steps_of_epoch(
        len(split),
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
        shuffle=shuffle,
        drop_last=drop_last,
        rank=rank,
        world=world,
    )[first_step:]
    split = split.to(device)
    images = split.stream(steps, views.windows(), seed=seed, epoch=epoch, workers=workers)
    for indices, bases in zip(steps, images, strict=True):
        rng = ImageRng(seed=seed, epoch=epoch, images=indices)
        here = indices.to(device, non_blocking=True)
        columns = {name: column.index_select(0, here) for name, column in split.columns.items()}
        yield Batch(views(bases, rng), here, columns, rng.child("method"))
