"""Linear evaluation: softmax regression on features of the frozen encoder (section 2.3, appendix B.6).

By SGD as in the paper, or to the optimum on standardised features; and, either way, how far from an optimum it ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.config.registry import Examples, evaluation, knob
from harness.data import augment
from harness.evaluate import logistic
from harness.evaluate.measurement import Collapse, Convergence, Measurements, finite
from harness.evaluate.standardize import Standard
from harness.evaluate.trained import Features, Trained

Augment = Literal["crop_flip", "none"]
Solver = Literal["sgd", "lbfgs"]

PENALTY = 1e-3
"""Per image, of the regularised optimum that SGD without weight decay is held against."""
_ITERATIONS = 2000
"""Of L-BFGS at most; some two hundred are the rule."""
_SGD_ALONE = ("epochs", "batch_size", "base_lr", "momentum", "nesterov")


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

    So many steps at a fixed rate end near the optimum for features of one scale and far from it for those of another:
    the number is then of the probe. ``standardize`` gives every feature zero mean and unit deviation over the training
    images (:class:`~harness.evaluate.standardize.Standard`). ``solver: lbfgs`` minimises ``mean cross-entropy +
    weight_decay / 2 * |W|^2`` to its one minimum, with a free bias (C = 1 / (weight_decay * N) in scikit-learn): of
    standardised features a score that is theirs alone, whatever they are multiplied by. Without a ``weight_decay``
    classes that can be separated have no minimum; 1e-3 moves scores by less than half a point from those of 1e-4.

    ``convergence`` is yielded with the numbers. The ``gap`` of L-BFGS is a bound from duality
    (:func:`~harness.evaluate.logistic.distance`). That of SGD is the smaller of two: strong convexity has its
    objective at most |gradient|^2 / (2 weight_decay) above its own minimum; and its cross-entropy on the plain
    training images is so far above that of the regularised optimum on standardised features, which is solved for to
    compare with (from a further draw of crops, where there are crops). ``collapsed`` says how many features say
    nothing, if any do.
    """

    tiny: ClassVar[Examples] = (
        {"augment": "none", "weight_decay": 0.1},
        {"features": "z"},
        {"split": "validation"},
        {"epochs": 4},
        {"batch_size": 10},
        {"base_lr": 0.5},
        {"weight_decay": 0.0},
        {"momentum": 0.5},
        {"nesterov": False},
        {"augment": "crop_flip"},
        {"solver": "lbfgs"},
        {"standardize": True},
    )
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
    solver: Solver = knob("sgd", neutral="sgd")
    standardize: bool = knob(False, neutral=False)

    def __post_init__(self) -> None:
        if self.solver == "sgd":
            return
        idle = [one.name for one in fields(self) if one.name in _SGD_ALONE and getattr(self, one.name) != one.default]
        if idle:
            raise ValueError(f"solver lbfgs has no {' and no '.join(idle)}: leave it out")
        if self.augment != "none" or not self.weight_decay:
            raise ValueError("solver lbfgs takes augment: none and a weight_decay above 0, 1e-3 for instance")

    def __call__(self, trained: Trained) -> Measurements:
        """Fit on the training split, score on ``split``; deterministic given ``trained.seed``."""
        trained.split(self.split)  # refuse before the work, not after it
        alike = replace(self, split="test")  # the images that it is scored on have no part in the fit
        if alike not in trained.fitted:
            trained.fitted[alike] = self.fit(trained)
        probe: Fitted = trained.fitted[alike]
        x, labels = trained.features(self.split, self.features)
        yield from accuracies(probe.scores(x), labels)
        yield "convergence", probe.convergence
        yield "collapsed", probe.collapse

    def fit(self, trained: Trained) -> Fitted:
        """The probe, and how far it is from an optimum. Raises ``Divergence`` where its weights are not finite."""
        classes = len(trained.data.classes)
        if self.solver == "sgd":
            standard = self._standard(trained) if self.standardize else None
            probe = self.descend(trained, standard)
            finite(torch.cat([probe.weight.flatten(), probe.bias]), "the weights of the linear probe")
            convergence, collapse = self._held_against_optimum(trained, probe, standard)
            return Fitted(probe.weight, probe.bias, standard, convergence, collapse)
        x, labels = trained.features("train", self.features)
        every = Standard.of(x)
        if self.standardize:
            x = every(x)
        model, away = optimum(x, labels, classes, self.weight_decay, trained)
        convergence = away.convergence
        return Fitted(model.weight, model.bias, every if self.standardize else None, convergence, every.collapse)

    def _standard(self, trained: Trained) -> Standard:
        return Standard.of(trained.features("train", self.features)[0])

    @property
    def _operators(self) -> tuple[Any, ...]:
        return (augment.Crop(), augment.Flip()) if self.augment == "crop_flip" else ()

    def descend(self, trained: Trained, standard: Standard | None = None) -> SoftmaxRegression:
        """SGD's probe after all epochs."""
        order = torch.Generator().manual_seed(trained.seed)
        probe: SoftmaxRegression | None = None
        begin = 0
        if held := trained.interim.take():
            begin, probe = held["epoch"], SoftmaxRegression.of(held["probe"], self, trained.device)
            order.set_state(held["order"])
        for epoch in range(begin, self.epochs):
            # The encoder is frozen and an image's crop does not depend on its neighbours, so a whole epoch can be
            # encoded in large passes and in its stored order; only the probe's steps follow the permutation.
            x, labels = trained.features("train", self.features, self._operators, epoch)
            if standard:
                x = standard(x, in_place=bool(self._operators))
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

    def _held_against_optimum(
        self, trained: Trained, probe: SoftmaxRegression, standard: Standard | None
    ) -> tuple[Convergence, Collapse]:
        """How far SGD's probe is from an optimum, and how many features say nothing."""
        draw, decay = self.epochs, self.weight_decay  # a draw that it was not fitted to
        model = logistic.Model(probe.weight.double(), probe.bias.double())
        x, labels = trained.features("train", self.features, self._operators, draw)
        every, ours = Standard.of(x), bool(self._operators)  # a draw is nobody else's: it need not be copied
        if standard:
            x = standard(x, in_place=ours)
            every = Standard.of(x)
        loss, *slope = logistic.slope(model, x, labels)
        gradient = norm(one + decay * there for one, there in zip(slope, model[:2], strict=True))
        nothing = logistic.Model(torch.zeros_like(model.weight), torch.zeros_like(model.bias))
        _, *at_zero = logistic.slope(nothing, x, labels)
        gap = gradient**2 / (2 * decay) if decay else math.inf
        if gap > logistic.TOLERANCE:
            best, away = optimum(every(x, in_place=ours), labels, len(model.bias), PENALTY, trained)
            del x
            x, labels = trained.features("train", self.features)
            x = standard(x) if standard else x
            loss = logistic.loss(model, x, labels)
            gap = min(gap, max(loss - logistic.loss(best, every(x), labels), 0.0) + away.gap)
        return Convergence(gradient / (norm(at_zero) or 1.0), gap, logistic.TOLERANCE, loss), every.collapse


