"""The one step that touches gradients: its order, its players, what is clipped, held, logged and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.data.views import Batch
from harness.methods.base import Method, Update, trainable
from harness.methods.simclr import ContrastiveMethod
from harness.models.stochastic import DropPath
from harness.optim.schedules import Progress
from harness.train import checkpoint, loop
from harness.train.step import optimise
from tests.methods.pieces import batch_of, example, random_batch
from tests.train.test_loop import HERE, assert_same, tiny

NOW = Progress(0, 8, 4)


class Duel(Method):
    """Two critic updates to one of the generator, as BigBiGAN has it: each on what the one before has left."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1, bias=False), nn.Identity())
        self.critic = nn.Linear(1, 1, bias=False)
        self.seen: list[tuple[float, float]] = []

    def players(self) -> Mapping[str, nn.Module]:
        return {"critic": self.critic, "main": self.encoder}

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        for update in range(3):
            self.seen.append((float(self.critic.weight.detach()), float(self.encoder.weight.detach())))
            both = (self.critic.weight + self.encoder.weight).sum()
            yield Update(both, of="critic" if update < 2 else "main", log={"at": torch.tensor(float(update))})
        self.seen.append((float(self.critic.weight.detach()), float(self.encoder.weight.detach())))


def test_each_player_is_moved_by_its_own_updates_and_what_follows_sees_them() -> None:
    model = Duel()
    for one in model.parameters():
        one.data.fill_(0.0)
    made = {name: torch.optim.SGD(player.parameters(), lr=1.0) for name, player in model.players().items()}
    values = optimise(model, made, random_batch(2), NOW)
    assert model.seen == [(0, 0), (-1, 0), (-2, 0), (-2, -1)]
    assert {name: float(value) for name, value in values.items()} == {
        "critic/loss": -1.0, "critic/at": 1.0, "loss": -2.0, "at": 2.0,
    }  # fmt: skip


class Pulled(Method):
    """Three weights with gradients of norms 4, 0.5 and 3; the last is held."""

    def __init__(self, **update: Any) -> None:
        super().__init__(nn.Identity(), nn.Identity())
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(4)) for _ in range(3)])
        self.update = update

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        loss = 2.0 * self.weights[0].sum() + 0.25 * self.weights[1].sum() + 1.5 * self.weights[2].sum()
        yield Update(loss, held=[self.weights[2]], **self.update)


def test_every_tensor_is_clipped_by_itself_and_what_is_held_stays() -> None:
    model = Pulled(clip=1.0)
    optimise(model, {"main": torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)}, random_batch(2), NOW)
    norms = [float(one.detach().norm()) for one in model.weights]
    assert norms == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)


def test_rates_are_set_before_they_are_used() -> None:
    model = Pulled()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def halve(which: torch.optim.Optimizer, progress: Progress) -> None:
        which.param_groups[0]["lr"] = 0.5 if progress is NOW else 0.0

    optimise(model, {"main": optimizer}, random_batch(2), NOW, set_rates=halve)
    assert model.weights[0].tolist() == [-1.0] * 4


