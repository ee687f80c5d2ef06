"""W-MSE: bring the views of an image together after whitening, which keeps images apart (Ermolov et al. 2020)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.errors import SpecError
from harness.config.registry import Examples, method
from harness.data.rng import ImageRng
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.byol import regression
from harness.methods.monitor import feature_std
from harness.optim.schedules import Progress


@method("w_mse")
@dataclass(frozen=True, kw_only=True)
class WMSE:
    """Whitening MSE (arXiv:2007.06346), after ``methods/w_mse.py`` of htdt/self-supervised.

    Embeddings are whitened in sub-batches of ``size`` images (as many as the batch has, of about equal size), each view
    by its own mean and covariance, then normalised; the loss is the mean squared distance over all pairs of views.
    ``repeats``: over so many random divisions into sub-batches. ``epsilon``: the share of the identity in a covariance.
    Any number of views; the paper has two and four. The run's ``head`` ends in 64 numbers on CIFAR-10, with sub-batches
    of 128.

    lightly's ``WMSELoss`` (1.6) has the same loss, and draws sub-batches from torch's global generator.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("feature_std",)
    fewest_views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"size": 8, "epsilon": 0.1},
        {"size": 4},
        {"repeats": 2},
        {"epsilon": 0.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 4}},
        "objective": None,
    }

    size: Annotated[int, Field(ge=2)] = 128
    repeats: Annotated[int, Field(ge=1)] = 1
    epsilon: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` where sub-batches are too small to be whitened."""
        body = encoder()
        projector = head(body.out_dim)
        if self.size <= projector.out_dim and self.epsilon == 0:
            raise SpecError(
                f"w_mse: the covariance of {self.size} embeddings of {projector.out_dim} numbers has no inverse; "
                f"give it a size above {projector.out_dim} (the paper: twice it), or an epsilon"
            )
        return WMSEMethod(self, body, projector)


class WMSEMethod(Method):
    """One encoder and head for all views."""

    def __init__(self, settings: WMSE, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__(encoder, projector)
        self.settings = settings

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Equation 6: each view goes through the encoder alone, all of them through the head together."""
        z = self.embed(self.project, self.embed(self.represent, batch.views, pooled=False))
        losses = [self._distance(z, order) for order in self._orders(batch.rng)]
        yield Update(torch.stack(losses).mean(), log={"feature_std": feature_std(z[0])})

    def _orders(self, rng: ImageRng) -> Iterator[Tensor]:
        """``repeats`` random orders of the images of all ranks: functions of the images, not of who has them."""
        draws = distributed.gather(rng.child("whitening").bits(self.settings.repeats))
        yield from draws.argsort(dim=0, stable=True).unbind(1)

    def _distance(self, z: list[Tensor], order: Tensor) -> Tensor:
        """Mean over pairs of views of the squared distance of whitened unit rows, over the images of all ranks."""
        with torch.autocast(z[0].device.type, enabled=False):
            rows = [distributed.gather(one.float())[order.to(one.device)] for one in z]
            count = max(len(order) // self.settings.size, 1)
            white = [torch.cat([self._whitened(part) for part in one.tensor_split(count)]) for one in rows]
            return torch.stack([regression(a, b) for a, b in itertools.combinations(white, 2)]).mean()

    def _whitened(self, z: Tensor) -> Tensor:
        return whitened(z, self.settings.epsilon)


def whitened(z: Tensor, epsilon: float = 0.0) -> Tensor:
    """z [N, D] times the inverse of the Cholesky factor of its covariance: the covariance becomes the identity.

    ``epsilon`` is the share of the identity in the covariance that is inverted. Where that has no inverse, what comes
    out is not finite: nothing here waits for the device to say so.
    """
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    identity = torch.eye(z.shape[1], device=z.device)
    factor, _ = torch.linalg.cholesky_ex((1 - epsilon) * covariance + epsilon * identity)
    white: Tensor = torch.linalg.solve_triangular(factor, centred.T, upper=False)
    return white.T
