"""Where a run executes: everything that must not change its numbers, in types of its own (law 3)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from harness.config.errors import SpecError

Compile = Literal["off", "default", "reduce-overhead"]
"""Modes of ``torch.compile`` by torch's own names; ``reduce-overhead`` is ``default`` replayed as CUDA graphs."""

COMPILE: tuple[Compile, ...] = get_args(Compile)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Device, threads, paths. ``device`` is ``auto``, ``cpu`` or ``cuda[:n]``; 0 threads leaves torch its own number.

    ``images_per_pass``: most images that a process takes through its networks at once; 0: its whole part of the batch
    (see :func:`passes`). ``compile``: see :mod:`harness.train.torch_compile`. A checkpoint is written at the end of an
    epoch, unless the last one is younger than ``checkpoint_gap_s``, and within an epoch every ``checkpoint_minutes``.
    """

    data: Path = Path("data")
    device: str = "auto"
    threads: int = 0
    images_per_pass: int = 0
    compile: Compile = "off"
    checkpoint_minutes: float = 10.0
    checkpoint_gap_s: float = 5.0
    progress_s: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One process among the ``world`` processes of one run, and where they meet.

    ``meeting``: ``file:///folder/file`` (all on one machine; the file does not exist yet), ``tcp://host:port/name`` (a
    store that somebody keeps there; the name is this run's own) or ``env://`` (torchrun's variables).
    """

    rank: int = 0
    world: int = 1
    meeting: str = "env://"

    @property
    def on_one_machine(self) -> bool:
        """Whether all of them certainly are."""
        return self.meeting.startswith(("file:", "tcp://localhost:"))


ALONE = Rank()


def passes(*, batch_size: int, groups: int, world: int, images_per_pass: int = 0) -> int:
    """Into how many passes each of ``world`` processes cuts its part of a batch: the fewest that are small enough.

    ``groups`` is ``norm.groups``. Every process, and every pass, must hold whole groups (or a group whole processes),
    because the images of a group share their batch statistics. Raises :class:`SpecError` where that cannot be.
    """
    if batch_size % world:
        raise SpecError(f"batch size {batch_size} is not divisible by {world} processes")
    if groups % world and world % groups:
        raise SpecError(f"norm.groups {groups} and {world} processes: one must divide the other")
    here = batch_size // world
    if not images_per_pass or here <= images_per_pass:
        return 1
    whole = max(groups // world, 1)
    for count in range(2, whole + 1):
        if whole % count == 0 and here // count <= images_per_pass:
            return count
    raise SpecError(
        f"at most {images_per_pass} images per pass: the {batch_size // groups} images of one batch-norm group (batch "
        f"size {batch_size}, norm.groups {groups}) share their statistics, so a pass of fewer would change the "
        f"statistics and with them the result; allow {here // whole} images per pass, or use more processes"
    )


def check_graphs(compile: Compile, *, groups: int, world: int, passes: int) -> None:
    """Whether CUDA graphs can hold a step. Raises :class:`SpecError` where ``reduce-overhead`` is asked for and not.

    A graph writes to the same memory whenever it is replayed. Gradients that add up over passes lie in that memory
    (pytorch/pytorch#169545), and a collective within it would have to be captured on all processes at once.
    """
    if compile != "reduce-overhead":
        return
    if passes > 1:
        raise SpecError(
            f"compile: reduce-overhead holds one pass in a CUDA graph, and this batch takes {passes} "
            "(images per pass); use default"
        )
    if groups < world:
        raise SpecError(
            f"compile: reduce-overhead: {world} processes exchange the statistics of {groups} batch-norm groups within "
            "the networks, which a CUDA graph cannot hold; use default"
        )


def check_compiler(compile: Compile, device: str) -> None:
    """Whether what ``torch.compile`` calls on ``device`` (``cpu``, or a GPU) is here; :class:`SpecError` if it is not.

    The C++ compiler writes kernels for the CPU; Triton those for GPUs, and a C compiler what starts them.
    """
    if compile == "off":
        return
    if device == "cpu":
        default = "clang++" if sys.platform == "darwin" else "g++"
        missing = _absent([os.environ.get("CXX", default)], "the environment variable CXX names another C++ compiler")
    elif find_spec("triton") is None:
        missing = "the package triton is not installed"
    else:
        known = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        missing = _absent(known, "the environment variable CC names another C compiler")
    if missing:
        raise SpecError(f"compile: {compile} needs a compiler: {missing}; install it, or use off")


def _absent(programs: Iterable[str], advice: str) -> str:
    names = [one.split()[0] for one in programs if one.strip()]
    return "" if any(map(shutil.which, names)) else f"no {' or '.join(names)} on the PATH ({advice})"
