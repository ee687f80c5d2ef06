"""Images in files: list them, and decode them ahead of use on threads, leading crop included.

Threads, not processes: Pillow decodes and resizes without Python's lock, the pixels need no copy through shared
memory, and an epoch starts at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.data import identity, pictures
from harness.data.augment import Crop
from harness.data.layout import Layout
from harness.data.rng import ImageRng
from harness.data.text import Sentences

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
AHEAD = 2  # batches being decoded while one is in use


class Window(NamedTuple):
    """A random crop (None: the central one) and the names of the random stream, from the outermost in, it draws from.

    ``size``: of what it is resized to, in pixels; None: the frame's.
    """

    crop: Crop | None
    stream: tuple[str, ...]
    size: int | None = None


class Frame(NamedTuple):
    """Size of the images in pixels; short side before the central crop; interpolation of that resize."""

    size: int
    resize: int
    interpolation: str


class PictureSource(Protocol):
    """A picture that is not in a file of its own but can be had all the same, from a thread; ``str()`` names it."""

    def picture(self) -> Image.Image: ...


@dataclass(frozen=True)
class Listing:
    """Image files, or other sources of pictures, with their classes; ``labels`` int64 [N], or several each: [N, C].

    ``others``: its columns but for the labels, [N, ...] each; ``sentences``: what the column ``text`` was made of;
    ``remarks``: lines about what was left out.
    """

    paths: tuple[Path | PictureSource, ...]
    labels: Tensor
    classes: tuple[str, ...]
    others: Mapping[str, Tensor] = field(default_factory=dict)
    sentences: Sentences = ()
    remarks: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Listing:
        others = {name: column.to(device) for name, column in self.others.items()}
        return replace(self, labels=self.labels.to(device), others=others)

    def part(self, places: Tensor) -> Listing:
        paths, there = tuple(self.paths[i] for i in places.tolist()), places.to(self.labels.device)
        others = {name: column[there] for name, column in self.others.items()}
        sentences = tuple(self.sentences[i] for i in places.tolist()) if self.sentences else ()
        return replace(self, paths=paths, labels=self.labels[there], others=others, sentences=sentences)

    def joined(self, other: Listing) -> Listing:
        others = {name: torch.cat([column, other.others[name]]) for name, column in self.others.items()}
        paths, labels = self.paths + other.paths, torch.cat([self.labels, other.labels])
        joined = replace(self, paths=paths, labels=labels, others=others, sentences=self.sentences + other.sentences)
        return replace(joined, remarks=tuple(dict.fromkeys(self.remarks + other.remarks)))


def listed(layout: Layout) -> Listing:
    """All images of a folder, classes and files in the order of their names."""
    named = zip(layout.classes, layout.files, strict=True)
    paths = tuple(layout.top / name / file for name, files in named for file in files)
    counts = torch.tensor([len(files) for files in layout.files])
    labels = torch.arange(len(layout.classes)).repeat_interleave(counts)
    return Listing(paths, labels, layout.classes, remarks=(layout.remark,) if layout.remark else ())


@dataclass(frozen=True)
class Files:
    """A split whose images are decoded when they are needed."""

    listing: Listing
    frame: Frame

    @property
    def device(self) -> torch.device:
        return self.listing.labels.device

    @property
    def labels(self) -> Tensor:
        return self.listing.labels

    @property
    def columns(self) -> Mapping[str, Tensor]:
        return {"label": self.labels, **self.listing.others}

    @property
    def sentences(self) -> Sentences:
        return self.listing.sentences

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.listing.remarks

    def __len__(self) -> int:
        return len(self.listing.paths)

    def fingerprint(self) -> str:
        """As :class:`harness.data.identity.Fingerprinted` has it."""
        return identity.of_pictures(self.listing.paths, self.columns, self.sentences)

    def to(self, device: torch.device | str) -> Files:
        return replace(self, listing=self.listing.to(device))

    def part(self, places: Tensor) -> Files:
        return replace(self, listing=self.listing.part(places))

    def joined(self, other: object) -> Files:
        assert isinstance(other, Files)
        return replace(self, listing=self.listing.joined(other.listing))

    def stream(
        self, steps: Sequence[Tensor], windows: Sequence[Window], *, seed: int, epoch: int, workers: int | None
    ) -> Iterator[list[Tensor]]:
        """For each step one uint8 tensor [B, 3, size, size] for each window; a single, central one if there is none."""
        threads = workers or torch.get_num_threads()  # the run's share of the machine: others may run beside it
        queue: deque[Future[list[Tensor]]] = deque()
        left = iter(steps)
        # Two pools: a task that waited for tasks of its own pool could wait for ever.
        with ThreadPoolExecutor(threads) as pool, ThreadPoolExecutor(AHEAD) as assembling:
            try:
                for _ in range(AHEAD):
                    queue.extend(assembling.submit(self._read, pool, i, windows, seed, epoch) for i in following(left))
                while queue:
                    crops = queue.popleft().result()
                    queue.extend(assembling.submit(self._read, pool, i, windows, seed, epoch) for i in following(left))
                    yield [one.to(self.device, non_blocking=True) for one in crops]
            finally:
                for waiting in queue:
                    waiting.cancel()

    def _read(
        self, pool: ThreadPoolExecutor, indices: Tensor, windows: Sequence[Window], seed: int, epoch: int
    ) -> list[Tensor]:
        paths = [self.listing.paths[i] for i in indices.tolist()]
        opened = list(pool.map(opened_image, paths))
        widths, heights = torch.tensor([image.size for image in opened]).T
        rng = ImageRng(seed=seed, epoch=epoch, images=indices)
        windows = windows or (Window(None, ()),)
        boxes = []
        for crop, names, _ in windows:
            stream = rng
            for name in names:
                stream = stream.child(name)
            drawn = None if crop is None else crop.draw(stream, heights, widths)
            boxes.append(None if drawn is None else torch.stack(drawn, dim=1).tolist())
        pinned = self.device.type == "cuda"
        sides = [one.size or self.frame.size for one in windows]
        crops = [torch.empty(len(opened), 3, side, side, dtype=torch.uint8, pin_memory=pinned) for side in sides]

        def decode(place: int) -> None:
            image = decoded_image(paths[place], opened[place])
            for window, box, target in zip(windows, boxes, crops, strict=True):
                if window.crop is None or box is None:
                    cut = center_of(image, self.frame)
                else:
                    cut = window_of(image, box[place], target.shape[-1], window.crop.interpolation)
                target[place] = torch.from_numpy(np.array(cut)).permute(2, 0, 1)

        list(pool.map(decode, range(len(opened))))
        return crops


def following(left: Iterator[Tensor]) -> list[Tensor]:
    """The next step, if there is one."""
    return [one for one in (next(left, None),) if one is not None]


def opened_image(path: Path | PictureSource) -> Image.Image:
    """A picture whose pixels need not be decoded yet. Raises :class:`SpecError` naming it."""
    if isinstance(path, Path):
        return pictures.opened(path)
    with pictures.naming(path):
        image = path.picture()
    pictures.check_size(path, *image.size)
    return image


def decoded_image(path: Path | PictureSource, image: Image.Image) -> Image.Image:
    """Its pixels as RGB. Raises :class:`SpecError` naming the file."""
    found = pictures.rgb(path, image)
    if isinstance(path, Path) and found is not image:
        image.close()  # or a batch of large scans would be in memory twice
    return found


def window_of(image: Image.Image, box: Sequence[int], size: int, interpolation: str) -> Image.Image:
    """Crop an image to a box (top, left, height, width, mirrored) and resize it to ``size`` pixels."""
    top, left, height, width, mirrored = box
    cut = image.crop((left, top, left + width, top + height)).resize((size, size), RESAMPLING[interpolation])
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cut


def center_of(image: Image.Image, frame: Frame) -> Image.Image:
    """Short side to ``resize``, then the central square (torchvision's ``Resize`` and ``CenterCrop``)."""
    width, height = image.size
    short = min(width, height)
    width, height = int(frame.resize * width / short), int(frame.resize * height / short)
    resized = image.resize((width, height), RESAMPLING[frame.interpolation])
    left, top = round((width - frame.size) / 2), round((height - frame.size) / 2)
    return resized.crop((left, top, left + frame.size, top + frame.size))
