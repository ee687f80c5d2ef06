"""t-SNE of a few classes: the right images, the same picture every time, and a number that says what the eye sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.evaluate.measurement import Unavailable, recorded
from harness.evaluate.trained import Trained
from harness.evaluate.tsne import TSNE, same_class

Make = Callable[..., Trained]


def test_equally_many_images_of_each_class_fixed_by_the_seed() -> None:
    labels = torch.arange(600) % 12
    places = TSNE(images=100, classes=10).chosen(labels, seed=1)
    assert sorted(torch.bincount(labels[places]).tolist(), reverse=True)[:10] == [10] * 10 and len(places) == 100
    assert torch.equal(places, TSNE(images=100, classes=10).chosen(labels, seed=1))
    assert not torch.equal(places, TSNE(images=100, classes=10).chosen(labels, seed=2))


def test_the_share_of_neighbours_of_the_same_class() -> None:
    clusters = torch.cat([torch.randn(20, 2), 100 + torch.randn(20, 2)])
    labels = torch.arange(40) // 20
    assert same_class(clusters, labels) == 100.0
    assert same_class(clusters, torch.arange(40)) == 0.0


def test_both_pictures_and_their_labels(make_trained: Make) -> None:
    settings = TSNE(images=40, perplexity=5.0)
    found, again = (recorded(settings(make_trained())) for _ in range(2))
    count = len(found["arrays"]["labels"])
    assert set(found["arrays"]) == set(TSNE.arrays) and set(found["values"]) == set(TSNE.metrics)
    assert all(len(found["arrays"][name]) == count for name in ("h", "z"))
    assert found == again


def test_too_few_images_for_the_perplexity_are_no_failure(make_trained: Make) -> None:
    with pytest.raises(Unavailable, match="too few"):
        list(TSNE(images=40, perplexity=30.0)(make_trained()))
