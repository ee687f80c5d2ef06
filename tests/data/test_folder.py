"""Decoding: the pixels are torchvision's, errors name the file, an epoch left early leaves no thread behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from harness.config.errors import SpecError
from harness.data import folder, layout
from harness.data.augment import Color, Crop, Flip
from harness.data.datasets import Resident
from harness.data.rng import ImageRng
from harness.data.views import Branch, Views, batches
from harness.store.attempts import cause_of
from harness.store.causes import Cause

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
    return folder.Files(folder.listed(layout.survey(top)), folder.Frame(24, 28, interpolation))


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


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_windows_have_sizes_of_their_own(top: Path, interpolation: Any) -> None:
    crop = Crop(flip=0.5, interpolation=interpolation)
    windows = [folder.Window(crop, ("a",), 12), folder.Window(None, ("b",)), folder.Window(crop, ("c",), 30)]
    made = next(files(top, interpolation).stream([torch.arange(5)], windows, seed=1, epoch=2, workers=2))
    (center,) = next(files(top, interpolation).stream([torch.arange(5)], [], seed=1, epoch=2, workers=2))
    assert [one.shape[-1] for one in made] == [12, 24, 30] and torch.equal(made[1], center)
    heights, widths = torch.tensor(SIZES).T
    for name, size, crops in (("a", 12, made[0]), ("c", 30, made[2])):
        draws = ImageRng(seed=1, epoch=2, images=torch.arange(5)).child(name)
        for i, (t, left, tall, wide, mirrored) in enumerate(zip(*crop.draw(draws, heights, widths), strict=True)):
            image = Image.open(top / "only" / f"{i}.png")
            box = [int(one) for one in (t, left, tall, wide)]
            cut = reference.resized_crop(image, *box, [size, size], InterpolationMode(interpolation))
            assert torch.equal(crops[i], reference.pil_to_tensor(reference.hflip(cut) if mirrored else cut))


def test_branches_of_files_are_those_of_the_same_images_in_memory(tmp_path: Path) -> None:
    """Up to the rounding of Pillow's crops to bytes, which color then stretches."""
    pixels = torch.randint(0, 256, (6, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "only").mkdir()
    for i, one in enumerate(pixels):
        Image.fromarray(one.permute(1, 2, 0).numpy()).save(tmp_path / "only" / f"{i}.png")
    on_disk = folder.Files(folder.listed(layout.survey(tmp_path)), folder.Frame(24, 24, "bilinear"))
    in_memory = Resident(pixels, on_disk.labels)
    recipe = (Crop(), Flip(), Color(strength=0.5))
    large, small = Branch(augment=recipe, count=2), Branch(augment=recipe, count=3, size=12)
    for branches in ((large, small), (small, Branch(augment=(Color(strength=0.5),))), (Branch(), small)):
        about: Any = {"batch_size": 3, "seed": 0, "epoch": 1, "device": "cpu"}
        views = Views(branches=branches)
        for a, b in zip(batches(on_disk, views, **about), batches(in_memory, views, **about), strict=True):
            for ours, expected in zip(a.views, b.views, strict=True):
                torch.testing.assert_close(ours, expected, atol=4 / 255, rtol=0.0)


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


class Moody:
    """A source of pictures that raises whatever it is given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def picture(self) -> Image.Image:
        raise self.error

    def __str__(self) -> str:
        return "picture 7 of Moody"


@pytest.mark.parametrize(
    "error", [ValueError("x"), SyntaxError("x"), KeyError("x"), EOFError(), MemoryError("x")], ids=repr
)
def test_whatever_a_decoder_raises_names_the_picture(error: Exception) -> None:
    """A file is no fault of the code: of class ``input``, but for memory, of which more can be given."""
    listing = folder.Listing((Moody(error),), torch.tensor([0]), ("only",))
    split = folder.Files(listing, folder.Frame(24, 28, "bilinear"))
    wanted = MemoryError if isinstance(error, MemoryError) else SpecError
    with pytest.raises(wanted, match="picture 7 of Moody") as caught:
        list(split.stream([torch.tensor([0])], [], seed=0, epoch=0, workers=1))
    assert cause_of(caught.value) is (Cause.OOM if wanted is MemoryError else Cause.INPUT)


def test_16_bits_under_a_window_and_in_the_center_are_scaled(top: Path) -> None:
    wide = np.full((30, 40), 77 * 257, dtype=np.uint16)
    Image.fromarray(wide).save(top / "only" / "0.png")
    window = folder.Window(Crop(), ("view0", "crop"))
    for windows in ([], [window]):
        (crops,) = next(files(top).stream([torch.tensor([0])], windows, seed=0, epoch=0, workers=1))
        assert (crops == 77).all()


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
