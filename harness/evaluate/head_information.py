"""What the projection head throws away: can a small network tell from h, or from g(h), what an image went through?

Table 3 (section 4.2). The paper gives neither the size nor the training of its "additional MLPs", nor the strength of
noise and Sobel filter; what stands here for them is said below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, evaluation
from harness.data import augment
from harness.data.rng import ImageRng
from harness.evaluate.linear import accuracies
from harness.evaluate.measurement import Convergence, Measurements
from harness.evaluate.resume_state import ResumePoint
from harness.evaluate.standardize import Standard
from harness.evaluate.trained import Features, Trained

Task = Literal["color", "rotation", "noise", "sobel"]
Change = Callable[[Tensor, ImageRng], Tensor]


@dataclass(frozen=True)
class Guess:
    """A pretext: each image goes through one of several changes, and which one is the question.

    ``color``: gray for one image in five (color dropping's share, hence the 80 % of Table 3's guess), else as it is.
    ``rotation``: 0, 90, 180 or 270 degrees. ``noise``, ``sobel``: for every other image. At the default strengths of
    :mod:`harness.data.augment`; the images are otherwise whole and unchanged.
    """

    task: Task

    @property
    def shares(self) -> tuple[float, ...]:
        """How often each answer is right; the first stands for "unchanged"."""
        return {"color": (0.8, 0.2), "rotation": (0.25,) * 4, "noise": (0.5, 0.5), "sobel": (0.5, 0.5)}[self.task]

    def changes(self) -> tuple[Change, ...]:
        """What is done for the answers from the second on."""
        if self.task == "rotation":
            return tuple(lambda images, _, turns=turns: images.rot90(turns, (2, 3)) for turns in (1, 2, 3))
        gray = augment.Color(jitter_p=0.0, gray_p=1.0)
        operators: dict[str, Change] = {"color": gray, "noise": augment.Noise(), "sobel": augment.Sobel()}
        return (operators[self.task],)

    def __call__(self, images: Tensor, rng: ImageRng) -> tuple[Tensor, Tensor]:
        """float [B, 3, H, W] in [0, 1] -> changed images and the answers, int64 [B]."""
        bounds = torch.tensor(self.shares[:-1], dtype=torch.float64).cumsum(0)
        answers = torch.bucketize(rng.uniform(0.0, 1.0).double(), bounds, right=True)
        place = answers.to(images.device)[:, None, None, None]
        changed = images
        for answer, change in enumerate(self.changes(), start=1):
            changed = torch.where(place == answer, change(images, rng.child(self.task)), changed)
        return changed, answers


@evaluation("head_information")
@dataclass(frozen=True, kw_only=True)
class HeadInformation:
    """Yields ``top1`` in percent of ``split``: how often an MLP on the features guesses right what ``task`` asks.

    One hidden layer of ``hidden_dim`` units (None: as wide as the features), ReLU, Adam at a constant rate ``lr``.
    Features are standardised with the training split's mean and deviation, so that one recipe serves h and z, whose
    scales differ. One draw per image, equal for h and z; the networks are not trained further.

    An MLP has no single optimum to be held against: ``convergence`` says what is left of its training loss, and no
    verdict hangs on it.
    """

    tiny: ClassVar[Examples] = (
        {"epochs": 2},
        {"task": "color"},
        {"task": "noise"},
        {"task": "sobel"},
        {"features": "z"},
        {"split": "validation"},
        {"hidden_dim": 24},
        {"epochs": 3},
        {"batch_size": 10},
        {"lr": 0.7},
    )
    metrics: ClassVar[tuple[str, ...]] = ("top1",)
    task: Task = "rotation"
    features: Features = "h"
    split: Literal["test", "validation"] = "test"
    hidden_dim: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=2)] = 256
    lr: Annotated[float, Field(gt=0)] = 1e-3

    @property
    def variant(self) -> str:
        """The task: what tells two of them apart in a table."""
        return self.task

    def __call__(self, trained: Trained) -> Measurements:
        """Deterministic given ``trained.seed`` on a CPU."""
        trained.split(self.split)  # refuse before the work, not after it
        guess = Guess(self.task)
        x, answers = trained.changed("train", self.features, guess)
        standard = Standard.of(x)
        x = standard(x)
        probe = self.fit(x, answers, len(guess.shares), trained.seed, trained.interim)
        with torch.no_grad():
            convergence = Convergence(loss=float(F.cross_entropy(probe(x), answers)))
        x, answers = trained.changed(self.split, self.features, guess)
        with torch.no_grad():
            yield from accuracies(probe(standard(x)), answers)
        yield "convergence", convergence
        yield "collapsed", standard.collapse

    def fit(self, x: Tensor, answers: Tensor, classes: int, seed: int, interim: ResumePoint | None = None) -> nn.Module:
        """The MLP after all epochs over features [N, D] and answers [N]."""
        order = torch.Generator().manual_seed(seed)
        width, hidden = x.shape[1], self.hidden_dim or x.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            probe = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes)).to(x.device)
        optimizer = torch.optim.Adam(probe.parameters(), lr=self.lr)
        batch = min(self.batch_size, len(x))
        interim, begin = interim or ResumePoint(), 0
        if held := interim.take():
            begin = held["epoch"]
            probe.load_state_dict(held["probe"])
            optimizer.load_state_dict(held["optimizer"])
            order.set_state(held["order"])
        for epoch in range(begin, self.epochs):
            for rows in torch.split(torch.randperm(len(x), generator=order).to(x.device), batch):
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward([F.cross_entropy(probe(x[rows]), answers[rows])])
                optimizer.step()
            states = {"probe": probe.state_dict(), "optimizer": optimizer.state_dict(), "order": order.get_state()}
            interim.keep(partial(dict, states, epoch=epoch + 1), (epoch + 1) / self.epochs)
        return probe
