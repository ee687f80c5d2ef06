"""Write small files in the layout of real data sets, for the tiny examples of components."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from harness.data import fetch

ROWS, PER_CLASS = 30, 8


@contextmanager
def cifar10(root: Path) -> Iterator[None]:
    """CIFAR-10 of :data:`ROWS` images a file beneath ``root``; within, these files have the right size and sums."""
    draw = np.random.RandomState(0)
    (root / fetch.FOLDER).mkdir(exist_ok=True)
    sums = {}
    for name in fetch.MD5:
        labels = np.arange(ROWS, dtype=np.uint8)[:, None] % 10
        content = np.concatenate([labels, draw.randint(0, 256, (ROWS, 3072)).astype(np.uint8)], axis=1).tobytes()
        (root / fetch.FOLDER / name).write_bytes(content)
        sums[name] = fetch.digest(content)
    before = fetch.ROWS, fetch.MD5
    fetch.ROWS, fetch.MD5 = ROWS, sums
    try:
        yield
    finally:
        fetch.ROWS, fetch.MD5 = before


@contextmanager
def image_folders(root: Path) -> Iterator[None]:
    """Two folders of pictures, 24 wide and 16 high, of two classes, with captions: ``pictures`` and ``others``."""
    draw = np.random.RandomState(0)
    for name in ("pictures", "others"):
        for part in ("train", "val"):
            for label in ("a", "b"):
                (folder := root / name / part / label).mkdir(parents=True)
                for number in range(PER_CLASS):
                    pixels = draw.randint(0, 256, (16, 24, 3)).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
                    with (root / name / "captions.tsv").open("a", encoding="utf-8") as captions:
                        captions.write(f"{part}/{label}/{number}.png\tPicture {number} of {label} in {part}\n")
    yield


@contextmanager
def torchvision(root: Path) -> Iterator[None]:
    """CIFAR-10 as above, and MNIST of a few digits."""
    draw = np.random.RandomState(0)
    (raw := root / "MNIST" / "raw").mkdir(parents=True)
    for name, count in (("train", 7), ("t10k", 5)):
        digits = draw.randint(0, 256, count * 28 * 28).astype(np.uint8).tobytes()
        for kind, content in (
            ("images-idx3", struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + digits),
            ("labels-idx1", struct.pack(">HBBI", 0, 8, 1, count) + bytes(range(count))),
        ):
            (raw / f"{name}-{kind}-ubyte").write_bytes(content)
            (raw / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    with cifar10(root):
        yield
