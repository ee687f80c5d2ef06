"""MoCo v3: momentum contrast without a queue, with a predictor and large batches (Chen, Xie and He 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import distributed
from harness.config.registry import Examples, Nested, head, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update, channels_last
from harness.methods.byol import fitting
from harness.methods.ema import EMA
from harness.methods.monitor import feature_std
from harness.models.heads import HeadSpec, MLPHead
from harness.optim.schedules import Cosine, Fraction, Positive, Progress, value_of


@method("moco_v3")
@dataclass(frozen=True, kw_only=True)
class MoCoV3:
    """Momentum contrast, version 3 (arXiv:2104.02057), after ``moco/builder.py`` of moco-v3, on a ResNet.

    Queries of either view look for the key of the other one among the keys of the whole batch. The momentum network has
    no predictor; ``predictor: none`` and ``momentum: 0`` are ablations of section 6.2. ``temperature`` is 1 for a
    ResNet (``CONFIG.md``) and 0.2 for a ViT; the loss is multiplied by twice the temperature. No frozen patch
    projection, which is a ViT's.

    The run's ``head`` is the projector, for a ResNet of two layers (``{mlp: {hidden_dim: 4096, out_dim: 256,
    output_norm: plain, output_bias: false}}``); the paper describes the three layers for a ViT alone. The official code
    moves the momentum network before the keys and not after the update: the same, one step of the schedule later.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("top1", "feature_std")
    views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"predictor": {"mlp": {"hidden_dim": 16, "out_dim": 8, "output_bias": False}}, "momentum": 0.9},
        {"momentum": 0.5},
        {"momentum": {"cosine": {"start": 0.9, "end": 1.0}}},
        {"temperature": 0.2},
        {"predictor": "none"},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 8, "output_norm": "plain", "output_bias": False}},
        "objective": None,
    }

    momentum: Fraction = Cosine(start=0.99, end=1.0)
    temperature: Positive = 1.0
    predictor: Annotated[HeadSpec, Nested(head)] = MLPHead(hidden_dim=4096, out_dim=256, output_bias=False)

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` where predictor and projector differ in width."""
        body = encoder()
        projector = head(body.out_dim)
        return MoCoV3Method(self, body, projector, fitting(self.predictor, projector, task))


class MoCoV3Method(Method):
    """Query network (encoder, projector, predictor) and momentum network (encoder, projector)."""

    def __init__(self, settings: MoCoV3, encoder: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__(encoder, projector)
        self.settings = settings
        self.predictor = predictor
        self.keys = EMA(nn.Sequential(encoder, projector))

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1. Each view goes alone, with batch statistics of its own."""
        q1, q2 = self.embed(self._query, batch.views, pooled=False)
        k1, k2 = (distributed.gather(k) for k in self.embed(self._key, batch.views, pooled=False))
        temperature = value_of(self.settings.temperature, progress)
        (there, hits), (back, _) = contrast(q1, k2, temperature), contrast(q2, k1, temperature)
        yield Update(there + back, log={"top1": hits, "feature_std": feature_std(q1)})
        self.keys.follow(nn.Sequential(self.encoder, self.head), value_of(self.settings.momentum, progress))

    def networks(self) -> Sequence[nn.Module]:
        return [*super().networks(), self.predictor, self.keys.net]

    def _query(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.predictor(self.project(self.represent(images))))

    def _key(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.keys(channels_last(images)))


def contrast(q: Tensor, k: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """``2 t`` times the cross-entropy of finding each query's key, and how often (in %) it is the most similar.

    q [B, D] of this rank, k [B * world, D] of all, in rank order.
    """
    with torch.autocast(q.device.type, enabled=False):
        logits = F.normalize(q.float(), dim=1) @ F.normalize(k.float(), dim=1).T / temperature
    own = distributed.rank() * len(q) + torch.arange(len(q), device=q.device)
    top1 = 100 * (logits.detach().argmax(1) == own).float().mean()
    return 2 * temperature * F.cross_entropy(logits, own), top1
