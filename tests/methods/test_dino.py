"""DINO against lightly's loss, the numbers of the reference notes, and the order of its steps."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import DINOLoss

from harness.config.registry import method
from harness.methods.base import trainable
from harness.methods.dino import DINO, DINOMethod, largest
from harness.models.heads import Directions
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, example, random_batch

LATE = Progress(40, 80, 8)


class Given:
    """Logits that are given, in the order of the calls."""

    def __init__(self, *logits: torch.Tensor) -> None:
        self.rest = list(logits)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.rest.pop(0)


def method_of(teacher: list[torch.Tensor], student: list[torch.Tensor], **settings: object) -> DINOMethod:
    """DINO whose networks say what is given, one tensor [B, K] for each size of views."""
    model = example("dino")
    assert isinstance(model, DINOMethod)
    model.settings = method.build({"dino": settings})
    assert isinstance(model.settings, DINO)
    model._studied, model._taught = Given(*student), Given(*teacher)  # type: ignore[method-assign]
    return model


def stacked(*views: torch.Tensor) -> torch.Tensor:
    return torch.stack(views, 1).flatten(0, 1)


def test_the_numbers_of_the_reference_notes() -> None:
    """One teacher's view against one student's: loss .115979, and the centre that the next step subtracts."""
    t = torch.tensor([[0.2, -0.1, 0.5, 0.0], [0.1, 0.3, -0.2, 0.4]])
    u = torch.tensor([[0.1, 0.1, 0.4, -0.2], [0.0, 0.2, -0.1, 0.5]])
    model = method_of([t], [t, u])
    assert isinstance(model.center, torch.Tensor)
    model.center = torch.tensor([0.05, 0.1, 0.1, 0.05])
    views = [torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4)]
    step = model.training_step(batch_of(views), LATE)
    assert float(next(step).loss) == pytest.approx(0.115979, abs=1e-6)
    assert next(step, None) is None
    torch.testing.assert_close(model.center, torch.tensor([0.06, 0.1, 0.105, 0.065]))


def test_the_loss_is_lightlys_and_that_of_all_pairs() -> None:
    draw = torch.Generator().manual_seed(0)
    teacher = [torch.randn(5, 16, generator=draw) for _ in range(2)]
    student = [torch.randn(5, 16, generator=draw) for _ in range(6)]
    center = torch.randn(16, generator=draw)
    model = method_of([stacked(*teacher)], [stacked(*student[:2]), stacked(*student[2:])])
    model.center = center.clone()
    views = [torch.zeros(5, 3, size, size) for size in (8, 8, 4, 4, 4, 4)]
    step = model.training_step(batch_of(views), LATE)
    update = next(step)
    by_hand = []
    for place, t in enumerate(teacher):
        for other, s in enumerate(student):
            if place != other:
                target = ((t - center) / 0.04).softmax(1)
                by_hand.append(-(target * (s / 0.1).log_softmax(1)).sum(1).mean())
    assert len(by_hand) == 10
    torch.testing.assert_close(update.loss, torch.stack(by_hand).mean())
    theirs = DINOLoss(output_dim=16, teacher_temp=0.04, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=1)
    theirs.center = center[None, None].clone()
    torch.testing.assert_close(update.loss, theirs(teacher, student, epoch=5))
    next(step, None)
    torch.testing.assert_close(model.center, 0.9 * center + 0.1 * torch.cat(teacher).mean(0))
    torch.testing.assert_close(model.center, theirs.center.flatten())


def test_the_teacher_sees_the_largest_views() -> None:
    views = [torch.zeros(1, 3, size, size) for size in (4, 8, 4, 8)]
    assert largest(views) == [1, 3]


def test_the_last_layer_waits_an_epoch_and_lengths_stay_one() -> None:
    model = example("dino", 8)  # freeze_last_layer 1
    made = {"main": torch.optim.AdamW(trainable(model), lr=0.01, weight_decay=0.1)}
    last = next(one for one in model.student.modules() if isinstance(one, Directions))
    before = last.weight.clone()
    optimise(model, made, random_batch(8), Progress(7, 80, 8))
    assert torch.equal(last.weight, before), "no decay, no momentum either"
    optimise(model, made, random_batch(8), Progress(8, 80, 8))
    assert not torch.equal(last.weight, before)
    assert torch.equal(last.length, torch.ones_like(last.length)) and not last.length.requires_grad


def test_each_tensors_gradient_is_clipped_by_itself() -> None:
    model = example("dino", 6)  # 0.01
    optimise(model, {"main": torch.optim.SGD(trainable(model), lr=0.0)}, random_batch(8), LATE)
    norms = [float(one.grad.norm()) for one in trainable(model) if one.grad is not None]
    assert max(norms) <= 0.01 and math.sqrt(sum(norm**2 for norm in norms)) > 0.011


def test_the_teacher_is_evaluated_and_follows_the_student() -> None:
    model = example("dino", 1)  # momentum 0.5
    old = [one.clone() for one in model.encoder.parameters()]
    optimise(model, {"main": torch.optim.SGD(trainable(model), lr=1.0)}, random_batch(8), LATE)
    for teacher, before, student in zip(model.encoder.parameters(), old, model.student[0].parameters(), strict=True):
        torch.testing.assert_close(teacher, 0.5 * before + 0.5 * student)
    assert model.evaluates == "teacher"
    assert model.represent(random_batch().views[0]).shape == (6, 16)


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [({"center": False}, 0.0, 0.6), ({"teacher_temperature": 1.0}, 2.7, 2.78), ({}, 0.05, 2.7)],
    ids=["sharpening alone", "centring alone", "both"],
)
def test_sharpening_and_centring_pull_apart(settings: dict[str, object], low: float, high: float) -> None:
    """Figure 7, on logits with one large common direction: entropy to 0, to log K, and between."""
    draw = torch.Generator().manual_seed(0)
    common = 0.5 * torch.nn.functional.one_hot(torch.tensor(3), 16).float()
    logits = common + 0.05 * torch.randn(64, 16, generator=draw)
    model = method_of([logits], [logits], **settings)
    model.center = common.clone()
    update = next(model.training_step(batch_of([torch.zeros(32, 3, 8, 8)] * 2), LATE))
    assert low <= float(update.log["teacher_entropy"]) <= high
