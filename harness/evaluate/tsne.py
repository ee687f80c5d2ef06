"""h and z in the plane: t-SNE of test images of a few classes (Figure B.4, appendix B.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.config.registry import Examples, evaluation
from harness.evaluate.measurement import Measurements, Unavailable
from harness.evaluate.standardize import Standard
from harness.evaluate.trained import Features, Trained

NEIGHBOURS = 10


@evaluation("tsne")
@dataclass(frozen=True, kw_only=True)
class TSNE:
    """Yields ``same_class_h`` and ``same_class_z``, and the pictures: ``h`` [N, 2], ``z`` [N, 2], ``labels`` [N].

    ``images`` of ``split``, equally many of each of ``classes`` classes drawn with the run's seed (of all classes where
    there are no more). scikit-learn's t-SNE (Barnes-Hut, started from the principal components) of the features at the
    given ``perplexity``; the paper gives no settings. ``same_class``: the percentage of the ten nearest points in the
    plane that are of a point's own class, a number for "better separated" as the eye judges it.
    """

    tiny_is_chaotic: ClassVar[bool] = True
    tiny: ClassVar[Examples] = (
        {"images": 40, "perplexity": 5.0},
        {"split": "validation"},
        {"classes": 3},
        {"images": 45},
        {"perplexity": 8.0},
    )
    metrics: ClassVar[tuple[str, ...]] = ("same_class_h", "same_class_z")
    arrays: ClassVar[tuple[str, ...]] = ("h", "z", "labels")
    split: Literal["test", "validation"] = "test"
    classes: Annotated[int, Field(ge=2)] = 10
    images: Annotated[int, Field(ge=40, le=2000)] = 300
    perplexity: Annotated[float, Field(gt=1)] = 30.0

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic given ``trained.seed`` and one thread.

        Raises :class:`Unavailable` with too few images, and where h or z have collapsed.
        """
        labels = trained.split(self.split).labels.cpu()
        places = self.chosen(labels, trained.seed)
        if len(places) <= 3 * self.perplexity:
            raise Unavailable(f"{len(places)} images are too few for a perplexity of {self.perplexity:g}")
        known = labels[places]
        planes = []
        both: tuple[Features, Features] = ("h", "z")
        for at in both:
            x = trained.features(self.split, at)[0]
            x = x[places.to(x.device)].cpu()
            if not bool(Standard.of(x).varies.any()):
                raise Unavailable(f"the features {at} have collapsed: all images are one point, and no picture")
            plane = self.plane(x, trained.seed)
            yield f"same_class_{at}", same_class(plane, known)
            planes.append((at, plane))
        yield from planes
        yield "labels", known

    def chosen(self, labels: Tensor, seed: int) -> Tensor:
        """Places of the images, class by class."""
        draw = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(labels), generator=draw)
        classes = torch.randperm(int(labels.max()) + 1, generator=draw)[: self.classes].sort().values
        each = self.images // len(classes)
        return torch.cat([shuffled[(labels[shuffled] == one).nonzero().flatten()[:each]] for one in classes])

    def plane(self, x: Tensor, seed: int) -> Tensor:
        """[N, 2] of features [N, D]."""
        from sklearn.manifold import TSNE as Embedding  # its import takes a second, which no other run should pay

        settings: dict[str, Any] = {"init": "pca", "learning_rate": "auto"}
        embedding = Embedding(perplexity=self.perplexity, random_state=seed, **settings)
        return torch.from_numpy(embedding.fit_transform(x.double().numpy()))


def same_class(plane: Tensor, labels: Tensor) -> float:
    """Percentage of the ten nearest neighbours [N, 2] that share a point's label, over all points."""
    distance = torch.cdist(plane.double(), plane.double()).fill_diagonal_(torch.inf)
    nearest = distance.topk(min(NEIGHBOURS, len(labels) - 1), largest=False).indices
    return 100.0 * float((labels[nearest] == labels[:, None]).double().mean())
