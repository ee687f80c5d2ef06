"""Every registered objective against an oracle: loops over images, written from the paper, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.config.registry import objective
from harness.objectives.blockwise import mean_cross_entropy
from harness.objectives.contrastive import Contrastive

CONTRASTIVE = [name for name in objective.names() if issubclass(objective.get(name), Contrastive)]


def projections(images: int = 5, width: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, width, generator=generator, dtype=torch.float64).float() for _ in range(2)]


Anchor = tuple[float, list[float]]
"""Similarity with the positive, and with each negative."""


def anchors(views: list[Tensor], *, normalize: bool, negatives: str) -> list[Anchor]:
    """All 2N anchors. z_{2k-1} and z_{2k} are the views of image k (section 2.1), here view 0 and view 1."""
    found = []
    for view in (0, 1):
        for image in range(len(views[0])):
            similar = {}
            for other_view in (0, 1):
                for other in range(len(views[0])):
                    u, v = views[view][image].double(), views[other_view][other].double()
                    product = sum(float(a) * float(b) for a, b in zip(u, v, strict=True))
                    if normalize:
                        product /= math.sqrt(sum(float(a) ** 2 for a in u)) * math.sqrt(sum(float(b) ** 2 for b in v))
                    similar[other_view, other] = product
            positive = similar[1 - view, image]
            far = [
                value
                for (other_view, other), value in similar.items()
                if other != image and (negatives == "both_views" or other_view != view)
            ]
            found.append((positive, far))
    return found


def nt_xent(positive: float, far: list[float], *, temperature: float = 0.5) -> float:
    """Equation 1: the sum runs over all k != i, hence over the positive as well."""
    denominator = sum(math.exp(s / temperature) for s in [positive, *far])
    return -math.log(math.exp(positive / temperature) / denominator)


def semi_hard(positive: float, far: list[float]) -> list[float]:
    return [max(farther)] if (farther := [s for s in far if s < positive]) else []


def nt_logistic(positive: float, far: list[float], *, temperature: float = 0.5, mining: str = "all") -> float:
    far = semi_hard(positive, far) if mining == "semi_hard" else far
    log_sigmoid = lambda x: -math.log(1 + math.exp(-x))  # noqa: E731
    repulsion = [-log_sigmoid(-s / temperature) for s in far]
    return -log_sigmoid(positive / temperature) + (sum(repulsion) / len(repulsion) if repulsion else 0.0)


def margin_triplet(positive: float, far: list[float], *, margin: float = 0.8, mining: str = "all") -> float:
    if mining == "semi_hard":
        far = [s for s in semi_hard(positive, far) if s > positive - margin]
    hinges = [max(s - positive + margin, 0.0) for s in far]
    return sum(hinges) / len(hinges) if hinges else 0.0


ORACLES: dict[str, Callable[..., float]] = {
    "nt_xent": nt_xent,
    "nt_logistic": nt_logistic,
    "margin_triplet": margin_triplet,
}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "temperature": [{"temperature": 0.1}, {"temperature": 1.0}],
    "normalize": [{"normalize": False, "temperature": 10.0}],
    "negatives": [{"negatives": "other_view"}],
    "mining": [{"mining": "semi_hard"}, {"mining": "semi_hard", "negatives": "other_view"}],
    "margin": [{"margin": 0.0}, {"margin": 1.6}, {"margin": 0.1, "mining": "semi_hard"}],
}
CASES = [
    (name, setting)
    for name in CONTRASTIVE
    for setting in [{}, *(one for field in objective.fields(name) for one in SETTINGS[field])]
]


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_agrees_with_the_papers_formula(name: str, setting: dict[str, Any]) -> None:
    views = projections()
    own = {key: value for key, value in setting.items() if key not in ("normalize", "negatives")}
    pairs = anchors(views, normalize=setting.get("normalize", True), negatives=setting.get("negatives", "both_views"))
    expected = sum(ORACLES[name](*pair, **own) for pair in pairs) / len(pairs)
    assert float(objective.build({name: setting})(views)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "setting"), [case for case in CASES if case[1]])
def test_every_field_has_an_effect(name: str, setting: dict[str, Any]) -> None:
    views = projections()
    assert float(objective.build({name: setting})(views)) != pytest.approx(float(objective.build(name)(views)))


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_gradient_is_the_slope(name: str, setting: dict[str, Any]) -> None:
    """Along a random direction, by central differences on the float64 oracle."""
    views = [z.requires_grad_() for z in projections(seed=1)]
    objective.build({name: setting})(views).backward()
    own = {key: value for key, value in setting.items() if key not in ("normalize", "negatives")}
    towards = projections(seed=2)

    def loss(step: float) -> float:
        moved = [z.detach().double() + step * d.double() for z, d in zip(views, towards, strict=True)]
        kind = setting.get("negatives", "both_views")
        pairs = anchors(moved, normalize=setting.get("normalize", True), negatives=kind)
        return sum(ORACLES[name](*pair, **own) for pair in pairs) / len(pairs)

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    ours = sum(float((z.grad * d).sum()) for z, d in zip(views, towards, strict=True))
    assert ours == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_wants_two_views(name: str) -> None:
    with pytest.raises(ValueError, match="two views, not 3"):
        objective.build(name)([torch.zeros(2, 2)] * 3)


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_does_not_care_which_view_comes_first_nor_how_images_are_ordered(name: str) -> None:
    first, second = projections()
    loss, order = objective.build(name), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(loss([second, first]), loss([first, second]))
    torch.testing.assert_close(loss([first[order], second[order]]), loss([first, second]))


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_computes_in_single_precision_under_autocast(name: str) -> None:
    views = [z.bfloat16() for z in projections()]
    exact = objective.build(name)([z.float() for z in views])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(objective.build(name)(views), exact)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_by_hand(smoothing: float) -> None:
    logits, labels = projections(6, 3)[0], torch.tensor([0, 1, 2, 2, 1, 0])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_total = math.log(sum(math.exp(x) for x in row))
        for index, x in enumerate(row):
            weight = smoothing / 3 + (1 - smoothing) * (index == label)
            expected += weight * (log_total - x) / 6
    loss = objective.build({"cross_entropy": {"label_smoothing": smoothing}})(logits, labels)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_every_objective_is_covered_here() -> None:
    assert set(objective.names()) == {*ORACLES, "cross_entropy"}


def plain(anchors: Tensor, candidates: Tensor, positive: Tensor, itself: Tensor | None, scale: float) -> Tensor:
    logits = scale * anchors @ candidates.T
    if itself is not None:
        logits = logits.masked_fill(F.one_hot(itself, len(candidates)).bool(), -1e9)
    return F.cross_entropy(logits, positive)


@pytest.mark.parametrize("block_elements", [1, 20, 10**6])
@pytest.mark.parametrize("excluding", [True, False])
def test_blocks_do_not_change_the_result(block_elements: int, excluding: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    a, c = (torch.randn(n, 3, generator=generator, dtype=torch.float64).requires_grad_() for n in (6, 9))
    positive = torch.tensor([1, 2, 3, 4, 5, 8])
    itself = torch.tensor([0, 1, 2, 3, 4, 5]) if excluding else None
    expected = plain(a, c, positive, itself, 2.0)
    ours = mean_cross_entropy(a, c, positive, itself, 2.0, block_elements)
    torch.testing.assert_close(ours, expected)
    pairs = zip(torch.autograd.grad(3 * ours, (a, c)), torch.autograd.grad(3 * expected, (a, c)), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("shared", [True, False])
def test_gradcheck(shared: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    other = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    place = torch.arange(6)

    def loss(*inputs: Tensor) -> Tensor:
        return mean_cross_entropy(inputs[0], inputs[-1], (place + 3) % 6, place, 1.7, 12)

    assert torch.autograd.gradcheck(loss, (z,) if shared else (z, other))


def test_extreme_logits_stay_finite() -> None:
    z = 1e4 * torch.eye(4).repeat(2, 1)
    z.requires_grad_()
    place = torch.arange(8)
    loss = mean_cross_entropy(z, z, (place + 4) % 8, place, 100.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


def test_the_matrix_is_not_kept_for_the_backward_pass() -> None:
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        z = [torch.randn(32, 4, requires_grad=True) for _ in range(2)]
        objective.build("nt_xent")(z)
    assert max(kept) <= 64 * 4
