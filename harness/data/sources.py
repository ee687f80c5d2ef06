"""Which data sets torchvision has for us, and how each of its classes is asked for each split. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A class of ``torchvision.datasets`` and what makes it each split; ``lacks``: why there is no such thing."""

    cls: str = ""
    train: Arguments = field(default_factory=dict)
    test: Arguments | None = field(default_factory=dict)
    validation: Arguments | None = None
    lacks: str = ""


def _by(key: str, train: Any, test: Any, validation: Any = None, **also: Any) -> dict[str, Any]:
    held = None if validation is None else {key: validation, **also}
    return {"train": {key: train, **also}, "test": {key: test, **also}, "validation": held}


SOURCES: dict[str, Source] = {
    # --- Table 8, in its order
    "food101": Source("Food101", **_by("split", "train", "test")),
    "cifar10": Source(**_by("train", True, False)),
    "cifar100": Source("CIFAR100", **_by("train", True, False)),
    "birdsnap": Source(lacks="torchvision has no Birdsnap"),
    "sun397": Source(lacks="torchvision's SUN397 comes without the partitions that the paper's first split is one of"),
    "cars": Source("StanfordCars", **_by("split", "train", "test")),
    "aircraft": Source("FGVCAircraft", **_by("split", "train", "test", "val", annotation_level="variant")),
    "voc2007": Source("VOCDetection", **_by("image_set", "train", "test", "val", year="2007")),
    "dtd": Source("DTD", **_by("split", "train", "test", "val", partition=1)),
    "pets": Source("OxfordIIITPet", **_by("split", "trainval", "test")),
    "caltech101": Source("Caltech101", test=None),
    "flowers102": Source("Flowers102", **_by("split", "train", "test", "val")),
    # --- others
    "country211": Source("Country211", **_by("split", "train", "test", "valid")),
    "fashion_mnist": Source("FashionMNIST", **_by("train", True, False)),
    "gtsrb": Source("GTSRB", **_by("split", "train", "test")),
    "imagenette": Source("Imagenette", **_by("split", "train", "val")),
    "kmnist": Source("KMNIST", **_by("train", True, False)),
    "mnist": Source("MNIST", **_by("train", True, False)),
    "rendered_sst2": Source("RenderedSST2", **_by("split", "train", "test", "val")),
    "stl10": Source("STL10", **_by("split", "train", "test")),
    "svhn": Source("SVHN", **_by("split", "train", "test")),
    "usps": Source("USPS", **_by("train", True, False)),
}
