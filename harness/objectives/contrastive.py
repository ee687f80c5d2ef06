"""Contrastive objectives over the projections of two views (sections 2.1 and 5.1, Table 2), and cross-entropy.

Legend: B images on this rank, W ranks, D features; an *anchor* is one projection, its *positive* the other view
of the same image, its *negatives* views of other images, on whichever rank they are. Every objective is the mean
over anchors of a term of equation 1's kind, so the mean over ranks is the objective of the global batch.

The published code minimises loss_a + loss_b, each a mean over N: *twice* the paper's loss, which is ours.
LARS does not see the factor where it adapts, but batch norm (and any other optimiser's learning rate) does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from harness import distributed
from harness.config.registry import Examples, objective
from harness.objectives.blockwise import mean_cross_entropy

Temperature = Annotated[float, Field(gt=0)]
Negatives = Literal["both_views", "other_view"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveBatch:
    """Anchors [A, D], the candidates [C, D] they meet, and where each anchor's positive and itself are.

    ``positive`` int64 [A] indexes the candidates; so does ``itself``, which is ``None`` where the anchor is not
    among them.
    """

    anchors: Tensor
    candidates: Tensor
    positive: Tensor
    itself: Tensor | None

    def similarities(self) -> tuple[Tensor, Tensor, Tensor]:
        """Dot products [A, 1] with the positive and [A, C] with all, and which of the latter are negatives."""
        every = self.anchors @ self.candidates.T
        negative = torch.ones_like(every, dtype=torch.bool)
        for excluded in (self.positive, self.itself):
            if excluded is not None:
                negative.scatter_(1, excluded[:, None], False)
        return every.gather(1, self.positive[:, None]), every, negative


def comparisons(projections: Sequence[Tensor], *, normalize: bool, negatives: Negatives) -> list[ContrastiveBatch]:
    """What is compared with what, across all ranks and with gradient to all of them.

    ``both_views``: the 2B anchors of this rank meet all 2BW projections but themselves (equation 1).
    ``other_view``: each anchor meets the BW projections of the other view only (footnote 8 and Table 4).
    Raises ``ValueError`` unless there are two views.
    """
    if len(projections) != 2:
        raise ValueError(f"this objective compares two views, not {len(projections)}")
    local = [F.normalize(z, dim=1) if normalize else z for z in projections]
    first, second = (distributed.gather(z) for z in local)
    place = distributed.rank() * len(local[0]) + torch.arange(len(local[0]), device=first.device)
    if negatives == "other_view":
        return [
            ContrastiveBatch(anchors=local[0], candidates=second, positive=place, itself=None),
            ContrastiveBatch(anchors=local[1], candidates=first, positive=place, itself=None),
        ]
    here, there = torch.cat([place, place + len(first)]), torch.cat([place + len(first), place])
    both = torch.cat([first, second])
    anchors = both if distributed.world() == 1 else torch.cat(local)
    return [ContrastiveBatch(anchors=anchors, candidates=both, positive=there, itself=here)]


class Contrastive(ABC):
    """An objective on the projections of the two views of a batch."""

    def __call__(self, projections: Sequence[Tensor]) -> Tensor:
        """The scalar loss of two tensors [B, D], row i of both from image i; ``ValueError`` unless there are two.

        In float32 whatever the precision of the networks.
        """
        with torch.autocast(projections[0].device.type, enabled=False):
            return self.loss([z.float() for z in projections])

    @abstractmethod
    def loss(self, projections: Sequence[Tensor]) -> Tensor:
        """The same on float32 tensors, outside autocast."""

    @abstractmethod
    def comparable(self, z: Tensor) -> Tensor:
        """z [N, D] scaled such that dot products of two such tensors are the logits that this objective compares."""


@objective("nt_xent")
@dataclass(frozen=True, kw_only=True)
class NTXent(Contrastive):
    """Equation 1: cross-entropy of finding the positive among all candidates, at a temperature.

    ``normalize: false`` compares dot products instead of cosines (Table 5, where the temperature is 10 or 100).
    """

    tiny: ClassVar[Examples] = ({}, {"temperature": 0.05}, {"normalize": False}, {"negatives": "other_view"})
    temperature: Temperature = 0.5
    normalize: bool = True
    negatives: Negatives = "both_views"

    def loss(self, projections: Sequence[Tensor]) -> Tensor:
        pairs = comparisons(projections, normalize=self.normalize, negatives=self.negatives)
        losses = [
            mean_cross_entropy(one.anchors, one.candidates, one.positive, one.itself, 1 / self.temperature)
            for one in pairs
        ]
        return torch.stack(losses).mean()

    def comparable(self, z: Tensor) -> Tensor:
        return (F.normalize(z) if self.normalize else z) / math.sqrt(self.temperature)


@objective("nt_logistic")
@dataclass(frozen=True, kw_only=True)
class NTLogistic(Contrastive):
    """Table 2: ``-log s(u.v+/t) - log s(-u.v-/t)``, the second term averaged over an anchor's negatives.

    The paper does not say how the negatives are weighed against the positive, and published no code; the
    average keeps the two terms of equal size at every batch size. ``mining: semi_hard`` (section 5.1) keeps,
    per anchor, only the closest negative that is farther than the positive.
    """

    tiny: ClassVar[Examples] = ({}, {"temperature": 0.05}, {"negatives": "other_view"}, {"mining": "semi_hard"})
    temperature: Temperature = 0.5
    negatives: Negatives = "both_views"
    mining: Literal["all", "semi_hard"] = "all"

    def loss(self, projections: Sequence[Tensor]) -> Tensor:
        losses = []
        for one in comparisons(projections, normalize=True, negatives=self.negatives):
            positive, every, negative = one.similarities()
            if self.mining == "semi_hard":
                negative = closest(every, negative & (every < positive))
            repulsion = masked_mean(F.softplus(every / self.temperature), negative)
            losses.append(F.softplus(-positive[:, 0] / self.temperature).mean() + repulsion.mean())
        return torch.stack(losses).mean()

    def comparable(self, z: Tensor) -> Tensor:
        return F.normalize(z) / math.sqrt(self.temperature)


@objective("margin_triplet")
@dataclass(frozen=True, kw_only=True)
class MarginTriplet(Contrastive):
    """Table 2: ``max(u.v- - u.v+ + m, 0)`` on cosines, averaged over an anchor's negatives.

    ``mining: semi_hard`` (section 5.1) keeps, per anchor, only the closest negative that is within the margin yet
    farther than the positive; an anchor without one contributes zero. ``margin`` was tuned over 0, 0.4, 0.8
    and 1.6 (appendix B.10); which one Table 4 shows is not said.
    """

    tiny: ClassVar[Examples] = ({}, {"margin": 0.1}, {"negatives": "other_view"}, {"mining": "semi_hard"})
    margin: Annotated[float, Field(ge=0)] = 0.8
    negatives: Negatives = "both_views"
    mining: Literal["all", "semi_hard"] = "all"

    def loss(self, projections: Sequence[Tensor]) -> Tensor:
        losses = []
        for one in comparisons(projections, normalize=True, negatives=self.negatives):
            positive, every, negative = one.similarities()
            if self.mining == "semi_hard":
                negative = closest(every, negative & (every < positive))
            losses.append(masked_mean(F.relu(every - positive + self.margin), negative).mean())
        return torch.stack(losses).mean()

    def comparable(self, z: Tensor) -> Tensor:
        """The bare cosines: a margin has no distribution over candidates, hence no temperature."""
        return F.normalize(z)


@objective("cross_entropy")
@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Softmax cross-entropy on labels: the objective of the supervised baseline."""

    tiny: ClassVar[Examples] = ({}, {"label_smoothing": 0.2})
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over rows of logits [N, classes] against int64 labels [N]."""
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)


def closest(similarity: Tensor, eligible: Tensor) -> Tensor:
    """Per row, a mask of the most similar eligible entry; empty where nothing is eligible."""
    best = similarity.masked_fill(~eligible, -torch.inf).argmax(dim=1, keepdim=True)
    return torch.zeros_like(eligible).scatter_(1, best, True) & eligible


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Row means [A] of ``values`` [A, C] where ``mask``; zero for rows without any."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
