"""Every registered projection head, against the official code's description of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from harness.models.heads import Head
from harness.models.norm import BatchNorm, Norm
from harness.spec.registry import head


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
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


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


CHANGES = {"out_dim": 7, "hidden_layers": 2, "hidden_dim": 5, "batch_norm": False}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in head.names() for field in head.fields(name)])
def test_every_field_changes_the_network(name: str, field: str) -> None:
    def shapes(network: Head) -> list[torch.Size]:
        return [tensor.shape for tensor in network.state_dict().values()]

    assert shapes(build(name)) != shapes(build(name, **{field: CHANGES[field]}))
