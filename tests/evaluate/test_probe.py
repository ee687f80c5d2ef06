"""The converged probe against scikit-learn on the features of real networks: untrained, trained, small, collapsed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from harness.data.datasets import Dataset, Synthetic
from harness.data.views import Views
from harness.evaluate import linear
from harness.evaluate.linear import Linear
from harness.evaluate.measurement import recorded
from harness.evaluate.trained import Trained
from harness.models.encoders import Micro
from harness.models.norm import Norm
from tests.evaluate.conftest import TinyMethod

CLASSES, TEST = 7, 1000
CONVERGED = {"solver": "lbfgs", "standardize": True, "weight_decay": 1e-3, "augment": "none"}
SGD = {"augment": "none", "epochs": 100, "batch_size": 128}


class Changed(nn.Module):
    """An encoder and, behind it, a change to what it says."""

    def __init__(self, encoder: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.change = encoder, change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.encoder(images))


@cache
def images() -> Dataset:
    return Synthetic(train_images=800, test_images=TEST, image_size=16, classes=CLASSES).load(Path())


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return Micro(stem=8, widths=(16, 32)).build(Norm())


@cache
def learned() -> nn.Module:
    """Forty steps on a third of the labels: better than nothing, and far from perfect."""
    encoder = untrained()
    known = images().train
    x, y = known.images.float() / 255, known.labels % 3  # type: ignore[attr-defined]
    top = nn.Linear(32, 3)
    optimizer = torch.optim.Adam([*encoder.parameters(), *top.parameters()], lr=1e-2)
    for rows in torch.arange(800).repeat(7).split(128)[:40]:
        optimizer.zero_grad()
        F.cross_entropy(top(encoder(x[rows])), y[rows]).backward()
        optimizer.step()
    return encoder


def half(h: Tensor) -> Tensor:
    """Every other feature is a constant, up to the rounding of float32."""
    constant = 3.0 + 2e-7 * h.sin()
    return torch.where(torch.arange(h.shape[1]) % 2 == 0, h, constant)


ENCODERS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {
    "untrained": (untrained, lambda h: h),
    "trained": (learned, lambda h: h),
    "small": (learned, lambda h: 1e-3 * h),
    "tiny": (learned, lambda h: 1e-12 * h),
    "far from zero": (learned, lambda h: 30.0 + h),
    "half collapsed": (learned, half),
}
"""What makes a network, and what is done to its h."""


def trained(name: str, scale: float = 1.0) -> Trained:
    encoder, change = ENCODERS[name]
    method = TinyMethod(None)
    method.encoder, method.head = Changed(encoder(), lambda h: scale * change(h)), nn.Linear(32, 8)
    about: dict[str, Any] = {"views": Views(), "batch_size": 128, "seed": 0, "device": torch.device("cpu")}
    return Trained(method=method, data=images(), **about)


def by_scikit_learn(one: Trained, decay: float) -> np.ndarray:
    """Predicted classes of the test images, by the textbook: double precision, constant columns left out."""
    (x, y), (queries, _) = one.features("train"), one.features("test")
    x, queries = x.double().numpy(), queries.double().numpy()
    varies = np.ptp(x, axis=0) > 1e-5 * np.abs(x).max(axis=0)
    mean, deviation = x[:, varies].mean(0), x[:, varies].std(0)
    oracle = LogisticRegression(C=1 / (decay * len(x)), tol=1e-9, max_iter=20_000)
    oracle.fit((x[:, varies] - mean) / deviation, y.numpy())
    found: np.ndarray = oracle.predict((queries[:, varies] - mean) / deviation)
    return found


@pytest.mark.parametrize("decay", [1e-3, 1e-1])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_probe_scores_what_scikit_learn_scores(name: str, decay: float) -> None:
    one = trained(name)
    probe = Linear(**(CONVERGED | {"weight_decay": decay}))
    found, (x, labels) = recorded(probe(one)), one.features("test")
    expected = by_scikit_learn(one, decay)
    predicted = probe.fit(one).scores(x).argmax(1).numpy()
    assert np.mean(predicted == expected) > 0.998
    assert found["values"]["top1"] == pytest.approx(100 * np.mean(expected == labels.numpy()), abs=0.3)
    assert found["convergence"]["converged"] and found["convergence"]["gap"] < 1e-5
    if name == "half collapsed":
        assert found["collapsed"]["features"] >= 16


@pytest.mark.parametrize("scale", [0.01, 100.0])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_scale_of_h_does_not_change_the_score(name: str, scale: float) -> None:
    plain, scaled = (recorded(Linear(**CONVERGED)(trained(name, by)))["values"] for by in (1.0, scale))
    assert scaled == pytest.approx(plain, abs=0.05)


@pytest.mark.parametrize("name", ["a constant", "its rounding", "zero"])
@pytest.mark.parametrize("settings", [CONVERGED, CONVERGED | {"features": "z"}], ids=["h", "z"])
def test_a_collapsed_network_is_said_to_be_one_and_scores_as_a_guess(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding that goes with the image is told apart by any probe that amplifies it without a look at its size."""
    makes = {
        "a constant": lambda h: torch.full_like(h, 0.7),
        "its rounding": lambda h: 0.7 + 1e-7 * torch.nn.functional.normalize(h),
        "zero": torch.zeros_like,
    }
    monkeypatch.setitem(ENCODERS, name, (learned, makes[name]))
    found = recorded(Linear(**settings)(trained(name)))
    guess = DummyClassifier(strategy="most_frequent").fit(np.zeros((800, 1)), images().train.labels)
    expected = 100 * guess.score(np.zeros((TEST, 1)), images().test.labels)
    width = 8 if settings.get("features") == "z" else 32
    assert found["collapsed"] == {"features": width, "of": width}
    assert found["values"]["top1"] == pytest.approx(expected) and found["convergence"]["converged"]


