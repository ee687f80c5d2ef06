"""Logistic regression with an l2 penalty, by L-BFGS, and how far from its optimum a model can be at most.

The linear classifier of the transfer tables (appendix B.8.1) and, on standardised features, the converged linear probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.evaluate.measurement import Convergence
from harness.evaluate.resume_state import go_on

_AT_ONCE = 2**25
"""Elements that are worked on in float64 at once (256 MiB): of ImageNet's features a second matrix is 20 GiB."""

TOLERANCE = 0.01
"""Nats per image: what may be further above its optimum than this has not converged.

At ``micro`` a gap of 0.01 goes with 0.3 points of top-1 or less, one of 0.1 with 3, one of 0.45 with 9.
"""


class Model(NamedTuple):
    """Weights [C, D] and bias [C], float64; ``converged``: the solver stopped by itself, before its last iteration."""

    weight: Tensor
    bias: Tensor
    converged: bool = False

    @classmethod
    def of(cls, fields: Sequence[Any], device: torch.device) -> Model | None:
        """What a checkpoint kept of one, in plain tensors; None of nothing."""
        if not fields:
            return None
        weight, bias, converged = fields
        return cls(weight.to(device), bias.to(device), converged)

    def scores(self, x: Tensor) -> Tensor:
        """Logits [N, C] of features [N, D]."""
        return F.linear(x.double(), self.weight, self.bias)


class Distance(NamedTuple):
    """``gradient``: norm of the objective's gradient as a share of that at zero; ``gap``: the objective is at most so
    far above its minimum, in nats per image; ``loss``: its cross-entropy alone, per image.
    """

    gradient: float
    gap: float
    loss: float

    @property
    def convergence(self) -> Convergence:
        """As an evaluation yields it."""
        return Convergence(self.gradient, self.gap, TOLERANCE, self.loss)


def fit(
    x: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float,
    *,
    iterations: int,
    start: Model | None = None,
    check: Callable[[], None] = go_on,
) -> Model:
    """Minimise ``sum of cross-entropies + penalty / 2 * |W|^2``; the bias is free.

    ``x`` [N, D]; ``labels`` int64 [N] (multinomial), or [N, C] in {1, 0, -1}: one binary problem per class, in which
    -1 does not count. Stops after ``iterations`` of L-BFGS at the latest. The problem is convex: at its minimum
    where it started does not matter. Where the cap comes first it does: such a model is not ``converged``. ``check``
    is called between two evaluations of the objective, and may raise.
    """
    zeros = partial(torch.zeros, dtype=torch.float64, device=x.device)
    weight, bias, _ = start or Model(zeros(classes, x.shape[1]), zeros(classes))
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )
    n, parts = len(x), list(_parts(x, labels))
    if len(parts) == 1:
        parts = [(x.double(), labels)]  # once, and not at every evaluation

    def objective() -> Tensor:
        check()
        solver.zero_grad()
        value = penalty / 2 / n * weight.square().sum()
        torch.autograd.backward([value])
        for some, known in parts:  # per image: the same minimum at any number, and tolerances that mean the same
            loss = cross_entropy(F.linear(some.double(), weight, bias), known) / n
            torch.autograd.backward([loss])
            value = value.detach() + loss.detach()
        return value

    solver.step(objective)  # type: ignore[no-untyped-call]
    done = solver.state[weight]
    converged = done["n_iter"] < iterations and done["func_evals"] < 2 * iterations
    return Model(weight.detach(), bias.detach(), converged)


