"""A memory bank: the latest code of every training image, and losses against rows of it (InstDisc, PIRL, CMC).

The positive of a code is a row that an earlier epoch left, not what the network makes of the image now.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import distributed
from harness.config.errors import SpecError
from harness.data.rng import ImageRng

Loss = Literal["nce", "softmax"]

DENSE = 16
"""Up to so many bank rows for every one asked for, products with all rows cost less than copies of those asked for."""


class Bank(nn.Module):
    """``rows`` [n, D], one for each training image; no gradient enters.

    They start uniform in every coordinate, with a norm of about 1 as in the official code of InstDisc and CMC;
    ``unit``: of exactly 1, as in that of PIRL. A row has norm 1 once its image was seen.
    """

    rows: Tensor

    def __init__(self, images: int, dim: int, *, unit: bool = False) -> None:
        super().__init__()
        bound = math.sqrt(3 / dim)
        rows = torch.rand(images, dim) * (2 * bound) - bound
        self.register_buffer("rows", F.normalize(rows, dim=1) if unit else rows)

    def __getitem__(self, places: Tensor) -> Tensor:
        """A copy of the rows at int64 ``places`` [B]: [B, D]."""
        return self.rows.index_select(0, places)

    def with_noise(self, places: Tensor, rng: ImageRng, count: int) -> Tensor:
        """int64 [B, 1 + ``count``]: ``places`` [B], then as many drawn from all n, with replacement.

        ``places`` are not left out of the draws, as in the official code: a share of about ``count`` / n of images meet
        themselves among their negatives.
        """
        drawn = rng.to(places.device).integers(len(self.rows), count)
        return torch.cat([places[:, None], drawn], dim=1)

    def similarities(self, codes: Tensor, places: Tensor | None = None) -> Tensor:
        """Dot products of codes [B, D] with rows at ``places`` [B, K], or with all: [B, K] or [B, n], in float32."""
        with torch.autocast(codes.device.type, enabled=False):
            codes = codes.float()
            if places is None:
                return codes @ self.rows.T
            if len(self.rows) <= DENSE * places.shape[1]:
                return (codes @ self.rows.T).gather(1, places)
            asked = self.rows.index_select(0, places.flatten()).view(*places.shape, -1)
            return (asked @ codes[:, :, None])[:, :, 0]

    @torch.no_grad()
    def put(self, places: Tensor, codes: Tensor, momentum: float) -> None:
        """Move the rows of all ranks' images: ``normalize(momentum * row + (1 - momentum) * code)``, codes [B, D].

        Where an image occurs twice in the global batch, its last code there counts.
        """
        places, codes = distributed.gather(places), distributed.gather(codes.detach().float())
        order = places.argsort(stable=True)
        ordered = places[order]
        last = order[torch.searchsorted(ordered, ordered, right=True) - 1]  # of the places that are equal, for each
        self.rows[ordered] = F.normalize(momentum * self[ordered] + (1 - momentum) * codes[last], dim=1)


class NCE(nn.Module):
    """Noise-contrastive estimation against uniform noise (section 3.2 of Wu et al. 2018).

    With h the probability that a row is the image's own and no noise, the loss of an image is ``-log h`` of its own
    row plus the sum (not the mean) of ``-log(1 - h)`` over its m rows of noise. The constant that turns ``exp`` of a
    logit into a probability is n times the mean over all columns of the first global batch, kept from then on.

    The official code adds 1e-7 to denominators; in logarithms nothing has to be added.
    """

    log_constant: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.register_buffer("log_constant", torch.full((), torch.nan))

    def forward(self, logits: Tensor) -> Tensor:
        """The mean over rows of [B, 1 + m], the image's own row first; a scalar."""
        with torch.no_grad():
            seen = distributed.gather(logits.detach().logsumexp((0, 1))[None]).logsumexp(0)
            seen = seen + math.log(self.images / (logits.numel() * distributed.world()))
            self.log_constant.copy_(torch.where(self.log_constant.isnan(), seen, self.log_constant))
        # log of P(i|v) over that of the noise, m / n: h is its sigmoid.
        odds = logits - self.log_constant - math.log((logits.shape[1] - 1) / self.images)
        return (F.softplus(-odds[:, 0]) + F.softplus(odds[:, 1:]).sum(1)).mean()


class Softmax(nn.Module):
    """Cross-entropy of finding the image's own row, the first, among those it is given with."""

    def forward(self, logits: Tensor) -> Tensor:
        """The mean over rows of [B, 1 + m], a scalar."""
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def loss_over(loss: Loss, images: int) -> nn.Module:
    """The module of this name, for logits of rows of a bank of ``images``."""
    return NCE(images) if loss == "nce" else Softmax()


def check_noise(loss: Loss, negatives: int | None) -> None:
    """Raises :class:`SpecError` where noise is contrasted with that has no number."""
    if loss == "nce" and negatives is None:
        raise SpecError("loss: nce contrasts with negatives drawn from the bank: give their number, or loss: softmax")
