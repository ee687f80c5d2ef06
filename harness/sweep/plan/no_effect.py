"""Find settings without effect (INERT) before training: arms that differ in name only.

A run is two machines in a row, and each is tried out alone, on a handful of made-up images:

* views: what its augmentations make of the same images with the same random streams;
* learner: three steps of its method, head, objective and optimiser over a small linear stand-in for the encoder.

Two arms are INERT if data, precision and schedule (steps, warm-up, peak rate: they change no first step, yet what is
trained) are equal, both trials end in the same bits, and the real networks have the same structure. So ``epochs`` or
``weight_decay`` are never flagged, blur's sigma at probability 0 is. What a few images cannot show (an operator that
acts on one image in a hundred) would be flagged wrongly, so views are compared on many before a word is said.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from harness import components
from harness.config.run import Run
from harness.data.rng import ImageRng
from harness.optim.optimizers import schedule_steps
from harness.sweep.plan.cost import SOME_IMAGES, train_images
from harness.train import trace
from harness.train.trial import rehearse

FEW, MANY = 16, 256
"""Images in a first trial of views, and in the one that has to confirm it."""

MOST = 64
"""So many different trials are affordable in a plan; a larger grid is compared by its report, from what was trained."""

LARGEST = 30_000_000
"""Parameters of a method that is tried out, without its encoder."""

WIDTH, SIDE, STEPS, RATE = 64, 8, 3, 0.01


def inert(runs: Sequence[Run]) -> list[list[int]] | None:
    """Groups of ``runs`` (their places; equal seeds, different specifications) that train the same thing.

    None if that would take more than :data:`MOST` trials.
    """
    views = {_views_key(run) for run in runs}
    learners = {_learner_key(run) for run in runs}
    if len(views) + len(learners) > MOST:
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # trials are of sixteen images: threads would wait for one another, and for busy cores
    try:
        return _alike(runs)
    finally:
        torch.set_num_threads(threads)


def _alike(runs: Sequence[Run]) -> list[list[int]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        groups[_given(run), seen(_views_key(run), FEW), learnt(_learner_key(run))].append(place)
    return [same for group in groups.values() if len(group) > 1 for same in _confirmed(runs, group)]


def _confirmed(runs: Sequence[Run], group: Sequence[int]) -> list[list[int]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for place in group:
        run = runs[place]
        groups[seen(_views_key(run), MANY), trace.structure(components.skeleton(run))].append(place)
    return [same for same in groups.values() if len(same) > 1]


def _given(run: Run) -> tuple[Any, ...]:
    """What is not tried out, but compared as it stands."""
    schedule, images = run.schedule, train_images(run, None) or SOME_IMAGES  # equal where the data are
    warmup_steps, decay_steps = schedule_steps(
        images=images, batch_size=schedule.batch_size, epochs=schedule.epochs, warmup_epochs=schedule.warmup_epochs
    )
    peak = components.build(run).optimizer.peak_lr(schedule.batch_size)
    data = json.dumps(run.data, sort_keys=True)
    (optimizer,) = run.optimizer.values()
    rate = json.dumps(optimizer["lr"]) if isinstance(optimizer["lr"], dict) else ""  # a schedule: trials have none
    return data, run.precision, schedule.batch_size, schedule.epochs, warmup_steps, decay_steps, peak, rate


def _views_key(run: Run) -> str:
    size = next(iter(run.data.values())).get("image_size") or 32
    return json.dumps([run.views.model_dump(mode="json"), min(size, 64)], sort_keys=True)


def _learner_key(run: Run) -> str:
    compared = run.model_dump(mode="json", include={"norm", "method", "head", "objective", "optimizer"})
    alike = {
        "data": {"synthetic": {}},
        "views": {},
        "encoder": {"micro": {}},
        "schedule": {"batch_size": 2, "epochs": 1},
    }
    usual = next(iter(run.data.values())).get("image_size") or 32
    parts = components.build_views(run.views.model_dump()).parts
    sides = [one.after(round(SIDE * (one.size or usual) / usual)) for one in parts for _ in range(one.count)]
    return json.dumps([compared | alike, sides, components.normalises(run)], sort_keys=True)


@lru_cache(maxsize=1024)
def seen(key: str, count: int) -> str:
    """Digest of all views of ``count`` made-up images; ``key`` as from :func:`_views_key`."""
    views, size = json.loads(key)
    made = components.build_views(views)
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=random)  # smooth, so that a blur of noise is not all there is to see
    images = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    images = (200 * images + 55 * torch.rand(images.shape, generator=random)).to(torch.uint8)
    return trace.digest(made(images, ImageRng(seed=0, epoch=0, images=torch.arange(count))))


@lru_cache(maxsize=1024)
def learnt(key: str) -> str:
    """Digest of what three steps make of the weights, the buffers and the loss; ``key`` as from :func:`_learner_key`.

    Where a loss is no longer finite it is the key: nothing can be said of numbers that are none. So it is where the
    method is larger than a plan has time for (Barlow Twins' projector has 200 million parameters).
    """
    settings, sizes, normed = json.loads(key)
    run = Run.model_validate(settings)
    if sum(one.numel() for one in components.skeleton(run).parameters()) > LARGEST:
        return key
    groups = run.norm.groups
    count = groups * math.ceil(FEW / groups) if groups <= FEW else 2 * groups
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = components.build(run)
        norm = parts.norm if normed else None
        method = parts.build_method(images=count, classes=10, encoder=lambda **shape: StandIn(norm, **shape))
        optimizers = parts.build_optimizers(method)
        logged = rehearse(method, optimizers, sizes, images=count, steps=STEPS, lr=RATE)
    state = trace.state(method)
    return f"{state} {trace.digest(logged)}" if all(math.isfinite(float(one)) for one in logged) else key


class StandIn(nn.Module):
    """An encoder of one linear layer, and of batch norm where the run's has any: what comes after it is tried out."""

    out_dim = WIDTH

    def __init__(self, norm: Any, *, channels: int = 3, **shape: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels * SIDE * SIDE, WIDTH)
        self.norm = nn.Identity() if norm is None else norm.build(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] -> h [N, WIDTH], not negative, like the pooled features of a ResNet."""
        if images.shape[-1] != SIDE:  # a view of another size
            images = nn.functional.interpolate(images, size=(SIDE, SIDE))
        h: Tensor = self.norm(self.linear(images.flatten(1)))
        return h.relu()
