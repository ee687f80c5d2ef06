"""Starting a run, and its memory: forked from the server with torch in it (the sweep's way), or a fresh interpreter."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.clock import Contender
from harness.sweep.local.fork_server import PRELOAD, start_server

FORKED, FRESH = "forked from the server", "fresh interpreter"
ONE_STEP = {
    "data": {"synthetic": {"train_images": 16, "test_images": 16}},
    "schedule": {"batch_size": 16, "epochs": 1, "warmup_epochs": 0},
}
MICRO_SCHEDULE = {"batch_size": 256, "epochs": 1, "warmup_epochs": 0}
ROOT = Path(__file__).resolve().parent.parent


def train(changes: dict[str, object], answer: Connection | None = None) -> None:
    """A whole run in this process: folder, data, training, weights on disk; answers with its memory."""
    from harness import components
    from harness.config.experiment import load_scale
    from harness.config.grid import assign, normalised
    from harness.runtime import Runtime
    from harness.store.results import Store
    from harness.train.loop import execute

    tree = normalised(load_scale(ROOT / "experiments", "micro").tree)
    for path, value in changes.items():
        assign(tree, path, value)
    run = components.resolve(tree, 0)
    with tempfile.TemporaryDirectory() as results:
        folder = Store(Path(results)).run(run.id)
        folder.create(run.spec())
        with contextlib.redirect_stdout(io.StringIO()):  # a line an epoch
            execute(folder, [], Runtime(device="cpu", threads=1))
    if answer is not None:
        answer.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, private_mib()))


def private_mib() -> float:
    """What no other process shares, now: the price of one more run. 0 where the system does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def forked(changes: dict[str, object]) -> tuple[float, float]:
    """(peak resident, private at the end) in MiB of a run that the fork server starts."""
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=train, args=(changes, there))
    process.start()
    there.close()
    peak, private = here.recv()
    process.join()
    return float(peak), float(private)


def fresh(changes: dict[str, object]) -> None:
    code = f"from benchmarks.process import train; train({changes!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def starts() -> Sequence[Contender]:
    """A run of a single step, from asking for it until its process has ended."""
    multiprocessing.set_forkserver_preload(PRELOAD)
    start_server()
    return [Contender(FORKED, lambda: forked(ONE_STEP)), Contender(FRESH, lambda: fresh(ONE_STEP))]


def memories(images: int) -> dict[str, float]:
    """MiB of a micro run with ``images`` images (256 at least) in batches of 256."""
    data = {"synthetic": {"train_images": images, "test_images": 16}}
    peak, private = forked({"data": data, "schedule": MICRO_SCHEDULE})
    return {"peak resident": peak, "of which private at the end": private}
