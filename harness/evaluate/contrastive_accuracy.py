"""The contrastive task itself: can the network find an image's other view, and how sure is it? (Table 5)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.config.registry import Examples, evaluation
from harness.evaluate.measurement import Measurements, Unavailable, finite
from harness.evaluate.trained import Trained
from harness.objectives.contrastive import Contrastive

_ROWS = 1024


@evaluation("contrastive")
@dataclass(frozen=True, kw_only=True)
class ContrastiveAccuracy:
    """Yields ``top1`` (percent), ``entropy`` (nats) and ``candidates``, over two training views of ``split``.

    For the first view of each image the ``candidates`` are the second views of ``examples`` images, its own among
    them: ``logits_ab`` of the official objective.py, which measures the same on training batches. The projections
    are compared as the run's objective compares them, l2 normalisation and temperature included, so entropy runs
    from 0 to ln ``candidates`` (8.3 for the paper's 4096).

    Departures: unseen images and batch norm in inference mode rather than training batches; and the mean over as
    many disjoint sets of candidates as the split holds. A split smaller than ``examples`` is one set, which
    ``candidates`` then says.
    """

    tiny: ClassVar[Examples] = ({}, {"split": "validation"}, {"examples": 10})
    metrics: ClassVar[tuple[str, ...]] = ("top1", "entropy", "candidates")
    split: Literal["test", "validation"] = "test"
    examples: Annotated[int, Field(ge=2)] = 4096

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic given ``trained.seed``. Raises :class:`Unavailable` without a contrastive objective."""
        objective = getattr(trained.method, "objective", None)
        if not isinstance(objective, Contrastive):
            raise Unavailable("the contrastive task needs a run with a contrastive objective")
        if len(trained.views.sizes) < 2:
            raise Unavailable("the contrastive task needs a run with two views of every image")
        (first, second, *_), _ = trained.encode(self.split, trained.views, "z", shuffle=True)
        examples = min(self.examples, len(first))
        sets = len(first) // examples
        correct, entropy = 0, 0.0
        whole = (torch.split(z[: sets * examples], examples) for z in (first, second))
        for anchors, candidates in zip(*whole, strict=True):
            hits, nats = identify(objective.comparable(anchors), objective.comparable(candidates))
            correct, entropy = correct + hits, entropy + nats
        yield "top1", 100.0 * correct / (sets * examples)
        yield "entropy", entropy / (sets * examples)
        yield "candidates", float(examples)


def identify(anchors: Tensor, candidates: Tensor) -> tuple[int, float]:
    """How many anchors [N, D] are closest to their own candidate (row i to row i), and the sum of the entropies
    in nats of the softmax over candidates.
    """
    own = torch.arange(len(anchors), device=anchors.device)
    hits = torch.zeros((), dtype=torch.int64, device=anchors.device)
    nats = torch.zeros((), dtype=torch.float64, device=anchors.device)
    for rows, truth in zip(torch.split(anchors, _ROWS), torch.split(own, _ROWS), strict=True):
        logits = finite(rows @ candidates.T, "similarities")
        hits += (logits.argmax(1) == truth).sum()
        log_p = logits.log_softmax(1)
        nats -= (log_p.exp() * log_p).sum(dtype=torch.float64)
    return int(hits), float(nats)
