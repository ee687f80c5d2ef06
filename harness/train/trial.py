"""Take a few steps on random images, to compare settings or to show that a method trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from harness.data.rng import ImageRng
from harness.data.views import Batch
from harness.methods.base import Method
from harness.optim.schedules import Progress
from harness.train.step import begin_epoch, optimise


def rehearse(
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    sizes: Sequence[int],
    *,
    images: int,
    steps: int,
    lr: float,
) -> list[Tensor]:
    """Take ``steps`` steps, an epoch each, on ``images`` images of noise; return all that is logged.

    The rate falls by a tenth with each, but for parameters that follow no schedule.
    One view [images, 3, size, size] for each of ``sizes``; the images are of ten classes in turn.
    """
    random = torch.Generator().manual_seed(0)
    views = [torch.rand(images, 3, size, size, generator=random) for size in sizes]
    places = torch.arange(images)

    def rates(optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"] * (0.9**progress.step if group["scheduled"] else 1.0)

    def features() -> Tensor:
        with torch.no_grad():
            h = method.eval().represent(views[0])
        method.train()
        return h

    logged: list[Tensor] = []
    for step in range(steps):
        progress = Progress(step, steps, 1)
        begin_epoch(method, optimizers, progress, features)
        rng = ImageRng(seed=0, epoch=step, images=places).child("method")
        batch = Batch(views, places, {"label": places % 10}, rng)
        logged += optimise(method, optimizers, batch, progress, set_rates=rates).values()
    return logged
