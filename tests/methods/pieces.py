"""Small methods and batches to try them on; the examples that methods ship, as networks and as whole runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness import components
from harness.config.registry import encoder, head, method, objective
from harness.data.rng import ImageRng
from harness.data.views import Batch
from harness.digests.rehearsal import method_run
from harness.methods.base import Method, Task
from harness.models.norm import Norm
from harness.optim.schedules import Progress
from harness.train.step import begin_epoch

BODY = {"micro": {"stem": 8, "widths": [8, 16]}}


def built(name: str, norm: Norm | None = None, *, images: int = 40, batch_size: int = 6, **parts: Any) -> Method:
    """A method over a small encoder, seeded; ``parts``: entries of ``method``, ``encoder``, ``head``, ``objective``."""
    torch.manual_seed(0)
    norm = norm or Norm()
    body, top = encoder.build(parts.get("encoder", BODY)), head.build(parts.get("head", "nonlinear"))
    loss = parts.get("objective", "nt_xent" if name == "simclr" else None)
    task = Task(images=images, classes=3, image_size=16, batch_size=batch_size, steps=8, norm=norm)
    made: Method = method.build(parts.get("method", name)).build(
        task,
        lambda *, size=16, channels=3: body.build(norm, size, channels),
        lambda in_dim: top.build(in_dim, norm),
        None if loss is None else objective.build(loss),
    )
    return made.train()


def example(name: str, number: int = 0, *, batch_size: int = 8, **about: Any) -> Method:
    """The method of its own tiny example, over a small encoder."""
    about = {"norm": Norm(**tiny_run(name).get("norm", {})), **about}
    parts = {key: value for key, value in tiny_run(name).items() if key in ("head", "objective", "encoder")}
    return built(name, batch_size=batch_size, method={name: examples(name)[number]}, **parts, **about)


def examples(name: str) -> list[dict[str, Any]]:
    """The settings of each example that a method ships."""
    base, *changes = getattr(method.get(name), "tiny", ({},))
    return [{**base, **change} for change in ({}, *changes)]


def tiny_run(name: str) -> dict[str, Any]:
    """What else the run of a method's example is made of."""
    return dict(getattr(method.get(name), "tiny_run", {}))


def begin(model: Method, by: dict[str, torch.optim.Optimizer], images: Tensor, progress: Progress) -> None:
    """Let it begin an epoch over a training set of ``images`` [N, 3, H, W]."""

    def features() -> Tensor:
        with torch.no_grad():
            h = model.eval().represent(images)
        model.train()
        return h

    begin_epoch(model, by, progress, features)


def batch_of(views: list[Tensor], indices: Tensor | None = None, *, epoch: int = 0) -> Batch:
    """These views as a batch of the images ``indices`` (by default the first), of three classes."""
    places = torch.arange(len(views[0])) if indices is None else indices
    rng = ImageRng(seed=0, epoch=epoch, images=places).child("method")
    return Batch(views, places, {"label": places % 3}, rng)


def random_batch(images: int = 6, *, views: int = 2, size: int = 16, seed: int = 0) -> Batch:
    """A batch of noise."""
    generator = torch.Generator().manual_seed(seed)
    return batch_of([torch.rand(images, 3, size, size, generator=generator) for _ in range(views)])


def batch_for(name: str, images: int = 6, *, seed: int = 0) -> Batch:
    """A batch of noise with as many views, of such sizes, as the method's example has, of images of 16 pixels."""
    views = components.build_views(method_run(name, examples(name)[0]).views.model_dump())
    sizes = [branch.after(branch.size or 16) for branch in views.parts for _ in range(branch.count)]
    generator = torch.Generator().manual_seed(seed)
    return batch_of([torch.rand(images, 3, side, side, generator=generator) for side in sizes])
