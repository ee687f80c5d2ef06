"""``python -m benchmarks.gpu``: what issue 6 asks of one GPU, in one command of less than ten minutes.

The ceiling (a large bfloat16 product), the step and the epoch of ResNet-18 at 32x32 as a share of it, eager and
compiled, small runs side by side, and on the way whether the numbers are right: the losses of the first steps
against the CPU's, and that no step waits for the device. Writes ``gpu.json`` and ``gpu.md``.
``--device cpu`` is a rehearsal with tiny sizes; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier as BarrierType
from pathlib import Path

import torch

from benchmarks import record
from benchmarks.__main__ import RESULTS
from benchmarks.pretraining import Ours, parts_of
from benchmarks.record import Row, Section, Target
from benchmarks.views import pictures

GFLOP_PER_IMAGE = 6.7
"""ResNet-18 at 32x32, two views, forward and backward (issue 6)."""

EPOCH_IMAGES, LONG_EPOCHS = 50_000, 1_000
FIGURE_5_RUNS, MICRO_IMAGES, MICRO_EPOCHS = 49, 10_000, 20
TOLERANCE_FLOAT32, TOLERANCE_BFLOAT16 = 1e-3, 2e-2
"""Relative difference allowed to the CPU's losses over the first steps."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    matmul: int = 8192
    batches: tuple[int, ...] = (512, 1024)
    steps: int = 30
    checked_steps: int = 8
    side_by_side: tuple[int, ...] = (1, 2, 4, 8)
    encoder: str = "cifar10"


TINY = Size(matmul=256, batches=(16,), steps=2, checked_steps=2, side_by_side=(1, 2), encoder="micro")
VARIANTS: dict[str, tuple[bool, str | None]] = {
    "float32": (False, None),
    "bfloat16": (True, None),
    "bfloat16, compiled": (True, "default"),
    "bfloat16, compiled, CUDA graphs": (True, "reduce-overhead"),
}
"""Name -> (bfloat16, mode of ``torch.compile`` for the encoder)."""


def finished(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str, repetitions: int = 3) -> float:
    """The fastest of some calls, each until the device is done, after a warm-up (which may compile)."""
    work()
    best = float("inf")
    for _ in range(repetitions):
        finished(device)
        began = time.perf_counter()
        work()
        finished(device)
        best = min(best, time.perf_counter() - began)
    return best


def ceiling(size: int, device: str) -> float:
    """TFLOP/s of a square bfloat16 product."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))

    def work() -> None:
        for _ in range(10):
            torch.mm(left, right)

    return 10 * 2 * size**3 / seconds(work, device) / 1e12


def correctness(size: Size, device: str) -> list[Target]:
    """Losses of the first steps, on the device in both precisions, against the CPU's in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    split, parts = pictures(32 * size.checked_steps), parts_of(size.encoder, 32)

    def losses(ours: Ours) -> torch.Tensor:
        ours.epoch()
        return torch.stack(ours.losses).float().cpu()

    torch.set_num_threads(max(1, multiprocessing.cpu_count()))
    expected = losses(Ours(split, parts))
    torch.set_num_threads(1)
    found = []
    for precision, bfloat16, most in (
        ("float32", False, TOLERANCE_FLOAT32),
        ("bfloat16", True, TOLERANCE_BFLOAT16),
    ):
        there = losses(Ours(split, parts, device=device, bfloat16=bfloat16))
        apart = float(((there - expected).abs() / expected.abs()).max())
        found.append(Target(f"losses in {precision}: relative distance to the CPU's", apart, at_most=most))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return found


def waits(ours: Ours, device: str) -> Target:
    """Host synchronisations inside the steps of an epoch; torch raises at the first."""
    stopped = 0.0
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            ours.epoch()
        except RuntimeError as error:
            print(f"a step waits for the device: {error}", file=sys.stderr)
            stopped = 1.0
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Target("steps that wait for the device (1: at least one)", stopped, at_most=0.0)


