"""Stand-ins for the training loop: what a run does stands in its own ``run.json``, under ``behave``."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.errors import SpecError
from harness.runtime import Runtime
from harness.store.results import RunFolder, read_json, write_json
from harness.train.stop import Interrupted, check_ours

if TYPE_CHECKING:
    from harness.components import Evaluation


def behave(folder: RunFolder, asked: Sequence[Evaluation], runtime: Runtime) -> None:
    spec = read_json(folder.spec)["spec"]
    what = spec["behave"]
    print(f"{folder.id} does: {what}", flush=True)
    with (folder.path / "executed").open("a") as file:
        file.write("x")
    if what == "raise":
        raise ValueError(f"bad value {spec['seed']} in {folder.path}")
    if what == "raise differently":
        raise KeyError("abcdefghij"[spec["seed"] :])
    if what == "oom":
        raise MemoryError
    if what == "oom once told":
        wait_for(folder.path / "told")
        raise MemoryError
    if what == "oom at first" and (folder.path / "executed").stat().st_size == 1:
        raise MemoryError
    if what == "full disk" or (what == "full disk at first" and (folder.path / "executed").stat().st_size == 1):
        os.fsync = no_space  # from now on nothing is written, the ledger neither
        no_space()
    if what == "bad data":
        raise SpecError("data_batch_1.bin is damaged; to fetch it: python -m harness.data cifar10")
    if what == "cuda oom":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "killed" or (what == "killed at first" and (folder.path / "executed").stat().st_size == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stop early":  # a signal before the loop listens
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    if what == "told twice":
        try:
            raise Interrupted("stopped by a signal after step 7 of 9")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
    if what == "exit 255":
        wait_for(folder.path / "told")
        os._exit(255)
    if what == "lie":
        return
    if what == "lose the claim":
        write_json(folder.lock.path, {"pid": 1, "host": "elsewhere"})
        check_ours(folder)
    if what == "leave a child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder.path / "child").write_text(str(child.pid))
        raise ValueError("left a child behind")
    if what == "wait" or (what == "wait at first" and (folder.path / "executed").stat().st_size == 1):
        wait_for_signal(folder)
    status = "diverged" if what == "diverge" else "trained"
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    write_json(folder.outcome, {"run": folder.id, "status": status, "gpu": gpu, "threads": runtime.threads})
    for one in asked:
        write_json(folder.evaluation(one.id), {"run": folder.id, "values": {"top1": 1.0}})


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 600
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def wait_for_signal(folder: RunFolder) -> None:
    """As the loop does it: a flag, then a clean end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda *_: stop.set())
    (folder.path / "waiting").touch()
    deadline = time.monotonic() + 600
    while not stop.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    raise Interrupted("stopped by a signal after step 7 of 9")
