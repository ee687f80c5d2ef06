"""SimCLR: two views of every image, one encoder, one projection head, one contrastive loss (section 2.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from harness.config import registry
from harness.config.errors import SpecError
from harness.config.registry import method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.objectives.contrastive import Contrastive
from harness.optim.schedules import Progress


@method("simclr")
@dataclass(frozen=True, kw_only=True)
class SimCLR:
    """Maximise agreement between differently augmented views of the same image."""

    views: ClassVar[int] = 2

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` if ``objective`` is not a contrastive one."""
        if not isinstance(objective, Contrastive):
            raise SpecError(f"method simclr needs a contrastive objective ({', '.join(contrastive())})")
        body = encoder()
        return ContrastiveMethod(body, head(body.out_dim), objective)


class ContrastiveMethod(Method):
    """Encode and project all views in one pass, and compare the projections."""

    def __init__(self, encoder: nn.Module, head: nn.Module, objective: Contrastive) -> None:
        super().__init__(encoder, head)
        self.objective = objective

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Algorithm 1."""
        yield Update(self.objective(self.embed(self._projected, batch.views)))

    def _projected(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))


def contrastive() -> list[str]:
    """Names of the objectives that compare projections."""
    known = registry.objective
    return [name for name in known.names() if issubclass(known.get(name), Contrastive)]
