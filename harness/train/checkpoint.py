"""Save and resume exactly: whole files only, newest whole one first, never unpickled without ``weights_only``.

A file is ``sha256`` in hex, a newline, and what ``torch.save`` wrote. A kill inside a write leaves a temporary name
that nothing reads; a truncated or flipped file fails its checksum, is moved aside, and the one before it is taken.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from harness.store.results import StoreError, write_atomic

KEPT = 2


class CorruptCheckpoint(StoreError):
    """A checkpoint file whose content does not match its checksum; the message names it."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write one file atomically. ``state`` holds tensors, numbers, strings, lists and dicts."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomic(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read one file. Raises :class:`CorruptCheckpoint` if it is not whole."""
    content = path.read_bytes()
    digest, _, payload = content.partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CorruptCheckpoint(f"{path}: content does not match its checksum")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    return state


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