def _parts(x: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    classes = labels.shape[1] if labels.ndim == 2 else 1
    rows = max(1, _AT_ONCE // max(x.shape[1], classes))
    yield from zip(torch.split(x, rows), torch.split(labels, rows), strict=True)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed over images; over those classes of each that count, where an image may have several."""
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, reduction="sum")
    counts = labels >= 0
    return F.binary_cross_entropy_with_logits(logits[counts], labels[counts].to(logits.dtype), reduction="sum")


def loss(model: Model, x: Tensor, labels: Tensor) -> float:
    """Cross-entropy per image."""
    return sum(float(cross_entropy(model.scores(some), known)) for some, known in _parts(x, labels)) / len(x)


@torch.no_grad()
def slope(model: Model, x: Tensor, labels: Tensor) -> tuple[float, Tensor, Tensor]:
    """Cross-entropy per image of labels int64 [N], and its gradient in weights and bias."""
    total, by_weight, by_bias = 0.0, torch.zeros_like(model.weight), torch.zeros_like(model.bias)
    for some, known in _parts(x, labels):
        logits = model.scores(some)
        total += float(cross_entropy(logits, known))
        error = logits.softmax(1)
        error[torch.arange(len(known), device=x.device), known] -= 1
        by_weight, by_bias = by_weight + error.T @ some.double(), by_bias + error.sum(0)
    return total / len(x), by_weight / len(x), by_bias / len(x)


@torch.no_grad()
def distance(model: Model, x: Tensor, labels: Tensor, penalty: float) -> Distance:
    """From the minimum of what :func:`fit` minimises, per image; whoever fitted ``model``.

    The gap is that of Fenchel duality (Boyd and Vandenberghe 2004, section 5.5.1; for regularised linear models
    Shalev-Shwartz and Zhang 2013): with lambda = penalty / N, residuals r_i = q_i - y_i and *any* distributions q_i
    over the classes whose mean is that of the labels y_i (the bias is free),

        minimum >= mean_i H(q_i) - |mean_i r_i x_i^T|^2 / (2 lambda),

    with equality where q_i are the probabilities of the optimum. Here q_i are the model's own, mixed with as little of
    one other distribution as gives them that mean. No solver is trusted, and no second one is needed.
    """
    n, several = len(x), labels.ndim == 2
    classes, width = model.weight.shape

    def parts() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        for some, known in _parts(x, labels):
            some = some.double()
            logits = F.linear(some, model.weight, model.bias)
            y = known.clamp(min=0).double() if several else F.one_hot(known, classes).double()
            counts = (known >= 0).double() if several else torch.ones_like(y)
            yield some, y, counts, logits.sigmoid() if several else logits.softmax(1)

    nats_lost = loss(model, x, labels)
    given, said, spread = (x.new_zeros(classes, width, dtype=torch.float64) for _ in range(3))
    truth, mean, counted = (x.new_zeros(classes, dtype=torch.float64) for _ in range(3))
    for some, y, counts, p in parts():  # sums over images of y x^T, p x^T and x^T where a class counts
        given, said, spread = given + (y * counts).T @ some, said + (p * counts).T @ some, spread + counts.T @ some
        truth, mean, counted = truth + (y * counts).sum(0), mean + (p * counts).sum(0), counted + counts.sum(0)
    weight_gradient = (said - given) / n + penalty / n * model.weight
    gradient = torch.cat([weight_gradient.flatten(), (mean - truth) / n]).norm()
    guess = 0.5 if several else 1 / classes
    at_zero = torch.cat([(guess * spread - given).flatten() / n, (guess * counted - truth) / n]).norm()

    truth, mean = truth / counted.clamp(min=1), mean / counted.clamp(min=1)
    share = 1 - truth / mean
    share = torch.maximum(share, 1 - (1 - truth) / (1 - mean)) if several else share.max().expand(classes)
    share = share.nan_to_num(0.0).clamp(0, 1)  # of the other distribution
    other = torch.where(share > 0, ((truth - (1 - share) * mean) / share.clamp(min=1e-300)).clamp(0, 1), truth)
    entropy = 0.0
    for _, _, counts, p in parts():
        q = (1 - share) * p + share * other
        nats = torch.special.entr(q) + (torch.special.entr(1 - q) if several else 0.0)
        entropy += float((nats * counts).sum()) / n
    moved = ((1 - share)[:, None] * said + (share * other)[:, None] * spread - given) / n
    bound = entropy - float(moved.square().sum()) * n / (2 * penalty) if penalty else -torch.inf
    value = nats_lost + penalty / n / 2 * float(model.weight.square().sum())
    return Distance(float(gradient / at_zero) if float(at_zero) else 0.0, max(value - bound, 0.0), nats_lost)


def path(
    x: Tensor,
    labels: Tensor,
    classes: int,
    penalties: Sequence[float],
    *,
    iterations: int,
    start: Model | None = None,
) -> Iterator[tuple[float, Model]]:
    """A fit for every penalty, strongest first, each from where the one before ended: that is where it is cheap."""
    model = start
    for penalty in sorted(penalties, reverse=True):
        model = fit(x, labels, classes, penalty, iterations=iterations, start=model)
        yield penalty, model
