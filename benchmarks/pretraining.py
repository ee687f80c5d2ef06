"""b. Pretraining end to end: images per second of lightly, of a plain torchvision script, of the harness, of its step.

Everyone trains the same network, on the same images, with batches of 256 and views of crop, flip and color. The two
others are written as their documentation does it: transforms per image in loader workers, a forward pass per view,
SGD. Ours is the body of :meth:`harness.train.loop.Pretraining.run` with LARS; the bare step is that without
``batches``: the same views again and again, which is the limit of what faster augmentation could give.

The methods after SimCLR stand beside lightly's own modules for them (:mod:`benchmarks.lineage`), and SimCLR beside an
earlier build of the harness where one is given (:mod:`benchmarks.builds`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.clock import Contender, Effort, in_turns
from benchmarks.record import OURS, Section, Target, rows_of
from benchmarks.views import VIEW, on_pil, pictures
from harness import components
from harness.components import Parts
from harness.config.experiment import load_scale
from harness.config.grid import assign, normalised
from harness.data.datasets import Resident
from harness.data.views import batches
from harness.methods.base import Method
from harness.optim.optimizers import Rates
from harness.optim.schedules import Progress
from harness.train.loop import accumulate
from harness.train.step import optimise

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
WORKERS = 2
CLASSES = 10
LIGHTLY, PLAIN, BARE, UNORDERED = "lightly", "torchvision + DataLoader", "bare step", "bare step, not channels_last"
ENCODERS = {"micro": ("micro", 256, 4), "ResNet-18": ("cifar10", 16, 1)}
"""Scale file, batch in images, and steps per measurement (loaders are filled and emptied within one)."""

TINY_BATCH = 8
WARMUP_STEPS, STEPS = 100, 10_000
"""Of the schedules that ours follows, longer than any measurement."""


def parts_of(scale: str, batch: int, **changes: Any) -> Parts:
    """What a run of this scale is made of, in float32; ``changes`` go by the first words of their paths."""
    return parts_from(normalised(load_scale(EXPERIMENTS, scale).tree), batch, **changes)


def parts_from(tree: dict[str, Any], batch: int, **changes: Any) -> Parts:
    """The same of a whole specification, whose ``tree`` is changed."""
    for path, value in {"precision": "float32", "schedule.batch_size": batch, **changes}.items():
        assign(tree, path, value)
    return components.build(components.resolve(tree, 0))


def networks(parts: Parts, images: int, *, channels_last: bool = True) -> Method:
    torch.manual_seed(0)
    method = parts.build_method(images=images, classes=CLASSES).train()
    if channels_last:
        return method.to(memory_format=torch.channels_last)
    method.represent = method.encoder.forward  # type: ignore[method-assign]  # the original would reorder the images
    return method


class Pictures(TorchDataset[Any]):
    """What ``torchvision.datasets.CIFAR10`` does: an array to a Pillow image to ``transform``."""

    def __init__(self, images: Tensor, transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images.permute(0, 2, 3, 1).contiguous().numpy(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Any:
        return self.transform(Image.fromarray(self.images[place]))


class Script(nn.Module):
    """The networks of a training script, and what it does with the views of a batch."""

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        """A scalar to minimise, of V tensors [B, 3, H, W]."""
        raise NotImplementedError

    def before_update(self) -> None:
        """What is done to the gradients."""


class Siamese(Script):
    """A forward pass for each of two views, and a loss that compares them."""

    def __init__(self, network: nn.Module, compare: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.compare = network, compare

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        first, second = views
        return self.compare(self.network(first), self.network(second))


@dataclass
class Loop:
    """A training script fed by a ``DataLoader``: one call is one pass over its images."""

    loader: DataLoader[Any]
    script: Script

    def __post_init__(self) -> None:
        self.script.train()
        moved = [one for one in self.script.parameters() if one.requires_grad]
        self.optimizer = torch.optim.SGD(moved, lr=0.06, momentum=0.9, weight_decay=5e-4)

    def helpers(self) -> list[int]:
        workers: Sequence[Any] = getattr(self.loader._iterator, "_workers", ())
        return [one.pid for one in workers]

    def __call__(self) -> None:
        for views in self.loader:
            torch.autograd.backward(self.script.loss(views))
            self.script.before_update()
            self.optimizer.step()
            self.optimizer.zero_grad()


def loop(images: Tensor, batch: int, transform: Callable[[Any], Any], script: Script) -> Loop:
    # Workers persist, so that starting them is not measured; they idle while others are measured.
    loader: DataLoader[Any] = DataLoader(
        Pictures(images, transform),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    return Loop(loader, script)


def siamese(parts: Parts, images: int, compare: Callable[[Tensor, Tensor], Tensor]) -> Siamese:
    """SimCLR's networks as a script has them."""
    method = networks(parts, images, channels_last=False)
    return Siamese(nn.Sequential(method.encoder, method.head), compare)


