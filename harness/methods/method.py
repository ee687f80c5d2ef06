"""What a pretraining method is: it owns its networks, turns views into a loss, and hears of every step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from harness.models.norm import groups_of, in_passes
from harness.train import distributed


class Method(nn.Module, ABC):
    """Base of all methods. Whatever else a method learns or keeps (a momentum encoder, a queue, a predictor)
    are its submodules and buffers, hence part of its state and of every checkpoint.

    Where several processes share a run, every floating-point buffer is averaged over them with each step's gradient, as
    batch norm's running statistics need it (:func:`harness.train.gradient.gradient`). A buffer that is not meant to be
    averaged (a queue of each process's rows) has to be gathered first, so that it is equal on all of them.

    ``encoder`` has ``out_dim`` and maps [N, 3, H, W] to h [N, D]; ``head`` maps h to z.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self._groups = max(groups_of(encoder), groups_of(head))
        self._passes = 1

    @abstractmethod
    def forward(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, a scalar, and detached scalars worth logging; neither waits for the device.

        ``views`` are V tensors [B, 3, H, W] of the same images, ``labels`` is int64 [B]: this rank's slice of
        the global batch. The loss of a distributed run is the mean over ranks.
        """

    def after_step(self, step: int) -> None:
        """Called after the optimiser's ``step``-th update (from 0); moves momentum networks and the like."""

    def represent(self, images: Tensor) -> Tensor:
        """h [N, D] of images [N, 3, H, W]."""
        return cast(Tensor, self.encoder(images.contiguous(memory_format=torch.channels_last)))

    def project(self, h: Tensor) -> Tensor:
        """z [N, d] of representations h [N, D]."""
        return cast(Tensor, self.head(h))

    def interleave(self, views: Sequence[Tensor]) -> Tensor:
        """All views as one batch [B*V, 3, H, W], image-major: both views of an image are neighbours.

        One forward pass serves all views, as in the official code, so batch statistics mix them; and a
        batch-norm group of whole images is a contiguous block of rows. Raises ``ValueError`` if the groups
        would cut an image's views apart.
        """
        batch = len(views[0]) * self._passes * distributed.world()
        if self._groups > 1 and batch % self._groups:
            raise ValueError(f"norm.groups: a batch of {batch} images does not divide into {self._groups} groups")
        return torch.stack(list(views), dim=1).flatten(0, 1)

    def part(self, rows: Tensor, count: int) -> list[Tensor]:
        """The inverse of :meth:`interleave` on outputs: [B*V, D] -> V tensors [B, D]."""
        return list(rows.view(-1, count, *rows.shape[1:]).unbind(dim=1))


class EmbeddingMethod(Method):
    """A method that first embeds every image, then compares embeddings: its batch may be larger than memory.

    The networks are in ``embed``, everything that looks at more than one batch-norm group at a time in ``compare``.
    """

    @abstractmethod
    def embed(self, views: Sequence[Tensor]) -> Tensor:
        """V tensors [B, 3, H, W] -> rows [B*V, D], image-major as :meth:`interleave` makes them."""

    @abstractmethod
    def compare(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows [B*V, D] of all of this rank's images and their labels [B] -> what :meth:`forward` returns."""

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Method.forward`."""
        return self.compare(self.embed(views), labels)

    @contextmanager
    def in_passes(self, passes: int, *, track: bool) -> Iterator[None]:
        """Within, ``embed`` gets one of ``passes`` parts of the slice; see :func:`harness.models.norm.in_passes`."""
        self._passes = passes
        try:
            with in_passes(self, passes, track=track):
                yield
        finally:
            self._passes = 1
