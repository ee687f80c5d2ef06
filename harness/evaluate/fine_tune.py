"""Fine-tuning on few labels: the whole network, on a part of the training labels (section 6, appendix B.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from harness.config.registry import Examples, evaluation, knob
from harness.data.datasets import balanced_at_random
from harness.evaluate import label_training
from harness.evaluate.label_training import Recipe, Weights
from harness.evaluate.linear import accuracies
from harness.evaluate.measurement import Measurements
from harness.evaluate.trained import Trained


@evaluation("fine_tune")
@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Yields ``top1``, and ``top5`` if there are more than five classes, in percent of ``split``.

    The encoder and a linear classifier on h are trained on the share ``labels`` of the training labels, as in Tables
    7 and B.4: Nesterov SGD, peak rate ``base_lr * batch / 256``, no warm-up, crop and flip alone, no regularisation,
    weight decay included; 60 epochs on 1 % and 30 on 10 % of ImageNet. ``weights: random`` trains the same
    network on the same images without any pretraining. (The supervised baseline of Table 7 is not that but Zhai et
    al.'s (2019), whose hyper-parameters, augmentation included, were searched for.)

    The subset is drawn with the run's seed, equally many images of every class (at least one), so two arms see the
    same one. The paper takes fixed subsets and does not give the decay of the rate; ours, a cosine, is
    that of its code for all stages. ``convergence`` says what is left of the training loss.

    One rate suits h of one scale: multiplied by ten or a tenth, the same features gain or lose ten points at ``micro``.
    ``standardize`` takes the scale out (:class:`~harness.evaluate.label_training.Level`); the paper does not.
    """

    tiny: ClassVar[Examples] = (
        {"labels": 1.0, "epochs": 2, "batch_size": 20},
        {"labels": 0.3},
        {"weights": "random"},
        {"split": "validation"},
        {"epochs": 3},
        {"batch_size": 10},
        {"base_lr": 0.5},
        {"momentum": 0.5},
        {"standardize": True},
    )
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")
    labels: Annotated[float, Field(gt=0, le=1)] = 0.01
    weights: Weights = "pretrained"
    split: Literal["test", "validation"] = "test"
    epochs: Annotated[int, Field(ge=1)] = 60
    batch_size: Annotated[int, Field(ge=2)] = 4096
    base_lr: Annotated[float, Field(gt=0)] = 0.05
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    standardize: bool = knob(False, neutral=False)

    @property
    def variant(self) -> str:
        """``1%``, or ``1%@random``: what tells two of them apart in a table."""
        share = f"{100 * self.labels:g}%"
        return share if self.weights == "pretrained" else f"{share}@random"

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic given ``trained.seed``. Raises :class:`Divergence` where the training diverges."""
        scored, known = trained.split(self.split), trained.split("train")
        subset = known.part(few(known.labels.cpu(), self.labels, trained.seed))
        batch = min(self.batch_size, len(subset))
        steps = self.epochs * (len(subset) // batch)
        recipe = Recipe(steps=steps, batch_size=batch, lr=self.base_lr * batch / 256, momentum=self.momentum)
        network = label_training.starting_from(
            trained, self.weights, len(trained.data.classes), level_on=subset if self.standardize else None
        )
        label_training.train(network, subset, recipe, seed=trained.seed, device=trained.device, interim=trained.interim)
        yield from accuracies(*label_training.predictions(network, scored, seed=trained.seed, device=trained.device))
        yield "convergence", label_training.reached(network, subset, seed=trained.seed, device=trained.device)


def few(labels: Tensor, share: float, seed: int) -> Tensor:
    """Places of that share of the images drawn at random, in ascending order, balanced over the classes.

    At least one of each class; smaller shares are subsets of larger ones at equal ``seed``.
    """
    return balanced_at_random(labels, max(round(share * len(labels)), int(labels.max()) + 1), seed)
