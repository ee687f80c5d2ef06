"""Run a component on one of its examples and yield what it computes, as words and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness import components
from harness.config import registry
from harness.config.registry import REGISTRIES, Resolved
from harness.data.datasets import Dataset, Resident
from harness.data.rng import ImageRng
from harness.digests import rehearsal
from harness.digests.rehearsal import Observation
from harness.evaluate.measurement import recorded
from harness.evaluate.resume_state import ResumePoint, ResumeState
from harness.evaluate.trained import Trained
from harness.models.norm import Norm
from harness.models.stochastic import drawing
from harness.optim.schedules import Progress
from harness.train import loop, trace

Observer = Callable[[Any, Path], Observation]

BATCH = 16
CLASSES = 7
WARM = 20
LARGEST = 30_000_000
"""Parameters of the largest network that is computed with; of a larger one the structure is compared."""


def observed(kind: str, entry: Resolved, folder: Path) -> list[str | Tensor]:
    """What the component of ``entry`` does, the same at every call; ``folder`` is empty and may be written to.

    torch's global random numbers and its number of threads are left as they were.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # another number splits sums in other places
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if kind == "method":
                ((name, fields),) = entry.items()
                return list(rehearsal.whole(rehearsal.method_run(name, fields), folder))
            return list(OBSERVERS[kind](REGISTRIES[kind].build(entry), folder))
    finally:
        torch.set_num_threads(threads)


def pixels(count: int = BATCH, size: int = 32) -> Tensor:
    """float32 [count, 3, size, size] in [0, 1]: shapes and some noise, so that a blur has something to see."""
    random = torch.Generator().manual_seed(0)
    coarse = nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=random), size=(size, size), mode="bilinear")
    return 0.7 * coarse + 0.3 * torch.rand(count, 3, size, size, generator=random)


def of_augmentation(component: Any, folder: Path) -> Observation:
    """Yield what it makes of a batch of images."""
    yield component(pixels(), ImageRng(seed=0, epoch=0, images=torch.arange(BATCH)))


def of_dataset(component: Any, folder: Path) -> Observation:
    """Sizes and labels of the splits, and four images of each: whole."""
    files: Callable[[Path], AbstractContextManager[None]] = getattr(component, "tiny_files", lambda _: nullcontext())
    with files(folder):
        data = component.load(folder)
        yield from data.classes
        for name in ("train", "validation", "test"):
            if (split := getattr(data, name)) is not None:
                (images,) = split.stream([torch.arange(4)], (), seed=0, epoch=0, workers=1)
                yield name
                yield from (column for _, column in sorted(split.columns.items()))
                yield from images if isinstance(images, list) else [images]


def of_network(network: nn.Module, images: Tensor) -> Observation:
    """Structure, what is learned, output in training and in inference mode. Of gradients the loop's digests know."""
    yield trace.structure(network)
    yield from (name for name, one in network.named_parameters() if one.requires_grad)
    if next((one for one in network.parameters() if one.is_meta), None) is not None:
        return
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(len(images)))
    with torch.no_grad():
        with drawing(network, rng):
            yield network.train()(images)
        yield network.eval()(images)


def of_encoder(component: Any, folder: Path) -> Observation:
    """Yield as :func:`of_network`; of a network above :data:`LARGEST` the structure only."""
    norm = Norm()
    with torch.device("meta"):
        network = component.build(norm)
    if sum(one.numel() for one in network.parameters()) <= LARGEST:
        network = component.build(norm)
    images = pixels(4).contiguous(memory_format=torch.channels_last)
    yield from of_network(network, images)


def of_head(component: Any, folder: Path) -> Observation:
    """Yield as :func:`of_network`, on random features."""
    yield from of_network(component.build(32, Norm()), torch.randn(12, 32))