def test_sgd_says_where_the_scale_of_h_kept_it_from_its_optimum() -> None:
    """The same information in h, and a score that falls with its scale: what the first evidence at micro had."""
    whole, small = (recorded(Linear(**SGD)(trained("trained", by))) for by in (1.0, 0.01))
    level = recorded(Linear(**CONVERGED)(trained("trained")))["values"]["top1"]
    assert small["values"]["top1"] < level - 3 and not small["convergence"]["converged"]
    assert small["convergence"]["gap"] > 0.1 > whole["convergence"]["gap"]
    long: dict[str, Any] = SGD | {"epochs": 300, "base_lr": 0.5, "standardize": True}
    standard = [recorded(Linear(**long)(trained("trained", by))) for by in (1.0, 0.01)]
    assert all(one["convergence"]["converged"] for one in standard)
    assert standard[0]["values"] == pytest.approx(standard[1]["values"], abs=0.05)


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_sgd_that_comes_near_its_optimum_has_converged(augment: str) -> None:
    settings: dict[str, Any] = {"standardize": True, "augment": augment, "batch_size": 128, "base_lr": 0.2}
    probes = (Linear(**settings, epochs=epochs) for epochs in (60, 1))
    long, short = (recorded(probe(trained("untrained")))["convergence"] for probe in probes)
    assert long["converged"] and not short["converged"]
    assert long["gradient"] < short["gradient"]


def test_with_weight_decay_sgd_is_held_against_its_own_optimum() -> None:
    """A strong penalty ends far above the weakly regularised optimum, and has converged all the same."""
    probe = Linear(**SGD, standardize=True, weight_decay=1.0)
    found = recorded(probe(trained("trained")))["convergence"]
    least = recorded(Linear(**CONVERGED)(trained("trained")))["convergence"]["loss"]
    assert found["converged"] and found["loss"] > least + 0.1


def test_a_solver_that_is_cut_short_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_ITERATIONS", 2)
    assert recorded(Linear(**CONVERGED)(trained("untrained")))["convergence"]["converged"] is False


def test_a_class_that_no_training_image_shows_is_never_predicted() -> None:
    one = trained("trained")
    x, y = one.features("train")
    shown = y != 3
    one._features["train", "h"] = x[shown], y[shown]
    probe = Linear(**CONVERGED).fit(one)
    scores = probe.scores(one.features("test")[0])
    assert bool(torch.isfinite(scores).all()) and not bool((scores.argmax(1) == 3).any())
    assert probe.convergence.converged


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 5, "base_lr": 1.0}, "no epochs and no base_lr"),
        ({"augment": "crop_flip"}, "augment: none"),
        ({"weight_decay": 0.0}, "weight_decay above 0"),
    ],
    ids=["sgd's own", "crops", "no penalty"],
)
def test_what_lbfgs_cannot_heed_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Linear(**(CONVERGED | settings))
