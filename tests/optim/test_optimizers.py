"""Every registered optimiser and the schedule, against loops over parameters written from the official code."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import timm.optim
import torch
from torch import nn

from harness.config.registry import optimizer
from harness.methods.base import ParamGroup
from harness.optim.optimizers import Lars, Rates, learning_rate, schedule_steps
from harness.optim.schedules import Progress


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
                if (not excluded or group.get("adapt_all")) and float(w.norm()) > 0 and float(g.norm()) > 0:
                    trust = group["trust_coefficient"] * float(w.norm()) / float(g.norm())
                step = group["lr"] * trust * g
                v = group["momentum"] * self.state[w].get("v", torch.zeros_like(w)) + step
                self.state[w]["v"] = v
                w -= group["momentum"] * v + step if group["nesterov"] else v


SETTINGS = {"momentum": 0.9, "trust_coefficient": 0.001, "nesterov": False, "weight_decay": 1e-2, "lr": 2.0}


@pytest.mark.parametrize(
    "change", [{}, {"nesterov": True}, {"momentum": 0.0}, {"trust_coefficient": 0.02}, {"adapt_all": True}]
)
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


def test_groups_have_rates_and_a_decay_of_their_own() -> None:
    """``scheduled: False`` stays at the peak, scales scale, biases are exempt, and decay follows its schedule."""
    model = network()
    first, last = [*model[0].parameters(), *model[1].parameters()], [*model[3].parameters()]
    settings = optimizer.build({"sgd": {"lr": 0.5, "weight_decay": {"linear": {"start": 0.1, "end": 0.3}}}})
    made = settings.build(model, [ParamGroup(first, lr_scale=0.5), ParamGroup(last, scheduled=False)])
    rates = Rates(settings, batch_size=512, warmup_steps=0, decay_steps=10)
    rates(made, Progress(5, 10, 5))
    found = {(g["lr"], round(g["weight_decay"], 12), len(g["params"])) for g in made.param_groups}
    assert found == {(0.25, 0.2, 1), (0.25, 0.0, 2), (1.0, 0.2, 1), (1.0, 0.0, 1)}
    every = optimizer.build({"sgd": {"weight_decay": 0.1, "decay_all": True}}).build(model)
    assert {g["weight_decay"] for g in every.param_groups} == {0.1}


def test_a_rate_that_is_a_schedule_takes_the_place_of_warm_up_and_cosine() -> None:
    settings = optimizer.build({"sgd": {"lr": {"step": {"start": 0.03, "epochs": [2, 3]}}}})
    rates = Rates(settings, batch_size=512, warmup_steps=3, decay_steps=8)
    assert [rates.at(Progress(step, 8, 2)) for step in range(8)] == pytest.approx(
        [0.06] * 4 + [0.006] * 2 + [0.0006] * 2
    )
    assert settings.peak_lr(512) == pytest.approx(0.06)


def test_layers_learn_the_slower_the_more_lie_above_them() -> None:
    class Layered(nn.Sequential):
        depth = 2

        def depth_of(self, name: str) -> int:
            return {"0": 0, "1": 1, "3": 2}[name.partition(".")[0]]

    model = Layered(*network().children())
    made = optimizer.build({"adamw": {"layer_decay": 0.5}}).build(nn.Sequential(model, nn.Linear(3, 2)))
    scales = {id(one): group["lr_scale"] for group in made.param_groups for one in group["params"]}
    assert [scales[id(one)] for one in model.parameters()] == [0.125, 0.25, 0.25, 0.5, 0.5]
    assert len(scales) == 7 and sorted(scales.values())[-2:] == [1.0, 1.0]
