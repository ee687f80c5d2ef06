"""What holds of every augmentation there is or will be, and what some of them promise besides."""

from __future__ import annotations

import dataclasses
import itertools
import typing
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional

from harness.config.errors import SpecError
from harness.config.registry import augmentation
from harness.data import augment, broader, jigsaw, policy
from harness.data.rng import ImageRng

assert broader and jigsaw and policy  # importing registers
NAMES = augmentation.names()
BATCH = 24


def pictures(count: int = BATCH, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def streams(images: Tensor | None = None, seed: int = 0) -> ImageRng:
    return ImageRng(seed=seed, epoch=0, images=torch.arange(BATCH) if images is None else images)


def other(kind: Any, value: Any) -> list[Any]:
    """Values of a field that differ from its default, from its type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return other(arguments[0], value)
    if origin is typing.Literal:
        return [choice for choice in arguments if choice != value]
    if kind is bool:
        return [not value]
    if kind is float:
        return [value / 2 if value else 0.5]
    if origin is tuple and all(isinstance(one, float) for one in value):
        low, high = value
        return [(low, (low + high) / 2), ((low + high) / 2, high)]
    if kind == augment.Augmentation | None:
        return [augment.Color()]
    raise NotImplementedError(f"teach this test about fields of type {kind}")


def side_of(operator: Any, size: int) -> int:
    """Of what an operator makes of images of ``size``: the same, unless it says otherwise."""
    return operator.side(size) if hasattr(operator, "side") else size


VARIANTS = [
    pytest.param(name, field.name, value, id=f"{name}.{field.name}={value}")
    for name in NAMES
    for field in dataclasses.fields(augmentation.get(name))
    for value in other(
        typing.get_type_hints(augmentation.get(name), include_extras=True)[field.name],
        getattr(augmentation.get(name)(), field.name),
    )
]


@pytest.mark.parametrize("size", [8, 16, 48])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_crop_of_another_size_is_torchvisions(size: int, interpolation: Any, each_way: str) -> None:
    """From the very draws of the crop that keeps the size, and mirrored by its own and by a later flip."""
    crop, images = augment.Crop(flip=0.5, interpolation=interpolation), pictures()
    mirrored = torch.arange(BATCH) % 3 == 0
    ours = crop(images, streams(), mirrored=mirrored, size=size)
    assert ours.shape == (BATCH, 3, size, size)
    boxes = torch.stack(crop.draw(streams(), 32, 32), dim=1).tolist()
    for i, (top, left, tall, wide, flipped) in enumerate(boxes):
        mode = InterpolationMode(interpolation)
        theirs = functional.resized_crop(images[i], top, left, tall, wide, [size, size], mode, antialias=True)
        theirs = functional.hflip(theirs) if bool(flipped) != bool(mirrored[i]) else theirs
        torch.testing.assert_close(ours[i], theirs.clamp(0, 1), atol=5e-6, rtol=0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [32, 40])
def test_shape_range_and_purity(name: str, size: int) -> None:
    images = pictures(size=size)
    before = images.clone()
    operator = augmentation.get(name)()
    result, side = operator(images, streams()), side_of(operator, size)
    assert result.shape == (BATCH, 3, side, side) and result.dtype == torch.float32
    assert result.isfinite().all() and result.min() >= 0.0 and result.max() <= 1.0
    assert torch.equal(images, before), "the argument was changed"
    assert not torch.equal(result, images), "nothing was changed"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_images_stay_in_range(name: str, value: float) -> None:
    result = augmentation.get(name)()(torch.full((BATCH, 3, 32, 32), value), streams())
    assert result.isfinite().all() and result.min() >= 0.0 and result.max() <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_output(name: str) -> None:
    operator = augmentation.get(name)()
    assert torch.equal(operator(pictures(), streams()), operator(pictures(), streams()))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sobel"])  # always on, and without parameters
def test_other_seed_other_output(name: str) -> None:
    operator = augmentation.get(name)()
    assert not torch.equal(operator(pictures(), streams()), operator(pictures(), streams(seed=1)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("places", [[5], [0, 1, 2], [23, 7, 7, 0], list(range(8, 16))], ids=str)
def test_result_of_an_image_does_not_depend_on_its_company(name: str, places: list[int]) -> None:
    """Alone, repeated, reordered or as the slice of one rank: an image comes out the same."""
    operator, chosen = augmentation.get(name)(), torch.tensor(places)
    whole = operator(pictures(), streams())
    torch.testing.assert_close(operator(pictures()[chosen], streams(chosen)), whole[chosen], atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_empty_batch(name: str) -> None:
    operator = augmentation.get(name)()
    side = side_of(operator, 32)
    assert operator(pictures(0), streams(torch.arange(0))).shape == (0, 3, side, side)


@pytest.mark.parametrize(("name", "field", "value"), VARIANTS)
def test_every_field_has_an_effect(name: str, field: str, value: Any) -> None:
    cls = augmentation.get(name)
    base = cls(p=0.5) if field == "upright" else cls()
    images = pictures(size=64)  # large enough for a wider blur
    assert not torch.equal(dataclasses.replace(base, **{field: value})(images, streams()), base(images, streams()))


@pytest.mark.parametrize("name", [name for name in NAMES if "p" in augmentation.fields(name)])
def test_probability_is_the_share_of_images_changed(name: str) -> None:
    images = pictures(400, size=24)  # large enough for a blur and a histogram
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(400))
    cls = augmentation.get(name)
    assert torch.equal(cls(p=0.0)(images, rng), images)
    changed = (cls(p=0.3)(images, rng.child("new")) != images).flatten(1).any(dim=1)
    assert changed.double().mean().item() == pytest.approx(0.3, abs=0.08)


REFUSED = [
    {"crop": {"scale": [0.0, 1.0]}},
    {"crop": {"scale": [0.5, 0.2]}},
    {"crop": {"ratio": [-1.0, 1.0]}},
    {"crop": {"interpolation": "nearest"}},
    {"crop": {"size": 32}},
    {"flip": {"p": 1.5}},
    {"color": {"strength": -1.0}},
    {"color": {"strength": "strong"}},
    {"blur": {"kernel": 0.0}},
    {"blur": {"sigma": [2.0, 0.1]}},
    {"blur": {"sigma": 1.0}},
    {"cutout": {"size": 2.0}},
    {"noise": {"std": [-0.1, 0.1]}},
    {"rotate": {"upright": "yes"}},
    {"equalize": {"p": -0.1}},
    {"solarize": {"threshold": 128.0}},
    {"motion_blur": {"kernel": 0.0}},
    {"autoaugment": {"policy": "svhn"}},
    {"jigsaw": {"share": 0.0}},
    {"jigsaw": {"each": "colour"}},
]


@pytest.mark.parametrize("entry", REFUSED, ids=str)
def test_bad_values_are_refused(entry: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(SpecError):
        augmentation.build(entry)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_survive_the_registry(name: str) -> None:
    assert augmentation.build(augmentation.resolve(name)) == augmentation.get(name)()


def test_crop_fuses_the_flip() -> None:
    """``flip`` mirrors the very crop that is drawn without it."""
    plain = augment.Crop(flip=0.0)(pictures(), streams())
    mirrored = augment.Crop(flip=1.0)(pictures(), streams())
    torch.testing.assert_close(mirrored, plain.flip(-1), atol=1e-6, rtol=0.0)


def test_cutout_is_one_square_inside_the_image() -> None:
    images = torch.zeros(2_000, 3, 16, 16)
    holes = augment.Cutout(fill=1.0)(images, ImageRng(seed=0, epoch=0, images=torch.arange(2_000)))[:, 0]
    assert (holes.sum((1, 2)) == 64).all()
    assert ((holes.amax(1) > 0).sum(1) == 8).all() and ((holes.amax(2) > 0).sum(1) == 8).all()
    assert (holes.sum(0) > 0).all(), "some pixel is never covered"


def test_noise_has_the_level_it_draws() -> None:
    images = torch.full((200, 3, 32, 32), 0.5)
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(200))
    fixed = augment.Noise(std=(0.1, 0.1))(images, rng) - images
    assert fixed.mean().item() == pytest.approx(0.0, abs=1e-3) and fixed.std().item() == pytest.approx(0.1, rel=0.01)
    channels = torch.corrcoef(fixed.transpose(0, 1).flatten(1))
    assert (channels - torch.eye(3)).abs().max() < 0.02
    levels = (augment.Noise(std=(0.0, 0.1))(images, rng) - images).flatten(1).std(dim=1)
    assert levels.min() < 0.01 and levels.max() > 0.09 and levels.mean().item() == pytest.approx(0.05, abs=0.01)


def test_rotate_never_leaves_an_image_upright_unless_asked() -> None:
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(4_000))
    for upright, expected in [(False, [0, 1 / 3, 1 / 3, 1 / 3]), (True, [0.25] * 4)]:
        shares = augment.Rotate(upright=upright).draw(rng.child("x")).bincount(minlength=4) / 4_000
        torch.testing.assert_close(shares, torch.tensor(expected), atol=0.03, rtol=0.0)


def test_blur_kernel_grows_with_the_image_as_in_the_official_code() -> None:
    """23 taps at 224 pixels: a single bright column spreads over exactly 11 to each side."""
    line = torch.zeros(1, 3, 224, 224)
    line[..., 112] = 1.0
    blurred = augment.Blur(p=1.0, sigma=(2.0, 2.0))(line, streams(torch.arange(1)))
    assert (blurred[0, 0, 50] > 0).sum() == 23


def test_augmentations_of_different_images_differ() -> None:
    same = pictures(1).expand(BATCH, -1, -1, -1).contiguous()
    for name in NAMES:
        if name == "sobel":
            continue
        result = augmentation.get(name)()(same, streams())
        pairs = itertools.combinations(range(BATCH), 2)
        assert any(not torch.equal(result[i], result[j]) for i, j in pairs), name
