"""How many directions a linear projection keeps: the spectrum of its matrix (Figure B.3, appendix B.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, evaluation
from harness.evaluate.measurement import Measurements, Unavailable, finite
from harness.evaluate.trained import Trained


@evaluation("spectrum")
@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Yields ``width`` of h, ``rank`` and ``stable_rank``, and two spectra of W in g(h) = W h.

    ``squared_eigenvalues`` [width]: squares of the real parts of W's eigenvalues, falling; W is not symmetric, and
    so we read the figure's "squared real eigenvalue". ``singular_values`` [width], falling. ``rank`` counts the
    squared eigenvalues that make up ``share`` of their sum; ``stable_rank`` is the squared Frobenius over the squared
    spectral norm. Batch norm after W rescales the rows of z and is no part of it.

    Raises :class:`Unavailable` where the head is not linear, or not square: eigenvalues need z as wide as h.
    """

    tiny: ClassVar[Examples] = ({}, {"share": 0.5})
    metrics: ClassVar[tuple[str, ...]] = ("width", "rank", "stable_rank")
    arrays: ClassVar[tuple[str, ...]] = ("squared_eigenvalues", "singular_values")
    share: Annotated[float, Field(gt=0, lt=1)] = 0.9

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic; nothing is drawn."""
        weight = matrix(trained.method.head)
        eigenvalues = torch.linalg.eigvals(weight).real.square().sort(descending=True).values
        singular = torch.linalg.svdvals(weight)
        yield "width", float(weight.shape[1])
        yield "rank", float((eigenvalues.cumsum(0) < self.share * eigenvalues.sum()).sum()) + 1.0
        yield "stable_rank", float(singular.square().sum() / singular.square().max())
        yield "squared_eigenvalues", eigenvalues
        yield "singular_values", singular


def matrix(head: nn.Module) -> Tensor:
    """The square matrix [D, D] of a linear head, float64 on the CPU."""
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    if len(linear) != 1:
        raise Unavailable("the spectrum is that of a linear head")
    weight = finite(linear[0].weight.detach().double().cpu(), "the weights of the head")
    if weight.shape[0] != weight.shape[1]:
        raise Unavailable(f"the head maps {weight.shape[1]} to {weight.shape[0]} dimensions: no eigenvalues")
    return weight
