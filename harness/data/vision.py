"""Data sets of torchvision, read from where torchvision keeps them: the twelve of Table 8, and some more.

Nothing is ever downloaded here but by ``python -m harness.data NAME``. Splits and their sizes are torchvision's; where
the paper (appendix B.8.1) needs another, the table below says so.
"""

from __future__ import annotations

import xml.etree.ElementTree as xml
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from PIL import Image
from pydantic import AfterValidator, Field
from torch import Tensor

from harness.config.errors import SpecError, nearest
from harness.config.registry import Examples, dataset
from harness.data import identity, pictures, standins
from harness.data.datasets import Cifar10, Dataset, Resident, balanced_at_random
from harness.data.folder import Files, Frame, Listing
from harness.data.sources import SOURCES, Arguments

CALTECH_TRAIN = 30
"""Training images per class of Caltech-101, "randomly chosen", the others for testing (appendix B.8.1)."""


def _known(name: str) -> str:
    if name not in SOURCES:
        raise ValueError(nearest(name, SOURCES, most=len(SOURCES)))
    return name


class TorchvisionPicture(NamedTuple):
    """One image of a torchvision data set, decoded when it is asked for."""

    of: Any
    place: int

    def picture(self) -> Image.Image:
        image: Image.Image = self.of[self.place][0]
        return image

    def fingerprint(self) -> str:
        """Of its file, or of its pixels where torchvision holds them all; empty where torchvision keeps that to itself.

        Never of pixels that are decoded for it: decoders of JPEG round in more than one way.
        """
        for name in ("_image_files", "_images", "images", "_samples", "data"):
            held = getattr(self.of, name, None)
            if held is None or len(held) != len(self.of):
                continue
            one = held[self.place]
            one = one[0] if isinstance(one, tuple) else one
            if isinstance(one, str | Path):
                return identity.of_file(Path(one))
            return identity.of_tensors(torch.as_tensor(one))
        return ""

    def __str__(self) -> str:
        return f"image {self.place} of {type(self.of).__name__}"


class Cifar10Pictures:
    """CIFAR-10 in the shape of a data set of torchvision, from the files that our own command brings.

    torchvision's own class wants the same images a second time, in another format.
    """

    def __init__(self, root: Path, *, train: bool) -> None:
        found = Cifar10().load(root)
        split = found.train if train else found.test
        assert isinstance(split, Resident)
        self.images, self.targets, self.classes = split.images, split.labels, found.classes

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        pixels = self.images[place].permute(1, 2, 0).contiguous().numpy()
        return Image.fromarray(pixels), int(self.targets[place])


@dataset("torchvision")
@dataclass(frozen=True, kw_only=True)
class Torchvision:
    """A data set of torchvision, by the name that ``python -m harness.data`` fetches it under.

    The short side of an image is resized to ``resize`` pixels (None: ``image_size``) and the central square taken;
    training images are cropped at random from the full picture by the leading crop of the views, as for
    :class:`ImageFolder`. Bicubic as in appendix B.8.1. ``voc2007`` has several labels per image, int64 [N, 20]: 1 in
    it, 0 not, -1 in it but too difficult to count (Everingham et al. 2010). ``cifar10`` is read from our own files.

    Departures: torchvision's Caltech-101 leaves out the background class.
    """

    tiny: ClassVar[Examples] = (
        {"name": "mnist", "image_size": 20},
        {"name": "cifar10"},
        {"image_size": 16},
        {"resize": 24},
        {"interpolation": "bilinear"},
    )
    tiny_files = staticmethod(standins.torchvision)
    name: Annotated[str, AfterValidator(_known)]
    image_size: Annotated[int, Field(ge=8)] = 224
    resize: Annotated[int, Field(ge=8)] | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize < self.image_size:
            raise ValueError("resize may not be smaller than image_size")

    def load(self, root: Path) -> Dataset:
        """Raises :class:`SpecError` where torchvision cannot load it from ``root``."""
        source = SOURCES[self.name]
        if source.test is None:
            whole = self._split(root, source.train)
            chosen = balanced_at_random(whole.labels, CALTECH_TRAIN * (int(whole.labels.max()) + 1), seed=0)
            rest = torch.ones(len(whole), dtype=torch.bool)
            rest[chosen] = False
            train, validation, test = whole.part(chosen), None, whole.part(rest.nonzero().flatten())
        else:
            train, test = self._split(root, source.train), self._split(root, source.test)
            validation = None if source.validation is None else self._split(root, source.validation)
        return Dataset(train, validation, test, train.listing.classes)

    def _split(self, root: Path, arguments: Arguments) -> Files:
        found = opened(self.name, root, arguments)
        with pictures.naming(f"{self.name} in {root}", "has labels that cannot be read (damaged?)"):
            labels = labels_of(found)
        count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        known = getattr(found, "classes", None) or getattr(found, "categories", None) or range(count)
        listing = Listing(
            tuple(TorchvisionPicture(found, i) for i in range(len(labels))), labels, tuple(map(str, known))
        )
        return Files(listing, Frame(self.image_size, self.resize or self.image_size, self.interpolation))


def opened(name: str, root: Path, arguments: Arguments, *, download: bool = False) -> Any:
    """One split as torchvision's own object. Raises :class:`SpecError` where it cannot be had."""
    from torchvision import datasets

    source = SOURCES[name]
    if source.lacks:
        raise SpecError(f"{name}: {source.lacks}")
    if name == "cifar10":
        return Cifar10Pictures(root, **arguments)
    try:
        return getattr(datasets, source.cls)(root, download=download, **arguments)
    except MemoryError:
        raise
    except Exception as error:  # of damaged files its readers raise what they like: EOFError, AssertionError, KeyError
        said = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, RuntimeError | OSError | ImportError | ValueError):
            said = f"{type(error).__name__}: {said}; damaged?"
        if download:
            raise SpecError(f"{name} could not be fetched: {said}") from None
        where = f"to fetch it: python -m harness.data {name} --root {root}"
        raise SpecError(f"{name} is not in {root} ({said}); {where}") from None


def fetch(name: str, root: Path) -> list[int]:
    """Have torchvision download a data set into ``root``; images per split. Raises :class:`SpecError` if it cannot."""
    root.mkdir(parents=True, exist_ok=True)
    source = SOURCES[name]
    splits = [one for one in (source.train, source.validation, source.test) if one is not None]
    return [len(opened(name, root, arguments, download=True)) for arguments in splits]


def labels_of(found: Any) -> Tensor:
    """int64 [N], or [N, 20] for VOC, without decoding an image where torchvision keeps labels in any known place."""
    if hasattr(found, "annotations"):
        return torch.tensor([_voc_labels(Path(path)) for path in found.annotations])
    for name in ("targets", "_labels", "labels", "y"):
        held = getattr(found, name, None)
        if held is not None and len(held) == len(found):
            return torch.as_tensor(held).long()
    if len(getattr(found, "_samples", ())) == len(found):
        return torch.tensor([int(sample[1]) for sample in found._samples])
    return torch.tensor([int(found[i][1]) for i in range(len(found))])


VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def _voc_labels(path: Path) -> list[int]:
    """Of one annotation: 1 for a class with an object that counts, -1 for one whose objects are all difficult."""
    labels = [0] * len(VOC)
    for thing in xml.parse(path).getroot().iter("object"):
        place = VOC.index(str(thing.findtext("name")))
        difficult = thing.findtext("difficult") == "1"
        labels[place] = (labels[place] or -1) if difficult else 1
    return labels
