"""Transfer to other data sets: a linear classifier on frozen features, or fine-tuning (Tables 8 and B.5, section B.8).

Whatever is tuned is chosen on validation images (the data set's own, else every fifth image of each class of its
training set), then trained again on both, and tested once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.config import registry
from harness.config.errors import SpecError
from harness.config.registry import Entry, Examples, evaluation, knob, split_entry
from harness.data import identity
from harness.data.datasets import Dataset, Split
from harness.evaluate import label_training, logistic
from harness.evaluate.label_training import Classifier, Recipe, Weights
from harness.evaluate.measurement import Divergence, Measurements, Unavailable
from harness.evaluate.resume_state import ResumePoint
from harness.evaluate.scores import Measure, measured
from harness.evaluate.standardize import Standard
from harness.evaluate.trained import Trained

SMALL: Mapping[str, Any] = {"data": {"synthetic": {"train_images": 40, "test_images": 33}}, "image_size": 16}
"""Settings of a tiny example."""
_HELD_OUT = 5
"""Every fifth image is held out where a data set has no validation split; the paper says "a subset"."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Which data set, and how it is scored.

    ``data`` is any registered data set. ``image_size`` (pixels, the size that the run was trained at) is filled into
    it where it has such a field and does not say; so is its ``resize``, as the protocol wants it. ``measure`` is what
    choices are made by.
    """

    metrics: ClassVar[tuple[str, ...]] = ("top1", "mean_per_class", "map11")
    data: Entry
    image_size: Annotated[int, Field(ge=8)] | None = None
    measure: Measure = "top1"

    def __post_init__(self) -> None:
        name, fields = split_entry(self.data)
        known = registry.dataset.fields(name)
        if self.image_size is not None:
            sizes = {"image_size": self.image_size, "resize": self.resize(self.image_size)}
            fields = {key: size for key, size in sizes.items() if key in known} | fields
        object.__setattr__(self, "data", registry.dataset.resolve({name: fields}))

    @staticmethod
    def resize(image_size: int) -> int:
        """Short side before the central crop: a linear classifier sees all of the short side (section B.8.1)."""
        return image_size

    @property
    def variant(self) -> str:
        """The data set's name: what tells two of them apart in a table."""
        name, fields = split_entry(self.data)
        return str(next((fields[key] for key in ("name", "path") if key in fields), name))

    def load(self, trained: Trained) -> Dataset:
        """Raises :class:`Unavailable` where the data set is not here, or is scored in another way."""
        try:
            root = trained.root.absolute()  # `data` alone is a word of these messages, and of our commands, as well
            found: Dataset = registry.dataset.build(self.data).load(root)
        except SpecError as error:
            raise Unavailable(str(error).replace(str(root), "ROOT")) from None  # the record may be published
        several = found.train.labels.ndim == 2
        if several != (self.measure == "map11"):
            how = "several labels" if several else "one label"
            raise Unavailable(f"{self.variant} has {how} per image: it has no {self.measure}")
        trained.looked_at = identity.described(found)
        return found


