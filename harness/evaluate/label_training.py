"""Training a copy of the whole network on labels: what fine-tuning on few labels and on other data sets share.

The weights of the run are never touched: everything here happens to a copy.

One limit: a step takes its whole batch at once, on one device, in float32: a ResNet-50 at 224 pixels keeps about
80 MiB for each image, so 20 GiB for the 256 of a transfer, and over 300 GiB for the 4096 of few labels, which no single
device has (give a smaller ``batch_size``; the rate follows it); one four times as wide keeps about four times as much.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data import augment
from harness.data.datasets import Split
from harness.data.rng import ImageRng
from harness.data.views import Batch, Views, batches
from harness.evaluate import logistic
from harness.evaluate.measurement import Convergence, Unavailable, finite
from harness.evaluate.resume_state import ResumePoint, ResumeState
from harness.evaluate.standardize import Standard
from harness.evaluate.trained import EVALUATION_DRAWS, Trained
from harness.models.norm import BatchNorm
from harness.models.stochastic import drawing
from harness.optim.optimizers import SGD, learning_rate

Weights = Literal["pretrained", "random"]
"""Where fine-tuning starts: from the run, or from the very initialisation that its pretraining started from."""

CROP_FLIP = Views(both=(augment.Crop(), augment.Flip()), count=1)
"""The random crop is bilinear at every scale, as in linear evaluation; pretraining's is bicubic at imagenet."""
_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Nesterov SGD from a peak rate ``lr`` along a cosine to zero, without warm-up.

    ``steps`` updates of ``batch_size`` images. ``weight_decay`` spares biases and batch norm, as everywhere here.
    """

    steps: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0


class Classifier(nn.Module):
    """An encoder and a linear layer that starts at zero (``zero_init_logits_layer`` of the official README)."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder, self.level = encoder, cast(nn.Module, nn.Identity())
        self.logits = nn.Linear(cast(int, encoder.out_dim), classes)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, images: Tensor) -> Tensor:
        """[N, classes] of images [N, 3, H, W]."""
        h = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return cast(Tensor, self.logits(self.level(h)))


class Level(nn.Module):
    """h [N, D] less the ``mean`` [D], over one ``deviation`` for all features: what h is multiplied by cancels.

    Fixed: the rate of the classifier and the gradient that the encoder gets then do not depend on the scale that its
    pretraining happened to leave h in.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: nn.Module, split: Split, *, seed: int, device: torch.device) -> Level:
        """Of the plain images of a split as the training will see them: batch norm by the batch, on a copy.

        The deviation is the root of the mean square over features; of those that do not vary, or where none does, 1.
        """
        seen = copy.deepcopy(encoder).train()
        h = torch.cat([seen(batch.views[0]) for batch in plain(split, seed, device)]).float()
        standard = Standard.of(h)
        deviation = standard.deviation[standard.varies].square().mean().sqrt().nan_to_num(1.0)
        return cls(standard.mean.float(), deviation.float())

    def forward(self, h: Tensor) -> Tensor:
        return (h - self.mean) / self.deviation


def starting_from(
    trained: Trained,
    weights: Weights,
    classes: int,
    bn_momentum: float | None = None,
    level_on: Split | None = None,
) -> Classifier:
    """A copy to train, on the run's device. ``bn_momentum`` (torch's convention) replaces the run's; ``level_on`` are
    the images over which h gets zero mean and unit deviation, if it is to (:class:`Level`).

    Batch statistics are those of the whole batch whatever groups pretraining used: the paper gives none for
    fine-tuning, and a study of groups should see their effect on the pretraining alone.
    """
    if weights == "pretrained":
        encoder = copy.deepcopy(trained.method.encoder)
    elif trained.untrained is not None:
        encoder = trained.untrained().encoder
    else:
        raise Unavailable("nothing here can make this run's networks anew")
    ordinary(encoder.requires_grad_(True))  # a teacher's is frozen
    for layer in encoder.modules():
        if bn_momentum is not None and isinstance(layer, nn.BatchNorm2d):
            layer.momentum = bn_momentum
    network = Classifier(encoder, classes).to(trained.device)
    if level_on is not None:
        network.level = Level.of(network.encoder, level_on, seed=trained.seed, device=trained.device)
    return network


def ordinary(module: nn.Module) -> None:
    """Replace our batch norm by torch's, in place: no groups, and no other rank to wait for."""
    for name, child in module.named_children():
        if isinstance(child, BatchNorm):
            setattr(module, name, child.ordinary())
        else:
            ordinary(child)


