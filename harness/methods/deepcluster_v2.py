"""DeepCluster v2: predict the cluster that an image's views of the previous epoch fell into (Caron et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness import distributed
from harness.config.registry import Examples, method
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update
from harness.methods.clusters import kmeans, on_first_rank, order_of, projected
from harness.methods.monitor import feature_std
from harness.methods.swav import used
from harness.optim.schedules import Positive, Progress, value_of

REMEMBERED = 2
"""So many views, the first, are remembered until they are clustered: those of full size, as in the official scripts."""


@method("deepcluster_v2")
@dataclass(frozen=True, kw_only=True)
class DeepClusterV2:
    """DeepCluster with SwAV's recipe (arXiv:2006.09882, appendix), after ``main_deepclusterv2.py``.

    At the beginning of every epoch, ``heads`` times, spherical k-means of ``iterations`` steps makes ``prototypes``
    clusters of the embeddings that images had when they were last seen; head j of those of view ``j mod 2``. During the
    epoch every view predicts them, at ``temperature``, from its cosines with the centroids, which do not learn.

    Before the first epoch the official code embeds augmented images with batch norm in training mode; here they are not
    augmented, and batch norm is as in evaluation. The run's ``head`` is the projector, as of SwAV.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("prototypes_used", "feature_std")
    fewest_views: ClassVar[int] = REMEMBERED
    several_sizes: ClassVar[bool] = True
    tiny: ClassVar[Examples] = (
        {"prototypes": 4, "heads": 2, "iterations": 3},
        {"prototypes": 3},
        {"heads": 3},
        {"iterations": 0},
        {"temperature": 0.2},
    )
    tiny_run: ClassVar[Mapping[str, Any]] = {
        "head": {"mlp": {"hidden_dim": 16, "out_dim": 8}},
        "views": {
            "shared": [],
            "both": [],
            "targeted": [],
            "branches": [{"augment": [{"crop": {}}], "count": 2}, {"augment": [{"crop": {}}], "count": 1, "size": 8}],
        },
        "objective": None,
    }

    prototypes: Annotated[int, Field(ge=2)] = 3000
    heads: Annotated[int, Field(ge=1)] = 3
    iterations: Annotated[int, Field(ge=0)] = 10
    temperature: Positive = 0.1

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks."""
        body = encoder()
        projector = head(body.out_dim)
        return DeepClusterV2Method(self, body, projector, projector.out_dim, task.images)


class DeepClusterV2Method(Method):
    """Encoder and projector; ``memory`` [2, N, D] of unit rows, ``centroids`` [H, K, D] and ``labels`` [H, N]."""

    memory: Tensor
    centroids: Tensor
    labels: Tensor
    seed: Tensor

    def __init__(self, settings: DeepClusterV2, encoder: nn.Module, projector: nn.Module, dim: int, images: int):
        super().__init__(encoder, projector)
        self.settings = settings
        shape = settings.heads, settings.prototypes
        self.register_buffer("memory", torch.zeros(REMEMBERED, images, dim))
        self.register_buffer("centroids", F.normalize(torch.randn(*shape, dim), dim=2))
        self.register_buffer("labels", (torch.arange(images) % settings.prototypes).repeat(settings.heads, 1))
        self.register_buffer("seed", torch.randint(2**31, ()))

    def begin_epoch(self, progress: Progress, features: Callable[[], Tensor]) -> None:
        """Cluster what is remembered. Before the first epoch, that is every image as it is."""
        if progress.step == 0:
            self.memory.copy_(F.normalize(projected(self, features()), dim=1))
        for number in range(self.settings.heads):
            x = self.memory[number % REMEMBERED]
            order = order_of(len(x), seed=self.seed, epoch=progress.epoch, stream=f"head {number}").to(x.device)
            start = x[order[torch.arange(self.settings.prototypes, device=x.device) % len(x)]]
            clustered = partial(kmeans, x, start, self.settings.iterations, spherical=True)
            self.centroids[number], self.labels[number] = on_first_rank(clustered, x.device)

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Every view, the remembered ones included, predicts its image's cluster; the mean over views and heads."""
        z = self.embed(self.project, self.embed(self.represent, batch.views))
        z = [F.normalize(one.float(), dim=1) for one in z]
        temperature = value_of(self.settings.temperature, progress)
        scores = [[self._scores(one, number) for one in z] for number in range(self.settings.heads)]
        losses = [
            F.cross_entropy(score / temperature, self.labels[number, batch.indices])
            for number, of_head in enumerate(scores)
            for score in of_head
        ]
        yield Update(
            torch.stack(losses).mean(),
            log={"prototypes_used": used(scores[0][0]), "feature_std": feature_std(z[0])},
        )
        seen = distributed.gather(batch.indices)
        for view in range(REMEMBERED):
            self.memory[view, seen] = distributed.gather(z[view].detach())

    def _scores(self, z: Tensor, number: int) -> Tensor:
        """Cosines [N, K] of unit rows [N, D] with the centroids of a head."""
        with torch.autocast(z.device.type, enabled=False):
            return z @ self.centroids[number].T
