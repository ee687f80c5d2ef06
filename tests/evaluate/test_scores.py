"""Table 8's measures against loops over images and classes, and VOC's own definition."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from harness.evaluate.scores import map11, measured


def draw(n: int = 60, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    return torch.randn(n, classes, generator=generator) + 1.5 * torch.eye(classes)[labels], labels


def test_mean_per_class_weighs_classes_and_top1_images() -> None:
    scores, labels = draw()
    keep = (labels != 0) | (torch.arange(len(labels)) < 10)  # a rare class
    scores, labels = scores[keep], labels[keep]
    found = measured(scores, labels)
    predicted = scores.argmax(1)
    assert found["top1"] == pytest.approx(100 * sum((predicted == labels).tolist()) / len(labels))
    assert found["mean_per_class"] == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert found["mean_per_class"] != pytest.approx(found["top1"])


def test_a_class_without_images_does_not_count() -> None:
    scores = torch.eye(3)[[0, 0, 1]]
    assert measured(scores, torch.tensor([0, 0, 1])) == {"top1": 100.0, "mean_per_class": 100.0}


def by_definition(scores: list[float], truth: list[int]) -> float:
    """VOC 2007's evaluation code, line by line: sort, count, take the best precision right of each of 11 recalls."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    curve, hits = [], 0
    for rank, i in enumerate(order, start=1):
        hits += truth[i]
        curve.append((hits / sum(truth), hits / rank))
    return sum(max((p for r, p in curve if r >= t / 10 - 1e-12), default=0.0) for t in range(11)) / 11


def test_map11_is_the_definition_and_difficult_images_do_not_count() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(40, 4, generator=generator)
    labels = torch.randint(-1, 2, (40, 4), generator=generator)
    labels[:, 3] = labels[:, 3].clamp(max=0)  # a class that no image shows
    expected = []
    for c in range(3):
        kept = [i for i in range(40) if labels[i, c] >= 0]
        expected.append(by_definition([float(scores[i, c]) for i in kept], [int(labels[i, c]) for i in kept]))
    assert map11(scores, labels) == pytest.approx(100 * sum(expected) / 3)
    assert measured(scores, labels) == {"map11": map11(scores, labels)}


def test_a_perfect_ranking_scores_100() -> None:
    labels = torch.tensor([[1], [1], [0], [0]])
    assert map11(torch.tensor([[4.0], [3.0], [2.0], [1.0]]), labels) == 100.0
