"""Sinkhorn-Knopp: an assignment of images to clusters of equal size."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(logits: Tensor, iterations: int) -> Tensor:
    """Codes [N, K] of ``logits`` [N, K], the logarithms of what is scaled, over a temperature.

    Each iteration gives every column the mass N / K and then every row the mass 1, so that rows are distributions and,
    after few iterations, columns only nearly alike. 0 iterations are the softmax. Logarithms do not overflow, unlike
    the exponentials of the official code of SwAV, whose constant factors are left out: the last step undoes them.
    """
    for _ in range(iterations):
        logits = logits - logits.logsumexp(0, keepdim=True)
        logits = logits - logits.logsumexp(1, keepdim=True)
    return logits.softmax(1)
