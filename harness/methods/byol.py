"""BYOL: predict, from one view, what a slowly moving target network makes of the other (Grill et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from harness.config.errors import SpecError
from harness.config.registry import Examples, Nested, head, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update, channels_last
from harness.methods.ema import EMA
from harness.methods.monitor import feature_std
from harness.models.heads import Head, HeadSpec, MLPHead
from harness.optim.schedules import Cosine, Fraction, Progress, value_of


@method("byol")
@dataclass(frozen=True, kw_only=True)
class BYOL:
    """Bootstrap your own latent (arXiv:2006.07733), after ``byol_experiment.py`` of deepmind-research.

    ``momentum`` is that of the target, which follows the online network after every update: 0 makes it the online
    network behind a stop-gradient, 1 leaves it as it was drawn (Table 5a). ``predictor: none`` is Table 5b's ablation.
    ``fresh_target``: the target is drawn on its own, as in the official code; otherwise it starts as a copy.

    The run's ``head`` is the projector; 4096 hidden units and 256 outputs in the paper, as of the predictor.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("feature_std",)
    views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"predictor": {"mlp": {"hidden_dim": 16, "out_dim": 8}}, "momentum": 0.9},
        {"momentum": 0.5},
        {"momentum": {"cosine": {"start": 0.9, "end": 1.0}}},
        {"predictor": "none"},
        {"predictor": {"linear": {"out_dim": 8}}},
        {"fresh_target": False},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 8, "output_bias": False}},
        "objective": None,
    }

    momentum: Fraction = Cosine(start=0.996, end=1.0)
    predictor: Annotated[HeadSpec, Nested(head)] = MLPHead(hidden_dim=4096, out_dim=256, output_bias=False)
    fresh_target: bool = True

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` where predictor and projector differ in width."""
        body = encoder()
        projector = head(body.out_dim)
        predictor = fitting(self.predictor, projector, task)
        target = None
        if self.fresh_target:
            other = encoder()
            target = nn.Sequential(other, head(other.out_dim))
        return BYOLMethod(self, body, projector, predictor, target)


def fitting(predictor: HeadSpec, projector: Head, task: Task) -> nn.Module:
    """The predictor for a projector's output. Raises :class:`SpecError` where their widths differ."""
    built = predictor.build(projector.out_dim, task.norm)
    if built.out_dim != projector.out_dim:
        raise SpecError(
            f"predictor: its {built.out_dim} outputs are compared with the {projector.out_dim} of the projection head; "
            f"give it out_dim: {projector.out_dim}"
        )
    return built


class BYOLMethod(Method):
    """Online network (encoder, projector, predictor) and target (encoder, projector)."""

    def __init__(
        self, settings: BYOL, encoder: nn.Module, projector: nn.Module, predictor: nn.Module, target: nn.Module | None
    ) -> None:
        super().__init__(encoder, projector)
        self.momentum = settings.momentum
        self.predictor = predictor
        self.target = EMA(nn.Sequential(encoder, projector), fresh=target)

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Equation 2 in both directions, summed; then the target follows the online network as it is by now.

        Each view goes alone, so that batch statistics are those of one view, in the target too (official code).
        """
        z1, z2 = self.embed(self._projected, batch.views, pooled=False)
        p1, p2 = self.embed(self.predictor, [z1, z2], pooled=False)
        t1, t2 = self.embed(self._targeted, batch.views, pooled=False)
        yield Update(regression(p1, t2) + regression(p2, t1), log={"feature_std": feature_std(z1)})
        self.target.follow(nn.Sequential(self.encoder, self.head), value_of(self.momentum, progress))

    def networks(self) -> Sequence[nn.Module]:
        return [*super().networks(), self.predictor, self.target.net]

    def _projected(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))

    def _targeted(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.target(channels_last(images)))


def regression(p: Tensor, t: Tensor) -> Tensor:
    """Mean over rows of ``|p/|p| - t/|t||^2 = 2 - 2 cos`` of [B, D] and [B, D]: equation 2, from 0 to 4."""
    return (2 - 2 * F.cosine_similarity(p.float(), t.float(), dim=1)).mean()
