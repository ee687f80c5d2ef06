"""The digest of data: the same wherever it lies, another for every change that a number could come from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.config.errors import SpecError
from harness.data import identity
from harness.data.datasets import Dataset, ImageFolder, Resident, Synthetic
from harness.data.vision import TorchvisionPicture

GOLDEN = ["27c53b163f46cea4", "086e120451b606a2", "0795b192cf55c9d4"]


def pics(top: Path, seed: int = 0, classes: tuple[str, ...] = ("a", "b")) -> Path:
    """A folder of images of noise: three to train on and two to test on in each class."""
    draw = np.random.default_rng(seed)
    for part, count in (("train", 3), ("val", 2)):
        for name in classes:
            (top / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(top / part / name / f"{i}.png")
    return top


def digest(top: Path, **fields: Any) -> str:
    found = ImageFolder(path=top.name, image_size=8, resize=8, **fields).load(top.parent)
    return str(identity.described(found)["digest"])


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def replaced(top: Path) -> None:
    shutil.rmtree(top)
    pics(top, seed=1)


CHANGES: dict[str, Callable[[Path], object]] = {
    "two classes exchanged": lambda top: exchange(top / "train" / "a", top / "train" / "b"),
    "two test classes exchanged": lambda top: exchange(top / "val" / "a", top / "val" / "b"),
    "two pictures exchanged": lambda top: exchange(top / "train" / "a" / "0.png", top / "train" / "a" / "1.png"),
    "one in another class": lambda top: (top / "train/a/2.png").rename(top / "train/b/9.png"),
    "one more": lambda top: shutil.copy(top / "val/a/0.png", top / "train/a/7.png"),
    "one less": lambda top: (top / "train/b/2.png").unlink(),
    "one renamed": lambda top: (top / "train/b/2.png").rename(top / "train/b/3.png"),
    "one byte": lambda top: (top / "val/b/1.png").write_bytes((top / "val/b/1.png").read_bytes() + b"\0"),
    "other pictures of the same names": replaced,
    "train and val exchanged": lambda top: exchange(top / "train", top / "val"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_other_data(tmp_path: Path, change: str) -> None:
    top = pics(tmp_path / "pics")
    before = digest(top)
    CHANGES[change](top)
    assert digest(top) != before


def test_the_same_pictures_agree_wherever_they_lie(tmp_path: Path) -> None:
    top = pics(tmp_path / "pics")
    before = digest(top)
    assert digest(Path(shutil.copytree(top, tmp_path / "elsewhere" / "renamed"))) == before
    for noise in ("train/a/notes.txt", "train/a/._0.png", ".DS_Store", "train/.hidden"):  # what is no data
        (top / noise).touch()
    (top / "train/b/2.png").touch()  # another time
    assert digest(top) == before
    assert digest(top, validation_images=2) != before  # split otherwise, it is other data


def test_what_is_recorded(tmp_path: Path) -> None:
    found = ImageFolder(path="pics", image_size=8, resize=8, validation_images=2).load(pics(tmp_path / "pics").parent)
    said = identity.described(found)
    assert said["images"] == {"train": 4, "validation": 2, "test": 4} and said["classes"] == ["a", "b"]
    assert len(bytes.fromhex(said["digest"])) == identity.DIGITS // 2


def test_of_many_pictures_some_are_read_and_all_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = pics(tmp_path / "pics")
    monkeypatch.setattr(identity, "MOST_READ", 2)
    read: list[str] = []
    original = identity.of_file

    def noted(path: Path) -> str:
        read.append(path.relative_to(top).as_posix())
        return original(path)

    monkeypatch.setattr(identity, "of_file", noted)
    before = digest(top)
    assert sorted(read) == ["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png"]
    (top / "train/a/1.png").rename(top / "train/a/1.PNG")
    assert digest(top) != before


def test_of_data_in_memory_every_byte_and_label_counts() -> None:
    images, labels = torch.arange(4 * 3 * 8 * 8).remainder(251).byte().view(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])
    base = Resident(images, labels)
    changed = images.clone()
    changed[3, 2, 7, 7] ^= 1
    others = [
        Resident(changed, labels),
        Resident(images, labels.flip(0)),
        Resident(images.view(4, 3, 4, 16), labels),
        Resident(images, labels, {"age": labels}),
        Resident(images, labels, {"size": labels}),
        Resident(images, labels, sentences=(("a", "b"), ("c",), ("d",), ("e",))),
        Resident(images, labels, sentences=(("a",), ("b", "c"), ("d",), ("e",))),
        base.part(torch.tensor([0, 1, 3, 2])),
        base.part(torch.tensor([0, 1, 2])),
    ]
    prints = [identity.fingerprint(one) for one in (base, *others)]
    assert len(set(prints)) == len(prints)
    assert identity.fingerprint(Resident(images.clone(), labels.clone())) == prints[0]
    halves = base.part(torch.tensor([0, 1])).joined(base.part(torch.tensor([2, 3])))
    assert identity.fingerprint(halves) == prints[0]


def test_of_drawn_data_the_rule_counts_and_no_rounding() -> None:
    split = Synthetic(train_images=8, image_size=8).load(Path()).train
    assert isinstance(split, Resident)
    before = identity.fingerprint(split)
    split.images[0, 0, 0, 0] ^= 1
    assert identity.fingerprint(split) == before
    fields: list[dict[str, Any]] = [{}, {"classes": 2}, {"image_size": 16}, {"train_images": 9}, {"captions": 8}]
    digests = {identity.described(Synthetic(**one).load(Path()))["digest"] for one in fields}
    assert len(digests) == len(fields)


def test_a_split_from_outside_that_cannot_say_is_told_by_its_columns() -> None:
    labels = torch.tensor([0, 1])
    one, other = (SimpleNamespace(columns={"label": column}) for column in (labels, labels.flip(0)))
    assert identity.fingerprint(one) != identity.fingerprint(other)


def test_pictures_of_torchvision_are_told_by_file_or_array(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())

    class Some(list[int]):
        pass

    files, samples, arrays, none = (Some([0, 1]) for _ in range(4))
    files._image_files = [tmp_path / "a", tmp_path / "b"]  # type: ignore[attr-defined]
    samples._samples = [(str(tmp_path / "a"), 0), (str(tmp_path / "b"), 1)]  # type: ignore[attr-defined]
    arrays.data = np.arange(8, dtype=np.uint8).reshape(2, 4)  # type: ignore[attr-defined]
    prints = [
        [TorchvisionPicture(one, place).fingerprint() for place in (0, 1)] for one in (files, samples, arrays, none)
    ]
    assert prints[0] == prints[1] and all(first != second for first, second in prints[:3]) and prints[3] == ["", ""]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    top = pics(tmp_path / "pics")
    found = ImageFolder(path="pics", image_size=8, resize=8).load(tmp_path)
    (top / "train/b/1.png").unlink()
    with pytest.raises(SpecError, match=r"train/b/1\.png cannot be read: No such file"):
        identity.described(found)


def test_a_data_set_says_once_what_it_left_out(tmp_path: Path) -> None:
    top = pics(tmp_path / "pics")
    (top / "train/a/notes.txt").touch()
    found: Dataset = ImageFolder(path="pics", image_size=8, resize=8, validation_images=2).load(tmp_path)
    assert identity.remarks(found) == [f"{top}/train: ignored: .txt (1)"]
    assert identity.remarks(Synthetic().load(tmp_path)) == []


def test_digests_mean_the_same_in_later_versions(tmp_path: Path) -> None:
    """Results on disk hold them: a digest that is made otherwise would call all data other data."""
    (tmp_path / "a").mkdir()
    for i in range(3):
        (tmp_path / "a" / f"{i}.png").write_bytes(bytes([i]) * (identity.HEAD + i))
    labels = torch.tensor([0, 0, 1])
    pictures = [tmp_path / "a" / f"{i}.png" for i in range(3)]
    drawn = identity.described(Synthetic(train_images=4, test_images=2).load(tmp_path))
    held = identity.fingerprint(Resident(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), labels))
    found = [identity.of_pictures(pictures, {"label": labels})[:16], drawn["digest"], held[:16]]
    assert found == GOLDEN
