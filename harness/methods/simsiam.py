"""SimSiam: predict one view's projection from the other's, behind a stop-gradient (Chen and He 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from harness.config.registry import Examples, Nested, head, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, ParamGroup, Task, Update, trainable
from harness.methods.byol import fitting
from harness.methods.monitor import feature_std
from harness.models.heads import HeadSpec, MLPHead
from harness.optim.schedules import Progress


@method("simsiam")
@dataclass(frozen=True, kw_only=True)
class SimSiam:
    """Simple Siamese representation learning (arXiv:2011.10566), after ``simsiam/builder.py``.

    ``predictor_lr``: ``constant`` keeps the predictor's rate at its peak, which the paper found better (Table 1, 68.1
    against 67.7; ``--fix-pred-lr`` of the code, off by default there, on in the command of its README).
    ``stop_gradient: false`` and ``predictor: none`` are the ablations that collapse (Figure 2, Table 1).

    The run's ``head`` is the projector, with batch norm after its output. The official optimiser decays every
    parameter, biases and batch norm too: ``sgd: {decay_all: true}``.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("feature_std",)
    views: ClassVar[int] = 2
    tiny: ClassVar[Examples] = (
        {"predictor": {"mlp": {"hidden_dim": 4, "out_dim": 8}}},
        {"predictor": "none"},
        {"predictor_lr": "scheduled"},
        {"stop_gradient": False},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_layers": 2, "hidden_dim": 16, "out_dim": 8, "output_norm": "plain"}},
        "objective": None,
    }

    predictor: Annotated[HeadSpec, Nested(head)] = MLPHead(hidden_dim=512, out_dim=2048)
    predictor_lr: Literal["constant", "scheduled"] = "constant"
    stop_gradient: bool = True

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` where predictor and projector differ in width."""
        body = encoder()
        projector = head(body.out_dim)
        return SimSiamMethod(self, body, projector, fitting(self.predictor, projector, task))


class SimSiamMethod(Method):
    """One encoder and projector for both views, and a predictor."""

    def __init__(self, settings: SimSiam, encoder: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__(encoder, projector)
        self.settings = settings
        self.predictor = predictor

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1: half of each direction. Each view goes alone, with batch statistics of its own."""
        z1, z2 = self.embed(self._projected, batch.views, pooled=False)
        p1, p2 = self.embed(self.predictor, [z1, z2], pooled=False)
        loss = (self._distance(p1, z2) + self._distance(p2, z1)) / 2
        yield Update(loss, log={"feature_std": feature_std(z1)})

    def groups(self, player: str) -> Sequence[ParamGroup]:
        """The predictor's rate is its own."""
        own, constant = trainable(self.predictor), self.settings.predictor_lr == "constant"
        others = [one for one in trainable(self) if all(one is not other for other in own)]
        return [ParamGroup(others), ParamGroup(own, scheduled=not constant)]

    def networks(self) -> Sequence[nn.Module]:
        return [*super().networks(), self.predictor]

    def _projected(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))

    def _distance(self, p: Tensor, z: Tensor) -> Tensor:
        """Minus the mean cosine of rows [B, D]; z counts as constant (equation 1)."""
        target = z.detach() if self.settings.stop_gradient else z
        return -F.cosine_similarity(p.float(), target.float(), dim=1).mean()
