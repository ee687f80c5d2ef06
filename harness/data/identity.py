"""Identify a data set by a digest of its listing, labels and contents.

Equal digests mean the same pictures in the same order with the same labels, wherever the folder lies and whatever it
is called. Of files the names within the split, the labels, and size and first 64 KiB of at most 16 384 pictures a
split, evenly spaced (in smaller splits: of every picture) are read; of data held in memory every byte; of data that is
drawn, its rule.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from harness.config.errors import SpecError
from harness.data.layout import listed, readable
from harness.data.text import Sentences

SPLITS = ("train", "validation", "test")
MOST_READ = 1 << 14
HEAD = 1 << 16
DIGITS = 16
READERS = 8


@runtime_checkable
class Fingerprinted(Protocol):
    """A split, or a source of pictures, that can say what it holds. Of one that cannot, its columns are compared."""

    def fingerprint(self) -> str:
        """Equal exactly where the contents are; nothing of places, devices or times."""
        ...


def described(data: Any) -> dict[str, Any]:
    """What ``provenance.json`` says of a :class:`harness.data.datasets.Dataset`.

    ``{"digest": 16 hex digits, "images": {"train": 50000, "test": 10000}, "classes": [...]}``. Raises
    :class:`SpecError` naming a file that cannot be read.
    """
    splits = {name: split for name in SPLITS if (split := getattr(data, name)) is not None}
    prints = [f"{name} {fingerprint(split)}" for name, split in splits.items()]
    return {
        "digest": combined([*prints, *data.classes])[:DIGITS],
        "images": {name: len(split) for name, split in splits.items()},
        "classes": [readable(name) for name in data.classes],
    }


def in_words(described: Mapping[str, Any]) -> str:
    """``8f3a90c1d2e4b567 (train 160, test 40 images; classes c0, c1, c2, c3)``."""
    counts = ", ".join(f"{split} {count}" for split, count in described.get("images", {}).items())
    return f"{described.get('digest')} ({counts} images; classes {listed(described.get('classes', []))})"


def remarks(data: Any) -> list[str]:
    """What a data set has to say of itself, each line once: what it left out."""
    said = [line for name in SPLITS for line in getattr(getattr(data, name), "remarks", ())]
    return list(dict.fromkeys(said))


def fingerprint(split: Any) -> str:
    """Of one split."""
    return split.fingerprint() if isinstance(split, Fingerprinted) else of_columns(split.columns)


def of_tensors(*tensors: Tensor) -> str:
    """Of shapes, types and every byte; the same on every device."""
    digest = hashlib.blake2b()
    for tensor in tensors:
        here = tensor.detach().cpu().contiguous()
        digest.update(f"{here.dtype} {tuple(here.shape)}".encode())
        digest.update(here.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def of_columns(columns: Mapping[str, Tensor], sentences: Sentences = ()) -> str:
    """Of what is known of the images, whatever the order of the names, and of what the column ``text`` was made of."""
    told = [text for name in sorted(columns) for text in (name, of_tensors(columns[name]))]
    return combined([*told, *(combined(of_image) for of_image in sentences)])


def of_pictures(pictures: Sequence[Any], columns: Mapping[str, Tensor], sentences: Sentences = ()) -> str:
    """Of files (``Path``) or sources, in their order, with their labels and other columns."""
    names = ("/".join(one.parts[-2:]) if isinstance(one, Path) else "" for one in pictures)
    spaced = range(min(len(pictures), MOST_READ))
    chosen = [pictures[i * len(pictures) // len(spaced)] for i in spaced]
    with ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(_content, chosen))
    return combined([of_columns(columns, sentences), combined(names), *contents])


def combined(texts: Iterable[str]) -> str:
    """One digest of several texts, in order; a text cannot run into the next."""
    digest = hashlib.blake2b()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()


def _content(picture: Any) -> str:
    if not isinstance(picture, Path):
        return picture.fingerprint() if isinstance(picture, Fingerprinted) else ""
    return of_file(picture)


def of_file(path: Path) -> str:
    """Of its size and its first 64 KiB. Raises :class:`SpecError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            return f"{os.fstat(file.fileno()).st_size} {hashlib.blake2b(head, digest_size=16).hexdigest()}"
    except OSError as error:
        raise SpecError(f"{readable(path)} cannot be read: {error.strerror or error}") from None