def norm(parts: Iterable[Tensor]) -> float:
    """Euclidean, of all parts together."""
    return math.hypot(*(float(part.norm()) for part in parts))


def optimum(
    x: Tensor, labels: Tensor, classes: int, penalty: float, trained: Trained
) -> tuple[logistic.Model, logistic.Distance]:
    """Where ``mean cross-entropy + penalty / 2 * |W|^2`` is least, and how far from there at most.

    A class without training images has no finite bias at the optimum: it is left out of the fit, and never predicted.
    """
    present, known = labels.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    total = penalty * len(x)
    found = logistic.fit(x, known, len(present), total, iterations=_ITERATIONS, check=trained.interim.check)
    away = logistic.distance(found, x, known, total)
    weight = found.weight.new_zeros(classes, x.shape[1])
    bias = found.bias.new_full((classes,), torch.finfo(torch.float32).min)
    weight[present], bias[present] = found.weight, found.bias
    return logistic.Model(weight, bias, found.converged), away


@dataclass(frozen=True)
class Fitted:
    """Weights [C, D] and bias [C] of features that ``standard`` has put on one scale, if it is there."""

    weight: Tensor
    bias: Tensor
    standard: Standard | None
    convergence: Convergence
    collapse: Collapse

    def scores(self, x: Tensor) -> Tensor:
        """Logits [N, C] of features [N, D]."""
        x = self.standard(x) if self.standard else x
        return torch.addmm(self.bias[:, None], self.weight, x.to(self.weight.dtype).T).T


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
    """``top1`` (and ``top5`` where it says something) in percent, of scores [N, C] and labels [N].

    Raises :class:`~harness.evaluate.measurement.Divergence` where a score is not finite.
    """
    finite(scores, "scores")
    yield "top1", 100.0 * int((scores.argmax(1) == labels).sum()) / len(labels)
    if scores.shape[1] > 5:
        yield "top5", 100.0 * int((scores.topk(5).indices == labels[:, None]).sum()) / len(labels)
