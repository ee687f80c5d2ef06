"""Data sets: small ones resident on the device as uint8, large ones as files that threads decode ahead of use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from harness.config.errors import SpecError
from harness.config.registry import Examples, dataset, knob
from harness.data import fetch, folder, identity, layout, standins
from harness.data.rng import ImageRng
from harness.data.text import FILE, Captions, Sentences, Vocabulary, read_captions


class Split(Protocol):
    """A part of a data set: labels and other columns, and images that come in batches.

    It says what it holds by ``fingerprint()`` (:class:`harness.data.identity.Fingerprinted`); one from outside that
    does not is told from others by its columns alone.
    """

    @property
    def labels(self) -> Tensor:
        """int64 [N]."""
        ...

    @property
    def columns(self) -> Mapping[str, Tensor]:
        """What is known of the images beside their pixels, by name, [N, ...] each; ``label`` always among it."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Split:
        """The same split with its images (if resident) and columns on ``device``; itself if they are there."""
        ...

    def stream(
        self, steps: Sequence[Tensor], windows: Sequence[folder.Window], *, seed: int, epoch: int, workers: int | None
    ) -> Iterator[Tensor | list[Tensor]]:
        """The images of each step, uint8 [B, 3, H, W]: whole, or a list of crops, one for each window.

        Without windows, the list of a source that crops holds the central crop alone.
        """
        ...

    def part(self, places: Tensor) -> Split:
        """The images at ``places``, int64 on the CPU, in that order."""
        ...

    def joined(self, other: Split) -> Split:
        """These images and then those of ``other``, another part of the same data set."""
        ...


class Dataset(NamedTuple):
    """``vocabulary``: the word of each token of the column ``text``, where there is one (:mod:`harness.data.text`)."""

    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resident:
    """All images in the memory of one device: ``images`` uint8 [N, 3, H, W], ``labels`` int64 [N].

    ``others``: its columns but for the labels, [N, ...] each; ``sentences``: what the column ``text`` was made of.
    """

    images: Tensor
    labels: Tensor
    others: Mapping[str, Tensor] = field(default_factory=dict)
    sentences: Sentences = ()

    @property
    def columns(self) -> Mapping[str, Tensor]:
        return {"label": self.labels, **self.others}

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Resident:
        if self.images.device == torch.empty(0, device=device).device:
            return self
        others = {name: column.to(device) for name, column in self.others.items()}
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), others=others)

    def stream(
        self, steps: Sequence[Tensor], windows: Sequence[folder.Window], *, seed: int, epoch: int, workers: int | None
    ) -> Iterator[Tensor | list[Tensor]]:
        for indices in steps:
            yield self.images.index_select(0, indices.to(self.images.device, non_blocking=True))

    def part(self, places: Tensor) -> Resident:
        places = places.to(self.labels.device)
        others = {name: column[places] for name, column in self.others.items()}
        sentences = tuple(self.sentences[i] for i in places.tolist()) if self.sentences else ()
        return Resident(self.images[places], self.labels[places], others, sentences)

    def fingerprint(self) -> str:
        """As :class:`harness.data.identity.Fingerprinted` has it."""
        return identity.of_columns({"image": self.images, **self.columns}, self.sentences)

    def joined(self, other: Split) -> Resident:
        assert isinstance(other, Resident)
        others = {name: torch.cat([column, other.others[name]]) for name, column in self.others.items()}
        labels = torch.cat([self.labels, other.labels])
        return Resident(torch.cat([self.images, other.images]), labels, others, self.sentences + other.sentences)


def balanced(labels: Tensor, count: int) -> Tensor:
    """Places of ``count`` images, in ascending order: the first of every class, then the second of every class, ...

    So subsets are nested, deterministic, and as balanced as the labels allow.
    """
    by_class = labels.argsort(stable=True)
    starts = torch.bincount(labels).cumsum(0).roll(1)
    starts[0] = 0
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    return rank.argsort(stable=True)[:count].sort().values


