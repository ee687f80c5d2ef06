"""Projection heads g: representation h -> z, on which the objective acts (sections 2.1 and 4.2).

``none``, ``linear`` and ``nonlinear`` are SimCLR's, ``mlp`` those of the lineage and their predictors, ``prototypes``
DINO's. SimCLR's layers follow ``projection_head`` in model_util.py of google-research/simclr: dense layers without bias
drawn from N(0, 0.01), each followed by batch norm; the last one has no beta. The paper's formula, ``W2 relu(W1 h)``,
does not show the batch norm; ``batch_norm: false`` is the formula to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, head
from harness.models.norm import Norm

Width = Annotated[int, Field(ge=1)]


class Head(nn.Sequential):
    """A network [N, in] -> z [N, ``out_dim``]; without layers it is the identity."""

    def __init__(self, layers: Sequence[nn.Module], out_dim: int) -> None:
        super().__init__(*layers)
        self.out_dim = out_dim


class HeadSpec(Protocol):
    """What a registered head is: a predictor is one too."""

    def build(self, in_dim: int, norm: Norm) -> Head:
        """A freshly drawn network [N, in_dim] -> [N, out_dim]."""


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

    tiny: ClassVar[Examples] = ({"out_dim": 8}, {"out_dim": 16}, {"batch_norm": False})
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

    tiny: ClassVar[Examples] = (
        {"out_dim": 8},
        {"out_dim": 16},
        {"hidden_layers": 2},
        {"hidden_dim": 24},
        {"batch_norm": False},
    )
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


@head("mlp")
@dataclass(frozen=True, kw_only=True)
class MLPHead:
    """Linear layers with ReLU between them, initialised as torch does: projectors and predictors of the lineage.

    ``hidden_dim`` null means the width of what comes in. ``batch_norm``: after every hidden layer. ``output_norm``:
    what follows the last layer: nothing, batch norm, or batch norm without its own scale and offset.
    ``output_bias`` is that of the last layer; hidden layers have one unless batch norm follows.

    * BYOL (``utils/networks.py``): ``{hidden_dim: 4096, out_dim: 256, output_bias: false}``, projector and predictor.
    * SimSiam (``simsiam/builder.py``): projector ``{hidden_layers: 2, hidden_dim: 2048, out_dim: 2048, output_norm:
      plain, output_bias: false}``, predictor ``{hidden_dim: 512, out_dim: 2048}``.
    * MoCo v2 (``moco/builder.py``): ``{out_dim: 128, batch_norm: false}``; v1: ``{hidden_layers: 0, out_dim: 128}``.
    """

    tiny: ClassVar[Examples] = (
        {"out_dim": 8},
        {"out_dim": 16},
        {"hidden_layers": 0},
        {"hidden_layers": 2},
        {"hidden_dim": 24},
        {"batch_norm": False},
        {"output_norm": "affine"},
        {"output_norm": "plain"},
        {"output_bias": False},
    )
    out_dim: Width = 128
    hidden_layers: Annotated[int, Field(ge=0)] = 1
    hidden_dim: Width | None = None
    batch_norm: bool = True
    output_norm: Literal["none", "affine", "plain"] = "none"
    output_bias: bool = True

    def build(self, in_dim: int, norm: Norm) -> Head:
        """[N, in_dim] -> [N, out_dim]."""
        hidden, layers = self.hidden_dim or in_dim, list[nn.Module]()
        for layer_in in ([in_dim] + [hidden] * self.hidden_layers)[: self.hidden_layers]:
            layers.append(nn.Linear(layer_in, hidden, bias=not self.batch_norm))
            if self.batch_norm:
                layers.append(norm.build(hidden))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Linear(hidden if self.hidden_layers else in_dim, self.out_dim, bias=self.output_bias))
        if self.output_norm != "none":
            layers.append(norm.build(self.out_dim, affine=self.output_norm == "affine"))
        return Head(layers, self.out_dim)


@head("prototypes")
@dataclass(frozen=True, kw_only=True)
class PrototypeHead:
    """DINO's head (``DINOHead`` of ``vision_transformer.py``): similarities with ``out_dim`` learned directions.

    ``hidden_layers`` linear layers with GELU, a bottleneck, l2 normalisation, and a last layer of unit directions, so
    that z lies in [-1, 1]. ``learned_norm`` lets the directions' lengths be learned too (``norm_last_layer: false``).
    Linear layers start from a normal distribution of deviation 0.02, cut at two, and zero biases; the last as torch
    does. ``batch_norm``: after each hidden layer, as the ResNet recipes of others have it (official: none).
    """

    tiny: ClassVar[Examples] = (
        {"out_dim": 16, "hidden_dim": 16, "bottleneck": 8},
        {"out_dim": 24},
        {"hidden_layers": 1},
        {"hidden_dim": 24},
        {"bottleneck": 4},
        {"batch_norm": True},
        {"learned_norm": True},
    )
    out_dim: Width = 4096
    hidden_layers: Annotated[int, Field(ge=1)] = 2
    hidden_dim: Width = 2048
    bottleneck: Width = 256
    batch_norm: bool = False
    learned_norm: bool = False

    def build(self, in_dim: int, norm: Norm) -> Head:
        """[N, in_dim] -> [N, out_dim]; its last layer is ``head[-1]``."""
        layers: list[nn.Module] = []
        for layer_in in [in_dim] + [self.hidden_dim] * (self.hidden_layers - 1):
            layers.append(_small(layer_in, self.hidden_dim, bias=not self.batch_norm))
            if self.batch_norm:
                layers.append(norm.build(self.hidden_dim))
            layers.append(nn.GELU())
        layers.append(_small(self.hidden_dim, self.bottleneck))
        layers.append(Directions(self.bottleneck, self.out_dim, learned_norm=self.learned_norm))
        return Head(layers, self.out_dim)


def _small(in_dim: int, out_dim: int, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Directions(nn.Module):
    """Cosines of rows [N, in] with learned directions: [N, out], times the directions' lengths, which start at 1.

    What torch's ``weight_norm`` computes of a linear layer without bias, on l2-normalised input.
    """

    def __init__(self, in_dim: int, out_dim: int, *, learned_norm: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(in_dim, out_dim, bias=False).weight.detach().clone())
        self.length = nn.Parameter(torch.ones(out_dim, 1), requires_grad=learned_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows and directions, and compare each with each."""
        return F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1) * self.length)
