"""Color distortion against torchvision's adjust_* called one by one, in each image's own order."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as reference

from harness.data.augment import Color
from harness.data.ops import color
from harness.data.rng import ImageRng

pytestmark = pytest.mark.usefixtures("each_way")

CLOSE = {"atol": 1e-5, "rtol": 0.0}


def pictures(count: int) -> Tensor:
    """Noise, and what hue finds difficult: grays, primaries, ties between channels, black and white."""
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))
    images[::3, :, :3, :] = corners[:24].T.reshape(3, 3, 8)
    images[1::3, :, 4:6] = images[1::3, :1, 4:6]
    return images


def oracle(image: Tensor, jitter: color.Jitter, i: int) -> Tensor:
    def brighten(x: Tensor) -> Tensor:
        if jitter.additive:
            return (x + jitter.brightness[i]).clamp(0, 1)
        return reference.adjust_brightness(x, jitter.brightness[i].item())

    steps = {
        color.BRIGHTNESS: brighten,
        color.CONTRAST: lambda x: reference.adjust_contrast(x, jitter.contrast[i].item()),
        color.SATURATION: lambda x: reference.adjust_saturation(x, jitter.saturation[i].item()),
        color.HUE: lambda x: reference.adjust_hue(x, jitter.hue[i].item()),
    }
    if jitter.jittered[i]:
        for kind in jitter.order[i].tolist():
            image = steps[kind](image)
    return reference.rgb_to_grayscale(image, 3) if jitter.grayed[i] else image


def agree(images: Tensor, jitter: color.Jitter) -> None:
    ours = color.distort(images, jitter)
    for i in range(len(images)):
        torch.testing.assert_close(ours[i], oracle(images[i], jitter, i), **CLOSE, msg=lambda m, i=i: f"image {i}: {m}")


@pytest.mark.parametrize("strength", [0.125, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("order", ["random", "fixed"])
@pytest.mark.parametrize("brightness", ["multiplicative", "additive"])
def test_distortion_is_torchvisions(strength: float, order: str, brightness: str) -> None:
    operator = Color(strength=strength, order=order, brightness=brightness)
    agree(pictures(96), operator.draw(ImageRng(seed=0, epoch=0, images=torch.arange(96))))


def test_every_order_of_the_four() -> None:
    orders = torch.tensor(list(itertools.permutations(range(4))))
    drawn = Color(jitter_p=1.0).draw(ImageRng(seed=0, epoch=0, images=torch.arange(24)))
    agree(pictures(24), drawn._replace(order=orders))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share: float) -> None:
    agree(pictures(8), Color(jitter_p=share, gray_p=share).draw(ImageRng(seed=0, epoch=0, images=torch.arange(8))))


@pytest.mark.parametrize("hue", [-0.5, -0.2, 0.0, 0.1, 0.5])
def test_hue_alone(hue: float) -> None:
    images = pictures(9)
    turned = images.clone()
    color.turn_hue_(turned, torch.full((9,), hue))
    torch.testing.assert_close(turned, reference.adjust_hue(images, hue), **CLOSE)


def test_factors_are_drawn_from_the_papers_ranges() -> None:
    drawn = Color(strength=0.5).draw(ImageRng(seed=0, epoch=0, images=torch.arange(20_000)))
    for factor in (drawn.brightness, drawn.contrast, drawn.saturation):
        assert 0.6 <= factor.min() < 0.601 and 1.399 < factor.max() <= 1.4
        assert factor.mean().item() == pytest.approx(1.0, abs=0.01)
    assert -0.1 <= drawn.hue.min() < -0.099 and 0.099 < drawn.hue.max() <= 0.1
    assert drawn.jittered.double().mean().item() == pytest.approx(0.8, abs=0.015)
    assert drawn.grayed.double().mean().item() == pytest.approx(0.2, abs=0.015)
    together = torch.stack([drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue, drawn.jittered.float()])
    assert (torch.corrcoef(together) - torch.eye(5)).abs().max() < 0.03


def test_strong_brightness_stays_non_negative() -> None:
    drawn = Color(strength=2.0).draw(ImageRng(seed=0, epoch=0, images=torch.arange(1_000)))
    assert drawn.brightness.min() >= 0.0 and drawn.hue.abs().max() <= 0.5
