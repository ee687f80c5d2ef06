"""Logistic regression with an l2 penalty, by L-BFGS: the linear classifier of the transfer tables (appendix B.8.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


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


def fit(
    x: Tensor, labels: Tensor, classes: int, penalty: float, *, iterations: int, start: Model | None = None
) -> Model:
    """Minimise ``sum of cross-entropies + penalty / 2 * |W|^2``; the bias is free.

    ``x`` [N, D]; ``labels`` int64 [N] (multinomial), or [N, C] in {1, 0, -1}: one binary problem per class, in which
    -1 does not count. Stops after ``iterations`` of L-BFGS at the latest. The problem is convex: at its minimum
    where it started does not matter. Where the cap comes first it does: such a model is not ``converged``.
    """
    x = x.double()
    weight, bias, _ = start or Model(x.new_zeros(classes, x.shape[1]), x.new_zeros(classes))
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        total = cross_entropy(F.linear(x, weight, bias), labels) + penalty / 2 * weight.square().sum()
        value = total / len(x)  # the same minimum at any number of images, and tolerances that mean the same
        torch.autograd.backward([value])
        return value

    solver.step(objective)  # type: ignore[no-untyped-call]
    done = solver.state[weight]
    converged = done["n_iter"] < iterations and done["func_evals"] < 2 * iterations
    return Model(weight.detach(), bias.detach(), converged)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed over images; over those classes of each that count, where an image may have several."""
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, reduction="sum")
    counts = labels >= 0
    return F.binary_cross_entropy_with_logits(logits[counts], labels[counts].to(logits.dtype), reduction="sum")


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
