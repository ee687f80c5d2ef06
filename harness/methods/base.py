"""What a pretraining method is: it owns its networks, and its training step reads like the algorithm box of its paper.

**A training step is a generator. What it yields is minimised; what follows the yield happens after that update**::

    def training_step(self, batch, progress):
        p = self.embed(lambda x: self.predictor(self.project(self.represent(x))), batch.views)
        t = self.embed(self.target, batch.views)
        yield Update(regression(p[0], t[1]) + regression(p[1], t[0]))
        self.target.follow(self.online, value_of(self.momentum, progress))

Whoever drives it (:func:`harness.train.step.optimise`) is the only one that touches gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness import distributed
from harness.data.rng import ImageRng
from harness.data.views import Batch
from harness.models.encoder import Encoder
from harness.models.heads import Head
from harness.models.norm import Norm, groups_of, in_passes
from harness.models.stochastic import DropPath, drawing
from harness.optim.schedules import Progress

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What is known of a run before its first step, none of it a setting of the method.

    ``images`` of the training set, ``classes``, ``image_size`` in pixels, ``batch_size`` in images of all processes
    together, ``steps`` of the whole run, and ``norm``, with which heads beyond the run's own are built.
    """

    images: int
    classes: int
    image_size: int
    batch_size: int
    steps: int
    norm: Norm


