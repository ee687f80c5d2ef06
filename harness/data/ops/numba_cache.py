"""Loads :mod:`harness.data.ops.kernels`, whose machine code is made once per machine and version, not once per run.

numba keeps machine code beside the file it came from. Runs execute a snapshot of the package, in another folder for
every version and every results folder (:mod:`harness.store.snapshot`), and would compile it anew for each (five
seconds); and numba's cache is made of pickles, which have no place under results/. So the kernels are loaded from a
copy in the user's own cache, in a folder named by their content.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.py")


def suits(*tensors: Tensor) -> ModuleType | None:
    """The kernels, if all ``tensors`` are float32, uint8 or int64 on a CPU and numba is installed.

    Not within ``torch.compile``, which fuses torch's operations and cannot look into numba's.
    """
    if not torch.compiler.is_compiling() and all(
        one.device.type == "cpu" and one.dtype in (torch.float32, torch.uint8, torch.int64) for one in tensors
    ):
        return kernels()
    return None


def arrays(*tensors: Tensor) -> Sequence[Any]:
    """numpy's view of them, C-contiguous."""
    return [one.detach().contiguous().numpy() for one in tensors]


@cache
def kernels() -> ModuleType | None:
    """:mod:`harness.data.ops.kernels`, or None where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return None
    source = SOURCE.read_bytes()
    digest = hashlib.sha256(source + version("numba").encode()).hexdigest()[:16]
    try:
        place = _copied(source, Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "harness" / digest)
    except (OSError, RuntimeError):  # a home that is read-only or does not exist
        place = SOURCE
    name = "harness.data.ops.kernels"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _copied(source: bytes, folder: Path) -> Path:
    place = folder / SOURCE.name
    if not place.is_file() or place.read_bytes() != source:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{SOURCE.name}.{os.getpid()}"
        draft.write_bytes(source)
        os.utime(draft, (0, 0))  # by its time numba knows whether a source is still the same
        draft.replace(place)
    return place
