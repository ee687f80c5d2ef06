"""k-means, whitening and mutual information against scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from harness.methods.clusters import kmeans, mutual_information, nearest, order_of, pca_whitened


def blobs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """300 rows around five unit vectors, and around which."""
    draw = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(5, 8, generator=draw), dim=1)
    which = torch.arange(300) % 5
    return centres[which] + 0.2 * torch.randn(300, 8, generator=draw), which


def test_lloyds_iterations_are_those_of_scikit_learn() -> None:
    x, _ = blobs()
    start = x[:7]
    centroids, labels = kmeans(x, start, 4)
    theirs = KMeans(7, init=start.numpy(), n_init=1, max_iter=4, tol=0, algorithm="lloyd").fit(x.numpy())
    assert mutual_information(labels, torch.tensor(theirs.labels_).long()) == pytest.approx(1)
    np.testing.assert_allclose(centroids.numpy(), theirs.cluster_centers_, atol=1e-5)


def test_spherical_centroids_are_unit_means_of_what_is_nearest_by_angle() -> None:
    x = F.normalize(blobs()[0], dim=1)
    centroids = x[:6]
    for _ in range(3):
        labels = (x @ centroids.T).argmax(1)
        centroids = torch.stack([F.normalize(x[labels == k].mean(0), dim=0) for k in range(6)])
    ours = kmeans(x, x[:6], 3, spherical=True)
    torch.testing.assert_close(ours[0], centroids)
    assert torch.equal(ours[1], (x @ centroids.T).argmax(1))


def test_an_empty_cluster_keeps_its_centroid_or_takes_half_of_the_largest() -> None:
    """The first three and the last two rows of ``start`` are alike, so that three clusters begin without an image."""
    x = F.normalize(blobs()[0], dim=1)
    start = torch.cat([x[:1]] * 3 + [x[1:2]] * 2)
    centroids, labels = kmeans(x, start, 1, spherical=True)
    assert torch.equal(centroids[[1, 2, 4]], start[[1, 2, 4]])
    labels = kmeans(x, start, 10)[1]
    assert labels.bincount(minlength=5).min() > 0


def test_whitened_features_are_uncorrelated_unit_rows_and_dead_ones_stay_zero() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(500, 10, generator=draw) @ torch.randn(10, 10, generator=draw) + 5
    x[:, 3] = 1.0
    rows = pca_whitened(x, 4)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(500))
    moments = rows.T @ rows / 500
    assert bool((moments - torch.eye(4) / 4).abs().max() < 0.03)
    full = pca_whitened(x, 10)
    assert bool(full.isfinite().all()) and bool((full[:, 9] == 0).all())


def test_mutual_information_is_scikit_learns() -> None:
    draw = torch.Generator().manual_seed(0)
    a, noise = torch.randint(7, (400,), generator=draw), torch.randint(5, (400,), generator=draw)
    b = torch.where(torch.rand(400, generator=draw) < 0.6, (a + 3) % 7, noise)
    theirs = normalized_mutual_info_score(a.numpy(), b.numpy(), average_method="geometric")
    assert float(mutual_information(a, b)) == pytest.approx(theirs, abs=1e-6)
    assert float(mutual_information(a, (a + 2) % 7)) == pytest.approx(1)
    assert float(mutual_information(a, torch.zeros_like(a))) == 0


def test_orders_differ_by_epoch_and_stream_and_come_again() -> None:
    seed = torch.tensor(3)
    orders = [order_of(20, seed=seed, epoch=e, stream=s).tolist() for e in (0.0, 1.0) for s in ("a", "b")]
    assert all(sorted(one) == [*range(20)] for one in orders) and len({*map(tuple, orders)}) == 4
    assert orders[0] == order_of(20, seed=seed, epoch=0.0, stream="a").tolist()


def test_rows_are_compared_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs()
    whole = nearest(x, x[:9])
    assert torch.equal(whole, torch.cdist(x, x[:9]).argmin(1))
    monkeypatch.setattr("harness.methods.clusters.ROWS", 64)
    assert torch.equal(nearest(x, x[:9]), whole)
