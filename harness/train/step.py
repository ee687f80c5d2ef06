"""One step of training, whatever the method: the only code that touches gradients.

The loop, the search for settings without effect and the tests drive a method through :func:`optimise`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from harness import distributed
from harness.data.views import Batch
from harness.methods.base import Method, Update
from harness.models.norm import BatchNorm
from harness.optim.schedules import Progress

SetRates = Callable[[torch.optim.Optimizer, Progress], None]


def begin_epoch(
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    progress: Progress,
    features: Callable[[], Tensor],
) -> None:
    """Let the method begin an epoch, and optimisers forget what they know of parameters that it drew anew."""
    for drawn in method.begin_epoch(progress, features) or ():
        for one in optimizers.values():
            one.state.pop(drawn, None)


def optimise(
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    batch: Batch,
    progress: Progress,
    *,
    set_rates: SetRates | None = None,
    bfloat16: bool = False,
) -> dict[str, Tensor]:
    """Take one training step: minimise what the method yields, then let it go on; return what is worth logging.

    ``batch`` is this rank's slice of the global batch. ``set_rates`` gives an optimiser the learning rate and weight
    decay of this moment, before it is used. In ``bfloat16`` where autocast would. Gradients of the player that an
    update is for, batch norm's running statistics and logged values (detached scalars, ``loss`` among them; those of
    other players than ``main`` are named ``player/loss``) are averaged over ranks, so that all ranks hold the same
    state after every step, whoever writes it down. Running statistics are linear in the batch statistics: the mean of
    the ranks' moving averages is the moving average of the mean over all groups.
    """
    players, values = method.players(), dict[str, Tensor]()
    method.zero_grad(set_to_none=True)
    method.draws = (batch.rng.child(f"forward {number}") for number in itertools.count())
    steps = method.training_step(batch, progress)
    while True:
        with torch.autocast(batch.indices.device.type, torch.bfloat16, enabled=bfloat16):
            update = next(steps, None)
        if update is None:
            break
        method.zero_grad(set_to_none=True)
        update.loss.backward()  # type: ignore[no-untyped-call]
        logged = {"loss": update.loss.detach(), **update.log}
        gradients = [one.grad for one in players[update.of].parameters() if one.grad is not None]
        distributed.average([*gradients, *running_statistics(method), *logged.values()])
        _restrict(update, gradients)
        if set_rates is not None:
            set_rates(optimizers[update.of], progress)
        optimizers[update.of].step()
        values |= {name if update.of == "main" else f"{update.of}/{name}": one for name, one in logged.items()}
    if distributed.world() > 1 and any(not one.weight.requires_grad for one in _batch_norms(method)):
        distributed.average(running_statistics(method))  # a target may have been asked after the last update
    return values


def running_statistics(method: nn.Module) -> list[Tensor]:
    """What batch norm tracks: the only buffers that are averaged over ranks."""
    return [one for layer in _batch_norms(method) for one in (layer.running_mean, layer.running_var)]


def _batch_norms(method: nn.Module) -> list[BatchNorm]:
    return [layer for layer in method.modules() if isinstance(layer, BatchNorm)]


@torch.no_grad()
def _restrict(update: Update, gradients: list[Tensor]) -> None:
    """Clip each tensor's gradient, and take away those of parameters that are held. Does not wait for the device."""
    if update.clip is not None and gradients:
        norms = torch.stack(torch._foreach_norm(gradients))
        torch._foreach_mul_(gradients, list((update.clip / (norms + 1e-6)).clamp(max=1.0).unbind()))
    for one in update.held:
        one.grad = None
