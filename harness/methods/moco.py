"""MoCo v1 and v2: a queue of keys from a momentum encoder are the negatives (He et al. 2019, Chen et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.registry import Examples, method
from harness.data.rng import ImageRng
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update, channels_last
from harness.methods.ema import EMA
from harness.methods.monitor import feature_std
from harness.methods.queue import check_length, push
from harness.optim.schedules import Fraction, Positive, Progress, value_of


@method("moco")
@dataclass(frozen=True, kw_only=True)
class MoCo:
    """Momentum contrast (arXiv:1911.05722; v2: arXiv:2003.04297), after ``moco/builder.py``.

    The first view is the query, the second the key; ``queue`` keys of earlier batches are the negatives, 65,536 on
    ImageNet. v1 is ``temperature: 0.07`` with a linear head, v2 0.2 with two layers (never change one without the
    other: at 0.2 a linear head is worse, Table 1 of v2), stronger augmentation and a cosine.

    ``shuffle``: keys are normalised in batch-norm groups of other images than their queries, or the statistics of a
    group would tell which key is the query's (section 3.3). With one group (``norm.groups: 1``) there is nothing to
    shuffle. The official code moves the momentum encoder and fills the queue before the update instead of after it:
    the same trajectory, as its first move is from a network to itself.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("top1", "feature_std")
    views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"queue": 64, "momentum": 0.9, "temperature": 0.2},
        {"queue": 32},
        {"momentum": 0.5},
        {"temperature": 0.1},
        {"shuffle": False},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"out_dim": 8, "batch_norm": False}},
        "objective": None,
        "norm": {"groups": 2},
    }

    queue: Annotated[int, Field(ge=1)] = 65536
    momentum: Fraction = 0.999
    temperature: Positive = 0.07
    shuffle: bool = True

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` where batches do not divide the queue."""
        check_length("moco", self.queue, task)
        body = encoder()
        projector = head(body.out_dim)
        return MoCoMethod(self, body, projector, projector.out_dim)


class MoCoMethod(Method):
    """Query network, momentum network for the keys, and the queue: unit rows [K, D], the oldest at ``place``."""

    queue: Tensor
    place: Tensor

    def __init__(self, settings: MoCo, encoder: nn.Module, projector: nn.Module, dim: int) -> None:
        super().__init__(encoder, projector)
        self.settings = settings
        self.keys = EMA(nn.Sequential(encoder, projector))
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, dim)))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1: find the key of the query's own image among its own and the queue's."""
        (q,) = self.embed(self._query, batch.views[:1])
        k = self._key(batch.views[1], batch.rng)
        temperature = value_of(self.settings.temperature, progress)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.T], dim=1) / temperature
        own = torch.zeros(len(q), dtype=torch.long, device=q.device)
        with torch.no_grad():
            top1 = 100 * (logits.argmax(1) == 0).float().mean()
        yield Update(F.cross_entropy(logits, own), log={"top1": top1, "feature_std": feature_std(q)})
        self.keys.follow(nn.Sequential(self.encoder, self.head), value_of(self.settings.momentum, progress))
        new = distributed.gather(k)
        push(self.queue, new, self.place)
        self.place.add_(len(new)).remainder_(len(self.queue))

    def networks(self) -> Sequence[nn.Module]:
        return [*super().networks(), self.keys.net]

    def _query(self, images: Tensor) -> Tensor:
        return F.normalize(self.project(self.represent(images)).float(), dim=1)

    @torch.no_grad()
    def _key(self, images: Tensor, rng: ImageRng) -> Tensor:
        """Unit keys [B, D] of this rank's images, normalised among a random order of the global batch's."""
        if not self.settings.shuffle:
            (keys,) = self.embed(self._keyed, [images])
            return keys
        rank, here = distributed.rank(), len(images)
        draws = distributed.gather(rng.child("shuffle").bits(1)[:, 0].to(images.device))
        order = draws.argsort(stable=True)  # of the images of all ranks: a function of the images, not of who has them
        shuffled = distributed.gather(images)[order[rank * here : (rank + 1) * here]]
        (keys,) = self.embed(self._keyed, [shuffled])
        restored = distributed.gather(keys)[order.argsort()]
        return restored[rank * here : (rank + 1) * here]

    def _keyed(self, images: Tensor) -> Tensor:
        return F.normalize(cast(Tensor, self.keys(channels_last(images))).float(), dim=1)
