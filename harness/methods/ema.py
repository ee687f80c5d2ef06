"""A network that follows another as an exponential moving average: momentum encoders, targets, teachers.

Only parameters follow: batch norm of the follower keeps running statistics of its own batches, as in the official code
of MoCo, BYOL and DINO.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(net: M) -> M:
    """A copy of ``net`` that no gradient moves."""
    return copy.deepcopy(net).requires_grad_(False)


@torch.no_grad()
def follow(mine: nn.Module, theirs: nn.Module, momentum: float) -> None:
    """``mine = momentum * mine + (1 - momentum) * theirs`` of every parameter; equal where ``momentum`` is 0."""
    followers: list[Tensor] = list(mine.parameters())
    torch._foreach_lerp_(followers, [one.detach() for one in theirs.parameters()], 1 - momentum)


class EMA(nn.Module):
    """A frozen network whose parameters follow those of another, and which no gradient enters.

    It starts as a copy of ``net``, or, where ``fresh`` is given, as that network, drawn on its own (the official code
    of BYOL does so).
    """

    def __init__(self, net: nn.Module, fresh: nn.Module | None = None) -> None:
        super().__init__()
        self.net = frozen_copy(net) if fresh is None else fresh.requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Any:
        """What the network makes of ``inputs``, without a gradient."""
        return self.net(*inputs)

    def follow(self, net: nn.Module, momentum: float) -> None:
        """See :func:`follow`."""
        follow(self.net, net, momentum)
