"""Save and resume exactly: whole files only, the newest whole one first, never unpickled without ``weights_only``.

A checkpoint is the plain file of ``torch.save``, which anybody opens with ``torch.load(path, weights_only=True)``. That
is a zip archive with a checksum for every record. ``torch.load`` does not look at them (2.14.1: a flipped byte loads as
another weight), so :func:`load` does. Files of harness 0.1.0 up to November 2026 begin with a line of SHA-256 instead.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from harness.store.results import StoreError, write_atomic

KEPT = 2
_SHA256_LINE = re.compile(rb"[0-9a-f]{64}\n")


class CorruptCheckpoint(StoreError):
    """A checkpoint file whose content does not match its checksum; the message names it."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write one file atomically. ``state`` holds tensors, numbers, strings, lists and dicts."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read one file, of either format. Raises :class:`CorruptCheckpoint` if it is not whole."""
    content = path.read_bytes()
    if _SHA256_LINE.match(content):
        digest, _, content = content.partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise CorruptCheckpoint(f"{path}: content does not match its checksum")
    _check_records(path, content)
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except RuntimeError as error:  # a damaged table of contents
        raise CorruptCheckpoint(f"{path}: not a whole checkpoint ({error})") from None
    return state


def _check_records(path: Path, content: bytes) -> None:
    damaged: str | None = "the beginning of the file"
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as records:
                damaged = records.testzip()
    except Exception as error:  # broken headers raise BadZipFile, ValueError, EOFError, NotImplementedError, ...
        raise CorruptCheckpoint(f"{path}: not a whole checkpoint ({error})") from None
    if damaged is not None:
        raise CorruptCheckpoint(f"{path}: {damaged} does not match its checksum")


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def save_step(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write ``step-<step>.pt`` and keep the last two."""
    save(folder / f"step-{step:09d}.pt", state)
    for old in _steps(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def load_newest(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest whole checkpoint of a folder, or None; says which files it passed over.

    A damaged one is moved aside, to ``step-<step>.pt.damaged``: under its own name it would count as one of the two
    that are kept, for ever, and whole ones would be removed in its stead.
    """
    found = (load_whole(path, device) for path in _steps(folder))
    return next((state for state in found if state is not None), None)


def load_whole(path: Path, device: torch.device) -> dict[str, Any] | None:
    """One resume point; None where there is none, or none that can be read: then it says so, and moves it aside."""
    try:
        return load(path, device)
    except FileNotFoundError:
        return None
    except CorruptCheckpoint as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        print(f"checkpoint passed over: {error}; moved aside to {aside.name}", flush=True)
    except OSError as error:
        print(f"checkpoint passed over: {error}", flush=True)
    return None


def clear_steps(folder: Path) -> None:
    """Remove the resume points of a finished run (its final weights stay)."""
    for path in folder.glob("step-*.pt*"):
        path.unlink(missing_ok=True)
