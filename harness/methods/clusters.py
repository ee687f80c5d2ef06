"""k-means over the features of a whole training set, and how alike two clusterings are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import distributed
from harness.data.rng import ImageRng
from harness.methods.base import Method

ROWS = 8192
"""So many rows are compared with all centroids at a time."""
APART = 1 / 1024
"""By this share a centroid and its copy move away from each other where a cluster is split, as in faiss."""


def projected(method: Method, h: Tensor) -> Tensor:
    """z float32 [N, d] of representations h [N, D], batch norm of the head as in evaluation."""
    method.head.eval()
    with torch.no_grad():
        z = torch.cat([method.project(rows).float() for rows in torch.split(h, ROWS)])
    method.head.train()
    return z


def order_of(count: int, *, seed: Tensor, epoch: float, stream: str) -> Tensor:
    """A random order of ``count`` rows, int64: a function of these numbers and the name alone."""
    rng = ImageRng(seed=int(seed), epoch=int(epoch), images=torch.arange(count))
    return rng.child(stream).bits(1)[:, 0].argsort(stable=True)


def on_first_rank(compute: Callable[[], Sequence[Tensor]], device: torch.device) -> list[Tensor]:
    """Tensors that the first process computes, on ``device`` of all of them: clusterings then agree to the last bit."""
    return [one.to(device) for one in distributed.from_first(lambda: [one.cpu() for one in compute()])]


@torch.no_grad()
def kmeans(x: Tensor, start: Tensor, iterations: int, *, spherical: bool = False) -> tuple[Tensor, Tensor]:
    """(centroids [K, D], labels int64 [N]) of rows x [N, D] after Lloyd's ``iterations`` from centroids ``start``.

    ``spherical``: of unit rows; centroids are unit too, the nearest is that of the largest cosine, and an empty cluster
    keeps its centroid, as in DeepCluster v2. Otherwise an empty cluster takes half of the largest, as in faiss, which
    chooses a large one at random.
    """
    centroids = start.clone()
    for _ in range(iterations):
        labels = nearest(x, centroids)
        counts = labels.bincount(minlength=len(start))
        means = torch.zeros_like(centroids).index_add_(0, labels, x) / counts.clamp(min=1)[:, None]
        if spherical:
            means = F.normalize(means, dim=1)
        centroids = torch.where(counts[:, None] > 0, means, centroids)
        if not spherical:
            _split_into_empty(centroids, counts)
    return centroids, nearest(x, centroids)


def nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """Which of centroids [K, D] is the nearest to each of x [N, D]: int64 [N]."""
    offset = centroids.square().sum(1) / 2  # the same for all where they are unit vectors
    return torch.cat([(rows @ centroids.T - offset).argmax(1) for rows in torch.split(x, ROWS)])


def _split_into_empty(centroids: Tensor, counts: Tensor) -> None:
    for empty in (counts == 0).nonzero()[:, 0].tolist():
        largest = int(counts.argmax())
        if counts[largest] < 2:
            return
        away = torch.ones_like(centroids[largest])
        away[1::2] = -1
        centroids[empty] = centroids[largest] * (1 + APART * away)
        centroids[largest] *= 1 - APART * away
        counts[empty] = counts[largest] // 2
        counts[largest] -= counts[empty]


@torch.no_grad()
def pca_whitened(x: Tensor, dims: int) -> Tensor:
    """Unit rows [N, dims] of x [N, D]: its first principal components, each of variance 1, then l2-normalised.

    A component without variance stays 0.
    """
    centred = x.double() - x.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    values, vectors = values.flip(0)[:dims], vectors.flip(1)[:, :dims]
    scale = torch.where(values > 1e-9 * values[0], values.clamp(min=1e-300).rsqrt(), 0.0)
    return F.normalize((centred @ (vectors * scale)).float(), dim=1)


def mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """Normalised mutual information of two labellings int64 [N]: ``I(a; b) / sqrt(H(a) H(b))``, a float32 scalar.

    1 where they are the same but for names, 0 where one says nothing of the other or does not differ between images.
    """
    joint = entropy(a * (int(b.max()) + 1) + b)
    of_a, of_b = entropy(a), entropy(b)
    shared = (of_a + of_b - joint) / (of_a * of_b).sqrt().clamp(min=1e-12)
    return shared.clamp(0, 1).float()


def entropy(labels: Tensor) -> Tensor:
    """Of the frequencies of labels [N], in nats; float64."""
    counts: Tensor = torch.unique(labels, return_counts=True)[1]
    share = counts.double() / len(labels)
    return -(share * share.log()).sum()
