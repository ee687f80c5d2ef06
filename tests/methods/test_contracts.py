"""What every registered method promises, tried on the examples that it ships: adding one touches no file here."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.config.registry import method
from harness.methods.base import Method, split_views, stack_views, trainable
from harness.models.norm import BatchNorm, Norm
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_for, example, examples

EVERY = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name in method.names()
    for number in range(len(examples(name)))
]
LATE = Progress(40, 80, 8)
"""Past what holds a layer back at the beginning."""


def optimizers(model: Method, lr: float = 3e-3) -> dict[str, torch.optim.Optimizer]:
    return {name: torch.optim.Adam(trainable(player), lr=lr) for name, player in model.players().items()}


def gently(model: Method) -> dict[str, torch.optim.Optimizer]:
    """Optimisers that do not make much of a last digit, as Adam does of a gradient near zero."""
    return {name: torch.optim.SGD(trainable(player), lr=0.02) for name, player in model.players().items()}


def not_learned(model: nn.Module) -> dict[str, Tensor]:
    """Whatever no gradient moves, but batch norm's running statistics, which no loss in training mode sees."""
    tracked = {id(one) for layer in model.modules() if isinstance(layer, BatchNorm) for one in layer.buffers()}
    learned = {id(one) for one in trainable(model)}
    every = [*model.named_parameters(), *model.named_buffers()]
    return {name: one for name, one in every if id(one) not in tracked | learned}


def named(key: str) -> Callable[[str], str]:
    return lambda text: f"{key}: {text}"


@pytest.mark.parametrize(("name", "number"), EVERY)
def test_what_it_minimises_is_finite_and_falls_while_its_target_and_queue_stand_still(name: str, number: int) -> None:
    model = example(name, number)
    made, batch = optimizers(model), batch_for(name, 8)
    held = {key: value.clone() for key, value in not_learned(model).items()}
    losses = []
    for _ in range(12):
        values = optimise(model, made, batch, LATE)
        assert all(
            value.shape == () and not value.requires_grad and bool(value.isfinite()) for value in values.values()
        )
        assert {"loss", *getattr(method.get(name), "logs", ())} == {*values}, "`logs` names what claims may be about"
        losses.append(float(values["loss"]))
        for key, value in not_learned(model).items():
            value.data.copy_(held[key])
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("name", "number"), EVERY)
def test_what_learns_gets_a_gradient_and_what_is_frozen_none(name: str, number: int) -> None:
    model = example(name, number)
    seen: set[int] = set()

    class Watching(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            seen.update(id(one) for group in self.param_groups for one in group["params"] if one.grad is not None)

    watching = {key: Watching(trainable(player), lr=0.1) for key, player in model.players().items()}
    optimise(model, watching, batch_for(name, 8), LATE)
    assert {id(one) for one in trainable(model)} == seen
    assert not [key for key, one in model.named_parameters() if not one.requires_grad and one.grad is not None]


@pytest.mark.parametrize("name", method.names())
def test_the_parameters_of_all_groups_are_those_that_learn_each_once(name: str) -> None:
    model = example(name)
    for player, module in model.players().items():
        grouped = [id(one) for group in model.groups(player) for one in group.params]
        assert len(grouped) == len({*grouped}) and {*grouped} == {id(one) for one in trainable(module)}


@pytest.mark.parametrize("name", method.names())
def test_its_state_is_all_it_remembers(name: str) -> None:
    """Another, built anew, that takes over its state and its optimiser's goes on bit by bit as it does."""
    model = example(name)
    made = optimizers(model)
    for step in range(3):
        optimise(model, made, batch_for(name, 8, seed=step), Progress(step, 8, 4))
    torch.manual_seed(99)
    other = example(name)
    theirs = optimizers(other)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    for key, one in theirs.items():
        one.load_state_dict(copy.deepcopy(made[key].state_dict()))
    for step in range(3, 6):
        batch, now = batch_for(name, 8, seed=step), Progress(step, 8, 4)
        ours, again = (optimise(who, by, batch, now) for who, by in ((model, made), (other, theirs)))
        assert ours.keys() == again.keys() and all(torch.equal(ours[key], again[key]) for key in ours)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", method.names())
def test_micro_batches_change_nothing(name: str) -> None:
    """Neither the loss nor what it leaves, running statistics included; gradients to rounding."""
    whole, cut = (example(name, norm=Norm(groups=4), batch_size=32) for _ in range(2))
    cut.micro_batches = 4
    made = {id(model): gently(model) for model in (whole, cut)}
    for step in range(3):
        batch = batch_for(name, 32, seed=step)
        ours, theirs = (optimise(model, made[id(model)], batch, Progress(step, 8, 4)) for model in (whole, cut))
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-5, msg=named(key))
        if step == 0:  # nothing has been amplified yet; sums over fewer rows round otherwise
            torch.testing.assert_close(ours["loss"], theirs["loss"], rtol=1e-6, atol=1e-6)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(value, cut.state_dict()[key], rtol=1e-3, atol=1e-4, msg=named(key))


@pytest.mark.parametrize("name", method.names())
def test_represents_and_projects(name: str) -> None:
    model = example(name).eval()
    images = batch_for(name).views[0]
    h = model.represent(images)
    assert h.shape == (6, model.encoder.out_dim)
    assert model.project(h).shape == (6, model.head.out_dim)
    torch.testing.assert_close(model.represent(images[:1]), h[:1])


@pytest.mark.parametrize("name", method.names())
def test_refuses_batch_norm_groups_that_would_part_the_views_of_an_image(name: str) -> None:
    model = example(name, norm=Norm(groups=2))
    with pytest.raises(ValueError, match="3 images does not divide into 2 groups"):
        next(model.training_step(batch_for(name, 3), LATE))  # six rows would divide


def test_views_enter_image_by_image_and_come_apart_again() -> None:
    views = [torch.full((3, 1, 1, 1), 10.0 * view) + torch.arange(3).view(3, 1, 1, 1) for view in range(3)]
    rows = stack_views(views)
    assert rows.flatten().tolist() == [0, 10, 20, 1, 11, 21, 2, 12, 22]
    for parted, view in zip(split_views(rows, 3), views, strict=True):
        torch.testing.assert_close(parted, view)


def test_views_of_one_size_share_a_forward_pass_unless_each_goes_alone() -> None:
    model, seen = example("simclr"), []

    def network(images: Tensor) -> Tensor:
        seen.append(images.shape)
        return images.mean((1, 2, 3))[:, None]

    views = [torch.full((2, 3, size, size), float(place)) for place, size in enumerate((8, 4, 8, 4, 4))]
    assert [float(one[0]) for one in model.embed(network, views)] == [0, 1, 2, 3, 4]
    assert seen == [(4, 3, 8, 8), (6, 3, 4, 4)]
    seen.clear()
    assert [float(one[0]) for one in model.embed(network, views, pooled=False)] == [0, 1, 2, 3, 4]
    assert [len(shape) and shape[0] for shape in seen] == [2] * 5
