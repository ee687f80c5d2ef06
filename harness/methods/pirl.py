"""PIRL: codes that do not change when an image is cut up and shuffled (Misra and van der Maaten 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, method
from harness.data.augment import Probability
from harness.data.jigsaw import TILES, tiles
from harness.data.views import Batch
from harness.methods.bank import Bank, Loss, loss_over
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.monitor import feature_std
from harness.models.heads import Head
from harness.optim.schedules import Fraction, Positive, Progress, value_of


@method("pirl")
@dataclass(frozen=True, kw_only=True)
class PIRL:
    """Pretext-invariant representations (arXiv:1912.01991) by the jigsaw, after VISSL.

    The first view is the image, the second its nine tiles, made by an augmentation ``jigsaw`` that comes last. Codes of
    both look for the image's row of the bank, which holds codes of images alone, among ``negatives`` others, drawn anew
    for each; ``weight`` is that of the tiles' loss (lambda), and at 0 the rest is InstDisc.

    ``loss: nce`` is InstDisc's, with its constant, as in VISSL; ``softmax`` is PyContrast's. Rows start with norm 1, as
    in VISSL. lightly has the views alone (``PIRLTransform``, of 64 pixels and twice VISSL's hue).

    The run's ``head`` is linear. The tiles have one of their own, and a linear map of all nine of its outputs in their
    order, without a ReLU between.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("own_row", "feature_std")
    views: ClassVar[int] = 2
    several_sizes: ClassVar[bool] = True
    tiny: ClassVar[Examples] = (
        {"negatives": 6, "temperature": 0.2},
        {"negatives": 12},
        {"weight": 0.2},
        {"loss": "softmax"},
        {"temperature": 0.5},
        {"momentum": 0.0},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_layers": 0, "out_dim": 8}},
        "views": {
            "shared": [],
            "both": [],
            "targeted": [],
            "branches": [{"augment": [{"crop": {}}]}, {"augment": [{"crop": {}}, {"jigsaw": {}}], "size": 36}],
        },
        "objective": None,
    }

    negatives: Annotated[int, Field(ge=1)] = 32000
    weight: Probability = 0.5
    loss: Loss = "nce"
    temperature: Positive = 0.07
    momentum: Fraction = 0.5

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks."""
        body = encoder()
        top = head(body.out_dim)
        of_tile = head(body.out_dim)
        return PIRLMethod(self, body, top, of_tile, Bank(task.images, top.out_dim, unit=True))


class PIRLMethod(Method):
    """One encoder, heads for images and for tiles, and the bank of images' codes."""

    def __init__(self, settings: PIRL, encoder: nn.Module, head: Head, of_tile: Head, bank: Bank) -> None:
        super().__init__(encoder, head)
        self.settings = settings
        self.of_tile = of_tile
        self.of_all_tiles = nn.Linear(TILES * of_tile.out_dim, head.out_dim)
        self.bank = bank
        self.loss = loss_over(settings.loss, len(bank.rows))

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Find the row of an image by its own code and by that of its tiles; both weighted, then summed."""
        (image,) = self.embed(self._of_image, batch.views[:1])
        shuffled = self.of_all_tiles(torch.cat(self.embed(self._of_tile, tiles(batch.views[1])), dim=1))
        settings, weight = self.settings, self.settings.weight
        temperature = value_of(settings.temperature, progress)
        losses = [
            self._compared(code, batch, stream, temperature)
            for code, stream in ((image, "negatives"), (shuffled, "negatives of tiles"))
        ]
        own = F.cosine_similarity(image.detach(), self.bank[batch.indices]).mean()
        yield Update(
            (1 - weight) * losses[0] + weight * losses[1], log={"own_row": own, "feature_std": feature_std(image)}
        )
        self.bank.put(batch.indices, F.normalize(image.float(), dim=1), value_of(settings.momentum, progress))

    def networks(self) -> Sequence[nn.Module]:
        return [*super().networks(), self.of_tile]

    def _compared(self, code: Tensor, batch: Batch, stream: str, temperature: float) -> Tensor:
        """The loss of codes [B, D] that look for their images' rows; ``stream`` names the draws of their negatives."""
        among = self.bank.with_noise(batch.indices, batch.rng.child(stream), self.settings.negatives)
        loss: Tensor = self.loss(self.bank.similarities(F.normalize(code.float(), dim=1), among) / temperature)
        return loss

    def _of_image(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))

    def _of_tile(self, images: Tensor) -> Tensor:
        code: Tensor = self.of_tile(self.represent(images))
        return code
