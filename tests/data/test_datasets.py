"""Data sets: what every registered one promises, CIFAR-10's files, subsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.config.errors import SpecError
from harness.config.registry import dataset
from harness.data import fetch
from harness.data.augment import Crop
from harness.data.datasets import Cifar10, Dataset, ImageFolder, Synthetic, balanced, balanced_at_random
from harness.data.views import Views, batches

ROWS = 200


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every registered data set in small: CIFAR-10 of 200 rows a file, a folder of images of many sizes."""
    root = tmp_path_factory.mktemp("data")
    (root / fetch.FOLDER).mkdir()
    for seed, name in enumerate(fetch.MD5):
        (root / fetch.FOLDER / name).write_bytes(cifar_file(seed))
    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for label in ("ant", "bee", "cow"):
            (root / "imagenet" / part / label).mkdir(parents=True)
            for i in range(count):
                shape = (int(draw.integers(40, 90)), int(draw.integers(40, 90)), 3)
                Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(
                    root / "imagenet" / part / label / f"{i}.{'png' if i % 2 else 'JPEG'}"
                )
    return root


def cifar_file(seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 10, (ROWS, 1), dtype=np.uint8)
    return np.concatenate([labels, draw.integers(0, 256, (ROWS, 3072), dtype=np.uint8)], axis=1).tobytes()


@pytest.fixture(autouse=True)
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ROWS", ROWS)
    monkeypatch.setattr(fetch, "MD5", {name: fetch.digest(cifar_file(i)) for i, name in enumerate(fetch.MD5)})


SMALL: dict[str, dict[str, Any]] = {
    "cifar10": {"train_images": 600, "validation_images": 100},
    "image_folder": {"image_size": 24, "resize": 32, "train_images": 9, "validation_images": 6},
    "synthetic": {"train_images": 40, "validation_images": 10, "test_images": 20, "image_size": 16},
}


OWN = tuple(name for name in dataset.names() if name != "torchvision")
"""A new data set is tested from birth; torchvision's, whose files are many, are in test_vision.py."""


def load(root: Path, name: str, **changes: Any) -> Dataset:
    loaded: Dataset = dataset.build({name: SMALL[name] | changes}).load(root)
    return loaded


def everything(split: Any) -> torch.Tensor:
    settings: dict[str, Any] = {"seed": 0, "epoch": 0, "device": "cpu", "shuffle": False, "drop_last": False}
    return torch.cat([batch.views[0] for batch in batches(split, Views(count=1), batch_size=7, **settings)])


@pytest.mark.parametrize("name", OWN)
def test_every_data_set(root: Path, name: str) -> None:
    data = load(root, name)
    assert data.validation is not None and len(data.classes) >= 2
    wanted = SMALL[name]
    assert len(data.train) == wanted["train_images"] and len(data.validation) == wanted["validation_images"]
    for split in (data.train, data.validation, data.test):
        images = everything(split)
        assert images.shape[:2] == (len(split), 3) and images.dtype == torch.float32
        assert images.min() >= 0.0 and images.max() <= 1.0 and images.std() > 0.05
        assert split.labels.dtype == torch.int64 and split.labels.shape == (len(split),)
        assert split.labels.min() >= 0 and split.labels.max() < len(data.classes)
    again = load(root, name)
    assert torch.equal(everything(again.train), everything(data.train))
    assert load(root, name, validation_images=0).validation is None


@pytest.mark.parametrize("name", OWN)
def test_training_and_validation_share_nothing(root: Path, name: str) -> None:
    data = load(root, name)
    assert data.validation is not None
    train = {image.numpy().tobytes() for image in everything(data.train)}
    assert len(train) == len(data.train)
    assert not train & {image.numpy().tobytes() for image in everything(data.validation)}


@pytest.mark.parametrize("name", OWN)
def test_smaller_subsets_lie_within_larger_ones(root: Path, name: str) -> None:
    large, small = load(root, name), load(root, name, train_images=6)
    assert len(small.train) == 6
    larger = {image.numpy().tobytes() for image in everything(large.train)}
    assert {image.numpy().tobytes() for image in everything(small.train)} <= larger


def test_balanced_takes_the_first_of_every_class() -> None:
    labels = torch.tensor([2, 2, 2, 0, 1, 0, 1, 2, 0])
    assert balanced(labels, 3).tolist() == [0, 3, 4]
    assert balanced(labels, 6).tolist() == [0, 1, 3, 4, 5, 6]
    assert balanced(labels, 9).tolist() == list(range(9))
    assert balanced(labels, 8).tolist() == [0, 1, 2, 3, 4, 5, 6, 8]