def train(
    network: Classifier,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    interim: ResumePoint | None = None,
) -> None:
    """Fit all weights, random crop and flip alone; the batch is the split where that is smaller.

    Deterministic given ``seed`` on a CPU. float32 throughout. ``interim`` is asked at every step and at the end.
    """
    network.train()
    settings = SGD(lr=recipe.lr, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay)
    optimizer = settings.build(network)
    interim, begin = interim or ResumePoint(), 0
    if held := interim.take():
        begin = held["step"]
        network.load_state_dict(held["network"])
        optimizer.load_state_dict(held["optimizer"])
    stream = endless(split, recipe.batch_size, seed, device, begin)
    for step, (batch, rng) in zip(range(begin, recipe.steps), stream, strict=False):
        interim.keep(partial(_state, step, network, optimizer), step / recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=recipe.lr, warmup_steps=0, total_steps=recipe.steps)
        optimizer.zero_grad(set_to_none=True)
        with drawing(network, rng):
            torch.autograd.backward([loss(network(batch.views[0]), batch.labels)])
        optimizer.step()
    interim.keep(partial(_state, recipe.steps, network, optimizer), 1.0)


def _state(step: int, network: Classifier, optimizer: torch.optim.Optimizer) -> ResumeState:
    """Made only when it is written down: there is a step every few milliseconds, and the state is the whole network."""
    return {"step": step, "network": network.state_dict(), "optimizer": optimizer.state_dict()}


def endless(
    split: Split, batch_size: int, seed: int, device: torch.device, begin: int = 0
) -> Iterator[tuple[Batch, ImageRng]]:
    """Epoch after epoch of shuffled batches, the incomplete last one of each left out, from the step ``begin`` on.

    With each, the streams that the network's own random layers (stochastic depth) draw from.
    """
    size = min(batch_size, len(split))
    first, skipped = divmod(begin, len(split) // size)
    for epoch in itertools.count(first):
        for batch in batches(
            split,
            CROP_FLIP,
            batch_size=size,
            seed=seed ^ EVALUATION_DRAWS,
            epoch=epoch,
            device=device,
            first_step=skipped if epoch == first else 0,
        ):
            rng = ImageRng(seed=seed ^ EVALUATION_DRAWS, epoch=epoch, images=batch.indices, device=device)
            yield batch, rng.child("network")


def plain(split: Split, seed: int, device: torch.device) -> Iterator[Batch]:
    """The images of a split in its own order, as they are."""
    return batches(
        split, Views(count=1), batch_size=_ROWS, seed=seed, epoch=0, device=device, shuffle=False, drop_last=False
    )


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy of labels [B]; of labels [B, C] in {1, 0, -1} the logistic loss of those that count."""
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels)
    return logistic.cross_entropy(logits, labels) / len(labels)


def reached(network: Classifier, split: Split, *, seed: int, device: torch.device) -> Convergence:
    """What is left of the training loss, per plain image and batch norm in inference mode.

    A whole network has no single optimum to be held against.
    """
    return Convergence(loss=float(loss(*predictions(network, split, seed=seed, device=device))))


@torch.no_grad()
def predictions(network: Classifier, split: Split, *, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits [N, classes] and labels of a split in its own order, batch norm in inference mode.

    Raises :class:`Divergence` where the logits are not finite: this training diverged, the run has not.
    """
    network.eval()
    passes = plain(split, seed, device)
    logits, labels = zip(*((network(batch.views[0]), batch.labels) for batch in passes), strict=True)
    return finite(torch.cat(logits), "fine-tuning diverged: its logits"), torch.cat(labels)
