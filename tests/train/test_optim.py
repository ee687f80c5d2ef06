"""Every registered optimiser and the schedule, against loops over parameters written from the official code."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn

from harness.spec.registry import optimizer
from harness.train.optim import Lars, learning_rate, schedule_steps


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))


def train(model: nn.Module, stepper: torch.optim.Optimizer, steps: int = 5, rates: list[float] | None = None) -> None:
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        if rates is not None:
            for group in stepper.param_groups:
                group["lr"] = rates[step]
        stepper.zero_grad()
        model(torch.randn(16, 5, generator=generator)).square().sum().backward()
        stepper.step()


class NaiveLars(torch.optim.Optimizer):
    """lars_optimizer.py with classic momentum, one parameter at a time."""

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for w in group["params"]:
                excluded = w.ndim <= 1  # batch norm and bias
                g = w.grad if excluded else w.grad + group["weight_decay"] * w
                trust = 1.0
                if not excluded and float(w.norm()) > 0 and float(g.norm()) > 0:
                    trust = group["trust_coefficient"] * float(w.norm()) / float(g.norm())
                step = group["lr"] * trust * g
                v = group["momentum"] * self.state[w].get("v", torch.zeros_like(w)) + step
                self.state[w]["v"] = v
                w -= group["momentum"] * v + step if group["nesterov"] else v


SETTINGS = {"momentum": 0.9, "trust_coefficient": 0.001, "nesterov": False, "weight_decay": 1e-2, "lr": 2.0}


@pytest.mark.parametrize("change", [{}, {"nesterov": True}, {"momentum": 0.0}, {"trust_coefficient": 0.02}])
def test_lars_is_the_official_code(change: dict[str, Any]) -> None:
    ours, theirs = network(), network()
    settings = SETTINGS | change
    rates = [2.0, 0.0, 1.0, 3.0, 0.5]  # the rate is inside the buffer, so its history matters
    train(ours, optimizer.build({"lars": settings}).build(ours), rates=rates)
    train(theirs, NaiveLars(theirs.parameters(), **settings), rates=rates)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_lars_is_timms_lars_without_decay_at_a_constant_rate() -> None:
    """timm keeps the rate outside the buffer, and takes |g| + decay * |w| for the official |g + decay * w|."""

    def matrices() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 7, bias=False), nn.Linear(7, 3, bias=False))

    ours, theirs = matrices(), matrices()
    train(ours, optimizer.build({"lars": SETTINGS | {"weight_decay": 0.0}}).build(ours))
    reference = timm.optim.Lars(theirs.parameters(), lr=2.0, momentum=0.9, trust_coeff=0.001, eps=0, always_adapt=True)
    train(theirs, reference)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_lars_does_not_adapt_where_a_norm_is_zero() -> None:
    module = nn.Module()
    module.zero = nn.Parameter(torch.zeros(2, 2))
    module.flat = nn.Parameter(torch.ones(2, 2))
    stepper = optimizer.build({"lars": {"weight_decay": 0.0}}).build(module)
    module.zero.grad, module.flat.grad = torch.ones(2, 2), torch.zeros(2, 2)
    for group in stepper.param_groups:
        group["lr"] = 0.5
    stepper.step()
    torch.testing.assert_close(module.zero.detach(), torch.full((2, 2), -0.5))
    torch.testing.assert_close(module.flat.detach(), torch.ones(2, 2))


def test_lars_skips_what_has_no_gradient_and_takes_a_rate_on_the_device() -> None:
    ours, theirs = network(), network()
    for model, rate in ((ours, torch.tensor(2.0)), (theirs, 2.0)):
        model[3].requires_grad_(False)
        stepper = Lars(
            [{"params": list(model.parameters()), "adapt": True}], lr=rate, momentum=0.9, trust_coefficient=0.01
        )
        train(model, stepper)
    torch.testing.assert_close(ours[0].weight, theirs[0].weight)
    torch.testing.assert_close(ours[3].weight, network()[3].weight)


@pytest.mark.parametrize("name", optimizer.names())
def test_state_survives_a_checkpoint(name: str) -> None:
    component = optimizer.build({name: {"lr": 0.01}})
    through, resumed = network(), network()
    first, second = component.build(through), component.build(resumed)
    train(through, first)
    train(resumed, second)
    restored = copy.deepcopy(resumed)
    third = component.build(restored)
    third.load_state_dict(second.state_dict())
    train(through, first)
    train(restored, third)
    for mine, other in zip(through.parameters(), restored.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", optimizer.names())
def test_batch_norm_and_biases_are_never_decayed(name: str) -> None:
    model = network()
    stepper = optimizer.build({name: {"weight_decay": 0.5}}).build(model)
    decay = {id(p): group["weight_decay"] for group in stepper.param_groups for p in group["params"]}
    assert decay == {id(p): 0.5 if p.ndim > 1 else 0.0 for p in model.parameters()}


CHANGES: dict[str, Any] = {
    "lr": 0.05,
    "weight_decay": 0.3,
    "momentum": 0.5,
    "trust_coefficient": 0.5,
    "nesterov": True,
    "beta1": 0.5,
    "beta2": 0.5,
    "eps": 0.1,
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in optimizer.names() for field in CHANGES])
def test_every_field_has_an_effect(name: str, field: str) -> None:
    if field not in optimizer.fields(name):
        assert not any(f not in CHANGES for f in optimizer.fields(name) if f != "lr_scaling")
        return

    def outcome(fields: dict[str, Any]) -> Tensor:
        model = network()
        train(model, optimizer.build({name: fields}).build(model))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert not torch.allclose(outcome({}), outcome({field: CHANGES[field]}), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", optimizer.names())
def test_peak_rate_scales_with_the_batch(name: str) -> None:
    def peak(scaling: str) -> float:
        return optimizer.build({name: {"lr": 0.3, "lr_scaling": scaling}}).peak_lr(4096)

    assert (peak("linear"), peak("sqrt"), peak("none")) == pytest.approx((4.8, 0.3 * 64, 0.3))


def test_defaults_of_lars_are_the_papers() -> None:
    lars = optimizer.build("lars")
    assert lars.peak_lr(4096) == pytest.approx(4.8)
    assert (lars.momentum, lars.weight_decay, lars.trust_coefficient) == (0.9, 1e-6, 0.001)


def test_schedule_warms_up_from_zero_then_follows_half_a_cosine() -> None:
    rates = [learning_rate(step, peak=2.0, warmup_steps=4, total_steps=12) for step in range(13)]
    assert rates[:5] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert rates[4:] == pytest.approx([1 + math.cos(math.pi * k / 8) for k in range(9)])
    assert learning_rate(20, peak=2.0, warmup_steps=4, total_steps=12) == 0.0
    assert learning_rate(0, peak=2.0, warmup_steps=0, total_steps=12) == 2.0


def test_steps_are_rounded_as_the_official_code_rounds() -> None:
    # 1281167 images at 4096, 100 epochs: 312.78 steps an epoch.
    steps = schedule_steps(images=1281167, batch_size=4096, epochs=100, warmup_epochs=10)
    assert steps == (3127, 31279)
    assert schedule_steps(images=50000, batch_size=512, epochs=1, warmup_epochs=0) == (0, 98)
