"""Several processes as one: start them, gather tensors with gradient, average gradients and statistics.

The convention everywhere: every rank computes a loss over its slice of the global batch, and the loss of the
run is the *mean* over ranks. The backward of a collective therefore yields the gradient of the *sum* of all
ranks' losses, and :func:`replicate` divides by the number of ranks when it averages parameter gradients.
Without an initialised process group every function is the identity, so callers never branch.
"""

from __future__ import annotations

import functools
import os
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def initialise() -> torch.device:
    """Join the process group that the environment describes, if any; the device this process computes on.

    Understands the variables of torchrun (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR``,
    ``MASTER_PORT``), which submitit's ``TorchDistributedEnvironment().export()`` sets as well. One process, or
    none of these variables, means: not distributed. NCCL on GPUs, gloo on CPUs.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo")
    return device


def shutdown() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        subgroup.cache_clear()
        dist.destroy_process_group()


def rank() -> int:
    """This process's place in the global batch; 0 when not distributed."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes; 1 when not distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for all ranks."""
    if world() > 1:
        dist.barrier()


@functools.cache
def subgroup(size: int) -> dist.ProcessGroup:
    """The process group of the ``size`` consecutive ranks around this one. All ranks must ask at the same time."""
    if size == world():
        return cast(dist.ProcessGroup, dist.group.WORLD)
    return dist.new_subgroups(size)[0]


def gather(x: Tensor) -> Tensor:
    """Concatenate ``x`` [B, ...] of all ranks to [world*B, ...] in rank order, with gradient to every rank."""
    return cast(Tensor, _Gather.apply(x)) if world() > 1 else x


def mean_over_ranks(x: Tensor, ranks: int) -> Tensor:
    """Mean of ``x`` over the ``ranks`` consecutive ranks that share a subgroup, with gradient to each of them."""
    if ranks == 1:
        return x
    return cast(Tensor, _Sum.apply(x, subgroup(ranks))) / ranks


def replicate(module: nn.Module) -> nn.Module:
    """``module`` whose backward averages gradients over ranks (DDP); ``module`` itself when not distributed.

    Buffers are not broadcast from rank 0 as DDP would by default: batch statistics belong to the ranks that
    saw them until :func:`average_buffers` merges them.
    """
    if world() == 1:
        return module
    return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)


@torch.no_grad()
def average_buffers(module: nn.Module) -> None:
    """Replace every floating-point buffer by its mean over ranks: call before evaluating and before saving.

    Running statistics are linear in the batch statistics, so the mean of the ranks' moving averages *is* the
    moving average of the mean over all groups: one exchange per epoch instead of one per layer and step.
    """
    if world() == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= world()


class _Gather(torch.autograd.Function):
    """All-gather; its backward sums the gradients that all ranks hold for this rank's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # all-reduce and slice, not reduce-scatter: gloo has none, and [world*B, D] is small.
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


class _Sum(torch.autograd.Function):
    """All-reduce (sum) in a process group; its backward is the same sum of gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = x.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None
