"""NNCLR: the positive of a view is the nearest neighbour of the other among earlier images (Dwibedi et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.registry import Examples, Nested, head, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.byol import fitting
from harness.methods.monitor import feature_std
from harness.methods.queue import check_length, push
from harness.models.heads import HeadSpec, MLPHead
from harness.objectives.blockwise import mean_cross_entropy
from harness.optim.schedules import Positive, Progress, value_of


@method("nnclr")
@dataclass(frozen=True, kw_only=True)
class NNCLR:
    """Nearest-neighbour contrastive learning (arXiv:2104.14548), after its Algorithm 1: no official code is known.

    ``queue``: the support set, the projections of the first view of so many earlier images, 98,304 in the paper. Among
    them the nearest neighbour of one view's projection is sought; the predictions of the other view of all images of
    the batch are what it is told apart from, as the paper has it. It is drawn at random to begin with.

    The run's ``head`` is the projector, ``{hidden_layers: 2, hidden_dim: 2048, out_dim: 256, output_norm: affine}`` in
    the paper.

    lightly (1.6) seeks the same neighbours (``NNMemoryBankModule``), but its loss (``NTXentLoss``) has negatives from
    both sides of the comparison, other neighbours among them.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("neighbor_similarity", "feature_std")
    views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"predictor": {"mlp": {"hidden_dim": 16, "out_dim": 8}}, "queue": 64, "temperature": 0.2},
        {"predictor": {"linear": {"out_dim": 8}}},
        {"queue": 32},
        {"temperature": 0.1},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 8, "output_norm": "affine"}},
        "objective": None,
    }

    predictor: Annotated[HeadSpec, Nested(head)] = MLPHead(hidden_dim=4096, out_dim=256)
    queue: Annotated[int, Field(ge=1)] = 98304
    temperature: Positive = 0.1

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks.

        Raises :class:`SpecError` where batches do not divide the queue, and where predictor and projector differ in
        width.
        """
        check_length("nnclr", self.queue, task)
        body = encoder()
        projector = head(body.out_dim)
        return NNCLRMethod(self, body, projector, fitting(self.predictor, projector, task), projector.out_dim)


class NNCLRMethod(Method):
    """Encoder, projector and predictor; the queue has unit rows [K, D], the oldest at ``place``."""

    queue: Tensor
    place: Tensor

    def __init__(
        self, settings: NNCLR, encoder: nn.Module, projector: nn.Module, predictor: nn.Module, dim: int
    ) -> None:
        super().__init__(encoder, projector)
        self.settings = settings
        self.predictor = predictor
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, dim)))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1: half of each direction. Each view goes alone, with batch statistics of its own."""
        z = self.embed(self._projected, batch.views, pooled=False)
        p = [F.normalize(one.float(), dim=1) for one in self.embed(self.predictor, z, pooled=False)]
        z = [F.normalize(one.detach().float(), dim=1) for one in z]
        neighbors = [self._nearest(one) for one in z]
        temperature = value_of(self.settings.temperature, progress)
        similarity = (neighbors[0] * z[0]).sum(1).mean()
        yield Update(
            (told_apart(neighbors[0], p[1], temperature) + told_apart(neighbors[1], p[0], temperature)) / 2,
            log={"neighbor_similarity": similarity, "feature_std": feature_std(z[0])},
        )
        new = distributed.gather(z[0])
        push(self.queue, new, self.place)
        self.place.add_(len(new)).remainder_(len(self.queue))

    def networks(self) -> Sequence[nn.Module]:
        return [*super().networks(), self.predictor]

    def _projected(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))

    def _nearest(self, z: Tensor) -> Tensor:
        """The row of the queue [B, D] with the largest cosine to each of z [B, D]."""
        with torch.autocast(z.device.type, enabled=False):
            return self.queue[(z @ self.queue.T).argmax(1)]


def told_apart(neighbors: Tensor, p: Tensor, temperature: float) -> Tensor:
    """Equation 3: the cross-entropy of finding an image's own prediction, with its neighbour, among those of all ranks.

    Unit rows [B, D] of this rank, those of p with gradient to all ranks.
    """
    with torch.autocast(p.device.type, enabled=False):
        own = distributed.rank() * len(p) + torch.arange(len(p), device=p.device)
        return mean_cross_entropy(neighbors, distributed.gather(p), own, None, 1 / temperature)
