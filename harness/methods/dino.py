"""DINO: self-distillation with no labels, from a momentum teacher, over crops of two sizes (Caron et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.errors import SpecError
from harness.config.registry import Examples, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update, channels_last
from harness.methods.ema import follow, frozen_copy
from harness.methods.monitor import feature_std
from harness.models.heads import Directions, Head
from harness.models.stochastic import DropPath
from harness.optim.schedules import Cosine, Fraction, Positive, Progress, value_of


@method("dino")
@dataclass(frozen=True, kw_only=True)
class DINO:
    """Self-distillation (arXiv:2104.14294), after ``main_dino.py``; the *teacher* is what is evaluated.

    The student sees every view, the teacher the largest ones; ``temperature`` is the student's. The teacher's
    distribution is sharpened by ``teacher_temperature`` and centred by a moving average of its own outputs
    (``center_momentum``; ``center: false`` is the ablation of Figure 7). ``clip``: the largest norm of each tensor's
    gradient, null for none. ``freeze_last_layer``: for so many epochs the last layer of the head stays as it is.

    The run's ``head`` is ``prototypes``. The paper warms the teacher's temperature up from 0.04 to 0.07 over 30 epochs
    (``{linear: {start: 0.04, end: 0.07, epochs: 30}}``), the code's default is 0.04 throughout, which is ours; the
    code's warm-up moves once an epoch, ours at every step.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("teacher_entropy", "feature_std")
    several_sizes: ClassVar[bool] = True
    tiny: ClassVar[Examples] = (
        {"momentum": 0.9, "freeze_last_layer": 0.0},
        {"momentum": 0.5},
        {"temperature": 0.2},
        {"teacher_temperature": {"linear": {"start": 0.04, "end": 0.07, "epochs": 1}}},
        {"center": False},
        {"center_momentum": 0.5},
        {"clip": 0.01},
        {"clip": None},
        {"freeze_last_layer": 1.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"prototypes": {"out_dim": 16, "hidden_dim": 16, "bottleneck": 8}},
        "views": {
            "shared": [],
            "both": [],
            "targeted": [],
            "branches": [{"augment": [{"crop": {}}], "count": 2}, {"augment": [{"crop": {}}], "count": 2, "size": 8}],
        },
        "objective": None,
    }

    momentum: Fraction = Cosine(start=0.996, end=1.0)
    temperature: Positive = 0.1
    teacher_temperature: Positive = 0.04
    center: bool = True
    center_momentum: Annotated[float, Field(ge=0, le=1)] = 0.9
    clip: Annotated[float, Field(gt=0)] | None = 3.0
    freeze_last_layer: Annotated[float, Field(ge=0)] = 1.0

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` for a head without prototypes."""
        body = encoder()
        top = head(body.out_dim)
        if not len(top) or not isinstance(top[-1], Directions):
            raise SpecError("method dino needs head: prototypes, whose outputs are distributions to be matched")
        return DINOMethod(self, body, top)


class DINOMethod(Method):
    """The student; ``encoder`` and ``head`` are the teacher's, as they are what is evaluated."""

    evaluates = "teacher"
    center: Tensor

    def __init__(self, settings: DINO, student: nn.Module, head: Head) -> None:
        super().__init__(frozen_copy(student), frozen_copy(head))
        for layer in self.encoder.modules():
            if isinstance(layer, DropPath):
                layer.p = 0.0  # the student alone, as in the official code
        self.settings = settings
        self.student = nn.Sequential(student, head)
        self.register_buffer("center", torch.zeros(head.out_dim))

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1 with multi-crop: every teacher's view against every other view of the student."""
        large = largest(batch.views)
        student = self.embed(self._studied, batch.views)
        teacher = self.embed(self._taught, [batch.views[place] for place in large])
        targets = [self._sharpened(one, progress) for one in teacher]
        logs = [(one.float() / value_of(self.settings.temperature, progress)).log_softmax(1) for one in student]
        pairs = [
            -(target * logs[view]).sum(1).mean()
            for place, target in zip(large, targets, strict=True)
            for view in range(len(logs))
            if view != place
        ]
        entropy = -(targets[0] * targets[0].clamp(min=1e-12).log()).sum(1).mean()
        held = list(cast(nn.Sequential, self.student[1])[-1].parameters())
        yield Update(
            torch.stack(pairs).mean(),
            log={"teacher_entropy": entropy, "feature_std": feature_std(student[0])},
            clip=self.settings.clip,
            held=held if progress.epoch < self.settings.freeze_last_layer else (),
        )
        follow(nn.Sequential(self.encoder, self.head), self.student, value_of(self.settings.momentum, progress))
        seen = distributed.gather(torch.cat(teacher).float()).mean(0)
        self.center.lerp_(seen, 1 - self.settings.center_momentum)

    def _sharpened(self, logits: Tensor, progress: Progress) -> Tensor:
        """The teacher's distribution [B, K]: centred by what came before this batch, then sharpened."""
        centred = logits.float() - self.center if self.settings.center else logits.float()
        return (centred / value_of(self.settings.teacher_temperature, progress)).softmax(1)

    def networks(self) -> Sequence[nn.Module]:
        return [*super().networks(), self.student]

    def _studied(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.student(channels_last(images)))

    @torch.no_grad()
    def _taught(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))


def largest(views: Sequence[Tensor]) -> list[int]:
    """Places of the views of the largest size, in their order."""
    most = max(view.shape[-1] for view in views)
    return [place for place, view in enumerate(views) if view.shape[-1] == most]