def of_objective(component: Any, folder: Path) -> Observation:
    """The value and its gradient: of two views, or of logits where it takes labels."""
    z = [torch.randn(12, 5).requires_grad_() for _ in range(2)]
    if "label_smoothing" in vars(component):
        z = z[:1]
        loss = component(z[0], torch.arange(12) % 5)
    else:
        loss = component(z)
    yield loss.detach()
    yield from torch.autograd.grad(loss, z)


def of_optimizer(component: Any, folder: Path) -> Observation:
    """The weights after three steps at the peak rate of a batch of 1024."""
    network = Layers(nn.Linear(6, 5), nn.Linear(5, 4))
    optimizer = component.build(network)
    for group in optimizer.param_groups:
        group["lr"] = component.peak_lr(1024) * group["lr_scale"]
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.linspace(-1, 1, 30).view(5, 6)).square().mean().backward()
        optimizer.step()
    yield from (one.detach() for one in network.parameters())


class Layers(nn.Sequential):
    """Two layers that say which is the upper one, as encoders with layers do."""

    depth = 1

    def depth_of(self, name: str) -> int:
        """0 of the lower, 1 of the upper."""
        return int(name.partition(".")[0])


def of_schedule(component: Any, folder: Path) -> Observation:
    """The value at every step of four epochs of three steps each, and its bounds."""
    values = [component(Progress(step, 12, 3)) for step in range(12)]
    yield torch.tensor([*values, *component.extremes], dtype=torch.float64)


def of_evaluation(component: Any, folder: Path) -> Observation:
    """What it yields, and every state it could resume from: accuracies of a few images show too little."""
    run = rehearsal.tiny({**HOST, **getattr(component, "tiny_run", {})}, seed=5)
    parts = components.build(run)
    train = stripes(90)
    data = Dataset(train, stripes(211, 1), stripes(307, 2), tuple(map(str, range(CLASSES))))
    device = torch.device("cpu")
    method = loop.seeded_method(parts, data, device)
    with torch.no_grad():  # running statistics near those of the data: else all features would be alike
        for _ in range(WARM):
            method.train().project(method.represent(train.images / 255))
    states: list[ResumeState] = []

    trained = Trained(
        method=method.eval(),
        data=data,
        views=parts.views,
        batch_size=64,
        seed=run.seed,
        device=device,
        root=folder,
        untrained=lambda: loop.seeded_method(parts, data, device),
        interim=ResumePoint(keep=lambda make, done: states.append(_copied({"done": done, **make()}))),
    )
    found = recorded(component(trained))
    yield from _flat(found)
    for state in states:
        yield from _flat(state)


HOST: Mapping[str, Any] = {"encoder": {"micro": {"stem": 8, "widths": [8]}}}
"""What evaluations are shown, unlike the tiny run."""


def stripes(count: int, seed: int = 0) -> Resident:
    """``count`` images uint8 [3, 16, 16] of :data:`CLASSES` classes, each a tint and much noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    tint = torch.rand(CLASSES, 3, 1, 1, generator=torch.Generator().manual_seed(9))
    noise = torch.rand(count, 3, 16, 16, generator=random)
    return Resident((255 * (0.3 * tint[labels] + 0.7 * noise)).to(torch.uint8), labels)


def _copied(value: Any) -> Any:
    """A training goes on in the tensors that it offers to be kept."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value


def _flat(value: Any) -> Observation:
    """Names and words as they are, numbers as tensors."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _flat(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _flat(inner)
    elif isinstance(value, Tensor):
        yield value
    elif isinstance(value, int | float):
        yield torch.tensor(float(value), dtype=torch.float64)
    else:
        yield str(value)


OBSERVERS: dict[str, Observer] = {
    "augmentation": of_augmentation,
    "dataset": of_dataset,
    "encoder": of_encoder,
    "head": of_head,
    "objective": of_objective,
    "optimizer": of_optimizer,
    "schedule": of_schedule,
    "evaluation": of_evaluation,
}
"""Of every kind but methods, which are run by the loop itself."""

assert {*OBSERVERS, registry.method.kind} == {*REGISTRIES}
