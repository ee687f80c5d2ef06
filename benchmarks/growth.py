"""e. Growth: an epoch against the number of images, a step against the batch, and how to share out the cores.

``micro`` throughout. Runs side by side are processes of their own, as the sweep starts them; all begin together and
the time is that of the slowest, so that this measurement alone must be read as wall time.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier as BarrierType

import torch

from benchmarks.clock import Contender, Effort, Timing, in_turns
from benchmarks.pretraining import Ours, parts_of
from benchmarks.record import OURS, Row, Section, rows_of
from benchmarks.views import pictures
from harness.sweep.local.resources import cores

IMAGES, FEWER_IMAGES, TINY_IMAGES = (1_024, 4_096, 16_384), (1_024, 4_096), (16, 32)
BATCHES, FEWER_BATCHES, TINY_BATCHES = (64, 128, 256, 512, 1_024), (64, 256, 1_024), (8, 16)
USUAL, TINY = 256, 8
"""The batch where that is not what varies."""


def racer(name: str, images: int, batch: int) -> Contender:
    return Contender(name, Ours(pictures(images), parts_of("micro", batch)).epoch, images)


def with_threads(threads: int, batch: int) -> Callable[[], None]:
    ours = Ours(pictures(4 * batch), parts_of("micro", batch))

    def work() -> None:
        torch.set_num_threads(threads)
        ours.epoch()
        torch.set_num_threads(1)

    return work


def _train(threads: int, images: int, batch: int, barrier: BarrierType) -> None:
    try:
        torch.set_num_threads(threads)
        ours = Ours(pictures(images), parts_of("micro", batch))
        ours.bare()
        barrier.wait()
        ours.epoch()
        barrier.wait()
    except BaseException:
        barrier.abort()  # the others, who would wait for this one for ever
        raise


def side_by_side(jobs: int, threads: int, images: int, batch: int) -> float:
    """Seconds per image of ``jobs`` runs together, each with ``threads`` threads and ``images`` images.

    Raises ``BrokenBarrierError`` where one of them died.
    """
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(jobs + 1)
    runs = [context.Process(target=_train, args=(threads, images, batch, barrier)) for _ in range(jobs)]
    for one in runs:
        one.start()
    barrier.wait()
    began = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - began
    for one in runs:
        one.join()
    return seconds / (jobs * images)


def shared_out(images: int, batch: int, rounds: int) -> dict[str, Timing]:
    """Ways to share the cores out, in turns."""
    ways = [(cores(), 1), (1, 1), (1, cores()), (2 * cores(), 1)]
    timings = {f"{jobs} runs x {threads} threads": Timing() for jobs, threads in ways}
    for _ in range(rounds):
        for (jobs, threads), timing in zip(ways, timings.values(), strict=True):
            timing.wall.append(side_by_side(jobs, threads, images, batch))
    return timings


def run(effort: Effort) -> Section:
    """The whole section."""
    section = Section("e", "Growth, micro")
    budget_s, usual = effort.seconds(30.0), effort.of(USUAL, USUAL, TINY)
    sizes = effort.of(IMAGES, FEWER_IMAGES, TINY_IMAGES)
    batch_sizes = effort.of(BATCHES, FEWER_BATCHES, TINY_BATCHES)
    by_images = in_turns([racer(f"{count:,} images", count, usual) for count in sizes], budget_s=budget_s)
    section.rows += rows_of("epoch", by_images, unit="ms per image", against=f"{sizes[0]:,} images")
    by_batch = in_turns([racer(f"batch {size}", 2 * max(batch_sizes), size) for size in batch_sizes], budget_s=budget_s)
    section.rows += rows_of("batch", by_batch, unit="ms per image", against=f"batch {effort.of(USUAL, 64, TINY)}")
    threads = [Contender(f"{count} threads", with_threads(count, usual), 4 * usual) for count in range(1, cores() + 1)]
    section.rows += rows_of("threads", in_turns(threads, budget_s=budget_s), unit="ms per image", against="1 threads")
    multiprocessing.set_forkserver_preload(["harness.components", "torch._dynamo"])
    together = shared_out(effort.of(16, 4, 1) * usual, usual, effort.of(3, 2, 1))
    for name, timing in together.items():
        wall = timing.median_wall * 1e3
        section.rows.append(Row("side by side", name, "ms per image", wall=wall, rounds=len(timing.wall)))
    section.notes = [f"{OURS} throughout; ratios are against the first of each kind.", ""]
    return section
