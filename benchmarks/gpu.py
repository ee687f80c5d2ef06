"""``python -m benchmarks.gpu``: what issue 6 asks of one GPU, in one command of less than ten minutes.

The ceiling (a large bfloat16 product); the step and the epoch of ResNet-18 at 32x32 as a share of it, eager and
compiled as ``--compile`` does it; small runs side by side; and on the way whether the numbers are right: the losses of
the first steps against the CPU's and against eager float32, and that neither a step nor an augmentation waits for the
device. Writes ``gpu.json`` and ``gpu.md`` after every section; what no time is left for is said, not measured.
``--device cpu`` is a rehearsal with tiny sizes; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Barrier as BarrierType
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import torch
from torch import Tensor

from benchmarks import record
from benchmarks.__main__ import RESULTS
from benchmarks.pretraining import Ours, parts_of
from benchmarks.record import Row, Section, Target
from benchmarks.views import OPERATORS, pictures
from harness.components import Parts
from harness.data.rng import ImageRng
from harness.data.views import Views
from harness.runtime import Compile, Runtime
from harness.train.device import prepared_device
from harness.train.torch_compile import compiled

GFLOP_PER_IMAGE = 6.7
"""ResNet-18 at 32x32, two views, forward and backward (issue 6)."""

EPOCH_IMAGES, LONG_EPOCHS = 50_000, 1_000
FIGURE_5_RUNS, MICRO_IMAGES, MICRO_EPOCHS = 49, 10_000, 20
TOLERANCE_FLOAT32, TOLERANCE_BFLOAT16 = 1e-3, 2e-2
"""Relative difference allowed to other losses over the first steps."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    matmul: int = 8192
    batches: tuple[int, ...] = (512, 1024)
    steps: int = 30
    checked_steps: int = 8
    checked_batch: int = 32
    network: str = "ResNet-18"
    scale: str = "cifar10"
    small_scale: str = "micro"
    small_batch: int = 256
    small_images: int = MICRO_IMAGES
    small_epochs: int = 5
    side_by_side: tuple[int, ...] = (1, 2, 4, 8)
    changes: Mapping[str, Any] = field(default_factory=dict)

    def parts(self, batch: int) -> Parts:
        return parts_of(self.scale, batch, **self.changes)


TINY = Size(
    matmul=256,
    batches=(16,),
    steps=2,
    checked_steps=2,
    network="smallest network",
    scale="smoke",
    small_scale="smoke",
    small_batch=16,
    small_images=64,
    small_epochs=1,
    side_by_side=(1, 2),
    changes={"encoder": {"micro": {"stem": 8, "widths": [8], "depth": 0}}, "head": "linear"},
)
VARIANTS: dict[str, tuple[bool, Compile]] = {
    "float32": (False, "off"),
    "bfloat16": (True, "off"),
    "bfloat16, compiled": (True, "default"),
    "bfloat16, compiled, CUDA graphs": (True, "reduce-overhead"),
}
"""Name -> (bfloat16, how to compile). The first is what the losses of the others are held to."""


class Clock:
    """The time this benchmark may take."""

    def __init__(self, limit_s: float) -> None:
        self.end = time.monotonic() + limit_s

    def left(self) -> float:
        return self.end - time.monotonic()


def finished(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: str, repetitions: int = 2) -> tuple[float, float]:
    """(seconds until the device is done, of which the host was busy): the fastest of some calls, after a warm-up."""
    work()
    found = []
    for _ in range(repetitions):
        finished(device)
        began = time.perf_counter()
        work()
        host = time.perf_counter() - began
        finished(device)
        found.append((time.perf_counter() - began, host))
    return min(found)


def ceiling(size: int, device: str) -> float:
    """TFLOP/s of a square bfloat16 product."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))

    def work() -> None:
        for _ in range(10):
            torch.mm(left, right)

    return 10 * 2 * size**3 / timed(work, device, 3)[0] / 1e12


# --- is it right ----------------------------------------------------------------------------------------------------


def first_losses(ours: Ours, steps: int) -> Tensor:
    """Of an epoch that this trains: float32 on the CPU, [steps]."""
    ours.epoch()
    return torch.stack(ours.losses[:steps]).float().cpu()


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest relative distance."""
    return float(((found - expected).abs() / expected.abs()).max())


