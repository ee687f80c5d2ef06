"""A finished pretraining as every evaluation sees it: frozen networks, its data, and features computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from harness.config.errors import SpecError
from harness.data.datasets import Dataset, Split
from harness.data.rng import ImageRng
from harness.data.views import Batch, Views, batches
from harness.evaluate.measurement import finite
from harness.evaluate.resume_state import ResumePoint
from harness.methods.base import Method

Features = Literal["h", "z"]
"""The representation h, or its projection z = g(h) *before* any l2 normalisation."""

_MOST_IMAGES_PER_PASS = 512
EVALUATION_DRAWS = 0x5EED
"""Evaluations draw from other streams than training: no probe sees the very crops its encoder was trained on."""


class Pretext(Protocol):
    """A change to images that a probe is to recognise: hashable, and equal to another that does the same."""

    def __call__(self, images: Tensor, rng: ImageRng) -> tuple[Tensor, Tensor]:
        """float [B, 3, H, W] in [0, 1] -> the changed images, and what was done to each, int64 [B]."""
        ...


@dataclass
class Trained:
    """The method in inference mode (batch norm uses its running statistics, as in the official README protocol).

    ``views`` are the training views; ``batch_size`` is the training batch, of all processes that shared the run
    (passes here, on one device, are at most that large, and at most 512 images); ``seed`` is the run's, and decides
    everything random here. ``root`` is the folder of data sets; ``untrained`` makes the networks anew as pretraining
    found them, for baselines without it.
    ``interim`` is where a long evaluation leaves what it needs to go on after an interruption. ``own`` says what data
    this is (:func:`harness.data.identity.described`), and ``looked_at`` the same of what an evaluation looked at: that,
    or another data set that it loaded.
    """

    method: Method
    data: Dataset
    views: Views
    batch_size: int
    seed: int
    device: torch.device
    root: Path = Path("data")
    untrained: Callable[[], Method] | None = None
    interim: ResumePoint = field(default_factory=ResumePoint)
    own: Mapping[str, Any] = field(default_factory=dict)
    looked_at: Mapping[str, Any] = field(default_factory=dict)
    fitted: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What one evaluation fitted and another, which differs in the images it is scored on alone, need not fit again."""
    _features: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _splits: dict[str, Split] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.method.eval()

    def split(self, name: str) -> Split:
        """``train``, ``validation`` or ``test``, on the device (moved there once).

        Raises :class:`SpecError` where the data set has no such split.
        """
        if name not in self._splits:
            found: Split | None = getattr(self.data, name)
            if found is None:
                raise SpecError(
                    f"the data set has no {name} split: hold images out (validation_images) or name another"
                )
            self._splits[name] = found.to(self.device)
        return self._splits[name]

    def elsewhere(self, data: Dataset) -> Trained:
        """The same networks before another data set; its features are kept for as long as what is returned."""
        return replace(self, data=data, fitted={}, _features={}, _splits={})

    def features(
        self, split: str, at: Features = "h", augmentations: Sequence[Any] = (), epoch: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Features of a split in its own order: (float32 [N, D], int64 [N]), resident on the device.

        Without augmentations they are computed once and kept; with them, every ``epoch`` is another draw.
        Raises :class:`~harness.evaluate.measurement.Divergence` if a feature is not finite: it has no accuracy.
        """
        if not augmentations and (split, at) in self._features:
            return self._features[split, at]
        if not augmentations and at == "z":
            h, labels = self.features(split, "h")
            x = finite(self._projected(h), "the features z")
        else:
            (x,), labels = self.encode(split, Views(both=tuple(augmentations), count=1), at, epoch=epoch)
        if not augmentations:
            self._features[split, at] = x, labels
        return x, labels

    @torch.no_grad()
    def encode(
        self, split: str, views: Views, at: Features, *, epoch: int = 0, shuffle: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """One tensor [N, D] per view, and the labels [N] in the same order. Raises as :meth:`features` does."""
        found: list[Tensor] = []
        labels, done = [], 0
        for batch in self._passes(split, views, epoch=epoch, shuffle=shuffle):
            labels.append(batch.labels)
            for view, images in enumerate(batch.views):
                h = self.method.represent(images)
                rows = finite((self.method.project(h) if at == "z" else h).float(), f"the features {at}")
                if len(found) == view:  # one matrix, filled as it comes: of ImageNet's h a second one is 10 to 40 GiB
                    found.append(rows.new_empty(len(self.split(split)), *rows.shape[1:]))
                found[view][done : done + len(rows)] = rows
            done += len(batch.labels)
        return found, torch.cat(labels)

    @torch.no_grad()
    def changed(self, split: str, at: Features, pretext: Pretext) -> tuple[Tensor, Tensor]:
        """Features of a split's images as ``pretext`` changes them, and what it did to each, as :meth:`features`.

        One draw per image, the same for h and z, another in every split; kept, so that the second of them costs no pass
        of the encoder, until another pretext is asked for: of ImageNet each is 10 GiB.
        """
        key = (split, at, pretext)
        if key not in self._features:
            for other in [known for known in self._features if len(known) == 3 and known[2] != pretext]:
                del self._features[other]
            if at == "z":
                h, labels = self.changed(split, "h", pretext)
                x = finite(self._projected(h), "the features z")
            else:
                rows, marks = [], []
                for batch in self._passes(split, Views(count=1)):
                    rng = ImageRng(seed=self.seed ^ EVALUATION_DRAWS, epoch=0, images=batch.indices.cpu())
                    images, marked = pretext(batch.views[0], rng.child("pretext").child(split))
                    rows.append(self.method.represent(images).float())
                    marks.append(marked.to(self.device))
                x, labels = finite(torch.cat(rows), "the features h"), torch.cat(marks)
            self._features[key] = x, labels
        return self._features[key]

    def _passes(self, split: str, views: Views, *, epoch: int = 0, shuffle: bool = False) -> Iterator[Batch]:
        """Every image of a split once, in batches of at most 512. Stops between two of them where it is asked to."""
        for batch in batches(
            self.split(split),
            views,
            batch_size=min(self.batch_size, _MOST_IMAGES_PER_PASS),
            seed=self.seed ^ EVALUATION_DRAWS,
            epoch=epoch,
            device=self.device,
            shuffle=shuffle,
            drop_last=False,
        ):
            self.interim.check()
            yield batch

    @torch.no_grad()
    def _projected(self, h: Tensor) -> Tensor:
        return torch.cat([self.method.project(rows).float() for rows in torch.split(h, _MOST_IMAGES_PER_PASS)])