def test_balanced_at_random_draws_equally_many_of_every_class() -> None:
    labels = torch.tensor([0] * 40 + [1] * 50 + [2] * 40)
    places = balanced_at_random(labels, 90, seed=0)
    assert torch.bincount(labels[places]).tolist() == [30, 30, 30] and places.tolist() == sorted(places.tolist())
    assert torch.equal(places, balanced_at_random(labels, 90, seed=0)) and places[:30].tolist() != list(range(30))
    assert len(balanced_at_random(labels, 500, seed=0)) == 130


def test_cifar_pixels_and_labels_are_those_of_the_file(root: Path) -> None:
    data = load(root, "cifar10", train_images=1000, validation_images=0)
    raw = np.frombuffer(cifar_file(2), dtype=np.uint8).reshape(ROWS, 3073)
    image, red_of_row_3 = data.train.images[2 * ROWS + 7], raw[7, 1 + 3 * 32 : 1 + 4 * 32]  # type: ignore[attr-defined]
    assert data.train.labels[2 * ROWS + 7] == raw[7, 0]
    assert image[0, 3].tolist() == red_of_row_3.tolist()
    assert image[2, 31, 31] == raw[7, 3072]


def test_cifar_validation_is_the_end_of_the_training_files(root: Path) -> None:
    whole = load(root, "cifar10", train_images=1000, validation_images=0).train
    part = load(root, "cifar10").validation
    assert torch.equal(part.images, whole.images[-100:])  # type: ignore[union-attr, attr-defined]


@pytest.mark.parametrize("harm", ["missing", "short", "flipped"])
def test_harmed_cifar_names_the_command_that_mends_it(root: Path, tmp_path: Path, harm: str) -> None:
    (tmp_path / fetch.FOLDER).mkdir()
    for name in fetch.MD5:
        (tmp_path / fetch.FOLDER / name).write_bytes((root / fetch.FOLDER / name).read_bytes())
    victim = tmp_path / fetch.FOLDER / "data_batch_4.bin"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.unlink()
    if harm != "missing":
        victim.write_bytes(bytes(content if harm == "flipped" else content[:-1]))
    with pytest.raises(SpecError, match=r"data_batch_4\.bin is .*python -m harness\.data cifar10 --root"):
        Cifar10().load(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        {"cifar10": {"train_images": 45_001, "validation_images": 5_000}},
        {"cifar10": {"train_images": 0}},
        {"image_folder": {"image_size": 224, "resize": 200}},
        {"synthetic": {"classes": 1}},
    ],
    ids=str,
)
def test_impossible_sizes_are_refused_before_anything_is_read(entry: Any) -> None:
    with pytest.raises(SpecError):
        dataset.build(entry)


def test_missing_folders_and_too_few_images_are_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is missing"):
        ImageFolder().load(tmp_path)
    (tmp_path / "imagenet" / "train").mkdir(parents=True)
    with pytest.raises(SpecError, match="holds no images"):
        ImageFolder().load(tmp_path)
    with pytest.raises(SpecError, match="has 18 images, 106 are asked for"):
        load(root, "image_folder", train_images=100)


def test_synthetic_classes_can_be_learned() -> None:
    """A nearest class mean of crudely shrunk images is far above chance, and the task is not trivial for pixels."""
    data = Synthetic().load(Path())
    train, test = everything(data.train), everything(data.test)
    means = torch.stack([train[data.train.labels == c].mean(0) for c in range(4)])
    guess = torch.cdist(test.flatten(1), means.flatten(1)).argmin(1)
    assert (guess == data.test.labels).double().mean() > 0.8


@pytest.mark.parametrize("workers", [1, 5])
def test_folder_views_depend_on_nothing_but_seed_epoch_and_image(root: Path, workers: int) -> None:
    split = load(root, "image_folder").train
    views = Views(both=(Crop(flip=0.5),))
    settings: dict[str, Any] = {"batch_size": 4, "seed": 0, "device": "cpu"}
    whole = list(batches(split, views, epoch=0, workers=3, **settings))
    assert len(whole) == 2
    again = list(batches(split, views, epoch=0, workers=workers, **settings))
    halves = [list(batches(split, views, epoch=0, workers=workers, rank=r, world=2, **settings)) for r in (0, 1)]
    for step, batch in enumerate(whole):
        for i in (0, 1):
            assert batch.views[i].shape == (4, 3, 24, 24)
            assert torch.equal(batch.views[i], again[step].views[i])
            assert torch.equal(batch.views[i], torch.cat([half[step].views[i] for half in halves]))
        assert not torch.equal(batch.views[0], batch.views[1])
    other = next(batches(split, views, epoch=1, shuffle=False, **settings))
    same = next(batches(split, views, epoch=0, shuffle=False, **settings))
    assert not torch.equal(other.views[0], same.views[0])