def correctness(size: Size, device: str) -> list[Target]:
    """Losses of the first steps, on the device in both precisions, against the CPU's in float32."""
    split, parts = pictures(size.checked_batch * size.checked_steps), size.parts(size.checked_batch)
    torch.set_num_threads(max(1, multiprocessing.cpu_count()))
    expected = first_losses(Ours(split, parts), size.checked_steps)
    torch.set_num_threads(1)
    found = []
    for precision, bfloat16, most in (("float32", False, TOLERANCE_FLOAT32), ("bfloat16", True, TOLERANCE_BFLOAT16)):
        there = first_losses(Ours(split, parts, device=device, bfloat16=bfloat16), size.checked_steps)
        says = f"losses in {precision}: relative distance to the CPU's"
        found.append(Target(says, apart(there, expected), at_most=most))
    return found


def waits(work: Callable[[], object]) -> str:
    """Where the host first waits for the GPU within ``work``, in torch's words; empty where it does not.

    Torch sees its own waits only. A copy from pageable memory of more than 64 KB may wait within the driver: that shows
    where the host is busy for as long as the device.
    """
    work()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def augmentations(device: str, batch: int = 64) -> Section:
    """Every operator of Figure 5, on the device: which of them wait (on a CPU, only that they run)."""
    section = Section("g2", "Augmentations on the device")
    images = pictures(batch).images.to(device)
    for name, operators in OPERATORS.items():
        views, rng = Views(both=operators), ImageRng(seed=0, epoch=0, images=torch.arange(batch))
        if device != "cuda":
            views(images, rng)
            continue
        said = waits(lambda views=views, rng=rng: views(images, rng))  # type: ignore[misc]
        section.targets.append(Target(f"{name}: waits for the device", float(bool(said)), at_most=0.0))
        section.notes += [f"{name}: {said}"] if said else []
    return section


# --- how fast -------------------------------------------------------------------------------------------------------


def variant(case: str, ours: Ours, began: float, top: float, size: Size, section: Section) -> tuple[float, Tensor]:
    """Measure one variant at one batch size; (seconds of an epoch of CIFAR-10, the first losses)."""
    device = ours.device
    losses = first_losses(ours, size.checked_steps)
    first = time.perf_counter() - began
    scale = EPOCH_IMAGES / len(ours.split)
    whole, host = (one * scale for one in timed(ours.epoch, device))
    bare, fed = (timed(work, device)[0] * scale for work in (ours.bare, lambda: list(ours.stream())))
    share = f" ({GFLOP_PER_IMAGE * EPOCH_IMAGES / whole / 1e3 / top:.0%} of the ceiling)" if device == "cuda" else ""
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    section.rows.append(Row(case, f"epoch{share}", "s", wall=whole, memory_mib=memory))
    section.rows += [
        Row(case, what, "s", wall=value)
        for what, value in (
            ("epoch: the host is busy", host),
            ("bare steps", bare),
            ("views alone", fed),
            ("first epoch measured, with compiling", first),
        )
    ]
    if device == "cuda":
        if said := waits(ours.epoch):
            section.notes.append(f"{case} waits for the device: {said}")
        section.targets.append(Target(f"{case}: steps wait for the device", float(bool(said)), at_most=0.0))
    return whole, losses


def training(size: Size, device: str, top: float, clock: Clock) -> Section:
    """Step, augmentation and epoch of every variant at every batch size."""
    section = Section("g3", f"{size.network} at 32x32: an epoch of {EPOCH_IMAGES:,} images")
    epochs: list[float] = []
    for batch in size.batches:
        split, parts = pictures(batch * size.steps), size.parts(batch)
        expected: Tensor | None = None
        for name, (bfloat16, mode) in VARIANTS.items():
            case = f"batch {batch}, {name}"
            if clock.left() < 0:
                section.notes.append(f"{case}: not measured, no time was left")
                continue
            print(case, file=sys.stderr, flush=True)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            try:
                ours = Ours(split, parts, device=device, bfloat16=bfloat16)
                with compiled(ours.method, Runtime(device=device, compile=mode), torch.device(device)):
                    whole, losses = variant(case, ours, began, top, size, section)
            except Exception as error:  # a compiler that a machine lacks must not take the other numbers with it
                section.notes.append(f"{case}: {type(error).__name__}: {str(error).splitlines()[0]}")
                continue
            epochs.append(whole)
            if expected is None:
                expected = losses
            else:
                says = f"{case}: relative distance of its losses to those in float32"
                section.targets.append(Target(says, apart(losses, expected), at_most=TOLERANCE_BFLOAT16))
    if epochs:
        best = min(epochs)
        long = best * LONG_EPOCHS / 60
        section.targets.append(Target(f"{size.network}: seconds per epoch", best, at_most=1.5))
        section.targets.append(Target(f"{size.network}: minutes for 1000 epochs", long, at_most=25.0))
    return section


