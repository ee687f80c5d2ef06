"""Barlow Twins: the cross-correlation of two views' embeddings should be the identity (Zbontar et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.registry import Examples, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, ParamGroup, Task, Update, trainable
from harness.methods.monitor import feature_std
from harness.optim.schedules import Progress


@method("barlow_twins")
@dataclass(frozen=True, kw_only=True)
class BarlowTwins:
    """Barlow Twins (arXiv:2103.03230), after ``main.py`` of facebookresearch/barlowtwins.

    The loss is ``invariance * sum_i (1 - C_ii)^2 + redundancy * sum_ij C_ij^2`` (i and j differ), sums and not means:
    its size grows with the width D of the embedding. ``redundancy`` is the paper's lambda, 0.005 there and 0.0051 in
    the code. ``invariance: 0`` and ``redundancy: 0`` are ablations of Table 5; without the first term nothing is
    learned. ``bias_lr_scale``: the rate of biases and batch norm, as a share of the run's. The code has rates of 0.2
    and 0.0048, hence 0.024: an earlier version multiplied the loss by that, which LARS sees only where it does not
    adapt. Other optimisers than LARS feel the scale of the loss everywhere.

    The run's ``head`` is the projector, three layers of 8192 without biases in the paper.

    lightly's ``BarlowTwinsLoss`` (1.6) has the same loss with lambda 0.005. On several GPUs the official code sums C
    outside autograd, so that its gradient is divided by their number once more; ours is that of one device.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("on_diagonal", "off_diagonal", "feature_std")
    views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"redundancy": 0.1},
        {"redundancy": 0.01},
        {"invariance": 0.0},
        {"bias_lr_scale": 1.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 16, "output_bias": False}},
        "objective": None,
    }

    redundancy: Annotated[float, Field(ge=0)] = 0.0051
    invariance: Annotated[float, Field(ge=0)] = 1.0
    bias_lr_scale: Annotated[float, Field(gt=0)] = 0.024

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks."""
        body = encoder()
        return BarlowTwinsMethod(self, body, head(body.out_dim))


class BarlowTwinsMethod(Method):
    """One encoder and projector for both views; gradients reach it through both."""

    def __init__(self, settings: BarlowTwins, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__(encoder, projector)
        self.settings = settings

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1. Each view goes alone, with batch statistics of its own."""
        first, second = self.embed(self._projected, batch.views, pooled=False)
        on, off = deviations(cross_correlation(first, second))
        yield Update(
            self.settings.invariance * on + self.settings.redundancy * off,
            log={"on_diagonal": on.detach(), "off_diagonal": off.detach(), "feature_std": feature_std(first)},
        )

    def groups(self, player: str) -> Sequence[ParamGroup]:
        """Biases and batch norm have a rate of their own."""
        own = trainable(self)
        return [
            ParamGroup([one for one in own if one.ndim > 1]),
            ParamGroup([one for one in own if one.ndim <= 1], lr_scale=self.settings.bias_lr_scale),
        ]

    def _projected(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """C [D, D] of two embeddings [B, D] of this rank, over the rows of all ranks.

    Columns are standardised with the biased variance, as batch norm does. The paper's pseudo-code takes the unbiased
    one, and then equal views of N rows have (N - 1) / N on the diagonal.
    """
    with torch.autocast(first.device.type, enabled=False):
        a, b = (F.batch_norm(distributed.gather(z.float()), None, None, training=True) for z in (first, second))
        return a.T @ b / len(a)


def deviations(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """(sum of ``(1 - C_ii)^2``, sum of ``C_ij^2`` with i and j different) of C [D, D]."""
    return (1 - correlation.diagonal()).square().sum(), off_diagonal(correlation).square().sum()


def off_diagonal(square: Tensor) -> Tensor:
    """The entries of a matrix [D, D] that are not on its diagonal, as a view [D - 1, D] of them."""
    side = len(square)
    return square.flatten()[1:].view(side - 1, side + 1)[:, :-1]
