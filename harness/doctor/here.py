"""Check this machine: Python and torch, GPUs, cores, data, and the results folder."""

from __future__ import annotations

import fcntl
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from harness.doctor.finding import Finding, fail, note, ok, warn
from harness.sweep.local.resources import cores, gpus

PYTHON, TORCH, TORCHVISION = (3, 11), (2, 8), (0, 23)
GB = 1e9
ROOM_FAIL, ROOM_WARN = 1 * GB, 20 * GB
"""A run leaves its weights and two checkpoints: 2 MB at micro scale, about 0.8 GB for a ResNet-50."""
SHARED = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "wekafs", "panfs", "glusterfs", "afs", "9p", "smb", "cifs")
MEMORY = ("tmpfs", "ramfs")


def check_here(data: Path, results: Path, *, wanted: bool = True) -> Iterator[Finding]:
    """Everything that matters without SLURM too. ``wanted``: nobody said which data are needed."""
    yield python()
    yield from torch_and_gpus()
    yield processors()
    if wanted:
        yield cifar10(data)
    yield from folder(results)


def python() -> Finding:
    """Of the interpreter that jobs will run as well."""
    seen = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < PYTHON:
        return fail("Python", seen, "use Python 3.11 or newer")
    return ok("Python", seen)


def torch_and_gpus() -> Iterator[Finding]:
    """torch is imported here and nowhere else in the doctor: whether it can be is the question."""
    try:
        import torch
        import torchvision
    except Exception as error:  # a broken wheel raises whatever it likes
        yield fail("torch", f"cannot be imported: {error}", "make install, or: pip install --editable '.[dev]'")
        return
    seen = f"{torch.__version__}, torchvision {torchvision.__version__}"
    old = _version(torch.__version__) < TORCH or _version(torchvision.__version__) < TORCHVISION
    yield fail("torch", seen, "torch 2.8 and torchvision 0.23 or newer are needed") if old else ok("torch", seen)
    driver = gpus()
    if find_spec("numba") is None:
        yield warn(
            "numba", "not installed: augmentations on a CPU take three to four times as long", "pip install numba"
        )
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = ", ".join(f"{one.name} ({one.total_memory / 2**30:.0f} GiB)" for one in devices)
        yield ok("GPU", f"{names}; CUDA {torch.version.cuda}")
    elif driver:
        remedy = "install the torch build of your CUDA version; until then runs use the CPU"
        yield warn("GPU", f"the driver sees {len(driver)}, but torch {torch.__version__} cannot use them", remedy)
    else:
        yield note("GPU", "none here: runs use the CPU, for which smoke and micro are the scales")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:2] if part.isdigit())


def processors() -> Finding:
    """Cores that this process may use, against those of the machine."""
    mine, all_of_them = cores(), os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    seen = f"{mine} of {all_of_them} may be used" + (f", OMP_NUM_THREADS={threads}" if threads else "")
    if mine < all_of_them:
        return note("cores", seen, "that is what taskset, a container or the job around this shell allows")
    return ok("cores", seen)


def cifar10(data: Path) -> Finding:
    """Present, and every byte the official one."""
    from harness.data import fetch

    place = data / fetch.FOLDER
    command = f"python -m harness.data cifar10 --root {shlex.quote(str(data))}"
    try:
        bad = fetch.broken(data)
    except OSError as error:
        return fail("data", f"{place}: {error.strerror or error}", f"make it readable, or: {command}")
    if len(bad) == len(fetch.MD5):
        advice = f"if your experiments need it: {command} (or name them: python -m harness.doctor EXPERIMENT.yaml)"
        return note("data", f"no CIFAR-10 in {data}", advice)
    if bad:
        return fail("data", f"{place}: missing or damaged: {', '.join(bad)}", command)
    return ok("data", f"CIFAR-10 in {data}, MD5 of {len(fetch.MD5)} files verified")


def folder(results: Path) -> Iterator[Finding]:
    """Can it be written, do the locks that sweeps rely on work there, and is there room? Nothing is left behind."""
    if results.exists() and not results.is_dir():
        yield fail("results", f"{results} is a file", "name a folder: --results DIR")
        return
    standing = next(path for path in (results.absolute(), *results.absolute().parents) if path.is_dir())
    kind = filesystem(standing)
    try:
        _try_out(standing)
    except OSError as error:
        yield fail("results", f"{standing} ({kind}): {error.strerror or error}", "name another folder: --results DIR")
        return
    free = shutil.disk_usage(standing).free
    seen = f"{results.absolute()} on {kind}, writable, {free / GB:,.0f} GB free"
    if free < ROOM_FAIL:
        yield fail("results", f"{seen}: too little for checkpoints", "make room, or --results DIR elsewhere")
    elif free < ROOM_WARN:
        yield warn("results", seen, "at cifar10 and imagenet scale a run leaves 0.1 to 1 GB: watch it")
    elif kind in MEMORY:
        yield warn("results", seen, "this is memory: it is gone after a restart; --results DIR on a disk")
    else:
        yield ok("results", seen)
    inodes = os.statvfs(standing)
    if inodes.f_files and inodes.f_favail < 10_000:
        yield warn("results", f"only {inodes.f_favail:,} more files fit there", "a run has about 15 files: make room")


def _try_out(where: Path) -> None:
    """Write, rename over, hard-link (locks of runs) and lock (submission). Raises ``OSError``."""
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=where) as scratch:
        first, second = Path(scratch, "first"), Path(scratch, "second")
        first.write_text("a")
        second.write_text("b")
        second.replace(first)
        os.link(first, second)
        with first.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def filesystem(path: Path) -> str:
    """The type of the file system beneath ``path``, e.g. ``ext4``, ``nfs4``; ``unknown`` where Linux does not say."""
    path = path.resolve()
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    found, depth = "unknown", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = after.split()[0], len(point.parts)
    return found
