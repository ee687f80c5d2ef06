"""c. NT-Xent, forward and backward, over batch sizes: time and peak memory beside lightly's and a naive one.

Memory is the rise of the peak resident set of a process of its own, forked with the libraries loaded, over what it held
before the loss; torch's allocator is not seen by ``tracemalloc``.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from benchmarks.clock import Contender, Effort, in_turns
from benchmarks.pretraining import LIGHTLY, naive_nt_xent
from benchmarks.record import OURS, Section, Target, rows_of

NAIVE = "naive, whole matrix"
DIMENSIONS = 128
SIZES, QUICK_SIZES, TINY_SIZES = (512, 1024, 2048, 4096, 8192, 16384), (512, 2048, 8192), (64,)
"""Rows of the matrix, 2N: twice the batch."""

Loss = Callable[[Tensor, Tensor], Tensor]


def ours() -> Loss:
    from harness.objectives.contrastive import NTXent

    objective = NTXent(temperature=0.5)
    return lambda first, second: objective([first, second])


def lightlys() -> Loss:
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=0.5)  # type: ignore[no-any-return]


LOSSES: dict[str, Callable[[], Loss]] = {OURS: ours, NAIVE: lambda: naive_nt_xent}
if find_spec("lightly"):
    LOSSES[LIGHTLY] = lightlys


def projections(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(rows // 2, DIMENSIONS, generator=generator).requires_grad_() for _ in range(2))
    return first, second


def step(loss: Loss, pair: tuple[Tensor, Tensor]) -> None:
    torch.autograd.backward(loss(*pair))
    for one in pair:
        one.grad = None


def peak_mib(kibibytes: int) -> float:
    return kibibytes / (1024 if sys.platform != "darwin" else 1024**2)


def _memory(name: str, rows: int, answer: Connection) -> None:
    torch.set_num_threads(1)
    loss = LOSSES[name]()
    step(loss, projections(64))  # whatever is loaded at first use
    pair = projections(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(loss, pair)
    answer.send(peak_mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def memory_mib(name: str, rows: int) -> float:
    """Peak of one forward and backward pass above what there was before it."""
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_memory, args=(name, rows, there))
    process.start()
    there.close()
    found = float(here.recv())
    process.join()
    return found


def run(effort: Effort) -> Section:
    """The whole section."""
    section = Section("c", f"NT-Xent on [2N, {DIMENSIONS}], forward and backward")
    multiprocessing.set_forkserver_preload(["harness.components", *(["lightly.loss"] if LIGHTLY in LOSSES else [])])
    for rows in effort.of(SIZES, QUICK_SIZES, TINY_SIZES):
        pair = projections(rows)
        racers = [Contender(name, partial(step, make(), pair)) for name, make in LOSSES.items()]
        timings = in_turns(racers, budget_s=effort.seconds(8.0))
        memory = {name: memory_mib(name, rows) for name in LOSSES}
        section.rows += rows_of(f"2N = {rows}", timings, unit="ms", memory_mib=memory)
        if LIGHTLY in timings:
            ratio = timings[LIGHTLY].times(timings[OURS])[1]
            section.targets.append(Target(f"NT-Xent, 2N = {rows}: time of lightly over ours", ratio, at_least=1.0))
            lighter = memory[LIGHTLY] / max(memory[OURS], 0.1)
            section.targets.append(Target(f"NT-Xent, 2N = {rows}: memory of lightly over ours", lighter, at_least=1.0))
    return section
