"""DeepCluster: learn the clusters that k-means finds in the features at every epoch (Caron et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.errors import SpecError
from harness.config.registry import Examples, method
from harness.data.rng import ImageRng
from harness.data.views import Batch
from harness.methods.base import EncoderFactory, HeadFactory, Method, Task, Update, stack_views
from harness.methods.clusters import (
    kmeans,
    mutual_information,
    on_first_rank,
    order_of,
    pca_whitened,
    projected,
)
from harness.methods.monitor import feature_std
from harness.optim.schedules import Progress


@method("deepcluster")
@dataclass(frozen=True, kw_only=True)
class DeepCluster:
    """Deep clustering (arXiv:1807.05520), after ``main.py`` and ``clustering.py`` of facebookresearch/deepcluster.

    At the beginning of every epoch: features of all images as they are, whitened to ``pca`` components and normalised,
    k-means of ``iterations`` steps with ``clusters`` clusters from fresh random images, and a fresh linear classifier.
    During the epoch it learns each image's cluster, with the network. ``uniform``: clusters count alike, however large,
    without which large ones win (section 3.3).

    The official code draws as many images from every cluster; here every image is seen once an epoch and weighted by
    the inverse size of its cluster, which has the same mean. Its classifier has an optimiser of its own, without
    momentum; here it shares the run's, whose state of it is forgotten when it is drawn anew. The features are the
    output of the run's ``head``, ``none`` in the ResNets of others. The paper's Sobel filters are an augmentation.
    """

    own_loss: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("same_clusters", "largest_cluster", "feature_std")
    tiny: ClassVar[Examples] = (
        {"clusters": 4, "pca": 6, "iterations": 5},
        {"clusters": 3},
        {"pca": 4},
        {"iterations": 0},
        {"uniform": False},
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

    clusters: Annotated[int, Field(ge=2)] = 10000
    pca: Annotated[int, Field(ge=1)] = 256
    iterations: Annotated[int, Field(ge=0)] = 20
    uniform: bool = True

    def build(self, task: Task, encoder: EncoderFactory, head: HeadFactory, objective: object | None) -> Method:
        """The method over fresh networks. Raises :class:`SpecError` for more components than features."""
        body = encoder()
        top = head(body.out_dim)
        if self.pca > top.out_dim:
            raise SpecError(f"deepcluster: features of {top.out_dim} numbers have no {self.pca} principal components")
        return DeepClusterMethod(self, body, top, top.out_dim, task.images)


class DeepClusterMethod(Method):
    """Encoder, head and classifier; of every image its cluster, ``labels`` int64 [N], and how much it counts.

    ``same``: mutual information of this epoch's clusters and the last one's; ``largest``: percent of all images.
    """

    labels: Tensor
    weights: Tensor
    same: Tensor
    largest: Tensor
    seed: Tensor

    def __init__(self, settings: DeepCluster, encoder: nn.Module, head: nn.Module, dim: int, images: int) -> None:
        super().__init__(encoder, head)
        self.settings = settings
        self.classifier = nn.Linear(dim, settings.clusters)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("labels", torch.arange(images) % settings.clusters)
        self.register_buffer("weights", torch.ones(images))
        self.register_buffer("same", torch.zeros(()))
        self.register_buffer("largest", torch.zeros(()))
        self.register_buffer("seed", torch.randint(2**31, ()))

    def begin_epoch(self, progress: Progress, features: Callable[[], Tensor]) -> Sequence[nn.Parameter]:
        """New clusters and a new classifier, which is what is returned: names of clusters mean nothing any more."""
        settings, epoch = self.settings, progress.epoch
        z = projected(self, features())

        def clustered() -> Sequence[Tensor]:
            x = pca_whitened(z, settings.pca)
            order = order_of(len(x), seed=self.seed, epoch=epoch, stream="clusters").to(x.device)
            start = x[order[torch.arange(settings.clusters, device=x.device) % len(x)]]
            return kmeans(x, start, settings.iterations)[1:]

        (labels,) = on_first_rank(clustered, z.device)
        self.same.copy_(mutual_information(self.labels, labels))
        self.labels.copy_(labels)
        counts = labels.bincount(minlength=settings.clusters)
        self.largest.copy_(100 * counts.max() / len(labels))
        if settings.uniform:
            self.weights.copy_(len(labels) / ((counts > 0).sum() * counts[labels]))
        rng = ImageRng(seed=int(self.seed), epoch=int(epoch), images=torch.arange(settings.clusters))
        with torch.no_grad():
            self.classifier.weight.copy_(0.01 * rng.child("classifier").normal(z.shape[1]))
            self.classifier.bias.zero_()
        return list(self.classifier.parameters())

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Cross-entropy with the clusters, the mean over views."""
        z = stack_views(self.embed(self._headed, batch.views))
        places = batch.indices.repeat_interleave(len(batch.views))
        losses = F.cross_entropy(self.classifier(z).float(), self.labels[places], reduction="none")
        logged = {"same_clusters": self.same.clone(), "largest_cluster": self.largest.clone()}
        yield Update((self.weights[places] * losses).mean(), log={**logged, "feature_std": feature_std(z)})

    def _headed(self, images: Tensor) -> Tensor:
        return self.project(self.represent(images))
