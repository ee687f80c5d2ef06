"""a. One view: crop + flip + color, and every operator of Figure 5, beside torchvision (PIL and v2) and kornia.

Torchvision works image by image, as in the loaders of lightly, solo-learn and most single-file scripts; kornia and the
harness work on batches. All start from what a data set holds, uint8, and end in float32. Pillow images are made
beforehand. Two differences remain in kornia's favour: one order of the color operators for the whole batch, and
crops without antialiasing (none is needed here, but it is computed elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import functional, v2

from benchmarks.clock import Contender, Effort, in_turns
from benchmarks.record import OURS, Section, Target, rows_of
from harness.data.augment import Augmentation, Blur, Color, Crop, Cutout, Flip, Noise, Rotate, Sobel
from harness.data.datasets import Resident, Synthetic
from harness.data.rng import ImageRng
from harness.data.views import Views

BATCH = 256
ONE_BY_ONE = 64
"""Images per measurement of those that take them one by one."""

PIL, V2, KORNIA = "torchvision, PIL images", "torchvision v2, tensors", "kornia, batch"
FUSED = "harness, crop {flip: .5}"
VIEW = "crop flip color"
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}

Transform = Callable[[Any], Tensor]

OPERATORS: dict[str, tuple[Augmentation, ...]] = {
    VIEW: (Crop(), Flip(), Color(strength=0.5)),
    "crop": (Crop(flip=0.5),),
    "cutout": (Cutout(),),
    "color": (Color(strength=0.5),),
    "sobel": (Sobel(),),
    "noise": (Noise(),),
    "blur": (Blur(p=1.0),),
    "rotate": (Rotate(),),
}


def pictures(count: int, size: int = 32) -> Resident:
    """Synthetic images; what they show does not matter to the time."""
    split = Synthetic(train_images=count, test_images=1, image_size=size).load(Path()).train
    assert isinstance(split, Resident)
    return split


def quarter(image: Any) -> Any:
    return functional.rotate(image, 90 * int(torch.randint(1, 4, ())))


def noisy(image: Tensor) -> Tensor:
    return (image + torch.randn_like(image) * torch.rand(()) * 0.2).clamp_(0, 1)


def edges(image: Tensor) -> Tensor:
    kernel = torch.tensor([[-2.0, -2.0, 0.0], [-2.0, 0.0, 2.0], [0.0, 2.0, 2.0]]).expand(3, 1, 3, 3)
    return nn.functional.conv2d(image[None], kernel, padding=1, groups=3)[0].mul_(0.125).add_(0.467).clamp_(0, 1)


def on_pil() -> dict[str, Transform]:
    """Per image, from a Pillow image to a float tensor; None where torchvision has no such operator."""
    to_tensor, crop, flip = transforms.ToTensor(), transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip()
    jitter = transforms.RandomApply([transforms.ColorJitter(**JITTER)], p=0.8)
    color = [jitter, transforms.RandomGrayscale(0.2)]
    sobel = ImageFilter.Kernel((3, 3), (-2, -2, 0, -2, 0, 2, 0, 2, 2), scale=8, offset=119)
    return {
        VIEW: transforms.Compose([crop, flip, *color, to_tensor]),
        "crop": transforms.Compose([crop, flip, to_tensor]),
        "cutout": transforms.Compose([to_tensor, transforms.RandomErasing(1.0, (0.25, 0.25), (1.0, 1.0), 0.584)]),
        "color": transforms.Compose([*color, to_tensor]),
        "sobel": lambda image: to_tensor(image.filter(sobel)),
        "noise": lambda image: noisy(to_tensor(image)),
        "blur": transforms.Compose([transforms.GaussianBlur(3, (0.1, 2.0)), to_tensor]),
        "rotate": lambda image: to_tensor(quarter(image)),
    }


def on_tensors() -> dict[str, Transform]:
    """Per image, from a uint8 tensor to a float tensor, by torchvision's v2."""
    to_float, crop, flip = v2.ToDtype(torch.float32, scale=True), v2.RandomResizedCrop(32), v2.RandomHorizontalFlip()
    color = [v2.RandomApply([v2.ColorJitter(**JITTER)], p=0.8), v2.RandomGrayscale(0.2)]
    return {
        VIEW: v2.Compose([crop, flip, *color, to_float]),
        "crop": v2.Compose([crop, flip, to_float]),
        "cutout": v2.Compose([to_float, v2.RandomErasing(1.0, (0.25, 0.25), (1.0, 1.0), 0.584)]),
        "color": v2.Compose([*color, to_float]),
        "sobel": lambda image: edges(to_float(image)),
        "noise": lambda image: noisy(to_float(image)),
        "blur": v2.Compose([v2.GaussianBlur(3, (0.1, 2.0)), to_float]),
        "rotate": lambda image: to_float(quarter(image)),
    }


