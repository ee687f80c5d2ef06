"""The compiled kernels against the tensor code, over shapes that hypothesis finds; and how they are loaded."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.data.augment import Color, Crop, Flip
from harness.data.ops import color, geometry, numba_cache
from harness.data.rng import ImageRng
from harness.data.views import Views

CLOSE = {"atol": 3e-6, "rtol": 0.0}
sides = st.integers(2, 40)


def some_rng(count: int, seed: int = 1) -> ImageRng:
    return ImageRng(seed=seed, epoch=2, images=torch.arange(count))


def pictures(count: int, height: int, width: int) -> Tensor:
    drawn = torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(height * width))
    return drawn.to(torch.uint8)


def by_tensors(work: Callable[[], Tensor]) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_cache, "kernels", lambda: None)
        return work()


def by_kernels(work: Callable[[], Tensor]) -> Tensor:
    """Fails where the kernels were not asked for: then tensor code would be compared with itself."""
    kernels, asked = numba_cache.kernels(), []
    assert kernels is not None, "numba is a dependency"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_cache, "kernels", lambda: asked.append(True) or kernels)
        found = work()
    assert asked
    return found


def agree(work: Callable[[], Tensor]) -> None:
    ours = by_kernels(work)
    assert ours.is_contiguous() and not ours.isnan().any()
    torch.testing.assert_close(ours, by_tensors(work), **CLOSE)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, more=st.tuples(st.integers(0, 9), st.integers(0, 9)), seed=st.integers(0, 99))
def test_crops(height: int, width: int, more: tuple[int, int], seed: int) -> None:
    """Of a byte and of a float image, each three times over; whole, tiny and at every border."""
    images, size = pictures(5, height, width), (height + more[0], width + more[1])
    boxes = geometry.random_boxes(some_rng(15, seed), height, width, (0.01, 1.0), (0.4, 2.5), 0.5)
    for base in (images, geometry.unit(images)):
        agree(lambda base=base: geometry.resized_crop(base, boxes, size, "bilinear"))  # type: ignore[misc]


@settings(max_examples=60, deadline=None)
@given(
    height=sides,
    width=sides,
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    seed=st.integers(0, 99),
)
def test_crops_to_other_sizes(height: int, width: int, size: tuple[int, int], interpolation: str, seed: int) -> None:
    """Smaller and larger than the crop, in one direction or both."""
    images = pictures(5, height, width)
    boxes = geometry.random_boxes(some_rng(15, seed), height, width, (0.01, 1.0), (0.4, 2.5), 0.5)
    for base in (images, geometry.unit(images)):
        agree(lambda base=base: geometry.resized_crop(base, boxes, size, interpolation))  # type: ignore[misc]


def test_crops_of_one_row_or_column_at_the_last_border() -> None:
    last, one, no = torch.tensor([7, 0, 7]), torch.ones(3, dtype=torch.int64), torch.zeros(3, dtype=torch.bool)
    boxes = geometry.Boxes(last, last.flip(0), one, one, no)
    agree(lambda: geometry.resized_crop(pictures(3, 8, 8), boxes, (8, 8), "bilinear"))


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), strength=st.sampled_from([0.125, 1.0, 2.0]))
def test_color(height: int, width: int, strength: float) -> None:
    jitter = Color(strength=strength).draw(some_rng(24))
    agree(lambda: color.distort(geometry.unit(pictures(24, height, width)), jitter))


@settings(max_examples=30, deadline=None)
@given(height=sides, width=sides, reach=st.integers(0, 6))
def test_blur(height: int, width: int, reach: int) -> None:
    """Beyond what reflects once, both are the tensor code."""
    sigma, images = some_rng(4).uniform(0.1, 2.0), geometry.unit(pictures(4, height, width))
    if reach < min(height, width):
        agree(lambda: geometry.gaussian_blur(images, sigma, 2 * reach + 1))


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_sobel(height: int, width: int) -> None:
    agree(lambda: geometry.sobel(geometry.unit(pictures(3, height, width)), 0.125, 0.467))


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 50), drawn=st.integers(1, 5), seed=st.integers(0, 2**63 - 1))
def test_bits_are_equal_to_the_bit(count: int, drawn: int, seed: int) -> None:
    def bits() -> Tensor:
        rng = some_rng(3, seed).child("some")
        rng.bits(drawn)
        return rng.bits(count)

    assert torch.equal(by_kernels(bits), by_tensors(bits))


def test_an_image_is_the_same_in_every_batch() -> None:
    images, views = pictures(64, 32, 32), Views(both=(Crop(), Flip(), Color()))
    together = views(images, some_rng(64))
    for i in (0, 17, 63):
        alone = views(images[i : i + 1], ImageRng(seed=1, epoch=2, images=torch.tensor([i])))
        assert all(torch.equal(one[i : i + 1], other) for one, other in zip(together, alone, strict=True))


def test_arguments_are_left_alone_and_need_not_be_contiguous() -> None:
    images = geometry.unit(pictures(6, 12, 9)).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    jitter, sigma = Color().draw(some_rng(6)), torch.ones(6)
    for work in (
        lambda: color.distort(images, jitter),
        lambda: geometry.gaussian_blur(images, sigma, 3),
        lambda: geometry.sobel(images, 0.1, 0.4),
        lambda: Crop()(images, some_rng(6)),
    ):
        agree(work)
        assert torch.equal(images, before)


LOADED = "from harness.data.ops.numba_cache import kernels; module = kernels(); print(module.__file__)"


def loaded_from(home: Path, code: str = LOADED, checkout: Path = numba_cache.SOURCE.parents[3]) -> str:
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_machine_code_is_kept_in_the_users_cache_and_nowhere_else(tmp_path: Path) -> None:
    before = set(numba_cache.SOURCE.parent.rglob("*.nb*"))
    place = Path(loaded_from(tmp_path))
    assert place.is_relative_to(tmp_path / ".cache") and list(place.parent.rglob("*.nbc"))
    assert set(numba_cache.SOURCE.parent.rglob("*.nb*")) == before
    place.write_text("raise SystemExit('somebody else wrote this')\n", encoding="utf-8")
    assert Path(loaded_from(tmp_path)) == place  # what differs from our source is replaced, not run


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("not a folder", encoding="utf-8")  # also root cannot make a folder in it
    assert stat.S_ISREG(home.stat().st_mode)
    checkout = tmp_path / "checkout"  # numba's own cache comes to lie in it
    shutil.copytree(numba_cache.SOURCE.parents[2], checkout / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    assert Path(loaded_from(home, checkout=checkout)) == checkout / "harness/data/ops/kernels.py"
