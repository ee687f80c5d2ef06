"""k nearest neighbours by cosine similarity: no training, no hyper-parameter to tune (Wu et al. 2018, section 3.4).

Not in the SimCLR paper; the usual quick look at a representation (there k = 200 and temperature 0.07; 0.1 in
the benchmarks of lightly).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from harness.config.registry import Examples, evaluation
from harness.evaluate.measurement import Measurements, finite
from harness.evaluate.standardize import Standard
from harness.evaluate.trained import Features, Trained

_MOST_VOTES = 2**25
"""Elements of the largest temporary, [rows, k, classes]: 128 MiB."""


@evaluation("knn")
@dataclass(frozen=True, kw_only=True)
class KNN:
    """Yields ``top1`` in percent of ``split``, with the whole training split as the bank.

    Each of the ``k`` nearest neighbours votes for its class with weight exp(similarity / temperature);
    ``temperature: null`` gives every neighbour one vote, and a tie to the lowest class. A bank smaller than
    ``k`` votes as a whole.
    """

    tiny: ClassVar[Examples] = (
        {"k": 60, "temperature": 0.02},
        {"features": "z"},
        {"split": "validation"},
        {"k": 1},
        {"temperature": 0.002},
        {"temperature": None},
    )
    metrics: ClassVar[tuple[str, ...]] = ("top1",)
    features: Features = "h"
    split: Literal["test", "validation"] = "test"
    k: Annotated[int, Field(ge=1)] = 200
    temperature: Annotated[float, Field(gt=0)] | None = 0.1

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic; nothing is drawn, nothing is trained, and the scale of the features does not matter."""
        queries, truth = trained.features(self.split, self.features)
        bank, labels = trained.features("train", self.features)
        predicted = self.classify(queries, bank, labels, len(trained.data.classes))
        yield "top1", 100.0 * int((predicted == truth).sum()) / len(truth)
        yield "collapsed", Standard.of(directions(bank)).collapse

    @torch.no_grad()
    def classify(self, queries: Tensor, bank: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Predicted classes int64 [Q] of queries [Q, D], from a bank [N, D] with labels [N].

        Of a bank that lies in one direction every image is as near as any other, and votes.
        """
        bank = directions(bank)
        if not bool(Standard.of(bank).varies.any()):
            return labels.bincount(minlength=classes).argmax().expand(len(queries))
        bank = bank.T
        k = min(self.k, len(labels))
        rows = max(1, min(_MOST_VOTES // (k * classes), _MOST_VOTES // len(labels)))
        members = torch.arange(classes, device=labels.device)
        predicted = []
        for some in torch.split(directions(queries), rows):
            similarity, neighbours = finite(some @ bank, "similarities").topk(k, sorted=False)
            # A sum over a one-hot table, not a scatter: atomics would add in another order at every call.
            ballots = (labels[neighbours][:, :, None] == members).to(similarity.dtype)
            predicted.append(torch.einsum("qk,qkc->qc", self._weights(similarity), ballots).argmax(1))
        return torch.cat(predicted)

    def _weights(self, similarity: Tensor) -> Tensor:
        if self.temperature is None:
            return torch.ones_like(similarity)
        # Relative to the nearest neighbour, so that a low temperature cannot overflow.
        return ((similarity - similarity.amax(1, keepdim=True)) / self.temperature).exp()


def directions(x: Tensor) -> Tensor:
    """Rows of unit length [N, D], whatever their scale: neither an overflow nor a constant in a norm decides."""
    largest = x.abs().amax(1, keepdim=True)
    return F.normalize(x / largest.where(largest > 0, 1.0))
