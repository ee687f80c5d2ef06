"""SwAV: predict, from one view, the cluster that another was assigned to, clusters being equal in size (Caron 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.registry import Examples, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.monitor import feature_std
from harness.methods.queue import check_length, push
from harness.methods.sinkhorn import sinkhorn
from harness.optim.schedules import Positive, Progress, value_of

CODED = 2
"""So many views, the first, are assigned to clusters: those of full size, as in the official scripts."""


@method("swav")
@dataclass(frozen=True, kw_only=True)
class SwAV:
    """Swapped assignments between views (arXiv:2006.09882), after ``main_swav.py``.

    Cosines with ``prototypes`` unit vectors are a view's scores. The codes of the first two views come from their
    scores at temperature ``epsilon``, made equal in mass over the whole batch (``iterations`` of Sinkhorn-Knopp: 0
    leaves the masses as they are, 1 fails on ImageNet, Table 14); every other view predicts them at ``temperature``.
    ``hard`` codes choose one prototype (Table 13). ``queue``: so many earlier images take part in the assignment, from
    epoch ``queue_from`` on and once it is full; 3840 where batches have 256 images, none at 4096.
    ``freeze_prototypes``: for so many epochs they stay as they are (all of them: the fixed ones of Table 13).

    The prototypes are normalised before every step, as in the code; the paper's Algorithm 1 does it after. Views of one
    size share batch statistics in the encoder, all views in the head. The run's ``head`` is the projector: one hidden
    layer of 2048 and 128 outputs in the paper. The official optimiser adapts and decays every parameter: ``lars:
    {adapt_all: true, decay_all: true}``.

    lightly's ``SwaVLoss`` (1.6) has the same loss; its prototypes have to be normalised by their user.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("prototypes_used", "feature_std")
    fewest_views: ClassVar[int] = CODED
    several_sizes: ClassVar[bool] = True
    tiny: ClassVar[Examples] = (
        {"prototypes": 16, "queue": 32, "queue_from": 0.0, "freeze_prototypes": 0.0},
        {"prototypes": 12},
        {"temperature": 0.2},
        {"epsilon": 0.2},
        {"iterations": 0},
        {"hard": True},
        {"queue": 0},
        {"queue_from": 1.0},
        {"freeze_prototypes": 1.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 8}},
        "views": {
            "shared": [],
            "both": [],
            "targeted": [],
            "branches": [{"augment": [{"crop": {}}], "count": 2}, {"augment": [{"crop": {}}], "count": 2, "size": 8}],
        },
        "objective": None,
    }

    prototypes: Annotated[int, Field(ge=2)] = 3000
    temperature: Positive = 0.1
    epsilon: Annotated[float, Field(gt=0)] = 0.05
    iterations: Annotated[int, Field(ge=0)] = 3
    hard: bool = False
    queue: Annotated[int, Field(ge=0)] = 0
    queue_from: Annotated[float, Field(ge=0)] = 15.0
    freeze_prototypes: Annotated[float, Field(ge=0)] = 1.0

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` where batches do not divide the queue."""
        check_length("swav", self.queue, task)
        body = encoder()
        projector = head(body.out_dim)
        return SwAVMethod(self, body, projector, projector.out_dim)


class SwAVMethod(Method):
    """Encoder, projector and prototypes; the queue has rows [2, L, D], of either coded view."""

    queue: Tensor

    def __init__(self, settings: SwAV, encoder: nn.Module, projector: nn.Module, dim: int) -> None:
        super().__init__(encoder, projector)
        self.settings = settings
        self.prototypes = nn.Linear(dim, settings.prototypes, bias=False)
        self.register_buffer("queue", torch.zeros(CODED, settings.queue, dim))

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1 with multi-crop: the codes of the first two views against every other view's prediction."""
        with torch.no_grad():
            self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
        z = self.embed(self.project, self.embed(self.represent, batch.views))
        z = [F.normalize(one.float(), dim=1) for one in z]
        scores = [self._scores(one) for one in z]
        done = len(scores[0]) * distributed.world() * self._batches_queued(progress)
        full = 0 < self.settings.queue <= done
        codes = [self._codes(scores[view].detach(), self.queue[view] if full else None) for view in range(CODED)]
        predicted = [(one / value_of(self.settings.temperature, progress)).log_softmax(1) for one in scores]
        pairs = [
            -(code * predicted[view]).sum(1).mean()
            for place, code in enumerate(codes)
            for view in range(len(predicted))
            if view != place
        ]
        yield Update(
            torch.stack(pairs).mean(),
            log={"prototypes_used": used(scores[0]), "feature_std": feature_std(z[0])},
            held=list(self.prototypes.parameters()) if progress.epoch < self.settings.freeze_prototypes else (),
        )
        if self.settings.queue and done >= 0:
            for view in range(CODED):
                push(self.queue[view], distributed.gather(z[view].detach()), done)

    def _batches_queued(self, progress: Progress) -> int:
        """How many batches went through the queue before this step; less than 0 before it starts."""
        return progress.step - math.ceil(self.settings.queue_from * progress.steps_per_epoch)

    def _scores(self, z: Tensor) -> Tensor:
        """Cosines [N, K] of unit rows [N, D] with the prototypes; in float32, as codes are exponentials of them."""
        with torch.autocast(z.device.type, enabled=False):
            return cast(Tensor, self.prototypes(z))

    @torch.no_grad()
    def _codes(self, scores: Tensor, queue: Tensor | None) -> Tensor:
        """Codes [B, K] of this rank's scores [B, K], made equal in mass over all ranks' and those of the queue."""
        every = distributed.gather(scores)
        with_queue = every if queue is None else torch.cat([self._scores(queue), every])
        codes = sinkhorn(with_queue / self.settings.epsilon, self.settings.iterations)[-len(every) :]
        own = codes.chunk(distributed.world())[distributed.rank()]
        if self.settings.hard:
            return F.one_hot(own.argmax(1), self.settings.prototypes).to(own.dtype)
        return own


@torch.no_grad()
def used(scores: Tensor) -> Tensor:
    """How many clusters are the best of some row of scores [B, K], over the rows of all ranks; a scalar."""
    best = F.one_hot(distributed.gather(scores.detach()).argmax(1), scores.shape[1])
    return best.amax(0).sum().float()
