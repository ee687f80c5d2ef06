"""The gradient of one global batch, however many processes and passes share the work."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.methods.method import EmbeddingMethod, Method
from harness.spec.errors import SpecError
from harness.train import distributed


def gradient(
    method: Method, views: Sequence[Tensor], labels: Tensor, *, passes: int = 1, bfloat16: bool = False
) -> dict[str, Tensor]:
    """Put the gradient of the global batch's loss into every parameter; return ``loss`` and what else is worth logging.

    ``views`` and ``labels`` are this rank's slice, as :meth:`Method.forward` takes them; they are taken through the
    networks in ``passes`` equal parts (:func:`replay`), in ``bfloat16`` where autocast would. Gradients, what is
    returned (detached scalars) and batch norm's running statistics are averaged over ranks, so that all ranks hold the
    same state after every step, whoever writes it down. Running statistics are linear in the batch statistics: the mean
    of the ranks' moving averages is the moving average of the mean over all groups.
    """
    method.zero_grad(set_to_none=True)
    if passes == 1:
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=bfloat16):
            loss, extra = method(views, labels)
        loss.backward()
    else:
        loss, extra = replay(method, views, labels, passes, bfloat16=bfloat16)
    values = {"loss": loss.detach(), **extra}
    gradients = (one.grad for one in method.parameters() if one.grad is not None)
    statistics = (one for one in method.buffers() if one.is_floating_point())
    distributed.average([*gradients, *statistics, *values.values()])
    return values


def replay(
    method: Method, views: Sequence[Tensor], labels: Tensor, passes: int, *, bfloat16: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same gradient with the memory of one pass: embeddings cached, gradients replayed.

    This is GradCache (Gao, Zhang, Han and Callan 2021, arXiv:2101.06983). Every part is embedded without a graph; the
    loss of all embeddings together gives the gradient at each of them; every part is embedded again, with a graph, and
    takes its gradients back through the networks. That costs one more forward pass, and is exact, up to rounding, on
    two conditions. A part holds whole batch-norm groups, or its images would meet other statistics than in the whole
    batch: :func:`harness.train.place.passes` sees to that; running statistics move once a step, as without parts. And
    both embeddings of a part are the same: no layer draws random numbers (no dropout, no stochastic depth), as none
    of ours does.

    Returns the loss and extra values of :meth:`Method.forward`. Raises :class:`SpecError` for a method whose networks
    and loss cannot be told apart.
    """
    if not isinstance(method, EmbeddingMethod):
        raise SpecError(
            "images per pass: this method does not embed and compare, so its batch cannot be cut into passes"
        )
    parts = list(zip(*(view.chunk(passes) for view in views), strict=True))
    precision = torch.autocast(labels.device.type, torch.bfloat16, enabled=bfloat16)
    with torch.no_grad(), method.in_passes(passes, track=False), precision:
        rows = torch.cat([method.embed(part) for part in parts])
    with torch.enable_grad(), precision:
        loss, extra = method.compare(rows.requires_grad_(), labels)
    torch.autograd.backward(loss)
    assert rows.grad is not None
    with method.in_passes(passes, track=True):
        for part, upstream in zip(parts, rows.grad.chunk(passes), strict=True):
            with precision:
                embedded = method.embed(part)
            torch.autograd.backward(embedded, upstream)
    return loss, extra
