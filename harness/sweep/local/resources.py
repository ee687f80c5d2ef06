"""Measure this machine: cores, GPUs, memory kills, and how many runs to start at once."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.config.errors import SpecError


@dataclass(frozen=True)
class Allocation:
    """``jobs`` runs at a time, each of ``processes`` with ``threads`` threads; ``gpus`` to lease (empty: the CPU)."""

    jobs: int
    threads: int
    gpus: tuple[str, ...]
    processes: int = 1


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
    # By UUID: an index means another GPU in another job on the same node, and CUDA counts in another order by default.
    if allowed is None:
        return tuple((uuid, name) for _, uuid, name in found)
    known = {key: (uuid, name) for index, uuid, name in found for key in (index, uuid)}
    return tuple(known.get(one, (one, "GPU")) for one in (part.strip() for part in allowed.split(",")) if one)


def allocate(runs: int, jobs: int | None, processes: int = 1) -> Allocation:
    """One process per GPU; without a GPU one per core, and more threads each where there are fewer than cores.

    ``OMP_NUM_THREADS`` says otherwise how many threads each has, where it is set.
    Raises :class:`SpecError` where there are GPUs, but too few for the processes of one run.
    """
    devices = tuple(name for name, _ in gpus())
    if devices and processes > len(devices):
        raise SpecError(f"--processes-per-run {processes}: each process needs a GPU, {len(devices)} here")
    at_once = jobs or (len(devices) if devices else cores()) // processes
    at_once = max(1, min(at_once, runs)) if runs else max(1, at_once)
    return Allocation(at_once, threads_asked_for() or max(1, cores() // (at_once * processes)), devices, processes)


def threads_asked_for() -> int:
    """What ``OMP_NUM_THREADS`` says, the first number of a list (one for each level of nesting); 0: no number."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(said) if said.isdecimal() else 0


def oom_kills() -> int:
    """How often the kernel has killed in this control group for memory; 0 where it does not say."""
    return sum(_oom_kills(path) for path in _memory_counters())


def killed_for_memory(before: int) -> bool:
    """Whether the kernel has killed for memory since :func:`oom_kills` was ``before``; each of its kills answers once.

    So a run that somebody else killed is not put down to the memory of its neighbour.
    """
    known = max(before, _ANSWERED[0])
    if oom_kills() <= known:
        return False
    _ANSWERED[0] = known + 1
    return True


_ANSWERED = [0]


def _memory_counters() -> list[Path]:
    """Of this process's control group, in version 2 and in version 1 of them; in a container its path is the root."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers.split(",").count("memory"):
                top, names = Path("/sys/fs/cgroup/memory"), ["memory.oom_control"]
            elif not controllers:  # the second counts what was killed in groups below as well, in containers of our own
                top, names = Path("/sys/fs/cgroup"), ["memory.events.local", "memory.events"]
            else:
                continue
            for path in (folder / name for folder in (top / group.strip("/"), top) for name in names):
                if path.exists():
                    return [path]
    return []


def _oom_kills(path: Path) -> int:
    with suppress(OSError, ValueError):
        lines = path.read_text(encoding="utf-8").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return 0


def disk_fault(folder: Path) -> str:
    """Why nothing can be written into ``folder``, by trying."""
    probe = folder / f".probe.{os.getpid()}.tmp"
    try:
        with probe.open("wb") as file:
            file.write(b"0" * 65536)
            file.flush()
            os.fsync(file.fileno())
        return f"{folder}: a write failed (see the end of its log); now it works again"
    except OSError as error:
        return f"{folder}: {error.strerror}"
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
