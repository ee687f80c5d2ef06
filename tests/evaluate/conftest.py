"""A pretraining small enough to check by hand: an untrained network of two layers on the synthetic data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.data.augment import Color, Crop
from harness.data.datasets import Synthetic
from harness.data.views import Batch, Views
from harness.evaluate.trained import Trained
from harness.methods.base import Method, Update
from harness.objectives.contrastive import NTXent
from harness.optim.schedules import Progress


class TinyMethod(Method):
    """Convolution, batch norm, mean; a linear head. ``passes`` counts images encoded."""

    def __init__(self, objective: object) -> None:
        encoder = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        super().__init__(encoder, nn.Linear(8, 5))
        self.objective = objective
        self.passes: list[int] = []

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        raise AssertionError("an evaluation never trains")

    def represent(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        return super().represent(images)


@pytest.fixture
def make_trained() -> Callable[..., Trained]:
    """A factory: the fields of ``Trained``, of the data set, and the objective can be given."""

    def make(
        *, objective: object = NTXent(temperature=0.2), data: dict[str, Any] | None = None, **fields: Any
    ) -> Trained:
        torch.manual_seed(0)
        method = TinyMethod(objective)
        sizes = {"train_images": 90, "test_images": 50, "image_size": 16, "classes": 7, **(data or {})}
        settings: dict[str, Any] = {
            "method": method,
            "data": Synthetic(**sizes).load(Path()),
            "views": Views(both=(Crop(), Color())),
            "batch_size": 32,
            "seed": 5,
            "device": torch.device("cpu"),
        }
        with torch.no_grad():  # running statistics that are not the identity
            method.represent(settings["data"].train.images.float() / 255)
        method.passes.clear()
        return Trained(**(settings | fields))

    return make
