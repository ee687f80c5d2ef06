"""Projection heads g: representation h -> z, on which the objective acts (sections 2.1 and 4.2).

Layers follow ``projection_head`` in model_util.py of google-research/simclr: dense layers without bias drawn
from N(0, 0.01), each followed by batch norm; the last one has no beta. The paper's formula,
``W2 relu(W1 h)``, does not show the batch norm; ``batch_norm: false`` is the formula to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import nn

from harness.models.norm import Norm
from harness.spec.registry import head

Width = Annotated[int, Field(ge=1)]


class Head(nn.Sequential):
    """A network [N, in] -> z [N, ``out_dim``]; without layers it is the identity."""

    def __init__(self, layers: Sequence[nn.Module], out_dim: int) -> None:
        super().__init__(*layers)
        self.out_dim = out_dim


def dense(in_dim: int, out_dim: int) -> nn.Linear:
    """A linear map without bias, weights from N(0, 0.01)."""
    layer = nn.Linear(in_dim, out_dim, bias=False)
    nn.init.normal_(layer.weight, std=0.01)
    return layer


@head("none")
@dataclass(frozen=True, kw_only=True)
class NoHead:
    """z = h."""

    def build(self, in_dim: int, norm: Norm) -> Head:
        """The identity; ``out_dim`` is ``in_dim``."""
        del norm
        return Head([], in_dim)


@head("linear")
@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """z = W h (Figure 8)."""

    out_dim: Width = 128
    batch_norm: bool = True

    def build(self, in_dim: int, norm: Norm) -> Head:
        """[N, in_dim] -> [N, out_dim]."""
        layers: list[nn.Module] = [dense(in_dim, self.out_dim)]
        if self.batch_norm:
            layers.append(norm.build(self.out_dim, affine_bias=False))
        return Head(layers, self.out_dim)


@head("nonlinear")
@dataclass(frozen=True, kw_only=True)
class NonlinearHead:
    """z = W2 relu(W1 h): the paper's default. ``hidden_dim`` null means the width of h.

    ``hidden_layers: 2`` is the three-layer head that later versions of the official code default to.
    """

    out_dim: Width = 128
    hidden_layers: Annotated[int, Field(ge=1)] = 1
    hidden_dim: Width | None = None
    batch_norm: bool = True

    def build(self, in_dim: int, norm: Norm) -> Head:
        """[N, in_dim] -> [N, out_dim]."""
        hidden = self.hidden_dim or in_dim
        layers: list[nn.Module] = []
        for layer_in in [in_dim] + [hidden] * (self.hidden_layers - 1):
            layers.append(dense(layer_in, hidden))
            if self.batch_norm:
                layers.append(norm.build(hidden))
            layers.append(nn.ReLU(inplace=True))
        layers.append(dense(hidden, self.out_dim))
        if self.batch_norm:
            layers.append(norm.build(self.out_dim, affine_bias=False))
        return Head(layers, self.out_dim)
