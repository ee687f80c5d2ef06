"""Check every file of a folder of images before a study: what is used, what is refused, and why.

Headers are read, a few kilobytes a file; pixels only where asked. Torch-free.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from harness.config.errors import Complaint, SpecError
from harness.data import pictures
from harness.data.layout import Layout, check_sides, readable, survey

AT_ONCE = 1 << 12
ORIENTATION = 0x0112
"""The tag of EXIF by which a camera says how it was held; 1 is upright."""


@dataclass(frozen=True)
class FileReport:
    """What one file is, or why it is ``refused``."""

    mode: str = ""
    size: tuple[int, int] = (0, 0)
    remarks: tuple[str, ...] = ()
    refused: str = ""


@dataclass
class Findings:
    """Of all files together; ``refused`` are whole sentences that name what they are about."""

    images: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    smallest: tuple[int, int] = (0, 0)
    largest: tuple[int, int] = (0, 0)
    refused: list[str] = field(default_factory=list)

    def add(self, seen: FileReport) -> None:
        self.images += 1
        if seen.refused:
            self.refused.append(seen.refused)
            return
        self.modes[seen.mode] += 1
        self.remarks.update(seen.remarks)
        sizes = [size for size in (self.smallest, self.largest, seen.size) if size != (0, 0)]
        self.smallest, self.largest = min(sizes, key=_pixels), max(sizes, key=_pixels)

    def lines(self) -> Iterator[str]:
        """What there is to say, but for the refusals."""
        if self.modes:
            modes = ", ".join(f"{mode} {count}" for mode, count in self.modes.most_common())
            sizes = " to ".join(f"{wide} x {tall}" for wide, tall in dict.fromkeys((self.smallest, self.largest)))
            yield f"modes: {modes}; pixels: {sizes}"
        yield from (f"{count} {said}" for said, count in sorted(self.remarks.items()))


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def layouts(top: Path) -> tuple[list[Layout], list[Complaint]]:
    """The splits of ``top`` (``train`` and ``val``, or ``top`` itself where it has neither), and what is wrong."""
    sides = [top / part for part in ("train", "val") if (top / part).is_dir()]
    wanted = [top / "train", top / "val"] if sides else [top]
    found: list[Layout] = []
    complaints: list[Complaint] = []
    for side in wanted:
        try:
            found.append(survey(side))
        except SpecError as error:
            complaints += error.complaints
    if len(found) == 2:
        try:
            check_sides(*found)
        except SpecError as error:
            complaints += error.complaints
    return found, complaints


def in_words(layout: Layout) -> str:
    """``pics/train: 4 classes, 160 images, 40 in each``."""
    counts = sorted(map(len, layout.files))
    each = f"{counts[0]} in each" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} in each"
    return f"{readable(layout.top)}: {len(layout.classes)} classes, {sum(counts)} images, {each}"


def examined(found: Iterable[Layout], *, decode: bool, threads: int) -> Findings:
    """Every image file of these splits: its header, and its pixels if ``decode``."""
    paths = [
        layout.top / name / file
        for layout in found
        for name, files in zip(layout.classes, layout.files, strict=True)
        for file in files
    ]
    findings = Findings()
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(paths), AT_ONCE):  # a pool would queue a million files at once
            for seen in pool.map(lambda path: examine(path, decode=decode), paths[first : first + AT_ONCE]):
                findings.add(seen)
    return findings


def examine(path: Path, *, decode: bool = False) -> FileReport:
    """One file, as a run would take it."""
    try:
        if decode:
            image = pictures.opened(path)
            seen = FileReport(image.mode, image.size, tuple(_remarks(image)))
            pictures.rgb(path, image)
            return seen
        with pictures.naming(path), path.open("rb") as file:
            if not file.peek(1):
                raise ValueError("the file is empty")
            image = Image.open(file, formats=pictures.FORMATS)
            pictures.check_size(path, *image.size)
            pictures.check_mode(path, image)
            return FileReport(image.mode, image.size, tuple(_remarks(image)))
    except (SpecError, MemoryError) as error:
        return FileReport(refused=str(error))


def _remarks(image: Image.Image) -> Iterator[str]:
    if getattr(image, "is_animated", False):
        yield "with several frames: the first is taken"
    if image.has_transparency_data:
        yield "may be transparent: laid on white"
    if image.mode == "I" or image.mode.startswith("I;16"):
        yield "of 16 bits: 65535 is white"
    if _orientation(image.info) not in (None, 1):
        yield "turned by a tag of the camera, which is not heeded: taken as stored"


def _orientation(info: Mapping[Any, Any]) -> int | None:
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # damaged tags are of no consequence: nothing heeds them
        exif.load(info.get("exif", b""))
        return exif.get(ORIENTATION)
    return None
