"""Decoding: the pixels are torchvision's, errors name the file, an epoch left early leaves no thread behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from harness.data import folder
from harness.data.augment import Crop
from harness.data.rng import ImageRng
from harness.spec.errors import SpecError

SIZES = [(40, 60), (60, 40), (33, 33), (100, 35), (24, 24)]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    (tmp_path / "only").mkdir()
    for i, size in enumerate(SIZES):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "only" / f"{i}.png")
    (tmp_path / "only" / "notes.txt").write_text("not an image")
    return tmp_path


def files(top: Path, interpolation: str = "bilinear") -> folder.Files:
    return folder.Files(folder.listed(top), folder.Frame(24, 28, interpolation))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_windows_are_torchvisions_crops_of_the_same_draws(top: Path, interpolation: str) -> None:
    window = folder.Window(Crop(flip=0.5, interpolation=interpolation), ("view0", "crop"))  # type: ignore[arg-type]
    (crops,) = next(files(top).stream([torch.arange(5)], [window], seed=1, epoch=2, workers=2))
    rng = ImageRng(seed=1, epoch=2, images=torch.arange(5)).child("view0").child("crop")
    heights, widths = torch.tensor(SIZES).T
    boxes = torch.stack(window.crop.draw(rng, heights, widths), dim=1).tolist()
    for i, (t, left, tall, wide, mirrored) in enumerate(boxes):
        image = Image.open(top / "only" / f"{i}.png")
        cut = reference.resized_crop(image, t, left, tall, wide, [24, 24], InterpolationMode(interpolation))
        cut = reference.hflip(cut) if mirrored else cut
        assert torch.equal(crops[i], reference.pil_to_tensor(cut))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_without_windows_the_center_is_torchvisions(top: Path, interpolation: str) -> None:
    (crops,) = next(files(top, interpolation).stream([torch.arange(5)], [], seed=0, epoch=0, workers=2))
    for i in range(5):
        image = reference.resize(Image.open(top / "only" / f"{i}.png"), [28], InterpolationMode(interpolation))
        assert torch.equal(crops[i], reference.pil_to_tensor(reference.center_crop(image, [24, 24])))


def test_gray_images_become_color(top: Path) -> None:
    Image.new("L", (30, 30), 77).save(top / "only" / "0.png")
    (crops,) = next(files(top).stream([torch.tensor([0])], [], seed=0, epoch=0, workers=1))
    assert (crops == 77).all() and crops.shape == (1, 3, 24, 24)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_broken_file_is_named(top: Path, content: bytes | None) -> None:
    broken = top / "only" / "3.png"
    broken.write_bytes(broken.read_bytes()[:2000] if content is None else content)
    with pytest.raises(SpecError, match=r"3\.png cannot be read"):
        list(files(top).stream([torch.arange(5)], [], seed=0, epoch=0, workers=2))


def test_leaving_early_leaves_no_thread(top: Path) -> None:
    before = set(threading.enumerate())
    stream = files(top).stream([torch.arange(5)] * 20, [], seed=0, epoch=0, workers=4)
    next(stream)
    stream.close()
    assert set(threading.enumerate()) <= before


def test_images_are_decoded_on_the_threads_of_the_run(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight processes on one node each would otherwise start a thread for every core of it."""
    asked: list[int] = []
    original = folder.ThreadPoolExecutor

    def counted(threads: int) -> ThreadPoolExecutor:
        asked.append(threads)
        return original(threads)

    monkeypatch.setattr(folder, "ThreadPoolExecutor", counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    next(files(top).stream([torch.arange(5)], [], seed=0, epoch=0, workers=None))
    assert asked[0] == 3
