"""The supervised baseline: cross-entropy of a linear classifier on h (section 3, Table 1 and appendix B.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from harness.config.errors import SpecError
from harness.config.registry import method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update, stack_views
from harness.objectives.contrastive import CrossEntropy
from harness.optim.schedules import Progress


@method("supervised")
@dataclass(frozen=True, kw_only=True)
class Supervised:
    """Train encoder and classifier jointly on the labels of all views."""

    logs: ClassVar[tuple[str, ...]] = ("top1",)
    tiny_run: ClassVar[Mapping[str, Any]] = {"head": "none", "objective": "cross_entropy"}

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks.

        Raises :class:`SpecError` unless the objective is ``cross_entropy`` and the head is ``none``: a head that
        is neither trained nor used would be a knob that changes nothing.
        """
        if not isinstance(objective, CrossEntropy):
            raise SpecError("method supervised needs objective: cross_entropy")
        body = encoder()
        identity = head(body.out_dim)
        if next(iter(identity.children()), None) is not None:
            raise SpecError("method supervised classifies h, so it needs head: none")
        return SupervisedMethod(body, identity, objective, task.classes)


class SupervisedMethod(Method):
    """Encoder and linear classifier; the classifier starts as the official code's, N(0, 0.01) and zero bias."""

    def __init__(self, encoder: nn.Module, head: nn.Module, objective: CrossEntropy, classes: int) -> None:
        super().__init__(encoder, head)
        self.objective = objective
        self.classifier = nn.Linear(cast(int, encoder.out_dim), classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Cross-entropy of the logits of all views; also ``top1``: percent of the views classified correctly."""
        logits = stack_views(self.embed(self._classified, batch.views))
        labels = batch.labels.repeat_interleave(len(batch.views))
        with torch.no_grad():
            top1 = 100 * (logits.argmax(1) == labels).float().mean()
        yield Update(self.objective(logits, labels), log={"top1": top1})

    def _classified(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.represent(images)))