@dataclass(frozen=True)
class Update:
    """A loss to minimise, a scalar (of several processes, the mean of theirs), and by which player's optimiser.

    ``log``: detached scalars worth logging. ``clip``: the largest norm of each single tensor's gradient (DINO clips
    tensor by tensor, not all together). ``held``: parameters that this update leaves as they are, their optimiser's
    state too.
    """

    loss: Tensor
    of: str = "main"
    log: Mapping[str, Tensor] = field(default_factory=dict)
    clip: float | None = None
    held: Sequence[nn.Parameter] = ()


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate: ``lr_scale`` times that of the run.

    ``scheduled: False`` keeps the rate at its peak from the first step to the last (SimSiam's predictor).
    """

    params: Sequence[nn.Parameter]
    lr_scale: float = 1.0
    scheduled: bool = True


class EncoderFactory(Protocol):
    """Makes the run's encoder, drawn anew at every call, for images of a size and a number of channels."""

    def __call__(self, *, size: int | None = None, channels: int = 3) -> Encoder:
        """``size`` in pixels is the run's own unless another is given."""


class HeadFactory(Protocol):
    """Makes the run's projection head, drawn anew at every call, for inputs of ``in_dim`` numbers."""

    def __call__(self, in_dim: int) -> Head: ...


class Method(nn.Module, ABC):
    """Base of all methods. Whatever else a method learns or keeps (a momentum encoder, a queue, a predictor)
    are its submodules and buffers, hence part of its state and of every checkpoint.

    Where several processes share a run, gradients, batch norm's running statistics and logged values are averaged over
    them with each update. Every other buffer is the method's own affair: fill it from gathered rows
    (:func:`harness.distributed.gather`), so that it is equal on all of them, as only the first writes a
    checkpoint.

    ``encoder`` has ``out_dim`` and maps [N, 3, H, W] to h [N, D]; ``head`` maps h to z. They are what is evaluated: a
    method whose teacher is evaluated names the teacher's here, and says so in ``evaluates``.
    """

    evaluates: ClassVar[str] = "encoder"
    """Which network evaluations see, in the words of the method's paper."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.micro_batches = 1
        """Into how many parts :meth:`embed` cuts this rank's slice of a batch, so that it fits into memory."""
        self.draws: Iterator[ImageRng] = iter(())
        """Streams of this step's images, other ones for every forward pass: what stochastic depth draws from."""

    @abstractmethod
    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Yield what is to be minimised; go on after each update. ``batch`` is this rank's slice of the global batch.

        Nothing here waits for the device. Random numbers come from ``batch.rng`` alone, which depends on seed, epoch
        and image, so that neither a resume nor the number of processes changes a draw.
        """

    def begin_epoch(self, progress: Progress, features: Callable[[], Tensor]) -> Sequence[nn.Parameter] | None:
        """Called before the first step of every epoch, never on a resume in its middle.

        ``features()`` is h [N, D] of all training images in their order, without augmentation, on every rank. Return
        the parameters that were drawn anew, if any: what their optimiser knows of them is forgotten.
        """
        return None

    def players(self) -> Mapping[str, nn.Module]:
        """Whose parameters each optimiser moves; an update says by its name which of them it is for."""
        return {"main": self}

    def groups(self, player: str) -> Sequence[ParamGroup]:
        """The parameters of a player, by the rate they learn at; by default all at the run's."""
        return [ParamGroup(trainable(self.players()[player]))]

    def networks(self) -> Sequence[nn.Module]:
        """What the step calls and ``torch.compile`` may compile, each as a whole."""
        return [self.encoder, self.head]

    def represent(self, images: Tensor) -> Tensor:
        """h [N, D] of images [N, 3, H, W]."""
        return cast(Tensor, self.encoder(channels_last(images)))

    def project(self, h: Tensor) -> Tensor:
        """z [N, d] of representations h [N, D]."""
        return cast(Tensor, self.head(h))

    def embed(self, network: Network, views: Sequence[Tensor], *, pooled: bool = True) -> list[Tensor]:
        """``network`` of every view: V tensors [B, 3, H, W] -> V tensors [B, D], in their order.

        ``pooled``: views of one size go through the network as one batch, so that they share batch statistics (SimCLR,
        DINO); otherwise each goes alone (BYOL, SimSiam). Where the slice is cut into ``micro_batches``, each part goes
        alone and is computed again in the backward pass: the memory of one part, the numbers of the whole, as long as
        a part holds whole batch-norm groups. Raises ``ValueError`` where groups would cut an image's views apart.
        """
        places = list(range(len(views)))
        sizes = [tuple(view.shape[2:]) for view in views]
        together = [[p for p in places if sizes[p] == size] for size in dict.fromkeys(sizes)]
        found: dict[int, Tensor] = {}
        for alike in together if pooled else [[place] for place in places]:
            rows = self._in_micro_batches(network, [views[place] for place in alike])
            found |= dict(zip(alike, split_views(rows, len(alike)), strict=True))
        return [found[place] for place in places]

    def _in_micro_batches(self, network: Network, views: Sequence[Tensor]) -> Tensor:
        groups, batch, count = groups_of(self), len(views[0]) * distributed.world(), self.micro_batches
        if groups > 1 and batch % groups:
            raise ValueError(f"norm.groups: a batch of {batch} images does not divide into {groups} groups")
        random = any(isinstance(layer, DropPath) and layer.p > 0 for layer in self.modules())
        rng = next(self.draws, None) if random else None
        if count == 1:
            return self._drawn(network, stack_views(views), rng)

        def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            return nullcontext(), in_passes(self, count, track=False)  # running statistics move once, in the first pass

        def through(rows: Tensor, own: ImageRng | None) -> Tensor:
            if not torch.is_grad_enabled():
                return self._drawn(network, rows, own)
            return checkpoint(
                self._drawn, network, rows, own, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
            )

        parts = [stack_views(part) for part in zip(*(view.chunk(count) for view in views), strict=True)]
        streams: Sequence[ImageRng | None] = [None] * count if rng is None else rng.cut(count)
        with in_passes(self, count, track=True):
            return torch.cat([through(rows, own) for rows, own in zip(parts, streams, strict=True)])

    def _drawn(self, network: Network, rows: Tensor, rng: ImageRng | None) -> Tensor:
        """``network`` of rows, its random layers drawing from the streams of the rows' images."""
        if rng is None:
            return network(rows)
        with drawing(self, rng):
            return network(rows)


def channels_last(images: Tensor) -> Tensor:
    """The same images in the order of memory that convolutions are fast in."""
    return images.contiguous(memory_format=torch.channels_last)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that gradients move."""
    return [one for one in module.parameters() if one.requires_grad]


def stack_views(views: Sequence[Tensor]) -> Tensor:
    """V tensors [B, ...] -> one batch [B*V, ...], image-major: the views of an image are neighbours.

    One forward pass serves all views, as in SimCLR's official code, so batch statistics mix them; and a batch-norm
    group of whole images is a contiguous block of rows.
    """
    return torch.stack(list(views), dim=1).flatten(0, 1)


def split_views(rows: Tensor, count: int) -> list[Tensor]:
    """The inverse of :func:`stack_views` on outputs: [B*V, ...] -> V tensors [B, ...]."""
    return list(rows.view(-1, count, *rows.shape[1:]).unbind(dim=1))
