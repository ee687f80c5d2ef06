"""ContrastiveAccuracy accuracy and entropy against a double loop over anchors and candidates."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.evaluate import contrastive_accuracy
from harness.evaluate.contrastive_accuracy import ContrastiveAccuracy, identify
from harness.evaluate.measurement import Unavailable
from harness.evaluate.trained import Trained
from harness.objectives.contrastive import Contrastive, CrossEntropy, MarginTriplet, NTLogistic, NTXent

Make = Callable[..., Trained]


def by_loop(first: Tensor, second: Tensor, normalize: bool, temperature: float) -> tuple[float, float]:
    """Percent of anchors that pick their own candidate, and the mean entropy in nats."""
    n = len(first)
    hits, entropies = 0, []
    for i in range(n):
        logits = []
        for j in range(n):
            a, b = first[i].double(), second[j].double()
            product = float(a @ b)
            if normalize:
                product /= float(a.norm() * b.norm())
            logits.append(product / temperature)
        top = max(logits)
        total = sum(math.exp(one - top) for one in logits)
        p = [math.exp(one - top) / total for one in logits]
        hits += logits.index(top) == i
        entropies.append(-sum(one * math.log(one) for one in p if one > 0))
    return 100.0 * hits / n, sum(entropies) / n


def pairs(n: int = 30, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two noisy versions of the same vectors, of various lengths."""
    draw = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(n, 8, generator=draw)
    return z + noise * torch.randn(n, 8, generator=draw), z + noise * torch.randn(n, 8, generator=draw)


OBJECTIVES = [
    (NTXent(temperature=0.05), True, 0.05),
    (NTXent(temperature=1.0), True, 1.0),
    (NTXent(temperature=10.0, normalize=False), False, 10.0),
    (NTLogistic(temperature=0.5), True, 0.5),
    (MarginTriplet(), True, 1.0),
]


@pytest.mark.parametrize(("objective", "normalize", "temperature"), OBJECTIVES, ids=lambda one: str(one)[:60])
def test_agrees_with_a_double_loop(
    make_trained: Make, objective: Contrastive, normalize: bool, temperature: float
) -> None:
    trained = make_trained(objective=objective)
    (first, second), _ = trained.encode("test", trained.views, "z", shuffle=True)
    top1, entropy = by_loop(first, second, normalize, temperature)
    values = dict(ContrastiveAccuracy(examples=50)(trained))
    assert values == {
        "top1": pytest.approx(top1),
        "entropy": pytest.approx(entropy, rel=1e-4),
        "candidates": 50.0,
    }


def test_candidates_are_disjoint_sets_of_the_split(make_trained: Make) -> None:
    trained = make_trained()
    (first, second), _ = trained.encode("test", trained.views, "z", shuffle=True)
    sets = [by_loop(first[at : at + 15], second[at : at + 15], True, 0.2) for at in (0, 15, 30)]
    values = dict(ContrastiveAccuracy(examples=15)(trained))
    assert values["top1"] == pytest.approx(sum(one[0] for one in sets) / 3)
    assert values["entropy"] == pytest.approx(sum(one[1] for one in sets) / 3, rel=1e-4)
    assert values["candidates"] == 15


def test_a_small_split_is_one_set_and_says_so(make_trained: Make) -> None:
    values = dict(ContrastiveAccuracy(examples=4096, split="validation")(make_trained(data={"validation_images": 20})))
    assert values["candidates"] == 20
    assert values["entropy"] <= math.log(20)


def test_equal_seeds_agree_and_others_do_not(make_trained: Make) -> None:
    first, again, other = (dict(ContrastiveAccuracy()(make_trained(seed=seed))) for seed in (0, 0, 1))
    assert first == again != other


def test_extremes() -> None:
    z = torch.eye(40)
    assert identify(z * 100, z) == (40, pytest.approx(0.0, abs=1e-6))
    hits, nats = identify(torch.zeros(40, 3), z[:, :3])
    assert nats / 40 == pytest.approx(math.log(40), rel=1e-6) and hits <= 1, "a collapsed network knows nothing"


def test_temperature_moves_entropy_and_nothing_else() -> None:
    first, second = pairs()
    found = []
    for temperature in (0.05, 0.1, 0.5, 1.0):
        objective = NTXent(temperature=temperature)
        found.append(identify(objective.comparable(first), objective.comparable(second)))
    assert len({hits for hits, _ in found}) == 1
    assert [nats for _, nats in found] == sorted(nats for _, nats in found)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pairs()
    whole = identify(first, second)
    monkeypatch.setattr(contrastive_accuracy, "_ROWS", 7)
    hits, nats = identify(first, second)
    assert hits == whole[0] and nats == pytest.approx(whole[1], rel=1e-6)


def test_a_supervised_run_is_refused(make_trained: Make) -> None:
    with pytest.raises(Unavailable, match="contrastive objective"):
        list(ContrastiveAccuracy()(make_trained(objective=CrossEntropy())))
