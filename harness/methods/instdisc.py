"""InstDisc: tell every image from every other, by a memory bank of their codes (Wu et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, method
from harness.data.views import Batch
from harness.methods.bank import Bank, Loss, check_noise, loss_over
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.monitor import feature_std
from harness.optim.schedules import Fraction, Positive, Progress, value_of


@method("instdisc")
@dataclass(frozen=True, kw_only=True)
class InstDisc:
    """Instance discrimination (arXiv:1805.01978, "NPID"), after lemniscate.pytorch.

    There is one view of an image a step; its positive is its row of the bank, which all through the first epoch is a
    random vector, so that nothing is learned of it before the second. ``negatives`` are drawn from the bank, null
    stands for all its rows (``--nce-k 0``, the full softmax of the README's CIFAR-10 command). ``loss``: ``nce``, or
    the later code's ``softmax`` over the image's row and its negatives. ``temperature`` is 0.07 on ImageNet and 0.1 on
    CIFAR-10; ``momentum`` is that of the bank.

    ``proximal``: weight of the squared distance from the row of the epoch before, which the paper's last objective adds
    and the official code does not have: that damps the bank by ``momentum`` in its place. lightly has no such method;
    that of mmselfsup gives its momentum to the new code, and is the same at 0.5 alone.

    The run's ``head`` is linear, of 128 outputs, which are then l2-normalised.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("own_row", "feature_std")
    views: ClassVar[int] = 1
    tiny: ClassVar[Examples] = (
        {"loss": "softmax", "negatives": 6, "temperature": 0.2},
        {"negatives": 12},
        {"negatives": None},
        {"loss": "nce"},
        {"temperature": 0.5},
        {"momentum": 0.0},
        {"proximal": 1.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_layers": 0, "out_dim": 8}},
        "views": {"shared": [], "both": [], "targeted": [], "branches": [{"augment": [{"crop": {}}], "count": 1}]},
        "objective": None,
    }

    negatives: Annotated[int, Field(ge=1)] | None = 4096
    loss: Loss = "nce"
    temperature: Positive = 0.07
    momentum: Fraction = 0.5
    proximal: Annotated[float, Field(ge=0)] = 0.0

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` for NCE without a number of negatives."""
        check_noise(self.loss, self.negatives)
        body = encoder()
        top = head(body.out_dim)
        return InstDiscMethod(self, body, top, Bank(task.images, top.out_dim))


class InstDiscMethod(Method):
    """One network, and the bank of its codes."""

    def __init__(self, settings: InstDisc, encoder: nn.Module, head: nn.Module, bank: Bank) -> None:
        super().__init__(encoder, head)
        self.settings = settings
        self.bank = bank
        self.loss = loss_over(settings.loss, len(bank.rows))

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Equations 2 (``softmax``) or 4 to 7 (``nce``), and 8 where there is a proximal term."""
        (v,) = self.embed(self._coded, batch.views[:1])
        loss = self._discriminated(v, batch, value_of(self.settings.temperature, progress))
        before = self.bank[batch.indices]
        if self.settings.proximal:
            loss = loss + self.settings.proximal * (v - before).square().sum(1).mean()
        own = F.cosine_similarity(v.detach(), before).mean()
        yield Update(loss, log={"own_row": own, "feature_std": feature_std(v)})
        self.bank.put(batch.indices, v, value_of(self.settings.momentum, progress))

    def _discriminated(self, v: Tensor, batch: Batch, temperature: float) -> Tensor:
        if self.settings.negatives is None:
            return F.cross_entropy(self.bank.similarities(v) / temperature, batch.indices)
        among = self.bank.with_noise(batch.indices, batch.rng.child("negatives"), self.settings.negatives)
        loss: Tensor = self.loss(self.bank.similarities(v, among) / temperature)
        return loss

    def _coded(self, images: Tensor) -> Tensor:
        return F.normalize(self.project(self.represent(images)).float(), dim=1)
