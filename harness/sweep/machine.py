"""What this machine can run at once: cores, GPUs, and how many runs make sense side by side."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Crew:
    """``jobs`` runs at a time with ``threads`` threads each; ``gpus`` to lease (empty: the CPU)."""

    jobs: int
    threads: int
    gpus: tuple[str, ...]


def cores() -> int:
    """Cores this process may use (not those of the machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def gpus() -> tuple[tuple[str, str], ...]:
    """``(what CUDA_VISIBLE_DEVICES calls it, its name)`` of every GPU we may use. Asks the driver, not torch."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = [[part.strip() for part in line.split(",", 2)] for line in listing.splitlines() if line.count(",") >= 2]
    if allowed is None:
        return tuple((index, name) for index, _, name in found)
    names = {key: name for index, uuid, name in found for key in (index, uuid)}
    return tuple((one, names.get(one, "GPU")) for one in (part.strip() for part in allowed.split(",")) if one)


def crew(runs: int, jobs: int | None) -> Crew:
    """One run per GPU; without a GPU one run per core, and more threads each where runs are fewer than cores."""
    devices = tuple(name for name, _ in gpus())
    at_once = jobs or (len(devices) if devices else cores())
    at_once = max(1, min(at_once, runs)) if runs else max(1, at_once)
    return Crew(at_once, max(1, cores() // at_once), devices)


def oom_kills() -> int:
    """How often the kernel has killed in this control group for memory; 0 where it does not say."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        group = next((line.split("::", 1)[1].strip() for line in lines if "::" in line), "/")
        events = Path(f"/sys/fs/cgroup{group.rstrip('/')}/memory.events").read_text(encoding="utf-8").splitlines()
        return sum(int(line.split()[1]) for line in events if line.startswith("oom_kill "))
    return 0
