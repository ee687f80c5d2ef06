"""Milliseconds per 32x32 view of crop + flip + color on one CPU thread: this harness beside torchvision.

    python benchmarks/augment.py

Wall and CPU time, the best of many repetitions; on a busy machine only the CPU time means something, and even that
is inflated by shared caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torchvision import transforms
from torchvision.transforms import functional

from harness.data.augment import Color, Crop, Flip
from harness.data.rng import ImageRng
from harness.data.views import Views

BATCH = 256


def best(work: Callable[[], object], repetitions: int, views: int) -> str:
    wall, cpu = float("inf"), float("inf")
    for _ in range(repetitions + 1):
        began, spent = time.perf_counter(), time.thread_time()
        work()
        wall, cpu = min(wall, time.perf_counter() - began), min(cpu, time.thread_time() - spent)
    return f"{wall / views * 1e3:8.4f} wall {cpu / views * 1e3:8.4f} CPU   ms per view"


def main() -> None:
    torch.set_num_threads(1)
    # Like the loading of a CIFAR-10 file: once 30 MB have been freed, glibc keeps freed memory at hand instead of
    # returning it, and tensors of a batch cost no page faults any more. Without it a view takes twice as long.
    del bytearray(30_000_000)[:]
    images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8)
    pictures = [functional.to_pil_image(image) for image in images]
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(BATCH))
    jitter = transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8)
    steps = [
        transforms.RandomResizedCrop(32),
        transforms.RandomHorizontalFlip(),
        jitter,
        transforms.RandomGrayscale(0.2),
    ]
    one_by_one = transforms.Compose(steps)
    to_tensor = transforms.ToTensor()
    separate, fused = Views(both=(Crop(), Flip(), Color())), Views(both=(Crop(flip=0.5), Color()))
    print("harness, crop flip color      ", best(lambda: separate(images, rng), 100, 2 * BATCH))
    print("harness, crop {flip: .5} color", best(lambda: fused(images, rng), 100, 2 * BATCH))
    print("torchvision on PIL images     ", best(lambda: [to_tensor(one_by_one(x)) for x in pictures], 3, BATCH))
    print("torchvision on tensors        ", best(lambda: [one_by_one(x / 255) for x in images], 3, BATCH))


if __name__ == "__main__":
    main()
