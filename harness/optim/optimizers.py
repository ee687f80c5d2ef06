"""Optimisers as published, and the learning rate and weight decay of every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, knob, optimizer
from harness.optim.schedules import Positive, Progress, Schedule, Scheduled, scheduled, value_of

Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[Scheduled, scheduled(low=0.0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Scaling = Literal["linear", "sqrt", "none"]


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """The rate of step ``step`` (from 0): linear warm-up from 0 to ``peak``, then a cosine to 0.

    As ``learning_rate_schedule`` in model_util.py of google-research/simclr: the very first step of a warm-up
    has rate 0, and the cosine spans the steps after the warm-up.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = min(step - warmup_steps, total_steps - warmup_steps) / max(total_steps - warmup_steps, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def schedule_steps(*, images: int, batch_size: int, epochs: int, warmup_epochs: float) -> tuple[int, int]:
    """(warm-up steps, total steps), rounded as the official code rounds them.

    Its data set repeats without end, so its epoch is ``images / batch_size`` steps, not rounded down, and one
    step is added at the end; a loop that drops the last partial batch of every epoch stops a little earlier.
    """
    return round(warmup_epochs * images // batch_size), epochs * images // batch_size + 1


class Group(Protocol):
    """Parameters that share a rate; :class:`harness.methods.base.ParamGroup` is one."""

    @property
    def params(self) -> Sequence[nn.Parameter]: ...
    @property
    def lr_scale(self) -> float: ...
    @property
    def scheduled(self) -> bool: ...


@dataclass(frozen=True)
class _Whole:
    """All trainable parameters of a module, at the run's rate."""

    params: Sequence[nn.Parameter]
    lr_scale: float = 1.0
    scheduled: bool = True


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Fields shared by all optimisers.

    ``lr`` is the base rate; ``lr_scaling`` makes the peak of the schedule of it: ``linear`` lr * B / 256,
    ``sqrt`` lr * sqrt(B), with B the global batch size in images (section 2.2 and appendix B.1). The peak is reached by
    the run's warm-up and left along a cosine; a rate that is a schedule of its own (``lr: {step: {...}}``) is scaled
    alike, and takes the place of both. ``decay_all: true`` decays biases and batch norm too, as SimSiam and MoCo do.
    ``layer_decay``: the rate of an encoder's layer is multiplied by it once for every layer above (BEiT, MAE).
    """

    lr: Positive
    lr_scaling: Scaling = "linear"
    weight_decay: Decay = 1e-6
    decay_all: bool = knob(False, neutral=False)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = knob(1.0, neutral=1.0)

    def scale(self, batch_size: int) -> float:
        """What ``lr`` is multiplied by for a global batch of ``batch_size`` images."""
        return {"linear": batch_size / 256, "sqrt": math.sqrt(batch_size), "none": 1.0}[self.lr_scaling]

    def peak_lr(self, batch_size: int) -> float:
        """The highest rate for a global batch of ``batch_size`` images: that after warm-up."""
        highest = self.lr.extremes[1] if isinstance(self.lr, Schedule) else self.lr
        return highest * self.scale(batch_size)

    def param_groups(self, module: nn.Module, groups: Sequence[Group] | None = None) -> list[dict[str, Any]]:
        """Torch's groups: matrices and kernels, decayed; batch norm and biases, not; each at its own rate.

        ``groups`` partition the parameters of ``module``; by default all trainable ones are of one. The keys
        ``decay_scale``, ``lr_scale`` and ``scheduled`` are what :class:`Rates` goes by.
        """
        above = _layers_above(module) if self.layer_decay != 1.0 else {}
        made: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
        for group in groups or [_Whole([one for one in module.parameters() if one.requires_grad])]:
            for exempt in (False, True):
                for one in group.params:
                    if (one.ndim <= 1) is exempt:
                        scale = group.lr_scale * self.layer_decay ** above.get(id(one), 0)
                        made.setdefault((exempt, scale, group.scheduled), []).append(one)
        start = value_of(self.weight_decay, Progress(0, 1, 1))
        return [
            {
                "params": params,
                "weight_decay": 0.0 if exempt and not self.decay_all else start,
                "decay_scale": 0.0 if exempt and not self.decay_all else 1.0,
                "lr_scale": scale,
                "scheduled": follows,
                "adapt": not exempt,
            }
            for (exempt, scale, follows), params in made.items()
        ]

    def initial(self) -> float:
        """A rate to build with, before the first step sets it."""
        return self.lr.extremes[1] if isinstance(self.lr, Schedule) else self.lr


def _layers_above(module: nn.Module) -> Mapping[int, int]:
    """``id`` of each parameter of an encoder -> how many of the encoder's layers lie above its own."""
    found: dict[int, int] = {}
    for network in module.modules():
        depth, depth_of = getattr(network, "depth", None), getattr(network, "depth_of", None)
        if isinstance(depth, int) and callable(depth_of):
            found |= {id(one): depth + 1 - depth_of(name) for name, one in network.named_parameters()}
    return found


@dataclass(frozen=True)
class Rates:
    """The learning rate and weight decay of every step of a run: warm-up and cosine, or what the optimiser says."""

    settings: Optimizer
    batch_size: int
    warmup_steps: int
    decay_steps: int

    def at(self, progress: Progress) -> float:
        """The learning rate of a step, as the first group of most methods has it."""
        if isinstance(self.settings.lr, Schedule):
            return self.settings.lr(progress) * self.settings.scale(self.batch_size)
        peak = self.settings.peak_lr(self.batch_size)
        return learning_rate(progress.step, peak=peak, warmup_steps=self.warmup_steps, total_steps=self.decay_steps)

    def __call__(self, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Set them. Groups without these keys (of a checkpoint from before they came) are at the run's own rate."""
        rate, peak = self.at(progress), self.settings.peak_lr(self.batch_size)
        decay = value_of(self.settings.weight_decay, progress)
        for group in optimizer.param_groups:
            group["lr"] = (rate if group.get("scheduled", True) else peak) * group.get("lr_scale", 1.0)
            if "decay_scale" in group:
                group["weight_decay"] = decay * group["decay_scale"]


@optimizer("lars")
@dataclass(frozen=True, kw_only=True)
class LarsOptimizer(Optimizer):
    """LARS (You et al. 2017) as SimCLR uses it: lr 0.3 * B / 256, weight decay 1e-6 (section 2.2).

    ``adapt_all: true`` adapts the rates of biases and batch norm too, as the official code of SwAV does.
    """

    tiny: ClassVar[Examples] = (
        {"weight_decay": 0.01},
        {"lr": 0.7},
        {"lr_scaling": "sqrt"},
        {"lr_scaling": "none"},
        {"weight_decay": 0.3},
        {"decay_all": True},
        {"layer_decay": 0.5},
        {"momentum": 0.5},
        {"trust_coefficient": 0.1},
        {"nesterov": True},
        {"adapt_all": True},
    )
    lr: Positive = 0.3
    momentum: Fraction = 0.9
    trust_coefficient: Rate = 0.001
    nesterov: bool = False
    adapt_all: bool = knob(False, neutral=False)

    def build(self, module: nn.Module, groups: Sequence[Group] | None = None) -> torch.optim.Optimizer:
        """LARS over ``module``; batch norm and biases are by default neither adapted nor decayed."""
        made = self.param_groups(module, groups)
        return Lars(
            [{**group, "adapt": True} for group in made] if self.adapt_all else made,
            lr=self.initial(),
            momentum=self.momentum,
            trust_coefficient=self.trust_coefficient,
            nesterov=self.nesterov,
        )


@optimizer("sgd")
@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; batch norm and biases are not decayed."""

    tiny: ClassVar[Examples] = (
        {"weight_decay": 0.01},
        {"lr": 0.7},
        {"lr_scaling": "sqrt"},
        {"lr_scaling": "none"},
        {"weight_decay": 0.3},
        {"decay_all": True},
        {"layer_decay": 0.5},
        {"momentum": 0.5},
        {"nesterov": True},
    )
    lr: Positive = 0.1
    momentum: Fraction = 0.9
    nesterov: bool = False

    def build(self, module: nn.Module, groups: Sequence[Group] | None = None) -> torch.optim.Optimizer:
        """``torch.optim.SGD`` over ``module``."""
        return torch.optim.SGD(
            self.param_groups(module, groups), lr=self.initial(), momentum=self.momentum, nesterov=self.nesterov
        )


@optimizer("adam")
@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam with L2 regularisation in the gradient; batch norm and biases are not decayed."""

    tiny: ClassVar[Examples] = (
        {"lr": 0.01, "weight_decay": 0.01},
        {"lr": 0.7},
        {"lr_scaling": "linear"},
        {"lr_scaling": "sqrt"},
        {"weight_decay": 0.3},
        {"decay_all": True},
        {"layer_decay": 0.5},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"eps": 0.1},
    )
    lr: Positive = 1e-3
    lr_scaling: Scaling = "none"
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Rate = 1e-8

    def build(self, module: nn.Module, groups: Sequence[Group] | None = None) -> torch.optim.Optimizer:
        """``torch.optim.Adam`` over ``module``."""
        return torch.optim.Adam(
            self.param_groups(module, groups), lr=self.initial(), betas=(self.beta1, self.beta2), eps=self.eps
        )


@optimizer("adamw")
@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay; batch norm and biases are not decayed."""

    weight_decay: Decay = 0.01

    def build(self, module: nn.Module, groups: Sequence[Group] | None = None) -> torch.optim.Optimizer:
        """``torch.optim.AdamW`` over ``module``."""
        return torch.optim.AdamW(
            self.param_groups(module, groups), lr=self.initial(), betas=(self.beta1, self.beta2), eps=self.eps
        )


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling, as lars_optimizer.py of google-research/simclr (classic momentum)::

        g = g + weight_decay * w
        trust = trust_coefficient * |w| / |g|      (1 where either norm is 0, and where not ``adapt``)
        v = momentum * v + lr * trust * g
        w = w - v                                   (nesterov: w - momentum * v - lr * trust * g)

    Rate and trust are inside the buffer, so a change of the rate acts gradually; timm's and most other
    versions keep them outside. Groups take ``weight_decay`` and ``adapt``; ``lr`` may be a float or a 0-d
    tensor. All parameters of a group at once (``torch._foreach_*``), never waiting for the device. The step is bound
    by memory, so nothing is allocated, and decay is added to
    the gradients in place: a step changes them.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        trust_coefficient: float,
        nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "trust_coefficient": trust_coefficient,
            "nesterov": nesterov,
            "weight_decay": 0.0,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
            if pairs:
                weights, gradients = zip(*pairs, strict=True)
                self._update(list(weights), list(gradients), group)
        return loss

    def _update(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if "velocity" not in self.state[weight]:
                self.state[weight]["velocity"] = torch.zeros_like(weight)
        velocities = [self.state[weight]["velocity"] for weight in weights]
        if group["weight_decay"]:
            torch._foreach_add_(gradients, weights, alpha=group["weight_decay"])
        if group["adapt"]:
            ratios = trust_ratios(weights, gradients, group["trust_coefficient"])
        else:
            ratios = weights[0].new_ones(len(weights))
        rates = list((ratios * group["lr"]).unbind())
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_addcmul_(velocities, gradients, rates)
        if group["nesterov"]:
            torch._foreach_addcmul_(weights, gradients, rates, value=-1)
            torch._foreach_sub_(weights, velocities, alpha=group["momentum"])
        else:
            torch._foreach_sub_(weights, velocities)


def trust_ratios(weights: list[Tensor], gradients: list[Tensor], coefficient: float) -> Tensor:
    """coefficient * |w| / |g| of every pair, [number of pairs]; 1 where a norm is 0, and without any epsilon."""
    weight_norms = torch.stack(torch._foreach_norm(weights))
    gradient_norms = torch.stack(torch._foreach_norm(gradients))
    usable = (weight_norms > 0) & (gradient_norms > 0)
    return torch.where(usable, coefficient * weight_norms / gradient_norms, 1.0)
