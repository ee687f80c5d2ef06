"""From a data set to batches of views: the transformations t, t' ~ T of SimCLR's Figure 2, and Figure 5's variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.config.errors import SpecError
from harness.config.registry import augmentation
from harness.data.augment import Augmentation, Crop, Flip
from harness.data.datasets import Split
from harness.data.folder import Window
from harness.data.ops.geometry import repeated, unit
from harness.data.rng import ImageRng


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
class Branch:
    """``count`` views that come about alike, each with draws of its own.

    ``size``: their side in pixels, made by the crop that ``augment`` then begins with; None: that of the images. What
    an operator says as a fraction of the image (the support of blur, the side of cutout) is a fraction of the view, and
    what it says in pixels (blur's sigma) is in pixels of the view.
    """

    augment: tuple[Augmentation, ...] = ()
    count: int = 1
    size: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and leading(self.augment) is None:
            raise SpecError(f"a branch of size {self.size} begins with a crop, which makes that size: [crop, ...]")

    def after(self, side: int) -> int:
        """Side of its views, in pixels, where images of ``side`` enter the first operator, or come out of its crop."""
        for operator in self.augment:
            side = operator.side(side) if hasattr(operator, "side") else side
        return side


@dataclass(frozen=True, kw_only=True)
class Views:
    """How the views of an image come about.

    ``shared`` is applied once, before the branches part; ``both`` to each of ``count`` views with draws of its own;
    ``targeted`` to the first view only. SimCLR: ``both = (crop, flip, color, blur)``. Figure 5 (section 3.1):
    ``shared = (crop,)`` and ``targeted`` = what is studied. ``branches``, where there are any, stand in place of
    ``both`` and ``targeted`` (and ``count`` has no say): the views of the first, then those of the second, and so on.
    Each operator of each view has its own random stream, named after it and the view, and not after its place: adding,
    removing or swapping operators leaves the draws of the others alone, so arms are paired.
    """

    shared: tuple[Augmentation, ...] = ()
    both: tuple[Augmentation, ...] = ()
    targeted: tuple[Augmentation, ...] = ()
    count: int = 2
    branches: tuple[Branch, ...] = ()

    def __post_init__(self) -> None:
        if self.branches and (self.both or self.targeted):
            wrong = " and ".join(f"views.{name}" for name in ("both", "targeted") if getattr(self, name))
            raise SpecError(f"views.branches stands in place of {wrong}: make it [] or leave out the branches")

    @property
    def parts(self) -> tuple[Branch, ...]:
        """The branches, or the one that ``both`` and ``count`` make up."""
        return self.branches or (Branch(augment=self.both, count=self.count),)

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Of every view: its side in pixels, None where it is that of the images."""
        return tuple(branch.size for branch in self.parts for _ in range(branch.count))

    @torch.no_grad()
    def __call__(self, images: Tensor | Sequence[Tensor], rng: ImageRng) -> list[Tensor]:
        """``images`` uint8 [B, 3, H, W], or float in [0, 1], -> float32 views [B, 3, h, w]; they may share memory.

        A sequence holds images whose leading crop (:meth:`windows`) is already done: one, or one per view.
        """
        cropped = not isinstance(images, Tensor)
        bases = [images] if isinstance(images, Tensor) else list(images)
        # Under autocast the products that crop and blur would run in 16 bits.
        with torch.autocast(bases[0].device.type, enabled=False):
            if self.shared:
                done = cropped and leading(self.shared) is not None
                bases = [apply(self.shared, one, rng.child("shared"), done=done) for one in bases]
            elif not all(branch.augment for branch in self.parts):
                bases = [unit(one) for one in bases]
            views = bases * (len(self.sizes) // len(bases))
            for branch, places in self._alike():  # as one batch: calls, not pixels, are what small images cost
                if branch.augment:
                    every = ImageRng.joined([rng.child(f"view{i}") for i in places])
                    base = bases[0] if len(bases) == 1 else torch.cat([bases[i] for i in places])
                    done = cropped and not self.shared and leading(branch.augment) is not None
                    made = apply(branch.augment, base, every, done=done, size=branch.size).chunk(len(places))
                    for i, view in zip(places, made, strict=True):
                        views[i] = view
            views[0] = apply(self.targeted, views[0], rng.child("targeted"))
        return views

    def _alike(self) -> list[tuple[Branch, list[int]]]:
        """Views of one size that are made by one list of operators, whichever branches they belong to."""
        found: list[tuple[Branch, list[int]]] = []
        first = 0
        for branch in self.parts:
            of_branch = range(first, first + branch.count)
            first += branch.count
            same = [one for one in found if (one[0].augment, one[0].size) == (branch.augment, branch.size)]
            if same:
                same[0][1].extend(of_branch)
            else:
                found.append((branch, list(of_branch)))
        return found

    def windows(self) -> tuple[Window, ...]:
        """What a decoder that crops makes in place of :meth:`__call__`, from the same draws; () for whole images.

        The leading crop of ``shared``; or one window for every view, of which those without a leading crop are central.
        """
        if self.shared:
            crop = leading(self.shared)
            return () if crop is None else (Window(crop, ("shared", "crop")),)
        crops = [leading(branch.augment) for branch in self.parts for _ in range(branch.count)]
        if not any(crops):
            return ()
        each = enumerate(zip(crops, self.sizes, strict=True))
        return tuple(Window(crop, (f"view{i}", "crop"), size) for i, (crop, size) in each)


def leading(operators: Sequence[Augmentation]) -> Crop | None:
    """The crop that comes before everything else, if there is one."""
    return operators[0] if operators and isinstance(operators[0], Crop) else None


def apply(
    operators: Sequence[Augmentation],
    images: Tensor,
    rng: ImageRng,
    *,
    done: bool = False,
    size: int | None = None,
) -> Tensor:
    """The operators in turn; the n-th of a name draws from the n-th stream of that name.

    uint8 or float in [0, 1] -> float32. Where there are more streams than ``images``, these are repeated. ``done``:
    without the first operator. ``size``: of what comes out in pixels, which a leading crop makes.
    """
    seen: dict[str, int] = {}
    steps: list[tuple[Augmentation, ImageRng]] = []
    for operator in operators:
        name = augmentation.name_of(operator)
        seen[name] = seen.get(name, 0) + 1
        steps.append((operator, rng.child(name if seen[name] == 1 else f"{name} {seen[name]}")))
    place = int(done)
    while place < len(steps):
        operator, draws = steps[place]
        if not isinstance(operator, Crop):  # which does this as it reads
            images = repeated(unit(images), len(draws))
        after, its_draws = steps[place + 1] if place + 1 < len(steps) else (None, draws)
        if isinstance(operator, Crop):
            mirrored = after.draw(its_draws) if isinstance(after, Flip) else None
            images = operator(images, draws, mirrored=mirrored, size=size if place == 0 else None)
            place += 1 if mirrored is None else 2
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