def training(size: Size, device: str, top: float) -> Section:
    """Step, augmentation and epoch of every variant at every batch size."""
    section = Section("g2", f"ResNet-18 at 32x32: an epoch of {EPOCH_IMAGES:,} images")
    epochs: list[float] = []
    for batch in size.batches:
        split, parts = pictures(batch * size.steps), parts_of(size.encoder, batch)
        for name, (bfloat16, compiled) in VARIANTS.items():
            case = f"batch {batch}, {name}"
            print(case, file=sys.stderr, flush=True)
            began = time.perf_counter()
            try:
                ours = Ours(split, parts, device=device, bfloat16=bfloat16, compiled=compiled)
                ours.bare()
                finished(device)
                first = time.perf_counter() - began
                scale = EPOCH_IMAGES / len(split)
                whole, bare = (seconds(work, device, 2) * scale for work in (ours.epoch, ours.bare))
                fed = seconds(lambda ours=ours: list(ours.stream()), device, 2) * scale  # type: ignore[misc]
            except Exception as error:  # a compiler that a machine lacks must not take the other numbers with it
                section.notes.append(f"{case}: {type(error).__name__}: {str(error).splitlines()[0]}")
                continue
            share = GFLOP_PER_IMAGE * EPOCH_IMAGES / whole / 1e3 / top
            memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
            section.rows.append(Row(case, f"epoch ({share:.0%} of the ceiling)", "s", wall=whole, memory_mib=memory))
            section.rows += [
                Row(case, what, "s", wall=value)
                for what, value in (("bare steps", bare), ("views alone", fed), ("first steps, with compiling", first))
            ]
            epochs.append(whole)
            if name == "bfloat16":
                section.targets.append(waits(ours, device))
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
    if epochs:
        best = min(epochs)
        section.targets.append(Target("ResNet-18: seconds per epoch", best, at_most=1.5))
        section.targets.append(Target("ResNet-18: minutes for 1000 epochs", best * LONG_EPOCHS / 60, at_most=25.0))
    return section


def _train(device: str, images: int, barrier: BarrierType) -> None:
    torch.set_num_threads(1)
    ours = Ours(pictures(images), parts_of("micro", 256), device=device, bfloat16=device == "cuda")
    ours.bare()
    finished(device)
    barrier.wait()
    ours.epoch()
    finished(device)
    barrier.wait()


def small_runs(size: Size, device: str) -> Section:
    """Micro runs side by side on one device, each a process: images per second of all together."""
    section = Section("g3", "Small runs on one GPU (micro, batch 256)")
    images = MICRO_IMAGES if device == "cuda" else 512
    context = multiprocessing.get_context("forkserver")
    multiprocessing.set_forkserver_preload(["harness.components", "torch._dynamo"])
    figure_5: list[float] = []
    for jobs in size.side_by_side:
        barrier = context.Barrier(jobs + 1)
        runs = [context.Process(target=_train, args=(device, images, barrier)) for _ in range(jobs)]
        for one in runs:
            one.start()
        barrier.wait(timeout=240)  # a run that died must not leave us waiting for ever
        began = time.perf_counter()
        barrier.wait(timeout=240)
        spent = time.perf_counter() - began
        for one in runs:
            one.join()
        section.rows.append(Row("side by side", f"{jobs} runs", "ms per image", wall=spent / (jobs * images) * 1e3))
        figure_5.append(FIGURE_5_RUNS * MICRO_EPOCHS * MICRO_IMAGES * spent / (jobs * images) / 60)
    section.targets.append(Target("Figure 5, 49 micro runs: minutes of training", min(figure_5), at_most=30.0))
    return section


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(argv)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("no GPU is visible here; `--device cpu` rehearses with tiny sizes", file=sys.stderr)
        return 2
    size = Size() if chosen.device == "cuda" else TINY
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if chosen.device == "cuda" else "no GPU, a rehearsal"
    method = "The fastest of two or three calls after a warm-up, each until the device is done."
    about = {"title": name, "method": method, "device": chosen.device, **record.circumstances()}
    top = ceiling(size.matmul, chosen.device)
    first = Section("g1", "Ceiling and correctness", targets=correctness(size, chosen.device))
    first.rows.append(Row("bfloat16 product", f"{size.matmul} x {size.matmul}: {top:,.1f} TFLOP/s"))
    sections = [first, training(size, chosen.device, top), small_runs(size, chosen.device)]
    print(record.write(chosen.out, "gpu" if chosen.device == "cuda" else "rehearsal", about, sections))
    return 0


if __name__ == "__main__":
    sys.exit(main())
