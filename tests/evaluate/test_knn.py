"""k nearest neighbours against a loop over queries, neighbours and classes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from harness.evaluate import knn
from harness.evaluate.knn import KNN
from harness.evaluate.measurement import recorded

CLASSES = 4


def vectors(seed: int, n: int, dims: int = 6) -> tuple[Tensor, Tensor]:
    """Loosely clustered features with labels."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=draw)
    x = torch.randn(n, dims, generator=draw)
    x[torch.arange(n), labels] += 1.5
    return x * (0.1 + 5 * torch.rand(n, 1, generator=draw)), labels


def by_loop(queries: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float | None) -> list[int]:
    """One query at a time, in double precision."""
    answers = []
    for query in queries.double():
        similar = [float(query @ row / (query.norm() * row.norm())) for row in bank.double()]
        nearest = sorted(range(len(similar)), key=lambda i: -similar[i])[:k]
        votes = [0.0] * CLASSES
        for i in nearest:
            votes[int(labels[i])] += 1.0 if temperature is None else math.exp(similar[i] / temperature)
        answers.append(max(range(CLASSES), key=lambda c: (votes[c], -c)))
    return answers


@pytest.mark.parametrize("temperature", [None, 0.05, 0.1, 1.0])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_agrees_with_a_loop(k: int, temperature: float | None) -> None:
    bank, labels = vectors(0, 120)
    queries, _ = vectors(1, 50)
    found = KNN(k=k, temperature=temperature).classify(queries, bank, labels, CLASSES)
    assert found.tolist() == by_loop(queries, bank, labels, k, temperature)


def test_a_low_temperature_listens_to_the_nearest_and_does_not_overflow() -> None:
    bank, labels = vectors(0, 120)
    queries, _ = vectors(1, 50)
    cold = KNN(k=40, temperature=1e-4).classify(queries, bank, labels, CLASSES)
    nearest = KNN(k=1).classify(queries, bank, labels, CLASSES)
    assert torch.equal(cold, nearest)


def test_a_bank_smaller_than_k_votes_as_a_whole() -> None:
    bank, labels = vectors(0, 9)
    queries, _ = vectors(1, 5)
    whole = KNN(k=9).classify(queries, bank, labels, CLASSES)
    assert torch.equal(KNN(k=200).classify(queries, bank, labels, CLASSES), whole)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, labels = vectors(0, 120)
    queries, _ = vectors(1, 50)
    whole = KNN(k=7).classify(queries, bank, labels, CLASSES)
    monkeypatch.setattr(knn, "_MOST_VOTES", 120 * 3)
    assert torch.equal(KNN(k=7).classify(queries, bank, labels, CLASSES), whole)


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("features", ["h", "z"])
def test_the_protocol_asks_for_the_features_and_split_it_names(features: str, split: str) -> None:
    asked = []

    def of(name: str, at: str) -> tuple[Tensor, Tensor]:
        asked.append((name, at))
        return vectors(0, 60)

    trained = SimpleNamespace(features=of, data=SimpleNamespace(classes=tuple("abcd")))
    found = recorded(KNN(k=1, features=features, split=split)(trained))  # type: ignore[arg-type]
    assert sorted(asked) == sorted([("train", features), (split, features)])
    assert found == {"values": {"top1": 100.0}}, "a query that is in the bank is its own nearest neighbour"


@pytest.mark.parametrize("scale", [1e-30, 0.01, 100.0, 1e30])
def test_the_scale_of_the_features_does_not_matter(scale: float) -> None:
    bank, labels = vectors(0, 120)
    queries, _ = vectors(1, 50)
    predicted = KNN(k=7).classify(queries, bank, labels, CLASSES)
    assert torch.equal(KNN(k=7).classify(scale * queries, scale * bank, labels, CLASSES), predicted)


def test_images_in_one_direction_are_equally_near_and_rounding_chooses_none() -> None:
    """Vectors of one direction and other lengths: their cosines are 1, and what is left of them is rounding."""
    _, labels = vectors(0, 120)
    direction, lengths = torch.rand(1, 64, generator=torch.Generator().manual_seed(2)), 1 + torch.rand(120, 1)
    bank = lengths * direction
    predicted = KNN(k=7).classify(bank, bank, labels, CLASSES)
    assert predicted.tolist() == [int(labels.bincount().argmax())] * 120
