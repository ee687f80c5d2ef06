"""Linear evaluation: softmax regression by SGD on features of the frozen encoder (section 2.3, appendix B.6)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.data import augment
from harness.evaluate.trained import Features, Trained
from harness.spec.registry import evaluation

Augment = Literal["crop_flip", "none"]


@evaluation("linear")
@dataclass(frozen=True, kw_only=True)
class Linear:
    """Yields ``top1``, and ``top5`` if there are more than five classes, in percent of ``split``.

    The defaults are the official README's for CIFAR-10: 100 epochs, batch 512, rate ``base_lr * batch / 256``
    decayed to zero along a cosine without warm-up (run.py and model_util.py use one schedule for all stages),
    Nesterov momentum, no weight decay, weights from zero, random crop and flip, encoder in inference mode.
    The paper's own ImageNet probe (B.6) is the same with batch 4096 and 90 epochs.

    ``augment: none`` is not in the paper: features are computed once, which is a hundred times cheaper and, on
    CIFAR-10, within about half a point (dkobak/simclr-cifar10, ResNet-18: 91.7 against 91.9 augmented).

    Departures: an epoch's incomplete last batch is dropped (the official loader lets batches run across
    epochs); a batch larger than the data set is the data set; the random crop is bilinear at every scale.
    """

    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")
    features: Features = "h"
    split: Literal["test", "validation"] = "test"
    epochs: Annotated[int, Field(ge=1)] = 100
    batch_size: Annotated[int, Field(ge=1)] = 512
    base_lr: Annotated[float, Field(gt=0)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    augment: Augment = "crop_flip"

    def __call__(self, trained: Trained) -> Iterator[tuple[str, float]]:
        """Fit on the training split, score on ``split``; deterministic given ``trained.seed``."""
        trained.split(self.split)  # refuse before the work, not after it
        alike = replace(self, split="test")  # the images that it is scored on have no part in the fit
        if alike not in trained.fitted:
            trained.fitted[alike] = self.fit(trained)
        probe = trained.fitted[alike]
        x, labels = trained.features(self.split, self.features)
        yield from accuracies(probe.logits(x).T, labels)

    def fit(self, trained: Trained) -> SoftmaxRegression:
        """The probe after all epochs."""
        order = torch.Generator().manual_seed(trained.seed)
        operators = (augment.Crop(), augment.Flip()) if self.augment == "crop_flip" else ()
        probe: SoftmaxRegression | None = None
        begin = 0
        if held := trained.interim.take():
            begin, probe = held["epoch"], SoftmaxRegression.of(held["probe"], self, trained.device)
            order.set_state(held["order"])
        for epoch in range(begin, self.epochs):
            # The encoder is frozen and an image's crop does not depend on its neighbours, so a whole epoch can be
            # encoded in large passes and in its stored order; only the probe's steps follow the permutation.
            x, labels = trained.features("train", self.features, operators, epoch)
            probe = probe or SoftmaxRegression(x, len(trained.data.classes), self)
            batch = min(self.batch_size, len(x))
            steps = len(x) // batch
            rows = torch.randperm(len(x), generator=order)[: steps * batch].to(x.device).view(steps, batch)
            for step, chosen in enumerate(rows, start=epoch * steps):
                rate = cosine(step, steps * self.epochs) * self.base_lr * batch / 256
                probe.step(x.index_select(0, chosen), labels.index_select(0, chosen), rate)
            del x  # before the next epoch's
            state = {"epoch": epoch + 1, "probe": probe.state(), "order": order.get_state()}
            trained.interim.keep(partial(dict, state), (epoch + 1) / self.epochs)
        assert probe is not None, "epochs >= 1"
        return probe


class SoftmaxRegression:
    """Weights [C, D] and bias [C] from zero, and SGD on the mean cross-entropy with its gradient in closed form.

    A step is what ``torch.optim.SGD`` makes of ``nn.Linear`` and ``F.cross_entropy`` (tested), without building a
    graph: at ten classes the graph costs more than the arithmetic. Logits stand classes first, [C, B]: with few
    classes that is the faster side for both matrix products and for the softmax.
    """

    def __init__(self, like: Tensor, classes: int, settings: Linear) -> None:
        self.settings = settings
        self.weight = like.new_zeros(classes, like.shape[1])
        self.bias = like.new_zeros(classes)
        self._velocities = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def state(self) -> list[Tensor]:
        """Weights, bias and their velocities: what :meth:`of` goes on from."""
        return [self.weight, self.bias, *self._velocities]

    @classmethod
    def of(cls, state: list[Tensor], settings: Linear, device: torch.device) -> SoftmaxRegression:
        """The probe that had this state."""
        weight, bias, *velocities = (tensor.to(device) for tensor in state)
        probe = cls(weight, len(bias), settings)
        probe.weight, probe.bias = weight, bias
        probe._velocities = velocities[0], velocities[1]
        return probe

    def logits(self, x: Tensor) -> Tensor:
        """[C, N] of features [N, D]."""
        return torch.addmm(self.bias[:, None], self.weight, x.T)

    def step(self, x: Tensor, labels: Tensor, lr: float) -> None:
        """One update from a batch [B, D], [B]."""
        error = self.logits(x).softmax(0)
        error[labels, torch.arange(len(x), device=x.device)] -= 1
        error /= len(x)  # now the gradient of the loss with respect to the logits
        for parameter, gradient, velocity in zip(
            (self.weight, self.bias), (error @ x, error.sum(1)), self._velocities, strict=True
        ):
            if self.settings.weight_decay:
                gradient.add_(parameter, alpha=self.settings.weight_decay)
            velocity.mul_(self.settings.momentum).add_(gradient)
            if self.settings.nesterov:
                parameter.add_(gradient, alpha=-lr).add_(velocity, alpha=-lr * self.settings.momentum)
            else:
                parameter.add_(velocity, alpha=-lr)


def cosine(step: int, steps: int) -> float:
    """The share of the learning rate at ``step`` of ``steps``: 1 at the start, 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def accuracies(scores: Tensor, labels: Tensor) -> Iterator[tuple[str, float]]:
    """``top1`` (and ``top5`` where it says something) in percent, of scores [N, C] and labels [N]."""
    yield "top1", 100.0 * int((scores.argmax(1) == labels).sum()) / len(labels)
    if scores.shape[1] > 5:
        yield "top5", 100.0 * int((scores.topk(5).indices == labels[:, None]).sum()) / len(labels)
