"""Every registered projection head, against the official code's description of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness.config.registry import head
from harness.models.heads import Directions, Head
from harness.models.norm import BatchNorm, Norm


def build(name: str, **fields: Any) -> Head:
    torch.manual_seed(0)
    return head.build({name: fields}).build(48, Norm())


@pytest.mark.parametrize("name", head.names())
def test_maps_h_to_z_and_learns(name: str) -> None:
    network = build(name)
    h = torch.randn(8, 48, requires_grad=True)
    z = network(h)
    assert z.shape == (8, network.out_dim)
    (z * torch.randn_like(z)).sum().backward()
    assert h.grad.abs().sum() > 0
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in network.parameters() if one.requires_grad)


def test_no_head_is_the_identity() -> None:
    h = torch.randn(3, 48)
    assert build("none")(h) is h


@pytest.mark.parametrize("batch_norm", [True, False])
def test_linear_head_by_hand(batch_norm: bool) -> None:
    network, h = build("linear", out_dim=6, batch_norm=batch_norm), torch.randn(9, 48)
    z = h @ network[0].weight.T
    if batch_norm:
        z = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(network(h), z)


@pytest.mark.parametrize("hidden_layers", [1, 2])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_nonlinear_head_by_hand(batch_norm: bool, hidden_layers: int) -> None:
    network = build("nonlinear", out_dim=6, hidden_layers=hidden_layers, hidden_dim=10, batch_norm=batch_norm)
    h = torch.randn(9, 48)
    z = h
    weights = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
    for index, weight in enumerate(weights):
        z = z @ weight.T
        if batch_norm:
            z = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
        z = z.relu() if index < hidden_layers else z
    assert len(weights) == hidden_layers + 1
    torch.testing.assert_close(network(h), z)


def test_starts_small_without_bias_and_without_the_last_beta() -> None:
    network = build("nonlinear", hidden_dim=512)
    dense = [layer for layer in network if isinstance(layer, nn.Linear)]
    norms = [layer for layer in network if isinstance(layer, BatchNorm)]
    assert all(layer.bias is None for layer in dense)
    assert float(dense[0].weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert [norm.bias is None for norm in norms] == [False, True]


def test_the_hidden_layer_is_as_wide_as_h_unless_told() -> None:
    assert build("nonlinear")[0].weight.shape == (48, 48)


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("output_norm", ["none", "plain", "affine"])
def test_mlp_is_torchs_layers_in_a_row(hidden_layers: int, batch_norm: bool, output_norm: str) -> None:
    fields = {"hidden_layers": hidden_layers, "batch_norm": batch_norm, "output_norm": output_norm}
    network, h = build("mlp", out_dim=6, hidden_dim=10, **fields), torch.randn(9, 48)
    weights = [layer for layer in network if isinstance(layer, nn.Linear)]
    widths = [48] + [10] * hidden_layers + [6]
    assert [(one.in_features, one.out_features) for one in weights] == [*pairwise(widths)]
    z = h
    for index, layer in enumerate(weights):
        z = layer(z)
        if (batch_norm and index < hidden_layers) or (index == hidden_layers and output_norm != "none"):
            z = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
        z = z.relu() if index < hidden_layers else z
    torch.testing.assert_close(network(h), z)
    assert [one.bias is None for one in weights] == [batch_norm] * hidden_layers + [False]


@pytest.mark.parametrize("learned", [False, True])
def test_prototypes_are_torchs_weight_norm_of_unit_rows(learned: bool) -> None:
    """As DINOHead: weight-normalised, lengths 1 and frozen unless learned; z lies in [-1, 1]."""
    network, h = build("prototypes", out_dim=20, hidden_dim=16, bottleneck=8, learned_norm=learned), torch.randn(9, 48)
    last, before = network[-1], nn.Sequential(*list(network)[:-1])
    assert isinstance(last, Directions)
    theirs = nn.Linear(8, 20, bias=False)
    theirs.weight.data.copy_(last.weight)
    theirs = nn.utils.parametrizations.weight_norm(theirs)
    theirs.parametrizations.weight.original0.data.fill_(1.0)  # type: ignore[index, union-attr]
    torch.testing.assert_close(network(h), theirs(F.normalize(before(h), dim=1)))
    assert network(h).abs().max() <= 1 + 1e-6
    assert last.length.requires_grad is learned