def balanced_at_random(labels: Tensor, count: int, seed: int) -> Tensor:
    """As :func:`balanced`, of the images in a random order: places in ascending order, nested at equal seed."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return shuffled[balanced(labels[shuffled], count)].sort().values


@dataset("cifar10")
@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """CIFAR-10 (Krizhevsky 2009), 32x32, ten classes, 10 000 test images.

    ``validation_images`` are the last of the 50 000 training images and are never trained on; ``train_images`` are
    taken from the others, balanced over the classes.
    """

    tiny: ClassVar[Examples] = ({"train_images": 100}, {"train_images": 60}, {"validation_images": 20})
    tiny_files = staticmethod(standins.cifar10)
    train_images: Annotated[int, Field(ge=1, le=50_000)] = 50_000
    validation_images: Annotated[int, Field(ge=0, lt=50_000)] = 0

    def __post_init__(self) -> None:
        if self.train_images + self.validation_images > 50_000:
            raise ValueError("train_images + validation_images may not exceed the 50 000 images of the training set")

    def load(self, root: Path) -> Dataset:
        """Raises :class:`SpecError` where a file is missing or damaged."""
        train = self._read(root, fetch.TRAIN_FILES)
        pool = len(train) - self.validation_images
        validation = train.part(torch.arange(pool, len(train))) if self.validation_images else None
        chosen = balanced(train.labels[:pool], self.train_images)
        return Dataset(train.part(chosen), validation, self._read(root, (fetch.TEST_FILE,)), fetch.CLASSES)

    def _read(self, root: Path, names: Sequence[str]) -> Resident:
        rows = []
        for name in names:
            path = root / fetch.FOLDER / name
            content = path.read_bytes() if path.is_file() else None
            # The sum costs a sixth of a second per run; a damaged image would cost a study.
            if content is None or fetch.digest(content) != fetch.MD5[name]:
                state = "is missing" if content is None else "is damaged"
                raise SpecError(f"{path} {state}; to fetch it: python -m harness.data cifar10 --root {root}")
            rows.append(np.frombuffer(content, dtype=np.uint8).reshape(fetch.ROWS, 1 + 3 * 32 * 32))
        table = torch.from_numpy(np.concatenate(rows))
        return Resident(table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0].long())


@dataset("image_folder")
@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images in files, in ImageNet's layout: ``<root>/<path>/train/<class>/*`` and ``<root>/<path>/val/<class>/*``.

    Training images are cropped at random from the full picture while they are decoded, by the leading crop of the views
    and with its very draws; without one, and for ``val``, the short side is resized to ``resize`` pixels and the
    center taken (section B.6: 256, then 224). What is data says :mod:`harness.data.layout`, what a picture's mode means
    :mod:`harness.data.pictures`. ``image_size`` in pixels. ``validation_images`` (the last of each class)
    and ``train_images`` (None: all others) are as for CIFAR-10.

    ``captions``: with a column ``text``, so many words of each caption of ``<root>/<path>/captions.tsv``, whose lines
    are ``train/<class>/<file><TAB>caption``, an image as often as it has captions. Every training image has one.
    """

    tiny: ClassVar[Examples] = (
        {"path": "pictures", "image_size": 8, "resize": 20},
        {"path": "others"},
        {"image_size": 16},
        {"resize": 24},
        {"interpolation": "bicubic"},
        {"train_images": 12},
        {"validation_images": 6},
        {"captions": 3},
    )
    tiny_files = staticmethod(standins.image_folders)
    path: str = "imagenet"
    image_size: Annotated[int, Field(ge=8)] = 224
    resize: Annotated[int, Field(ge=8)] = 256
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    train_images: Annotated[int, Field(ge=1)] | None = None
    validation_images: Annotated[int, Field(ge=0)] = 0
    captions: Captions = knob(False, neutral=False)

    def __post_init__(self) -> None:
        if self.resize < self.image_size:
            raise ValueError("resize may not be smaller than image_size")

    def load(self, root: Path) -> Dataset:
        """Lists the files (:mod:`harness.data.layout`: what is data).

        Raises :class:`SpecError` where a folder is missing or holds too few images, where train and val do not have the
        same classes, and for captions that are wrong.
        """
        found = [layout.survey(root / self.path / part) for part in ("train", "val")]
        layout.check_sides(*found)
        train, test = map(folder.listed, found)
        pool = balanced(train.labels, len(train.labels) - self.validation_images)
        chosen = pool[balanced(train.labels[pool], len(pool) if self.train_images is None else self.train_images)]
        wanted = self.validation_images + (self.train_images or 1)
        if wanted > len(train.labels):
            raise SpecError(f"{root / self.path / 'train'} has {len(train.labels)} images, {wanted} are asked for")
        rest = torch.ones(len(train.labels), dtype=torch.bool)
        rest[pool] = False
        parts = [train.part(chosen), train.part(rest.nonzero().flatten()), test]
        words: tuple[str, ...] = ()
        if self.captions:
            parts, vocabulary = captioned(root / self.path, (train, test), parts, self.captions)
            words = vocabulary.words
        frame = folder.Frame(self.image_size, self.resize, self.interpolation)
        ours, held_out, others = (folder.Files(part, frame) for part in parts)
        return Dataset(ours, held_out if self.validation_images else None, others, train.classes, words)


