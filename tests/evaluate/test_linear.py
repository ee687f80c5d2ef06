"""The linear probe against torch.optim.SGD on nn.Linear, and against the optimum of a separable problem."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.evaluate.linear import Fitted, Linear, accuracies, cosine
from harness.evaluate.measurement import recorded
from harness.evaluate.resume_state import ResumePoint
from harness.evaluate.trained import Trained

CLASSES = 7


def blobs(seed: int, n: int, dims: int = 12, apart: float = 1.0) -> tuple[Tensor, Tensor]:
    """Gaussian clusters around random centres; the centres do not depend on ``seed``."""
    centres = torch.randn(CLASSES, dims, generator=torch.Generator().manual_seed(99)) * apart
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=draw)
    return centres[labels] + torch.randn(n, dims, generator=draw), labels


class Features:
    """Stands in for ``Trained``: the same features at every epoch, or noisy ones where augmentations are asked for."""

    def __init__(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int = 3) -> None:
        self.seed, self.interim = seed, ResumePoint()
        self.fitted: dict[Any, Any] = {}
        self.device = torch.device("cpu")
        self.data = SimpleNamespace(classes=tuple(range(CLASSES)))
        self.asked: list[tuple[str, str, tuple[str, ...], int]] = []
        self._splits = {"train": train, "test": test, "validation": test}

    def split(self, name: str) -> Any:
        return self._splits[name]

    def features(
        self, split: str, at: str = "h", augmentations: tuple[Any, ...] = (), epoch: int = 0
    ) -> tuple[Tensor, Tensor]:
        self.asked.append((split, at, tuple(type(one).__name__ for one in augmentations), epoch))
        x, labels = self._splits[split]
        if augmentations:
            x = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(epoch))
        return x, labels


def by_autograd(trained: Features, linear: Linear, **noisy: Any) -> nn.Linear:
    """The same protocol with nothing clever: a graph, an optimiser, one step at a time."""
    order = torch.Generator().manual_seed(trained.seed)
    n = len(trained.features("train")[1])
    batch = min(linear.batch_size, n)
    per_epoch = n // batch
    probe = nn.Linear(trained.features("train")[0].shape[1], CLASSES)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.SGD(
        probe.parameters(),
        lr=1.0,
        momentum=linear.momentum,
        nesterov=linear.nesterov,
        weight_decay=linear.weight_decay,
    )
    for epoch in range(linear.epochs):
        x, labels = trained.features("train", epoch=epoch, **noisy)
        rows = torch.randperm(n, generator=order)
        for i in range(per_epoch):
            chosen = rows[i * batch : (i + 1) * batch]
            done = (epoch * per_epoch + i) / (per_epoch * linear.epochs)
            for group in optimizer.param_groups:
                group["lr"] = linear.base_lr * batch / 256 * (1 + math.cos(math.pi * done)) / 2
            optimizer.zero_grad()
            F.cross_entropy(probe(x[chosen]), labels[chosen]).backward()
            optimizer.step()
    return probe


@pytest.mark.parametrize(
    "linear",
    [
        Linear(epochs=4, batch_size=32, augment="none"),
        Linear(epochs=4, batch_size=32, augment="none", nesterov=False),
        Linear(epochs=4, batch_size=32, augment="none", weight_decay=0.03),
        Linear(epochs=4, batch_size=32, augment="none", momentum=0.0, nesterov=False),
        Linear(epochs=4, batch_size=4096, augment="none", base_lr=1.0),
        Linear(epochs=4, batch_size=100, augment="crop_flip"),
    ],
    ids=str,
)
def test_every_step_is_that_of_torch_sgd(linear: Linear) -> None:
    trained = Features(blobs(0, 500), blobs(1, 300))
    noisy = {"augmentations": (object(),)} if linear.augment == "crop_flip" else {}
    expected = by_autograd(trained, linear, **noisy)
    found = linear.fit(trained)  # type: ignore[arg-type]
    torch.testing.assert_close(found.weight, expected.weight.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.bias, expected.bias.detach(), rtol=1e-5, atol=1e-6)
    assert float(found.weight.abs().max()) > 0.01, "the probe never moved"


def test_a_separable_problem_is_solved() -> None:
    trained = Features(blobs(0, 1000, apart=6.0), blobs(1, 500, apart=6.0))
    values = recorded(Linear(epochs=20, batch_size=100, augment="none")(trained))["values"]  # type: ignore[arg-type]
    assert values == {"top1": 100.0, "top5": 100.0}


def test_the_optimum_is_reached() -> None:
    """On overlapping clusters the probe ends at the minimum of the convex problem, found here by L-BFGS."""
    trained = Features(blobs(0, 400), blobs(1, 400))
    x, labels = (one.double() if one.is_floating_point() else one for one in trained.features("train"))
    weights = torch.zeros(CLASSES, x.shape[1] + 1, dtype=torch.float64, requires_grad=True)

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(x @ w[:, :-1].T + w[:, -1], labels) + 0.005 * w.square().sum()

    solver = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> float:
        solver.zero_grad()
        value = loss(weights)
        value.backward()
        return float(value.detach())

    solver.step(closure)
    linear = Linear(epochs=400, batch_size=400, base_lr=0.5, weight_decay=0.01, augment="none")
    probe = linear.fit(trained)  # type: ignore[arg-type]
    found = torch.cat([probe.weight, probe.bias[:, None]], dim=1).double()
    assert float(loss(found)) - float(loss(weights).detach()) < 1e-6


@pytest.mark.parametrize("features", ["h", "z"])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_augmented_features_are_drawn_anew_each_epoch_and_scored_on_plain_ones(features: str, split: str) -> None:
    trained = Features(blobs(0, 60), blobs(1, 60))
    list(Linear(epochs=2, batch_size=30, features=features, split=split)(trained))  # type: ignore[arg-type]
    crops = ("Crop", "Flip")
    trained_on = [("train", features, crops, 0), ("train", features, crops, 1)]
    compared_on = [("train", features, crops, 2), ("train", features, (), 0)]
    assert trained.asked == [*trained_on, *compared_on, (split, features, (), 0)]


def test_equal_seeds_give_equal_probes_and_others_do_not() -> None:
    def probe(seed: int) -> Fitted:
        trained = Features(blobs(0, 500), blobs(1, 300), seed)
        return Linear(epochs=2, batch_size=64, augment="none").fit(trained)  # type: ignore[arg-type]

    torch.randn(3)  # whatever the global generator does
    first, again, other = probe(0), probe(0), probe(1)
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 3},
        {"batch_size": 100},
        {"base_lr": 0.2},
        {"weight_decay": 0.1},
        {"momentum": 0.5},
        {"nesterov": False},
    ],
    ids=str,
)
def test_every_knob_changes_the_probe(changed: dict[str, Any]) -> None:
    trained = Features(blobs(0, 500), blobs(1, 300))
    base = {"epochs": 2, "batch_size": 64, "augment": "none"}
    one = Linear(**base).fit(trained)  # type: ignore[arg-type]
    two = Linear(**{**base, **changed}).fit(trained)  # type: ignore[arg-type]
    assert not torch.equal(one.weight, two.weight)


def test_accuracies_are_percentages_of_the_rows() -> None:
    scores = torch.eye(6)[[0, 1, 2, 3]] - torch.arange(6) * 1e-3
    labels = torch.tensor([0, 1, 5, 0])
    assert dict(accuracies(scores, labels)) == {"top1": 50.0, "top5": 75.0}
    assert dict(accuracies(scores[:, :5], labels.clamp(max=4))) == {"top1": 50.0}, "top-5 of five classes says nothing"


def test_cosine_runs_from_one_to_zero() -> None:
    rates = [cosine(step, 10) for step in range(11)]
    assert rates[0] == 1.0 and rates[5] == pytest.approx(0.5) and rates[10] == 0.0
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_one_probe_is_scored_on_any_split(make_trained: Callable[..., Trained], augment: Any) -> None:
    """``evaluate: [linear, {linear: {split: validation}}]`` is one fit: at imagenet the other would be hours."""
    settings = Linear(epochs=2, batch_size=30, augment=augment)
    sizes = {"data": {"validation_images": 40}}
    alone = [dict(replace(settings, split=split)(make_trained(**sizes))) for split in ("test", "validation")]
    trained = make_trained(**sizes)
    found = [dict(settings(trained))]
    passes = len(trained.method.passes)
    found.append(dict(replace(settings, split="validation")(trained)))
    assert found == alone and found[0] != found[1]
    assert len(trained.method.passes) == passes + 2, "the validation images alone"
    dict(replace(settings, epochs=3)(trained))
    assert len(trained.method.passes) >= passes + 2 + (0 if augment == "none" else 9)


def test_features_of_an_epoch_are_held_once(make_trained: Callable[..., Trained], monkeypatch: Any) -> None:
    """A second matrix of ImageNet's features is 10 to 40 GiB: the last epoch's is gone when the next is encoded."""
    trained = make_trained()
    alive: list[weakref.ref[Tensor]] = []
    original = Trained.features

    def watched(self: Trained, *args: Any, **fields: Any) -> tuple[Tensor, Tensor]:
        assert all(one() is None for one in alive), "of an earlier epoch"
        x, labels = original(self, *args, **fields)
        alive.append(weakref.ref(x))
        return x, labels

    monkeypatch.setattr(Trained, "features", watched)
    Linear(epochs=3, batch_size=30, augment="crop_flip").fit(trained)
    assert len(alive) == 3 + 2, "a further draw to fit the optimum on, and the plain images to compare it on"
