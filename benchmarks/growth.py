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

from benchmarks.clock import Contender, Timing, in_turns
from benchmarks.pretraining import Ours, parts_of
from benchmarks.record import OURS, Row, Section, rows_of
from benchmarks.views import pictures
from harness.sweep.machine import cores

IMAGES = (1_024, 4_096, 16_384)
BATCHES = (64, 128, 256, 512, 1_024)
USUAL = 256


def racer(name: str, images: int, batch: int) -> Contender:
    return Contender(name, Ours(pictures(images), parts_of("micro", batch)).epoch, images)


def with_threads(threads: int) -> Callable[[], None]:
    ours = Ours(pictures(4 * USUAL), parts_of("micro", USUAL))

    def work() -> None:
        torch.set_num_threads(threads)
        ours.epoch()
        torch.set_num_threads(1)

    return work


def _train(threads: int, images: int, barrier: BarrierType) -> None:
    torch.set_num_threads(threads)
    ours = Ours(pictures(images), parts_of("micro", USUAL))
    ours.bare()
    barrier.wait()
    ours.epoch()
    barrier.wait()


def side_by_side(jobs: int, threads: int, images: int) -> float:
    """Seconds per image of ``jobs`` runs together, each with ``threads`` threads and ``images`` images."""
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(jobs + 1)
    runs = [context.Process(target=_train, args=(threads, images, barrier)) for _ in range(jobs)]
    for one in runs:
        one.start()
    barrier.wait()
    began = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - began
    for one in runs:
        one.join()
    return seconds / (jobs * images)


def shared_out(images: int, rounds: int) -> dict[str, Timing]:
    """Ways to share the cores out, in turns."""
    ways = [(cores(), 1), (1, 1), (1, cores()), (2 * cores(), 1)]
    timings = {f"{jobs} runs x {threads} threads": Timing() for jobs, threads in ways}
    for _ in range(rounds):
        for (jobs, threads), timing in zip(ways, timings.values(), strict=True):
            timing.wall.append(side_by_side(jobs, threads, images))
    return timings


def run(*, quick: bool) -> Section:
    """The whole section."""
    section = Section("e", "Growth, micro")
    budget_s = 5.0 if quick else 30.0
    sizes, batch_sizes = (IMAGES[:2], BATCHES[::2]) if quick else (IMAGES, BATCHES)
    by_images = in_turns([racer(f"{count:,} images", count, USUAL) for count in sizes], budget_s=budget_s)
    section.rows += rows_of("epoch", by_images, unit="ms per image", against=f"{sizes[0]:,} images")
    by_batch = in_turns([racer(f"batch {size}", 2 * max(batch_sizes), size) for size in batch_sizes], budget_s=budget_s)
    section.rows += rows_of("batch", by_batch, unit="ms per image", against=f"batch {USUAL if not quick else 64}")
    threads = [Contender(f"{count} threads", with_threads(count), 4 * USUAL) for count in range(1, cores() + 1)]
    section.rows += rows_of("threads", in_turns(threads, budget_s=budget_s), unit="ms per image", against="1 threads")
    multiprocessing.set_forkserver_preload(["harness.components", "torch._dynamo"])
    together = shared_out(1024 if quick else 4096, 2 if quick else 3)
    for name, timing in together.items():
        wall = timing.median_wall * 1e3
        section.rows.append(Row("side by side", name, "ms per image", wall=wall, rounds=len(timing.wall)))
    section.notes = [f"{OURS} throughout; ratios are against the first of each kind.", ""]
    return section
