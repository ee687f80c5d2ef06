"""CMC: lightness and color of an image, each found by the code of the other (Tian, Krishnan and Isola 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, method
from harness.data.ops.lab import centred
from harness.data.views import Batch
from harness.methods.bank import Bank, Loss, loss_over
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.monitor import feature_std
from harness.models.encoder import Encoder
from harness.models.heads import Head
from harness.optim.schedules import Fraction, Positive, Progress, value_of


@method("cmc")
@dataclass(frozen=True, kw_only=True)
class CMC:
    """Contrastive multiview coding (arXiv:1906.05849) of L and ab, after ``train_CMC.py``.

    One crop of an image is split into L and ab, for an encoder each; no other augmentation may touch color. The code of
    L looks for the image's row in the bank of ab codes and the other way round, among the same ``negatives`` drawn from
    either bank; no encoder ever sees what the other one makes of the image now. ``loss: nce`` keeps a constant for each
    direction (the code's default); the paper's text has ``softmax``. lightly has no such method.

    The run's ``encoder`` is built twice, for one channel and for two, and its ``head`` for each. Two of half the width
    (``width: 0.5`` of a ResNet) have half the parameters of one. What is evaluated is both, side by side.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("own_row", "feature_std")
    views: ClassVar[int] = 1
    tiny: ClassVar[Examples] = (
        {"negatives": 6, "temperature": 0.2},
        {"negatives": 12},
        {"loss": "softmax"},
        {"temperature": 0.5},
        {"momentum": 0.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_layers": 0, "out_dim": 8}},
        "views": {"shared": [], "both": [], "targeted": [], "branches": [{"augment": [{"crop": {}}], "count": 1}]},
        "objective": None,
    }

    negatives: Annotated[int, Field(ge=1)] = 16384
    loss: Loss = "nce"
    temperature: Positive = 0.07
    momentum: Fraction = 0.5

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` for encoders that take three channels alone."""
        of_l, of_ab = encoder(channels=1), encoder(channels=2)
        heads = HeadOfEach([head(of_l.out_dim), head(of_ab.out_dim)])
        return CMCMethod(self, LAndAb(of_l, of_ab), heads, task.images)


class LAndAb(Encoder):
    """Two encoders: RGB [N, 3, H, W] in [0, 1] -> h of L and h of ab, side by side [N, ``out_dim``]."""

    def __init__(self, of_l: Encoder, of_ab: Encoder) -> None:
        super().__init__()
        self.parts = nn.ModuleList([of_l, of_ab])
        self.out_dim = of_l.out_dim + of_ab.out_dim
        self.depth = getattr(of_l, "depth", 0)

    def forward(self, images: Tensor) -> Tensor:
        of_l, of_ab = self.parts
        lab = centred(images)
        return torch.cat([of_l(lab[:, :1]), of_ab(lab[:, 1:])], dim=1)

    def depth_of(self, name: str) -> int:
        """That of the part it belongs to, of equal depth."""
        _, part, rest = name.split(".", 2)
        depth: int = self.parts[int(part)].depth_of(rest)  # type: ignore[operator]
        return depth


class HeadOfEach(nn.Module):
    """A head for each part of h: [N, in] -> their outputs side by side [N, ``out_dim``]."""

    def __init__(self, heads: list[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.out_dim = sum(one.out_dim for one in heads)

    def forward(self, h: Tensor) -> Tensor:
        parts = h.chunk(len(self.heads), dim=1)
        return torch.cat([one(part) for one, part in zip(self.heads, parts, strict=True)], dim=1)


class CMCMethod(Method):
    """The encoders of both views, and a bank of codes of each."""

    evaluates = "encoders of both views"

    def __init__(self, settings: CMC, encoder: LAndAb, head: HeadOfEach, images: int) -> None:
        super().__init__(encoder, head)
        self.settings = settings
        dim = head.out_dim // 2
        self.bank_of_l, self.bank_of_ab = Bank(images, dim), Bank(images, dim)
        self.loss_of_l, self.loss_of_ab = loss_over(settings.loss, images), loss_over(settings.loss, images)

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Equation 2 in both directions, summed, from rows of the banks."""
        (z,) = self.embed(self._projected, batch.views[:1])
        of_l, of_ab = (F.normalize(code, dim=1) for code in z.float().chunk(2, dim=1))
        temperature = value_of(self.settings.temperature, progress)
        among = self.bank_of_l.with_noise(batch.indices, batch.rng.child("negatives"), self.settings.negatives)
        from_l = self.loss_of_l(self.bank_of_ab.similarities(of_l, among) / temperature)
        from_ab = self.loss_of_ab(self.bank_of_l.similarities(of_ab, among) / temperature)
        own = F.cosine_similarity(of_l.detach(), self.bank_of_ab[batch.indices]).mean()
        yield Update(from_l + from_ab, log={"own_row": own, "feature_std": feature_std(of_l)})
        momentum = value_of(self.settings.momentum, progress)
        self.bank_of_l.put(batch.indices, of_l, momentum)
        self.bank_of_ab.put(batch.indices, of_ab, momentum)

    def _projected(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))
