"""Equal parameters, equal pixels: the batched operators against torchvision's functional ones, image by image."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as reference

from harness.data.ops import geometry
from harness.data.rng import ImageRng

pytestmark = pytest.mark.usefixtures("each_way")

CLOSE = {"atol": 5e-6, "rtol": 0.0}


def pictures(count: int, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def some_rng(count: int) -> ImageRng:
    return ImageRng(seed=1, epoch=2, images=torch.arange(count))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, (32, 32)), (50, 40, (24, 20)), (16, 20, (31, 33))])
def test_resized_crop_is_torchvisions(interpolation: str, height: int, width: int, size: tuple[int, int]) -> None:
    images = pictures(40, height, width)
    boxes = geometry.random_boxes(some_rng(40), height, width, (0.05, 1.0), (0.5, 2.0), 0.5)
    ours = geometry.resized_crop(images, boxes, size, interpolation)
    for i, (top, left, tall, wide, mirrored) in enumerate(torch.stack(boxes, dim=1).tolist()):
        mode = InterpolationMode(interpolation)
        theirs = reference.resized_crop(images[i], top, left, tall, wide, list(size), mode, antialias=True)
        theirs = reference.hflip(theirs) if mirrored else theirs
        torch.testing.assert_close(ours[i], theirs.clamp(0, 1), **CLOSE)


def test_whole_image_is_untouched_by_a_crop_of_all_of_it() -> None:
    images = pictures(3)
    zero, whole = torch.zeros(3, dtype=torch.int64), torch.full((3,), 32)
    boxes = geometry.Boxes(zero, zero, whole, whole, torch.zeros(3, dtype=torch.bool))
    assert torch.equal(geometry.resized_crop(images, boxes, (32, 32), "bilinear"), images)


def test_boxes_are_distributed_like_torchvisions() -> None:
    count, scale, ratio = 4_000, (0.08, 1.0), (3 / 4, 4 / 3)
    ours = torch.stack(geometry.random_boxes(some_rng(count), 32, 48, scale, ratio, 0.5), dim=1)
    image = torch.empty(3, 32, 48)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)]
    theirs = torch.tensor(drawn)
    top, left, tall, wide, mirrored = ours.T
    assert ((top >= 0) & (left >= 0) & (top + tall <= 32) & (left + wide <= 48)).all()
    assert abs(mirrored.double().mean().item() - 0.5) < 0.03
    for column in range(4):
        a, b = ours[:, column].double(), theirs[:, column].double()
        spread = (a.var() + b.var()).div(count).sqrt()
        assert abs(a.mean() - b.mean()) < 4 * spread, column
        assert 0.9 < (a.std() / b.std()).item() < 1.1, column


def test_fallback_is_torchvisions_central_crop() -> None:
    """A wish for more than the image holds fails ten times; then the largest central crop is taken."""
    for height, width in [(10, 100), (100, 10), (40, 40)]:
        boxes = geometry.random_boxes(some_rng(2), height, width, (4.0, 4.0), (3 / 4, 4 / 3), 0.0)
        expected = RandomResizedCrop.get_params(torch.empty(3, height, width), [4.0, 4.0], [3 / 4, 4 / 3])
        assert torch.stack(boxes[:4], dim=1).tolist() == [list(expected)] * 2


def test_boxes_of_images_of_many_sizes_are_those_of_each_size() -> None:
    heights, widths = torch.tensor([32, 50, 7]), torch.tensor([32, 20, 90])
    together = geometry.random_boxes(some_rng(3), heights, widths, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    for i in range(3):
        alone = geometry.random_boxes(some_rng(3), int(heights[i]), int(widths[i]), (0.08, 1.0), (3 / 4, 4 / 3), 0.5)
        assert [int(x[i]) for x in together] == [int(x[i]) for x in alone]


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 3), (24, 40, 7), (48, 48, 23), (8, 8, 1)])
def test_gaussian_blur_is_torchvisions(height: int, width: int, size: int) -> None:
    images = pictures(12, height, width)
    sigma = some_rng(12).uniform(0.1, 2.0)
    ours = geometry.gaussian_blur(images, sigma, size)
    for i in range(12):
        theirs = reference.gaussian_blur(images[i], [size, size], [sigma[i].item()] * 2)
        torch.testing.assert_close(ours[i], theirs, **CLOSE)


def test_erase_is_torchvisions() -> None:
    images = pictures(4)
    boxes = torch.tensor([[0, 0, 16, 16], [16, 16, 16, 16], [3, 7, 1, 20], [31, 0, 1, 1]])
    ours = geometry.erase(images, boxes, 0.25)
    for i, (top, left, tall, wide) in enumerate(boxes.tolist()):
        theirs = reference.erase(images[i], top, left, tall, wide, torch.tensor(0.25))
        assert torch.equal(ours[i], theirs)


def test_quarter_turns_are_torchvisions_rotations() -> None:
    images = pictures(8)
    turns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    ours = geometry.quarter_turns(images, turns)
    for i, turn in enumerate(turns.tolist()):
        torch.testing.assert_close(ours[i], reference.rotate(images[i], 90.0 * turn), **CLOSE)


def test_quarter_turns_refuse_oblong_images() -> None:
    with pytest.raises(ValueError, match="square"):
        geometry.quarter_turns(pictures(1, 8, 16), torch.tensor([1]))


def test_sobel_is_the_textbook_sum() -> None:
    image = pictures(1, 6, 7)
    ours = geometry.sobel(image, 0.125, 0.467)[0]
    for channel in range(3):
        for y in range(6):
            for x in range(7):

                def at(dy: int, dx: int, c: int = channel, y: int = y, x: int = x) -> float:
                    return float(image[0, c, min(max(y + dy, 0), 5), min(max(x + dx, 0), 6)])

                gx = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1)
                gy = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1)
                assert ours[channel, y, x].item() == pytest.approx(min(max(0.467 + (gx + gy) / 8, 0), 1), abs=1e-6)