def on_batches() -> dict[str, Transform]:
    """Per batch, float to float, by kornia; nothing where it is not installed."""
    if find_spec("kornia") is None:
        return {}
    from kornia import augmentation, filters

    crop = augmentation.RandomResizedCrop((32, 32), scale=(0.08, 1.0), cropping_mode="resample")
    flip = augmentation.RandomHorizontalFlip()
    color = [augmentation.ColorJitter(**JITTER, p=0.8), augmentation.RandomGrayscale(p=0.2)]
    return {
        VIEW: nn.Sequential(crop, flip, *color),
        "crop": nn.Sequential(crop, flip),
        "cutout": augmentation.RandomErasing(scale=(0.25, 0.25), ratio=(1.0, 1.0), value=0.584, p=1.0),
        "color": nn.Sequential(*color),
        "sobel": filters.Sobel(),
        "noise": augmentation.RandomGaussianNoise(std=0.1, p=1.0),
        "blur": augmentation.RandomGaussianBlur((3, 3), (0.1, 2.0), p=1.0),
        "rotate": augmentation.RandomRotation90((1, 3), p=1.0),
    }


def contenders(case: str, images: Tensor) -> Iterator[Contender]:
    """Everyone who can make ``case`` of uint8 ``images`` [B, 3, 32, 32]."""
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(len(images)))
    views = Views(both=OPERATORS[case])
    yield Contender(OURS, lambda: views(images, rng), 2 * len(images))
    if case == VIEW:
        fused = Views(both=(Crop(flip=0.5), Color(strength=0.5)))
        yield Contender(FUSED, lambda: fused(images, rng), 2 * len(images))
    few = images[:ONE_BY_ONE]
    as_pil: list[Image.Image] = [functional.to_pil_image(image) for image in few]
    pil, tensors, batch = on_pil()[case], on_tensors()[case], on_batches().get(case)
    yield Contender(PIL, lambda: torch.stack([pil(image) for image in as_pil]), len(few))
    yield Contender(V2, lambda: torch.stack([tensors(image) for image in few]), len(few))
    if batch is not None:
        yield Contender(KORNIA, lambda: batch(images.float().div_(255)), len(images))


@torch.no_grad()
def run(effort: Effort) -> Section:
    """The whole section."""
    section = Section("a", "One 32x32 view, and the operators of Figure 5")
    images = pictures(effort.of(BATCH, BATCH, 8)).images
    for case in OPERATORS:
        budget_s = effort.seconds(24.0 if case == VIEW else 6.0)
        timings = in_turns(list(contenders(case, images)), budget_s=budget_s)
        section.rows += rows_of(case, timings, unit="ms per view")
        if case == VIEW:
            for rival, wanted in ((PIL, 30.0), (KORNIA, 4.0)):
                if rival in timings:
                    ratio = timings[rival].times(timings[OURS])[1]
                    section.targets.append(Target(f"a view: {rival} over ours", ratio, at_least=wanted))
    return section
