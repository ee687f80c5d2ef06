"""VICReg: invariance of embeddings, variance of every column, no covariance between columns (Bardes et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.registry import Examples, method
from harness.data.views import Batch
from harness.methods.barlow_twins import off_diagonal
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.monitor import feature_std
from harness.optim.schedules import Progress

EPSILON = 1e-4
"""Added to a variance before its root, whose gradient at 0 would be infinite."""


@method("vicreg")
@dataclass(frozen=True, kw_only=True)
class VICReg:
    """Variance-invariance-covariance regularisation (arXiv:2105.04906), after ``main_vicreg.py``.

    The loss is ``invariance * s + variance * (v(z) + v(z')) / 2 + covariance * (c(z) + c(z'))``: s the mean squared
    difference over rows and columns (the paper's equation 5 does not divide by the number of columns, its Algorithm 1
    and the code do), v the mean over columns of what a deviation lacks to 1, c the sum of squared covariances divided
    by the number of columns. The code halves the variance term and the paper's Algorithm 1 does not, which is
    ``variance: 50`` here. A weight of 0 leaves a term out (Table 7); without the variance term it collapses.

    The run's ``head`` is the expander: three layers of 8192 in the paper, hidden layers with a bias there and without
    one here (batch norm follows), the last without. Embeddings are not normalised.

    lightly's ``VICRegLoss`` (1.6) has the same loss; that of solo-learn does not halve.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("invariance", "variance", "covariance", "feature_std")
    views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"covariance": 2.0},
        {"covariance": 0.0},
        {"variance": 0.0},
        {"invariance": 1.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 16, "output_bias": False}},
        "objective": None,
    }

    invariance: Annotated[float, Field(ge=0)] = 25.0
    variance: Annotated[float, Field(ge=0)] = 25.0
    covariance: Annotated[float, Field(ge=0)] = 1.0

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks."""
        body = encoder()
        return VICRegMethod(self, body, head(body.out_dim))


class VICRegMethod(Method):
    """One encoder and expander for both views; gradients reach it through both."""

    def __init__(self, settings: VICReg, encoder: nn.Module, expander: nn.Module) -> None:
        super().__init__(encoder, expander)
        self.settings = settings

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1. Each view goes alone, with batch statistics of its own."""
        first, second = self.embed(self._projected, batch.views, pooled=False)
        terms = penalties(first, second)
        weights = (self.settings.invariance, self.settings.variance, self.settings.covariance)
        loss = torch.stack([weight * term for weight, term in zip(weights, terms, strict=True)]).sum()
        names = ("invariance", "variance", "covariance")
        logged = {name: term.detach() for name, term in zip(names, terms, strict=True)}
        yield Update(loss, log={**logged, "feature_std": feature_std(first)})

    def _projected(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))


def penalties(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(invariance, halved variance, covariance) of embeddings [B, D] of this rank, over the rows of all ranks."""
    with torch.autocast(first.device.type, enabled=False):
        x, y = (distributed.gather(z.float()) for z in (first, second))
        short, covariance = zip(*map(_spread, (x, y)), strict=True)
        return F.mse_loss(x, y), (short[0] + short[1]) / 2, covariance[0] + covariance[1]


def _spread(z: Tensor) -> tuple[Tensor, Tensor]:
    """(mean over columns of what their deviation lacks to 1, squared covariances) of z [N, D]; both unbiased."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    short = F.relu(1 - (covariance.diagonal() + EPSILON).sqrt()).mean()
    return short, off_diagonal(covariance).square().sum() / z.shape[1]
