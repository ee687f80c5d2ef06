"""The hot core of NT-Xent: softmax cross-entropy over dot products that keeps no matrix for the backward pass.

The gradient is formed together with the loss, in blocks of anchors: one block of logits is alive at a time, and
turns in place into the unnormalised softmax that the gradient is made of. A plain implementation keeps logits,
log-probabilities and their gradient: three to four [2N, 2N] matrices where this has one, or a slice of one.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ELEMENTS = 1 << 22
"""Most logits alive at a time: 16 MiB of float32, so up to 2N = 2048 the matrix is one block. Larger is not faster."""


def mean_cross_entropy(
    anchors: Tensor,
    candidates: Tensor,
    positive: Tensor,
    itself: Tensor | None,
    scale: float,
    block_elements: int = BLOCK_ELEMENTS,
) -> Tensor:
    """Mean over anchors of ``-log softmax(scale * anchor . candidates)[positive]``, a scalar.

    ``anchors`` [A, D], ``candidates`` [C, D], both differentiable and possibly one tensor; int64 ``positive`` [A]
    indexes the candidates, and ``itself`` [A] or ``None`` the one candidate per anchor that is left out.
    """
    differentiate = torch.is_grad_enabled() and (anchors.requires_grad or candidates.requires_grad)
    arguments = anchors, candidates, positive, itself, scale, block_elements, differentiate
    return cast(Tensor, _MeanCrossEntropy.apply(*arguments))


class _MeanCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        positive: Tensor,
        itself: Tensor | None,
        scale: float,
        block_elements: int,
        differentiate: bool,
    ) -> Tensor:
        total = anchors.new_zeros(())
        to_anchors, to_candidates = torch.empty_like(anchors), torch.zeros_like(candidates)
        rows = max(1, block_elements // len(candidates))
        for start in range(0, len(anchors), rows):
            block = slice(start, start + rows)
            query, correct = anchors[block] * scale, positive[block, None]
            logits = query @ candidates.T
            if itself is not None:
                logits.scatter_(1, itself[block, None], -torch.inf)
            highest, agreement = logits.amax(dim=1, keepdim=True), logits.gather(1, correct)
            weights = logits.sub_(highest).exp_()
            normaliser = weights.sum(dim=1, keepdim=True)
            total += (highest + normaliser.log() - agreement).sum()
            if differentiate:
                # d loss / d logits = weights / normaliser - one-hot of the positive: both corrections are made on
                # [rows, D], after the products, so the matrix is not touched again.
                to_anchors[block] = (weights @ candidates).div_(normaliser).sub_(candidates[correct[:, 0]])
                to_candidates.addmm_(weights.T, query / normaliser)
                to_candidates.index_add_(0, correct[:, 0], query, alpha=-1)
        ctx.save_for_backward(to_anchors, to_candidates)
        ctx.factors = scale / len(anchors), 1 / len(anchors)
        return total / len(anchors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        to_anchors, to_candidates = ctx.saved_tensors
        anchor_factor, candidate_factor = ctx.factors
        gradients = to_anchors * (grad * anchor_factor), to_candidates * (grad * candidate_factor)
        return *gradients, None, None, None, None, None
