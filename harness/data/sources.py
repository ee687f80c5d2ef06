"""The data sets of torchvision that we use, and the arguments of each split. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class TorchvisionSource:
    """A class of ``torchvision.datasets`` and what makes it each split; ``lacks``: why there is no such thing."""

    cls: str = ""
    train: Arguments = field(default_factory=dict)
    test: Arguments | None = field(default_factory=dict)
    validation: Arguments | None = None
    lacks: str = ""


def _by(key: str, train: Any, test: Any, validation: Any = None, **also: Any) -> dict[str, Any]:
    held = None if validation is None else {key: validation, **also}
    return {"train": {key: train, **also}, "test": {key: test, **also}, "validation": held}


SOURCES: dict[str, TorchvisionSource] = {
    # --- Table 8, in its order
    "food101": TorchvisionSource("Food101", **_by("split", "train", "test")),
    "cifar10": TorchvisionSource(**_by("train", True, False)),
    "cifar100": TorchvisionSource("CIFAR100", **_by("train", True, False)),
    "birdsnap": TorchvisionSource(lacks="torchvision has no Birdsnap"),
    "sun397": TorchvisionSource(
        lacks="torchvision's SUN397 comes without the partitions that the paper's first split is one of"
    ),
    "cars": TorchvisionSource("StanfordCars", **_by("split", "train", "test")),
    "aircraft": TorchvisionSource("FGVCAircraft", **_by("split", "train", "test", "val", annotation_level="variant")),
    "voc2007": TorchvisionSource("VOCDetection", **_by("image_set", "train", "test", "val", year="2007")),
    "dtd": TorchvisionSource("DTD", **_by("split", "train", "test", "val", partition=1)),
    "pets": TorchvisionSource("OxfordIIITPet", **_by("split", "trainval", "test")),
    "caltech101": TorchvisionSource("Caltech101", test=None),
    "flowers102": TorchvisionSource("Flowers102", **_by("split", "train", "test", "val")),
    # --- others
    "country211": TorchvisionSource("Country211", **_by("split", "train", "test", "valid")),
    "fashion_mnist": TorchvisionSource("FashionMNIST", **_by("train", True, False)),
    "gtsrb": TorchvisionSource("GTSRB", **_by("split", "train", "test")),
    "imagenette": TorchvisionSource("Imagenette", **_by("split", "train", "val")),
    "kmnist": TorchvisionSource("KMNIST", **_by("train", True, False)),
    "mnist": TorchvisionSource("MNIST", **_by("train", True, False)),
    "rendered_sst2": TorchvisionSource("RenderedSST2", **_by("split", "train", "test", "val")),
    "stl10": TorchvisionSource("STL10", **_by("split", "train", "test")),
    "svhn": TorchvisionSource("SVHN", **_by("split", "train", "test")),
    "usps": TorchvisionSource("USPS", **_by("train", True, False)),
}
