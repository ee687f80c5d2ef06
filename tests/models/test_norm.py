"""Batch norm by groups against a loop over the groups with torch's own layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from harness.models.norm import BatchNorm, Norm, groups_of

SHAPES = {"rows": (24, 5), "maps": (24, 5, 3, 4)}


def reference(channels: int, shape: tuple[int, ...]) -> nn.Module:
    return (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(channels)


def randomised(layer: nn.Module, generator: torch.Generator) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return layer


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_one_torch_layer_per_group(groups: int, shape: tuple[int, ...], channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(groups)
    x = torch.randn(shape, generator=generator) * 3 + 1
    upstream = torch.randn(shape, generator=generator)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    layer = randomised(Norm(groups=groups, momentum=0.3).build(5), generator)
    replicas = [reference(5, shape) for _ in range(groups)]
    for replica in replicas:
        replica.load_state_dict(layer.state_dict(), strict=False)
        replica.momentum = 0.3
    (layer(x) * upstream).sum().backward()
    ours, grad = layer(x), x.grad
    x.grad = None
    theirs = torch.cat([replica(part) for replica, part in zip(replicas, x.chunk(groups), strict=True)])
    (theirs * upstream).sum().backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grad, x.grad, rtol=1e-4, atol=1e-5)
    for name in ("weight", "bias"):
        total = sum(getattr(replica, name).grad for replica in replicas)
        torch.testing.assert_close(getattr(layer, name).grad, total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 3])
def test_running_statistics_are_the_mean_over_groups_and_serve_evaluation(groups: int) -> None:
    layer = Norm(groups=groups, momentum=0.25).build(5)
    replicas = [nn.BatchNorm1d(5, momentum=0.25) for _ in range(groups)]
    for seed in range(3):
        x = torch.randn(12, 5, generator=torch.Generator().manual_seed(seed)) * 2 + seed
        layer(x)
        for replica, part in zip(replicas, x.chunk(groups), strict=True):
            replica(part)
    mean = torch.stack([replica.running_mean for replica in replicas]).mean(0)
    var = torch.stack([replica.running_var for replica in replicas]).mean(0)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, var)
    layer.eval()
    torch.testing.assert_close(layer(x), (x - mean) / (var + 1e-5).sqrt())
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory that nobody initialised holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("groups", [1, 2])
def test_statistics_never_come_from_uninitialised_memory(groups: int, poisoned_memory: None) -> None:
    layer = Norm(groups=groups).build(5)
    layer(torch.randn(8, 5))
    assert torch.isfinite(layer.running_mean).all() and torch.isfinite(layer.running_var).all()


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="9 rows do not divide into 2 groups"):
        Norm(groups=2).build(5)(torch.zeros(9, 5))


def test_beta_can_be_left_out() -> None:
    layer = Norm().build(4, affine_bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


@pytest.mark.parametrize("field", ["groups", "momentum", "eps"])
def test_every_field_has_an_effect(field: str) -> None:
    changed = {"groups": 2, "momentum": 0.5, "eps": 1.0}[field]

    def outcome(norm: Norm) -> Tensor:
        layer = norm.build(3)
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
        return torch.cat([layer(x).flatten(), layer.running_mean])

    assert not torch.allclose(outcome(Norm()), outcome(Norm(**{field: changed})))


def test_groups_of_a_network() -> None:
    assert groups_of(nn.Linear(2, 2)) == 1
    assert groups_of(nn.Sequential(Norm(groups=4).build(2), nn.ReLU())) == 4
    assert isinstance(Norm().build(2), BatchNorm)
