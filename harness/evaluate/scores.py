"""The measures of Table 8's data sets, each as the paper that introduced the data set defines it (appendix B.8.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from harness.evaluate.measurement import finite

Measure = Literal["top1", "mean_per_class", "map11"]
"""Top-1 accuracy; the mean over classes of the accuracy within each; 11-point interpolated mean average precision."""


def measured(scores: Tensor, labels: Tensor) -> dict[Measure, float]:
    """Whatever the labels allow, in percent: ``top1`` and ``mean_per_class`` of labels [N], ``map11`` of [N, C].

    ``scores`` [N, C], higher is likelier. Raises :class:`~harness.evaluate.measurement.Divergence` where one of them
    is not finite.
    """
    finite(scores, "scores")
    if labels.ndim == 2:
        return {"map11": map11(scores, labels)}
    hits = (scores.argmax(1) == labels).double()
    per_class = [hits[labels == one].mean() for one in range(scores.shape[1]) if bool((labels == one).any())]
    return {"top1": 100.0 * float(hits.mean()), "mean_per_class": 100.0 * float(torch.stack(per_class).mean())}


def map11(scores: Tensor, labels: Tensor) -> float:
    """Mean over classes of VOC 2007's 11-point average precision (Everingham et al. 2010, section 4.2), in percent.

    Labels [N, C]: 1 there, 0 not there, -1 not counted. A class that nothing shows has no precision and is left out.
    """
    found = []
    for score, label in zip(scores.unbind(1), labels.unbind(1), strict=True):
        if bool((label == 1).any()):
            found.append(average_precision(score[label >= 0], label[label >= 0]))
    return 100.0 * sum(found) / len(found)


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """Mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or a higher one; truth [N] in {0, 1}."""
    hits = truth[scores.argsort(descending=True, stable=True)].double().cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1, device=hits.device)
    recall = hits / hits[-1]
    levels = [float(precision[recall >= i / 10 - 1e-9].max()) for i in range(11)]  # 3 of 10 reaches a recall of 0.3
    return sum(levels) / 11
