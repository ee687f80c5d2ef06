"""Short digests of what a run computed, to see that two runs computed the same.

An ablation whose option has no effect yields two runs with different names and the same bits (design, law 9). The loop
writes these into ``provenance.json``; the report flags settings as INERT by them, and so does a plan by its probe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

DIGITS = 12
PLAIN = (bool, int, float, str)


def digest(parts: Iterable[str | Tensor]) -> str:
    """Twelve hex digits over words and over tensors bit by bit (type and shape included)."""
    made = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            bits = part.detach().cpu().contiguous().flatten()
            made.update(f"{part.dtype} {list(part.shape)};".encode())
            made.update(bits.view(torch.uint8).numpy().tobytes() if bits.numel() else b"")
        else:
            made.update(f"{part};".encode())
    return made.hexdigest()[:DIGITS]


def structure(module: nn.Module) -> str:
    """Of all modules: their classes, plain settings and the shapes of what they learn and keep; not the values."""
    return digest(_described(module))


def _described(module: nn.Module) -> Iterable[str]:
    for name, one in module.named_modules():
        settings = {key: value for key, value in sorted(vars(one).items()) if _is_setting(key, value, inner=bool(name))}
        own = [*one.named_parameters(recurse=False), *one.named_buffers(recurse=False)]
        yield f"{name} {type(one).__name__} {settings} {[(key, list(tensor.shape)) for key, tensor in own]}"


def _is_setting(key: str, value: Any, *, inner: bool) -> bool:
    """Components count too (a layer's batch norm), but not the method's own: an objective shows in the loss, or not."""
    if key.startswith("_") or key in ("training", "micro_batches"):  # how it is executed, not what it is
        return False
    plain = isinstance(value, PLAIN) or (isinstance(value, tuple) and all(isinstance(one, PLAIN) for one in value))
    return plain or (inner and is_dataclass(value))


def state(module: nn.Module) -> str:
    """Of every parameter and buffer, bit by bit."""
    return digest(part for name, tensor in sorted(module.state_dict().items()) for part in (name, tensor))


def first_step(method: nn.Module, views: Sequence[Tensor], loss: Tensor) -> dict[str, Any]:
    """What ``provenance.json`` says under ``first``: of several processes, the first one's part of the batch."""
    return {"loss": float(loss), "batch": digest(views), "modules": structure(method)}