def captioned(
    top: Path, listings: Sequence[folder.Listing], parts: Sequence[folder.Listing], length: int
) -> tuple[list[folder.Listing], Vocabulary]:
    """``parts`` of the image folder ``top`` with the column ``text``; the vocabulary is of the first, trained on.

    ``listings``: all that the file of captions may speak of. Raises :class:`SpecError` where it is wrong, or has no
    caption of an image of the first part.
    """

    def names(listing: folder.Listing) -> list[str]:
        return [Path(str(one)).relative_to(top).as_posix() for one in listing.paths]

    known = read_captions(top / FILE, {name for listing in listings for name in names(listing)})
    sentences = [tuple(known.get(name, ()) for name in names(part)) for part in parts]
    for name, captions in zip(names(parts[0]), sentences[0], strict=True):
        if not captions:
            raise SpecError(f"{top / FILE}: no line is of {name}, which is trained on")
    vocabulary = Vocabulary.of(sentences[0])
    most = max(len(captions) for of_part in sentences for captions in of_part)
    made = [
        replace(part, others={"text": vocabulary.tokens(each, captions=most, length=length)}, sentences=each)
        for part, each in zip(parts, sentences, strict=True)
    ]
    return made, vocabulary


@dataclass(frozen=True)
class Drawn(Resident):
    """Images that a rule drew: another machine may round some of them otherwise, and they are the same data."""

    rule: str = ""

    def fingerprint(self) -> str:
        return identity.combined(["drawn", self.rule, identity.of_columns(self.columns, self.sentences)])


@dataset("synthetic")
@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Striped images for tests: a class is a direction of the stripes and a tint; phase, light and noise vary.

    No files, the same for ever, and learnable within seconds, also by a contrastive objective. ``captions``: with a
    column ``text``, so many words of each of three captions that say the direction and the tint in degrees.
    """

    tiny: ClassVar[Examples] = (
        {"train_images": 40, "test_images": 30, "image_size": 16},
        {"train_images": 20},
        {"validation_images": 10},
        {"test_images": 20},
        {"classes": 3},
        {"captions": 3},
        {"image_size": 24},
    )
    train_images: Annotated[int, Field(ge=1)] = 512
    validation_images: Annotated[int, Field(ge=0)] = 0
    test_images: Annotated[int, Field(ge=1)] = 256
    classes: Annotated[int, Field(ge=2)] = 4
    image_size: Annotated[int, Field(ge=8)] = 32
    captions: Captions = knob(False, neutral=False)

    def load(self, root: Path) -> Dataset:
        """``root`` is not looked at."""
        train, validation, test = (
            self._draw(name, count)
            for name, count in (
                ("train", self.train_images),
                ("validation", self.validation_images),
                ("test", self.test_images),
            )
        )
        words: tuple[str, ...] = ()
        if self.captions:
            vocabulary = Vocabulary.of(train.sentences)
            words = vocabulary.words
            train, validation, test = (
                replace(one, others={"text": vocabulary.tokens(one.sentences, captions=SAID, length=self.captions)})
                for one in (train, validation, test)
            )
        names = tuple(f"stripes {i}" for i in range(self.classes))
        return Dataset(train, validation if self.validation_images else None, test, names, words)

    def _draw(self, name: str, count: int) -> Resident:
        rng = ImageRng(seed=0, epoch=0, images=torch.arange(count)).child(name)
        labels = torch.arange(count) % self.classes
        share = labels / self.classes
        size = self.image_size
        along = torch.linspace(0.0, 1.0, size)
        angle = torch.pi * share[:, None, None]
        across = along[:, None] * angle.sin() + along * angle.cos()
        waves = torch.sin(2 * torch.pi * (4.0 * across + rng.uniform(0.0, 1.0, 1, 1)))
        tint = 0.5 + 0.3 * torch.cos(2 * torch.pi * (share[:, None] + torch.arange(3) / 3))
        light = rng.uniform(0.7, 1.2, 1, 1, 1)
        images = light * (tint[:, :, None, None] + 0.25 * waves[:, None]) + 0.05 * rng.normal(3, size, size)
        sentences = self._described(labels, rng.child("captions")) if self.captions else ()
        pixels = images.clamp_(0.0, 1.0).mul_(255.0).round_().to(torch.uint8)
        return Drawn(pixels, labels, sentences=sentences, rule=f"{name} {count} {self.classes} {self.image_size}")

    def _described(self, labels: Tensor, rng: ImageRng) -> Sentences:
        ways = rng.permutation(len(SENTENCES))[:, :SAID].tolist()
        turns = [(round(180 * label / self.classes), round(360 * label / self.classes)) for label in labels.tolist()]
        return tuple(
            tuple(SENTENCES[way].format(turn=turn, tint=tint) for way in of_image)
            for of_image, (turn, tint) in zip(ways, turns, strict=True)
        )


SAID = 3
"""Captions of a synthetic image, of these."""
SENTENCES = (
    "Stripes turned by {turn} degrees, in tint {tint}.",
    "A picture of tint {tint} with stripes at {turn}.",
    "Tint {tint}: stripes that run at {turn} degrees.",
    "Stripes at {turn} in some light, of tint {tint}.",
    "Here the tint is {tint} and the stripes are at {turn}.",
)
