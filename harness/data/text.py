"""Captions as a column of a data set: a tokenizer, and the file that captions of an image folder are in.

The tokenizer is the least that pairs of images and texts need, deterministic and without a model: lower-cased words of
the training captions, each with a number. A method with a tokenizer of its own finds the sentences on the split.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor

from harness.config.errors import Complaint, SpecError, nearest
from harness.data.rng import ImageRng

PADDING, UNKNOWN = 0, 1
"""Tokens of no word and of a word that no training caption has."""

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")

FILE = "captions.tsv"


def _words_kept(captions: int | bool) -> int | bool:
    if captions is True or captions < 0:
        raise ValueError("captions is false, or how many words of each are kept")
    return captions or False


Captions = Annotated[int | bool, AfterValidator(_words_kept)]
"""An option of data sets: no captions, or the number of words kept of each."""

Sentences = tuple[tuple[str, ...], ...]
"""Of every image its captions, as they were written."""


def words_of(caption: str) -> list[str]:
    """Lower-cased; a word is letters and digits, with hyphens and apostrophes inside."""
    return WORD.findall(caption.lower())


@dataclass(frozen=True)
class Vocabulary:
    """``words``: the word of each token; those of padding and unknown words come first."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]]) -> Vocabulary:
        """All words of these captions in alphabetical order, so that the order of images does not matter."""
        found = {word for captions in sentences for caption in captions for word in words_of(caption)}
        return cls(("", "?", *sorted(found)))

    def tokens(self, sentences: Sequence[Sequence[str]], *, captions: int, length: int) -> Tensor:
        """int64 [N, captions, length]: the first words of every caption, then padding; all padding where none is."""
        numbers = {word: number for number, word in enumerate(self.words)}
        table = torch.full((len(sentences), captions, length), PADDING)
        for row, of_image in zip(table, sentences, strict=True):
            for place, caption in zip(row, of_image, strict=False):
                known = [numbers.get(word, UNKNOWN) for word in words_of(caption)[:length]]
                place[: len(known)] = torch.tensor(known)
        return table


def one_caption(tokens: Tensor, rng: ImageRng) -> Tensor:
    """[B, K, L] -> [B, L]: of each image one of the captions that it has, all equally likely.

    The choice is a function of run, epoch and image where ``rng`` is a child of a batch's own.
    """
    there = (tokens[..., 0] != PADDING).sum(dim=1)  # those an image has come first
    chosen = rng.integers(there.clamp(min=1).to(rng.keys.device)).to(tokens.device)
    return tokens[torch.arange(len(tokens), device=tokens.device), chosen]


def read_captions(path: Path, images: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Captions of a file of lines ``train/cat/0.png<TAB>A cat on a mat.``, an image as often as it has captions.

    ``images``: those that there are, as they are called there. Raises :class:`SpecError` with the first twenty lines
    that are wrong: not UTF-8, no tab, an image that is not there, no word.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        said = f"{path} cannot be read: {error.strerror}; captions are lines of image, tab, caption"
        raise SpecError(f"{said}, such as train/cat/0.png<TAB>A cat on a mat.") from None
    found: dict[str, list[str]] = {}
    complaints = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                name, caption = _split(line, images)
                found.setdefault(name, []).append(caption)
            except SpecError as error:
                complaints.append(Complaint(f"{path}:{number}", str(error)))
        if len(complaints) == MOST_COMPLAINTS:
            break
    if complaints:
        raise SpecError(complaints)
    return {name: tuple(captions) for name, captions in found.items()}


MOST_COMPLAINTS = 20
"""Of one file: a million lines that are wrong are wrong alike."""


def _split(line: bytes, images: Collection[str]) -> tuple[str, str]:
    try:
        text = line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8 (byte {error.start + 1} of the line)") from None
    name, tab, caption = text.partition("\t")
    if not tab:
        raise SpecError("no tab between image and caption")
    if name not in images:
        folder = name.rpartition("/")[0]
        beside = [one for one in images if one.rpartition("/")[0] == folder]
        said = nearest(name, beside) if beside else "a line begins with train/<class>/<file> or val/<class>/<file>"
        raise SpecError(f"there is no image {name!r}: {said}")
    if not words_of(caption):
        raise SpecError(f"the caption of {name} has no word")
    return name, caption.strip()