class Dropping(Method):
    """Stochastic depth and nothing else; remembers what was kept in each of two passes."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(12, 1), DropPath(0.5, 0)), nn.Identity())
        self.kept: list[Tensor] = []

    def training_step(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        for _ in range(2):
            outputs = self.embed(self.encoder, batch.views)
            self.kept.append(torch.stack([one.detach()[:, 0] != 0 for one in outputs], 1))
        yield Update(sum(one.square().mean() for one in outputs))


@pytest.mark.parametrize("cuts", [1, 4])
def test_stochastic_depth_draws_by_image_view_and_pass_alone(cuts: int) -> None:
    """Not by place in the batch or micro-batch: the second half alone is what it was among the others."""
    views = [torch.ones(16, 3, 2, 2) for _ in range(2)]
    torch.manual_seed(0)
    model, part = Dropping().train(), Dropping().train()
    model.micro_batches = cuts
    for one, batch in ((model, batch_of(views)), (part, batch_of([v[8:] for v in views], torch.arange(8, 16)))):
        optimise(one, {"main": torch.optim.SGD(trainable(one), lr=0.0)}, batch, NOW)
    first, second = model.kept
    assert torch.equal(first[8:], part.kept[0]) and torch.equal(second[8:], part.kept[1])
    assert not torch.equal(first, second), "another pass is another draw"
    assert not torch.equal(first[:, 0], first[:, 1]), "another view is another draw"


def test_micro_batches_of_a_network_that_draws_give_the_same_gradient() -> None:
    """What is computed again in the backward pass is what was computed in the forward pass."""
    gradients = []
    for cuts in (1, 4):
        torch.manual_seed(0)
        model = Dropping().train()
        model.micro_batches = cuts
        batch = random_batch(16, size=2)
        optimise(model, {"main": torch.optim.SGD(trainable(model), lr=0.0)}, batch, NOW)
        gradients.append(torch.cat([one.grad.flatten() for one in trainable(model) if one.grad is not None]))
    torch.testing.assert_close(*gradients)


def test_an_epoch_begins_once_and_never_on_a_resume_in_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, tuple[int, ...]]] = []

    def begin(self: Method, progress: Progress, features: Any) -> None:
        begun.append((progress.step, tuple(features().shape)))
        assert self.training, "features are computed as in evaluation, and then training goes on"

    monkeypatch.setattr(ContrastiveMethod, "begin_epoch", begin, raising=False)
    folder, _ = tiny(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        looks = iter([False] * 5 + [True] * 9)
        event = type("Event", (), {"is_set": lambda self: next(looks)})()
        patch.setattr(loop, "stop_on_signal", lambda: nullcontext(event))
        with pytest.raises(loop.Interrupted, match="after step 6 of 12"):
            loop.execute(folder, [], HERE)
    loop.execute(folder, [], HERE)
    assert begun == [(0, (64, 16)), (4, (64, 16)), (8, (64, 16))]
    whole, _ = tiny(tmp_path / "whole")
    loop.execute(whole, [], HERE)
    assert_same(folder, whole)


def test_the_optimiser_of_every_player_is_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two players with momentum: a resume that forgot either would end elsewhere."""

    def steps(self: ContrastiveMethod, batch: Batch, progress: Progress) -> Iterator[Update]:
        for player in ("top", "main"):
            yield Update(self.objective(self.embed(self._projected, batch.views)), of=player)

    monkeypatch.setattr(ContrastiveMethod, "players", lambda self: {"main": self.encoder, "top": self.head})
    monkeypatch.setattr(ContrastiveMethod, "training_step", steps)
    settings = {"optimizer": {"sgd": {"lr": 0.05, "lr_scaling": "none", "momentum": 0.9}}}
    folder, _ = tiny(tmp_path / "stopped", **settings)
    with monkeypatch.context() as patch:
        looks = iter([False] * 5 + [True] * 9)
        patch.setattr(
            loop, "stop_on_signal", lambda: nullcontext(type("Event", (), {"is_set": lambda self: next(looks)})())
        )
        with pytest.raises(loop.Interrupted, match="after step 6 of 12"):
            loop.execute(folder, [], HERE)
    state = checkpoint.load_newest(folder.checkpoints, torch.device("cpu"))
    assert state is not None and {*state["optimizers"]} == {"main", "top"}
    loop.execute(folder, [], HERE)
    whole, _ = tiny(tmp_path / "whole", **settings)
    loop.execute(whole, [], HERE)
    assert_same(folder, whole)


def test_a_method_that_logs_nothing_else_logs_its_loss() -> None:
    model = example("simclr")
    assert {*optimise(model, {"main": torch.optim.SGD(trainable(model), lr=0.1)}, random_batch(8), NOW)} == {"loss"}
