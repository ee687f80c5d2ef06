"""f. An image folder on one core: decoding with the random crop, beside a torchvision pipeline on the same JPEGs.

Two views of each picture at 224 pixels. A GPU is starved by what the CPU does per image: torchvision's pipeline does
everything there, the harness decodes once, crops twice, and leaves the rest to the device (measured here too).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.io import write_jpeg

from benchmarks.clock import Contender, Effort, in_turns
from benchmarks.record import OURS, Section, Target, rows_of
from benchmarks.views import JITTER
from harness.data.augment import Blur, Color, Crop
from harness.data.datasets import ImageFolder as OurFolder
from harness.data.datasets import Split
from harness.data.views import Views, batches

HEIGHT, WIDTH, SIZE = 375, 500, 224
"""ImageNet's typical picture."""

WHOLE, CROPS = "torchvision, whole pipeline", "torchvision, decode and two crops"
REST = "harness, color and blur on the CPU"


def make(folder: Path, count: int) -> None:
    """JPEGs with structure at every scale, to decode like photographs (70 kB; ImageNet has about 110)."""
    generator = torch.Generator().manual_seed(0)
    for part in ("train", "val"):
        (folder / part / "only").mkdir(parents=True)
    for place in range(count):
        picture = torch.zeros(1, 3, HEIGHT, WIDTH)
        for scale in (4, 16, 64, 256):
            noise = torch.rand(1, 3, HEIGHT // 256 * scale // 2 + 2, scale, generator=generator) - 0.5
            picture += torch.nn.functional.interpolate(noise, (HEIGHT, WIDTH), mode="bicubic") / scale**0.5
        grain = torch.randn(3, HEIGHT, WIDTH, generator=generator) * 11
        image = (picture[0] * 150 + 128 + grain).clamp_(0, 255).to(torch.uint8)
        for part in ("train", "val") if place == 0 else ("train",):
            write_jpeg(image, str(folder / part / "only" / f"{place:04}.jpg"), quality=90)


def contenders(folder: Path, count: int) -> Iterator[Contender]:
    crop = transforms.RandomResizedCrop(SIZE)
    rest = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(**{name: 2 * value for name, value in JITTER.items()})], p=0.8),
        transforms.RandomGrayscale(0.2),
        transforms.RandomApply([transforms.GaussianBlur(23, (0.1, 2.0))]),
        transforms.ToTensor(),
    ]
    whole = ImageFolder(folder / "train", transforms.Compose([crop, *rest]))
    crops = ImageFolder(folder / "train")
    views = Views(both=(Crop(flip=0.5), Color(), Blur()))
    split: Split = OurFolder(path=folder.name).load(folder.parent).train
    steps = list(torch.split(torch.arange(count), 16))

    def decoded() -> None:
        for _ in split.stream(steps, views.windows(), seed=0, epoch=0, workers=1):
            pass

    def with_rest() -> None:
        for _ in batches(split, views, batch_size=16, seed=0, epoch=0, device="cpu", workers=1):
            pass

    def two_views() -> None:
        for place in range(count):
            picture = crops[place][0]
            torch.stack([whole.transform(picture), whole.transform(picture)])

    def two_crops() -> None:
        for place in range(count):
            picture = crops[place][0]
            torch.stack([transforms.functional.pil_to_tensor(crop(picture)) for _ in range(2)])

    yield Contender(OURS, decoded, count)
    yield Contender(REST, with_rest, count)
    yield Contender(WHOLE, two_views, count)
    yield Contender(CROPS, two_crops, count)


def run(effort: Effort) -> Section:
    """The whole section."""
    section = Section("f", f"Image folder, {WIDTH}x{HEIGHT} JPEG to two views of {SIZE}, one core")
    count = effort.of(128, 32, 16)
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "pictures"
        make(folder, count)
        sizes = [path.stat().st_size for path in (folder / "train").rglob("*.jpg")]
        average = sum(sizes) / len(sizes) / 1e3
        section.notes = [f"{count} pictures made for the purpose, {average:.0f} kB on average.", ""]
        timings = in_turns(list(contenders(folder, count)), budget_s=effort.seconds(40.0))
    section.rows += rows_of("two views", timings, unit="ms per image")
    ratio = timings[WHOLE].times(timings[OURS])[1]
    section.targets.append(Target("loader, images per core: ours over torchvision's pipeline", ratio, at_least=2.0))
    return section
