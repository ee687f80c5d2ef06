"""A queue of the outputs of earlier batches: the oldest give way to the newest."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.config.errors import SpecError
from harness.methods.base import Task


def check_length(name: str, length: int, task: Task) -> None:
    """Raise :class:`SpecError` where batches do not divide the queue of method ``name``."""
    if length % task.batch_size:
        nearest = max(round(length / task.batch_size), 1) * task.batch_size
        raise SpecError(
            f"{name}: a queue of {length} rows is no multiple of the batch of {task.batch_size} images, so that "
            f"one would be half overwritten; the nearest is {nearest}"
        )


@torch.no_grad()
def push(queue: Tensor, rows: Tensor, place: Tensor | int) -> None:
    """Write ``rows`` [B, ...] into ``queue`` [L, ...] from ``place`` on, and from the beginning after its end."""
    queue[(place + torch.arange(len(rows), device=rows.device)) % len(queue)] = rows
