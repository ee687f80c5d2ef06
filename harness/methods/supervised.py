"""The supervised baseline: cross-entropy of a linear classifier on h (section 3, Table 1 and appendix B.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from harness.methods.method import EmbeddingMethod, Method
from harness.methods.objectives import CrossEntropy
from harness.spec.errors import SpecError
from harness.spec.registry import method


@method("supervised")
@dataclass(frozen=True, kw_only=True)
class Supervised:
    """Train encoder and classifier jointly on the labels of all views."""

    def build(self, *, encoder: nn.Module, head: nn.Module, objective: object, classes: int) -> Method:
        """The method over built networks.

        Raises :class:`SpecError` unless the objective is ``cross_entropy`` and the head is ``none``: a head that
        is neither trained nor used would be a knob that changes nothing.
        """
        if not isinstance(objective, CrossEntropy):
            raise SpecError("method supervised needs objective: cross_entropy")
        if next(iter(head.children()), None) is not None:
            raise SpecError("method supervised classifies h, so it needs head: none")
        return SupervisedMethod(encoder, head, objective, classes)


class SupervisedMethod(EmbeddingMethod):
    """Encoder and linear classifier; the classifier starts as the official code's, N(0, 0.01) and zero bias."""

    def __init__(self, encoder: nn.Module, head: nn.Module, objective: CrossEntropy, classes: int) -> None:
        super().__init__(encoder, head)
        self.objective = objective
        self.classifier = nn.Linear(cast(int, encoder.out_dim), classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, views: Sequence[Tensor]) -> Tensor:
        """The logits of all views."""
        return cast(Tensor, self.classifier(self.represent(self.interleave(views))))

    def compare(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the logits; also ``top1``: percent of the views classified correctly."""
        labels = labels.repeat_interleave(len(rows) // len(labels))
        with torch.no_grad():
            top1 = 100 * (rows.argmax(1) == labels).float().mean()
        return self.objective(rows, labels), {"top1": top1}
