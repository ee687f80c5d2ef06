"""SimCLR: two views of every image, one encoder, one projection head, one contrastive loss (section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from harness.methods.method import EmbeddingMethod, Method
from harness.methods.objectives import Contrastive
from harness.spec import registry
from harness.spec.errors import SpecError
from harness.spec.registry import method


@method("simclr")
@dataclass(frozen=True, kw_only=True)
class SimCLR:
    """Maximise agreement between differently augmented views of the same image."""

    def build(self, *, encoder: nn.Module, head: nn.Module, objective: object, classes: int) -> Method:
        """The method over built networks. Raises :class:`SpecError` if ``objective`` is not a contrastive one."""
        del classes
        if not isinstance(objective, Contrastive):
            raise SpecError(f"method simclr needs a contrastive objective ({', '.join(contrastive())})")
        return ContrastiveMethod(encoder, head, objective)


class ContrastiveMethod(EmbeddingMethod):
    """Encode and project all views in one pass, and compare the projections."""

    def __init__(self, encoder: nn.Module, head: nn.Module, objective: Contrastive) -> None:
        super().__init__(encoder, head)
        self.objective = objective

    def embed(self, views: Sequence[Tensor]) -> Tensor:
        """z of all views."""
        return self.project(self.represent(self.interleave(views)))

    def compare(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on z; of the labels only the number is looked at."""
        return self.objective(self.part(rows, len(rows) // len(labels))), {}


def contrastive() -> list[str]:
    """Names of the objectives that compare projections."""
    known = registry.objective
    return [name for name in known.names() if issubclass(known.get(name), Contrastive)]