@evaluation("transfer_linear")
@dataclass(frozen=True, kw_only=True)
class TransferLinear(Transfer):
    """Yields the measures of the test split in percent, ``log10_penalty``, the penalty that was chosen, and
    ``converged``: 1 if the last fit ended by itself, 0 if ``iterations`` ended it.

    l2-regularised multinomial logistic regression on h of images that are not augmented, by L-BFGS. ``penalties``
    values are tried, spaced evenly in the logarithm from 1e-6 to 1e5: 45 in the paper. It does not say what the
    penalty is weighed against; here that is the sum of cross-entropies, as in scikit-learn (C = 1 / penalty), for
    which the middle of the range is what is useful. ``iterations`` bounds L-BFGS for each value. With several labels
    per image (VOC 2007), one binary problem for each class, of one penalty; the paper does not say. Features are taken
    as they are, as there: the range of penalties spans a factor of 1e11, so that a scale of h moves the choice and
    hardly the score. ``convergence`` says how far the last fit may be from its optimum, whatever ended it.
    """

    tiny: ClassVar[Examples] = (
        {**SMALL, "penalties": 2, "iterations": 4},
        {"data": {"synthetic": {"classes": 5}}},
        {"image_size": 24},
        {"image_size": None},
        {"measure": "mean_per_class"},
        {"measure": "map11"},
        {"penalties": 3},
        {"iterations": 2},
    )
    metrics: ClassVar[tuple[str, ...]] = (*Transfer.metrics, "log10_penalty", "converged")
    penalties: Annotated[int, Field(ge=1)] = 45
    iterations: Annotated[int, Field(ge=1)] = 200

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic. Raises :class:`Unavailable` where the data set is not here."""
        data = self.load(trained)
        there, classes = trained.elsewhere(data), len(data.classes)
        x, y = there.features("train")
        every = Standard.of(x)
        x = every.kept(x)
        if data.validation is None:
            kept, held = held_out(y.cpu())
            fitted, chosen_on = (x[kept], y[kept]), (x[held], y[held])
            both = x, y
        else:
            v, w = there.features("validation")
            fitted, chosen_on = (x, y), (every.kept(v), w)
            both = torch.cat([x, chosen_on[0]]), torch.cat([y, chosen_on[1]])
        penalties = [10.0 ** (-6 + 11 * i / max(self.penalties - 1, 1)) for i in range(self.penalties)]
        best, penalty, start = -math.inf, penalties[0], None
        left, done, latest = sorted(penalties, reverse=True), 0, None
        if before := trained.interim.take():
            best, penalty, start = before["best"], before["penalty"], logistic.Model.of(before["start"], x.device)
            done, latest = before["done"], logistic.Model.of(before["latest"], x.device)
        for one, model in logistic.path(*fitted, classes, left[done:], iterations=self.iterations, start=latest):
            score = measured(model.scores(chosen_on[0]), chosen_on[1])[self.measure]
            if score > best:  # of equals the strongest penalty
                best, penalty, start = score, one, model
            done += 1
            models = {"start": tuple(start or ()), "latest": tuple(model)}
            state = {"done": done, "best": best, "penalty": penalty, **models}
            trained.interim.keep(partial(dict, state), done / (len(penalties) + 1))
        final = logistic.fit(*both, classes, penalty, iterations=self.iterations, start=start)
        x, y = there.features("test")
        yield from measured(final.scores(every.kept(x)), y).items()
        yield "log10_penalty", math.log10(penalty)
        yield "converged", float(final.converged)
        yield "convergence", logistic.distance(final, *both, penalty).convergence
        yield "collapsed", every.collapse


def spaced(low: float, high: float, count: int = 7) -> tuple[float, ...]:
    """``count`` values from 10^low to 10^high, evenly spaced in the logarithm, to four digits: they are printed."""
    return tuple(float(f"{10 ** (low + (high - low) * i / (count - 1)):.4g}") for i in range(count))


@evaluation("transfer_fine_tune")
@dataclass(frozen=True, kw_only=True)
class TransferFineTune(Transfer):
    """Yields the measures of the test split in percent, and the ``lr`` and ``weight_decay`` that were chosen.

    The whole network, 20 000 steps of 256 images, Nesterov SGD, crop and flip alone, momentum of the batch statistics
    max(1 - 10 / s, 0.9) with s steps an epoch; every pair of ``learning_rates`` and ``weight_decays`` is tried. The
    defaults are the paper's 7 x (7 + none); a decay is divided by the rate, so it is what a step at the peak takes off.
    ``weights: random`` starts where pretraining did (the paper gives it 40 000 steps, rates 1e-3 to 1, decays 1e-5 to
    10^-1.5: with the defaults ours is the weaker baseline).
    Rates fall along a cosine, which the paper does not say. A pair that diverges is out of the choice. ``standardize``
    is that of ``fine_tune``.
    """

    tiny: ClassVar[Examples] = (
        {**SMALL, "steps": 3, "batch_size": 20, "learning_rates": (0.1,), "weight_decays": (0.0,)},
        {"data": {"synthetic": {"classes": 5}}},
        {"image_size": 24},
        {"image_size": None},
        {"measure": "mean_per_class"},
        {"measure": "map11"},
        {"weights": "random"},
        {"steps": 5},
        {"batch_size": 10},
        {"learning_rates": (0.02,)},
        {"weight_decays": (0.01,)},
        {"standardize": True},
    )
    metrics: ClassVar[tuple[str, ...]] = (*Transfer.metrics, "lr", "weight_decay")
    weights: Weights = "pretrained"
    steps: Annotated[int, Field(ge=1)] = 20_000
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = spaced(-4, -1)
    weight_decays: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, *spaced(-6, -3))
    standardize: bool = knob(False, neutral=False)

    @staticmethod
    def resize(image_size: int) -> int:
        """256 for 224 (section B.8.1); tiny images are not cropped when tested, as in the official code."""
        return image_size if image_size <= 32 else round(image_size * 256 / 224)

    @property
    def variant(self) -> str:
        return super().variant + ("" if self.weights == "pretrained" else "@random")

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic given ``trained.seed`` on a CPU. Raises :class:`Unavailable` (no data), :class:`Divergence`."""
        data = self.load(trained)
        if data.validation is None:
            kept, held = held_out(data.train.labels.cpu())
            fitted, chosen_on, both = data.train.part(kept), data.train.part(held), data.train
        else:
            fitted, chosen_on, both = data.train, data.validation, data.train.joined(data.validation)
        pairs = [(rate, decay) for rate in self.learning_rates for decay in self.weight_decays]
        tried = pairs if len(pairs) > 1 else []
        before = trained.interim.take() or {"scores": []}
        scores: list[float] = before["scores"]

        def interim() -> ResumePoint:
            first, trainings = len(scores), len(tried) + 1
            around = first / trainings, (first + 1) / trainings
            return trained.interim.part(before.pop("part", None), *around, scores=list(scores))

        for rate, decay in tried[len(scores) :]:
            network = self._trained(trained, data, fitted, rate, decay, interim())
            try:
                scores.append(self._score(trained, network, chosen_on)[self.measure])
            except Divergence:
                scores.append(-math.inf)
        rate, decay = pairs[max(range(len(scores)), key=scores.__getitem__, default=0)]
        network = self._trained(trained, data, both, rate, decay, interim())
        yield from self._score(trained, network, data.test).items()
        yield "lr", rate
        yield "weight_decay", decay
        yield "convergence", label_training.reached(network, both, seed=trained.seed, device=trained.device)

    def _trained(
        self, trained: Trained, data: Dataset, known: Split, rate: float, decay: float, interim: ResumePoint
    ) -> Classifier:
        """What a training on ``known`` makes of the networks."""
        momentum = min(10 / max(len(known) // self.batch_size, 1), 0.1)
        network = label_training.starting_from(
            trained,
            self.weights,
            len(data.classes),
            bn_momentum=momentum,
            level_on=known if self.standardize else None,
        )
        recipe = Recipe(steps=self.steps, batch_size=self.batch_size, lr=rate, weight_decay=decay / rate)
        label_training.train(network, known, recipe, seed=trained.seed, device=trained.device, interim=interim)
        return network

    @staticmethod
    def _score(trained: Trained, network: Classifier, asked: Split) -> dict[Measure, float]:
        """Of the images ``asked``. Raises :class:`Divergence` where the training diverged."""
        return measured(*label_training.predictions(network, asked, seed=trained.seed, device=trained.device))


def held_out(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Places to fit on, and places to choose on: every fifth image of each class (of all, where labels are several)."""
    order = labels.argsort(stable=True) if labels.ndim == 1 else torch.arange(len(labels))
    held = order[_HELD_OUT - 1 :: _HELD_OUT].sort().values
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero().flatten(), held
