"""SeLa: learn labels, and choose them by what the network finds likely, equally many of each (Asano et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update, stack_views
from harness.methods.clusters import on_first_rank, order_of, projected
from harness.methods.monitor import feature_std
from harness.optim.schedules import Progress

CHECKED_EVERY, AT_MOST = 10, 5000
"""Iterations between two looks at how far the masses are from equal, and until the assignment is taken as it is."""
SMALLEST = -600.0
"""The logarithm of the smallest power of a probability, compared with the largest of its image."""


@method("sela")
@dataclass(frozen=True, kw_only=True)
class SeLa:
    """Self-labelling (arXiv:1911.05371), after ``main.py`` and ``sinkhornknopp.py`` of yukimasano/self-label.

    ``heads`` linear classifiers of ``clusters`` classes learn labels of their own. Labels are those of an optimal
    transport from the classifier's probabilities, to the power of ``sharpness`` (the paper's lambda), to classes of
    equal size, iterated until masses are off by less than ``tolerance`` in sum. ``relabelings``: how often in a run,
    spaced quadratically, so most of them early; here at the beginnings of epochs, once for as many as fell into the
    last one. At least twice as many as epochs is every epoch. The first is before the first step, so that the random
    labels of the paper are replaced at once, in the official code too.

    The official code assigns from augmented images with batch norm in training mode; here they are not augmented, and
    batch norm is as in evaluation. The classifiers stand on the run's ``head``, ``none`` in the paper.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("feature_std",)
    tiny: ClassVar[Examples] = (
        {"clusters": 4, "heads": 2, "relabelings": 20, "sharpness": 500.0},
        {"clusters": 3},
        {"heads": 1},
        {"sharpness": 5.0},
        {"tolerance": 1e6},
        {"relabelings": 1},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": "none",
        "views": {
            "shared": [],
            "both": [],
            "targeted": [],
            "branches": [{"augment": [{"crop": {}}], "count": 1}],
        },
        "objective": None,
    }

    clusters: Annotated[int, Field(ge=2)] = 3000
    heads: Annotated[int, Field(ge=1)] = 10
    sharpness: Annotated[float, Field(gt=0)] = 25.0
    tolerance: Annotated[float, Field(gt=0)] = 0.1
    relabelings: Annotated[int, Field(ge=1)] = 100

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks."""
        body = encoder()
        top = head(body.out_dim)
        return SeLaMethod(self, body, top, top.out_dim, task.images)


class SeLaMethod(Method):
    """Encoder, head and classifiers; ``labels`` int64 [T, N] of every image by every classifier."""

    labels: Tensor
    seed: Tensor

    def __init__(self, settings: SeLa, encoder: nn.Module, head: nn.Module, dim: int, images: int) -> None:
        super().__init__(encoder, head)
        self.settings = settings
        self.classifiers = nn.ModuleList([nn.Linear(dim, settings.clusters) for _ in range(settings.heads)])
        for one in self.classifiers:
            nn.init.normal_(cast(Tensor, one.weight), std=0.01)
        self.register_buffer("labels", (torch.arange(images) % settings.clusters).repeat(settings.heads, 1))
        self.register_buffer("seed", torch.randint(2**31, ()))

    def begin_epoch(self, progress: Progress, features: Callable[[], Tensor]) -> None:
        """Random labels, equally many of each, to begin with; then, where one is due, a new assignment."""
        if progress.step == 0:
            for number, labels in enumerate(self.labels):
                labels.copy_(labels[order_of(len(labels), seed=self.seed, epoch=0, stream=f"labels {number}")])
        if not due(self.settings.relabelings, progress):
            return
        z = projected(self, features())
        for number, classifier in enumerate(self.classifiers):
            (self.labels[number],) = on_first_rank(partial(self._assigned, z, classifier), z.device)

    @torch.no_grad()
    def _assigned(self, z: Tensor, classifier: nn.Module) -> list[Tensor]:
        return [balanced(classifier(z), self.settings.sharpness, self.settings.tolerance)]

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Cross-entropy with the labels, the mean over classifiers and views."""
        z = stack_views(self.embed(self._headed, batch.views))
        places = batch.indices.repeat_interleave(len(batch.views))
        losses = [
            F.cross_entropy(classifier(z).float(), self.labels[number, places])
            for number, classifier in enumerate(self.classifiers)
        ]
        yield Update(torch.stack(losses).mean(), log={"feature_std": feature_std(z)})

    def _headed(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))


def due(relabelings: int, progress: Progress) -> bool:
    """Whether one of so many moments, the i-th at ``(i / (relabelings - 1))^2`` of a run, came in the last epoch.

    That is since the beginning of the epoch before ``progress``, which begins one; the first is the run's beginning.
    """
    if progress.step == 0 or relabelings == 1:
        return progress.step == 0
    until, since = (
        math.sqrt(max(step, 0) / progress.steps) * (relabelings - 1)
        for step in (progress.step, progress.step - progress.steps_per_epoch)
    )
    return math.floor(until) > math.floor(since)


@torch.no_grad()
def balanced(logits: Tensor, sharpness: float, tolerance: float) -> Tensor:
    """Labels int64 [N] of logits [N, K]: the most likely ones under which classes are of (nearly) equal size.

    Sinkhorn-Knopp's iteration on the probabilities to the power of ``sharpness``, in float64; its result is not quite
    converged and is rounded to one class for each image, so that sizes differ a little. A class that a power takes
    below the smallest number stays possible, where the official code divides by 0.
    """
    logs = sharpness * logits.double().log_softmax(1)
    powers = (logs - logs.amax(1, keepdim=True)).clamp(min=SMALLEST).exp()
    count, classes = powers.shape
    of_row = powers.new_full((count,), 1 / count)
    of_class = powers.new_ones(classes)
    for iteration in range(AT_MOST):
        of_class = 1 / classes / (of_row @ powers)
        before, of_row = of_row, 1 / count / (powers @ of_class)
        if iteration % CHECKED_EVERY == 0 and float((before / of_row - 1).abs().sum()) <= tolerance:
            break
    return (powers * of_class).argmax(1)
