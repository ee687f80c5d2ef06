"""Logistic regression against scikit-learn's, at the same penalty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from harness.evaluate import logistic

CLASSES = 4


def blobs(n: int = 150, dims: int = 6) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (n,), generator=draw)
    centres = torch.randn(CLASSES, dims, generator=draw)
    return centres[labels] + torch.randn(n, dims, generator=draw), labels


@pytest.mark.parametrize("penalty", [1e-2, 1.0, 100.0])
def test_it_finds_the_optimum_that_scikit_learn_finds(penalty: float) -> None:
    x, y = blobs()
    oracle = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(x.double().numpy(), y.numpy())
    found = logistic.fit(x, y, CLASSES, penalty, iterations=1000)
    np.testing.assert_allclose(found.weight.numpy(), oracle.coef_, rtol=1e-3, atol=1e-3 * np.abs(oracle.coef_).max())
    np.testing.assert_allclose(
        found.scores(x).softmax(1).numpy(), oracle.predict_proba(x.double().numpy()), rtol=1e-2, atol=1e-4
    )


def test_several_labels_per_image_are_one_binary_problem_per_class() -> None:
    x, y = blobs()
    labels = torch.stack([(y == c).long() for c in range(CLASSES)], dim=1)
    labels[:30, 0] = -1  # too difficult to count
    found = logistic.fit(x, labels, CLASSES, 1.0, iterations=1000)
    for c in range(CLASSES):
        kept = labels[:, c] >= 0
        oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000)
        oracle.fit(x[kept].double().numpy(), labels[kept, c].numpy())
        np.testing.assert_allclose(found.weight[c].numpy(), oracle.coef_[0], rtol=1e-3, atol=1e-3)


def test_the_path_goes_from_strong_to_weak_and_does_not_depend_on_where_a_fit_starts() -> None:
    x, y = blobs()
    along = list(logistic.path(x, y, CLASSES, [0.1, 100.0, 1.0], iterations=500))
    assert [penalty for penalty, _ in along] == [100.0, 1.0, 0.1]
    for penalty, model in along:
        alone = logistic.fit(x, y, CLASSES, penalty, iterations=500)
        torch.testing.assert_close(model.weight, alone.weight, rtol=1e-3, atol=1e-4)
    norms = [float(model.weight.norm()) for _, model in along]
    assert norms == sorted(norms)