def naive_nt_xent(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    """What most single-file scripts do: the whole matrix, its diagonal masked, cross-entropy."""
    z = F.normalize(torch.cat([first, second]), dim=1)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(first)))


def lightly_loop(images: Tensor, batch: int, parts: Parts) -> Loop:
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    return loop(images, batch, transform, siamese(parts, len(images), NTXentLoss(temperature=0.5)))


def plain_loop(images: Tensor, batch: int, parts: Parts) -> Loop:
    view = on_pil()[VIEW]
    script = siamese(parts, len(images), naive_nt_xent)
    return loop(images, batch, lambda image: (view(image), view(image)), script)


class Ours:
    """The loop's body. ``epoch()`` is a pass over the images, ``bare()`` as many steps on fixed views.

    ``losses`` are those of the last call's steps, on the device.
    """

    def __init__(
        self,
        split: Resident,
        parts: Parts,
        *,
        channels_last: bool = True,
        device: str = "cpu",
        bfloat16: bool = False,
    ) -> None:
        self.split, self.parts, self.epochs = split.to(device), parts, itertools.count()
        self.batch_size, self.device, self.bfloat16 = parts.run.schedule.batch_size, device, bfloat16
        self.method = networks(parts, len(split), channels_last=channels_last).to(device)
        self.losses: list[Tensor] = []
        self.optimizers = parts.build_optimizers(self.method)
        self.rates = Rates(parts.optimizer, self.batch_size, WARMUP_STEPS, STEPS)
        self.steps = itertools.count()
        self.fixed = next(iter(self.stream()))

    def stream(self) -> Iterable[Any]:
        return batches(
            self.split,
            self.parts.views,
            batch_size=self.batch_size,
            seed=0,
            epoch=next(self.epochs),
            device=self.device,
        )

    def train(self, stream: Iterable[Any]) -> None:
        totals: dict[str, Tensor] = {}
        self.losses.clear()
        for batch in stream:
            progress = Progress(next(self.steps), STEPS, len(self.split) // self.batch_size)
            values = optimise(
                self.method, self.optimizers, batch, progress, set_rates=self.rates, bfloat16=self.bfloat16
            )
            accumulate(totals, values)
            self.losses.append(values["loss"])

    def epoch(self) -> None:
        self.train(self.stream())

    def bare(self) -> None:
        self.train([self.fixed] * (len(self.split) // self.batch_size))


def contenders(encoder: str, effort: Effort) -> list[Contender]:
    scale, usual, steps = ENCODERS[encoder]
    batch = effort.of(usual, usual, TINY_BATCH)
    split, parts = pictures(batch * effort.of(steps, steps, 1)), parts_of(scale, batch)
    ours, unordered = Ours(split, parts), Ours(split, parts, channels_last=False)
    found = [Contender(OURS, ours.epoch, len(split)), Contender(BARE, ours.bare, len(split))]
    found.append(Contender(UNORDERED, unordered.bare, len(split)))
    others = {PLAIN: plain_loop} | ({LIGHTLY: lightly_loop} if find_spec("lightly") else {})
    for name, make in others.items():
        script = make(split.images, batch, parts)
        found.append(Contender(name, script, len(split), script.helpers))
    return found


def run(effort: Effort, against: Path | None = None) -> Section:
    """The whole section. Workers of a loader are awake only while their contender is measured.

    ``against`` is the checkout of an earlier build; in a rehearsal it is this one.
    """
    from benchmarks import builds, lineage  # they are made of this module's parts

    section = Section("b", "Pretraining end to end, 32x32")
    sizes = ", ".join(f"{batch} ({name})" for name, (_, batch, _) in ENCODERS.items())
    section.notes = [
        f"Batches of {sizes}. The scripts have {WORKERS} loader workers besides the training process, the harness "
        "has none: their wall time is that of more cores.",
        "",
    ]
    for encoder in ENCODERS:
        timings = in_turns(contenders(encoder, effort), budget_s=effort.seconds(60.0))
        section.rows += rows_of(encoder, timings, unit="ms per image")
        share = 1 / timings[OURS].times(timings[BARE])[1]
        bare = 0.9 if encoder == "micro" else 0.97
        section.targets.append(Target(f"{encoder}: speed of ours over the bare step", share, at_least=bare))
        if LIGHTLY in timings and encoder == "micro":
            ratio = timings[LIGHTLY].times(timings[OURS])[1]
            section.targets.append(Target(f"{encoder}: speed of ours over lightly", ratio, at_least=4.0))
    lineage.measure(section, effort)
    if against is not None:
        builds.measure(section, effort, against)
    return section
