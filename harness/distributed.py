"""Several processes as one: they meet, gather tensors with gradient, average, and agree.

The convention everywhere: every rank computes a loss over its slice of the global batch, and the loss of the
run is the *mean* over ranks. The backward of a collective therefore yields the gradient of the *sum* of all
ranks' losses, and :func:`average` divides by the number of ranks when it exchanges parameter gradients.
Alone, every function is the identity, so callers never branch.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import FileStore, TCPStore  # type: ignore[attr-defined]  # public, but not in its __all__
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from harness.runtime import Rank

T = TypeVar("T")
P = ParamSpec("P")

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another within a run: the first may be writing a large checkpoint to a slow disk."""
BUCKET_ELEMENTS = 1 << 23
"""So many numbers are averaged in one exchange (32 MiB of float32)."""


# --- meeting and parting --------------------------------------------------------------------------------------


def initialise(me: Rank) -> None:
    """Meet the other processes of a run; alone, nothing happens. NCCL carries what is on GPUs, gloo the rest.

    The other ranks wait for the first without a limit of time: it may still be busy with an earlier run. On GPUs, the
    process takes the one of its ``LOCAL_RANK`` (torchrun) among those it sees.
    """
    if me.world == 1:
        return
    if sys.platform == "linux" and me.on_one_machine:  # or gloo would look up the machine's name: not all can do that
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    store = _store(me)
    if me.rank == 0:
        store.set("the first is here", "")
    while not store.check(["the first is here"]):  # not store.wait: no signal would be heard meanwhile
        time.sleep(0.05)
    dist.init_process_group(backend, store=store, rank=me.rank, world_size=me.world, timeout=PATIENCE)


def _store(me: Rank) -> Store:
    where = urlsplit(me.meeting)
    if where.scheme == "file":
        return FileStore(where.path, me.world)
    if where.scheme == "tcp":
        return PrefixStore(where.path, store_at(where.netloc, PATIENCE))
    return PrefixStore(f"run {next(_meetings)}", _store_of_environment())


def keep_store(host: str) -> tuple[Store, int]:
    """A store on this machine, known as ``host``, while this process lives; and its port, which was a free one."""
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    return store, store.port


def store_at(address: str, timeout: timedelta) -> Store:
    """The store that another process keeps at ``host:port``. Raises ``RuntimeError`` where none answers in time."""
    where = urlsplit(f"//{address}")
    store: Store = TCPStore(where.hostname or "", where.port or 0, is_master=False, timeout=timeout)
    store.set_timeout(PATIENCE)
    return store


_meetings = itertools.count()


@functools.cache
def _store_of_environment() -> Store:
    """The store of ``MASTER_ADDR`` and ``MASTER_PORT``: torchrun's agent keeps it, or else the first rank does."""
    store: Store = next(rendezvous("env://", timeout=PATIENCE))[0]
    return store


def shutdown() -> None:
    """Leave the process group, if one was joined; all ranks should at about the same time."""
    if dist.is_initialized():
        subgroup.cache_clear()
        dist.destroy_process_group()


def go_on_alone() -> bool:
    """All ranks part; whether this is the first, which goes on as a process that was never one of several."""
    first = rank() == 0
    shutdown()
    return first


def lost_another(error: BaseException) -> bool:
    """Whether ``error`` says that a collective failed: as a rule because another rank is no more."""
    if world() == 1:
        return False
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


# --- one process among others ---------------------------------------------------------------------------------


def rank() -> int:
    """This process's place in the global batch; 0 when not distributed."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes; 1 when not distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_first_rank(function: Callable[P, None]) -> Callable[P, None]:
    """``function``, which writes something down, does so on rank 0 only: elsewhere it does nothing."""

    @functools.wraps(function)
    def only_there(*args: P.args, **kwargs: P.kwargs) -> None:
        if rank() == 0:
            function(*args, **kwargs)

    return only_there


def from_first(compute: Callable[[], T]) -> T:
    """What ``compute`` returns on rank 0, on every rank; it is called there only. Tensors in it must be on the CPU."""
    if world() == 1:
        return compute()
    box = [compute() if rank() == 0 else None]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return cast(T, box[0])


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` is true on any rank. Does not wait for the GPU: the host asks the other hosts."""
    if world() == 1:
        return flag
    raised = torch.tensor(int(flag))
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace every floating-point tensor by its mean over ranks, in place; all ranks then hold the same bits.

    One exchange for many tensors. It follows the backward pass and does not overlap with it, as that of DDP does:
    DDP ties the exchange to one forward and one backward pass, and a batch beyond memory has many of them.
    """
    if world() == 1:
        return
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        kinds[tensor.dtype, tensor.device].append(tensor)
    for alike in kinds.values():
        for bucket in _buckets(alike):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            flat /= world()
            for tensor, mean in zip(bucket, torch.split(flat, [one.numel() for one in bucket]), strict=True):
                tensor.copy_(mean.view(tensor.shape))


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


# --- collectives with gradient --------------------------------------------------------------------------------


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
    return cast(Tensor, _sum(x, ranks)) / ranks


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


@torch.library.custom_op("harness::sum_over_ranks", mutates_args=(), schema="(Tensor x, int ranks) -> Tensor")
def _sum(x: Tensor, ranks: int) -> Tensor:
    """All-reduce (sum) among ``ranks`` consecutive ranks; its backward is the same sum of gradients.

    An operator of torch's, not an ``autograd.Function``: to ``torch.compile`` it is one opaque step within a layer,
    where a process group would break the network apart at every batch norm.
    """
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=subgroup(ranks))
    return total


@_sum.register_fake
def _sum_like(x: Tensor, ranks: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_ranks(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    ctx.ranks = inputs[1]


def _sum_of_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return cast(Tensor, _sum(grad, ctx.ranks)), None


_sum.register_autograd(_sum_of_gradients, setup_context=_keep_ranks)