def _train(device: str, size: Size, barrier: BarrierType) -> None:
    try:
        prepared_device(Runtime(device=device, threads=1))
        parts = parts_of(size.small_scale, size.small_batch)
        ours = Ours(pictures(size.small_images), parts, device=device, bfloat16=device == "cuda")
        ours.bare()
        finished(device)
        barrier.wait()
        for _ in range(size.small_epochs):
            ours.epoch()
        finished(device)
        barrier.wait()
    except BaseException:
        barrier.abort()  # the others, who wait for this one
        raise


def together(device: str, size: Size, jobs: int, patience_s: float) -> float:
    """Seconds that ``jobs`` runs take side by side, each a process. Raises ``BrokenBarrierError`` where one died."""
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(jobs + 1)
    runs = [context.Process(target=_train, args=(device, size, barrier), daemon=True) for _ in range(jobs)]
    try:
        for one in runs:
            one.start()
        barrier.wait(patience_s)
        began = time.perf_counter()
        barrier.wait(patience_s)
        return time.perf_counter() - began
    finally:
        for one in runs:
            one.join(10)
            one.kill()


def small_runs(size: Size, device: str, clock: Clock) -> Section:
    """Micro runs side by side on one device: images per second of all together."""
    section = Section("g4", f"Small runs on one GPU ({size.small_scale}, batch {size.small_batch})")
    multiprocessing.set_forkserver_preload(["harness.components"])
    figure_5: list[float] = []
    for jobs in size.side_by_side:
        case = f"{jobs} runs"
        print(f"side by side: {case}", file=sys.stderr, flush=True)
        try:
            spent = together(device, size, jobs, max(1.0, min(120.0, clock.left() + 60.0)))
        except BrokenBarrierError:
            section.notes.append(f"{case} side by side: one died, or took too long; see above")
            continue
        each = spent / (jobs * size.small_epochs * size.small_images)
        section.rows.append(Row("side by side", case, "ms per image", wall=each * 1e3))
        figure_5.append(FIGURE_5_RUNS * MICRO_EPOCHS * MICRO_IMAGES * each / 60)
    if figure_5:
        says = f"Figure 5, 49 {size.small_scale} runs: minutes of training"
        section.targets.append(Target(says, min(figure_5), at_most=30.0))
    return section


# --- all of it ------------------------------------------------------------------------------------------------------


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for gpu.json and gpu.md")
    parser.add_argument(
        "--limit", type=float, default=420.0, metavar="SECONDS", help="after which no further variant is begun"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    chosen = arguments(argv)
    device, clock = chosen.device, Clock(chosen.limit)
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU is visible here; `--device cpu` rehearses with tiny sizes", file=sys.stderr)
        return 2
    size = Size() if device == "cuda" else TINY
    prepared_device(Runtime(device=device, threads=1))
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU, a rehearsal"
    method = "The fastest of two or three calls after a warm-up, each until the device is done."
    about = {"title": name, "method": method, "device": device, **record.circumstances()}
    top = ceiling(size.matmul, device)
    sections = [Section("g1", "Ceiling and correctness", targets=correctness(size, device))]
    sections[0].rows.append(Row("bfloat16 product", f"{size.matmul} x {size.matmul}: {top:,.1f} TFLOP/s"))
    text = ""
    rest: list[Callable[[], Section]] = [
        partial(augmentations, device),
        partial(small_runs, size, device, clock),
        partial(training, size, device, top, clock),
    ]
    for measure in rest:
        sections = sorted([*sections, measure()], key=lambda one: one.letter)
        text = record.write(chosen.out, "gpu" if device == "cuda" else "rehearsal", about, sections)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
