"""Captions: the tokens say the words, a caption stays with its image, a bad line is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.config import registry
from harness.config.errors import SpecError
from harness.data.datasets import Dataset, ImageFolder, Synthetic
from harness.data.rng import ImageRng
from harness.data.text import PADDING, UNKNOWN, Vocabulary, one_caption, words_of
from harness.data.views import Views, batches

LINES = {
    "train/cat/0.png": ["A cat on a mat.", "Cat, asleep; don\u2019t wake it"],
    "train/cat/1.png": ["A BLACK cat"],
    "train/dog/0.png": ["Dog-sized dog", "A dog", "Ein H\u00fcndchen"],
    "train/dog/1.png": ["a dog on a mat"],
    "val/cat/0.png": ["A white cat on a mat"],
    "val/dog/0.png": [],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(LINES):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    write(tmp_path, [f"{name}\t{caption}" for name, captions in LINES.items() for caption in captions])
    return tmp_path


def write(root: Path, lines: list[str], **how: Any) -> Path:
    path = root / "pets" / "captions.tsv"
    path.write_text("\n".join(lines), encoding=how.get("encoding", "utf-8"))
    return path


def pets(root: Path, **changes: Any) -> Dataset:
    return ImageFolder(**{"path": "pets", "image_size": 8, "resize": 8, "captions": 6, **changes}).load(root)


def said(tokens: torch.Tensor, vocabulary: tuple[str, ...]) -> list[str]:
    """The words of the tokens [L], unknown ones as ``?``; padding comes last and only there."""
    count = int((tokens != PADDING).sum())
    assert (tokens[:count] != PADDING).all()
    return [vocabulary[token] for token in tokens[:count].tolist()]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A cat, on_a mat!", ["a", "cat", "on", "a", "mat"]),
        ("don't DON\u2019T dog-sized -x- 12", ["don't", "don\u2019t", "dog-sized", "x", "12"]),
        ("\u00dcBER \u732b", ["\u00fcber", "\u732b"]),
        ("...", []),
    ],
)
def test_words(caption: str, words: list[str]) -> None:
    assert words_of(caption) == words


@given(sentences=st.lists(st.lists(st.text("ab \u00e9Z-'_.", max_size=12), max_size=3), min_size=1, max_size=6))
def test_tokens_spell_the_captions(sentences: list[list[str]]) -> None:
    vocabulary = Vocabulary.of(sentences)
    assert vocabulary == Vocabulary.of(reversed(sentences)) and vocabulary.words[:2] == ("", "?")
    table = vocabulary.tokens(sentences, captions=3, length=4)
    assert table.shape == (len(sentences), 3, 4) and table.dtype == torch.int64
    for row, captions in zip(table, sentences, strict=True):
        for tokens, caption in zip(row, [*captions, *[""] * (3 - len(captions))], strict=True):
            assert said(tokens, vocabulary.words) == words_of(caption)[:4]
            assert UNKNOWN not in tokens


def test_captions_of_a_folder_stay_with_their_images(root: Path) -> None:
    data = pets(root)
    assert data.vocabulary == Vocabulary.of([LINES[name] for name in LINES if name.startswith("train")]).words
    for split, names in ((data.train, [*LINES][:4]), (data.test, [*LINES][4:])):
        assert split.sentences == tuple(tuple(LINES[name]) for name in names)  # type: ignore[attr-defined]
        assert split.columns["text"].shape == (len(names), 3, 6)
    white = said(data.test.columns["text"][0, 0], data.vocabulary)
    assert white == ["a", "?", "cat", "on", "a", "mat"], "a word of no training caption"
    assert (data.test.columns["text"][1] == PADDING).all()
    swapped = data.train.part(torch.tensor([3, 0])).joined(data.train.part(torch.tensor([2])))
    assert [one[0] for one in swapped.sentences] == ["a dog on a mat", "A cat on a mat.", "Dog-sized dog"]  # type: ignore[attr-defined]
    for batch in batches(swapped, Views(count=1), batch_size=2, seed=0, epoch=0, device="cpu", drop_last=False):
        for index, picture, tokens in zip(batch.indices, batch.views[0], batch.columns["text"], strict=True):
            first = swapped.sentences[index][0]  # type: ignore[attr-defined]
            assert said(tokens[0], data.vocabulary) == words_of(first)
            number = round(float(picture[0, 0, 0]) * 255)
            assert LINES[[*LINES][number]][0] == first


def test_images_that_are_left_out_may_have_captions_and_held_out_ones_too(root: Path) -> None:
    few = pets(root, train_images=2, validation_images=1)
    assert few.validation is not None
    assert few.train.columns["text"].shape[1:] == few.validation.columns["text"].shape[1:]
    assert len(few.vocabulary) < len(pets(root).vocabulary), "words of images that are not trained on"
    assert len(few.train.joined(few.validation).columns["text"]) == 3
    assert "text" not in pets(root, captions=False).train.columns


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("train/cat/0.png A cat", "captions.tsv:2: no tab"),
        ("train/cat/9.png\tA cat", "captions.tsv:2: there is no image 'train/cat/9.png': did you mean 'train/cat/"),
        ("cat/0.png\tA cat", "captions.tsv:2: there is no image 'cat/0.png': a line begins with train/<class>/<file>"),
        ("train/cat/0.png\t?!", "captions.tsv:2: the caption of train/cat/0.png has no word"),
        ("train/cat/0.png\tcaf\u00e9", "captions.tsv:2: not UTF-8 (byte 20 of the line)"),
    ],
)
def test_a_wrong_line_is_named(root: Path, line: str, wrong: str) -> None:
    write(root, ["train/cat/0.png\tA cat", line], encoding="latin-1")
    with pytest.raises(SpecError) as caught:
        pets(root)
    assert wrong in str(caught.value)


def test_an_image_or_a_file_without_captions_is_named(root: Path) -> None:
    path = write(root, [f"{name}\tword\r" for name in LINES if name != "train/dog/1.png"])
    with pytest.raises(SpecError, match=r"captions\.tsv: no line is of train/dog/1\.png"):
        pets(root)
    path.unlink()
    with pytest.raises(SpecError, match=r"captions\.tsv cannot be read: No such file"):
        pets(root)


def test_the_knob_is_false_or_a_number_of_words() -> None:
    kind = registry.dataset
    for none in (False, 0):
        assert kind.resolve({"synthetic": {"captions": none}}) == kind.resolve("synthetic")
    assert kind.resolve({"synthetic": {"captions": 4}})["synthetic"]["captions"] == 4
    for wrong in (True, -1, "many", None):
        with pytest.raises(SpecError, match=r"synthetic\.captions"):
            kind.resolve({"synthetic": {"captions": wrong}})


def test_synthetic_captions_tell_classes_apart() -> None:
    data = Synthetic(train_images=40, test_images=12, validation_images=8, classes=5, captions=9).load(Path())
    assert data.validation is not None and data.vocabulary[0] == ""
    plain = Synthetic(train_images=40, test_images=12, validation_images=8, classes=5).load(Path())
    for split, same in ((data.train, plain.train), (data.validation, plain.validation), (data.test, plain.test)):
        assert torch.equal(split.images, same.images) and "text" not in same.columns  # type: ignore[union-attr]
        text = split.columns["text"]
        assert text.shape == (len(split), 3, 9) and UNKNOWN not in text
        assert (text.unique(dim=1).shape[1] == 3) and (text[..., 0] != PADDING).all()
        said_of = [{frozenset(said(one, data.vocabulary)) for one in row} for row in text]
        for i, label in enumerate(split.labels.tolist()):
            numbers = {word for words in said_of[i] for word in words if word.isdecimal()}
            assert numbers == {str(36 * label), str(72 * label)}


def test_the_choice_of_a_caption_is_of_run_epoch_and_image() -> None:
    """All that an image has are as likely, padding is none of them, and no batch or rank has a say."""
    tokens = torch.zeros(900, 4, 2, dtype=torch.int64)
    for image in range(900):
        tokens[image, : 1 + image % 3, 0] = torch.arange(1, 2 + image % 3)
    rng = ImageRng(seed=1, epoch=2, images=torch.arange(900))
    chosen = one_caption(tokens, rng.child("caption"))
    assert chosen.shape == (900, 2) and (chosen[:, 0] != PADDING).all()
    for captions in (1, 2, 3):
        counts = chosen[captions - 1 :: 3, 0].bincount(minlength=4)[1 : captions + 1]
        assert counts.sum() == 300 and (counts > 0.7 * 300 / captions).all()
    part = ImageRng(seed=1, epoch=2, images=torch.arange(100, 110))
    assert torch.equal(one_caption(tokens[100:110], part.child("caption")), chosen[100:110])
    later = ImageRng(seed=1, epoch=3, images=torch.arange(900))
    assert not torch.equal(one_caption(tokens, later.child("caption")), chosen)
