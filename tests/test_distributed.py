"""Two gloo processes compute what one does: gathering, batch norm by groups, SimCLR's loss and gradients (law 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from harness import distributed
from harness.models.norm import Norm
from harness.optim.schedules import Progress
from harness.runtime import Rank
from harness.train.step import optimise
from tests.methods.pieces import batch_of, built

Scenario = Callable[[], dict[str, Tensor]]


def half(x: Tensor) -> Tensor:
    """This rank's slice of a global batch: all of it when not distributed."""
    return x.chunk(distributed.world())[distributed.rank()]


def given(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def gathering() -> dict[str, Tensor]:
    """The gathered tensor, and the gradient of a loss to which all ranks contribute."""
    x = half(given(4, 3)).requires_grad_()
    everything = distributed.gather(x)
    (half(given(4, 3, seed=1)) @ everything.T).square().mean().backward()
    # The loss of the run is the mean over ranks.
    return {"all": everything.detach(), "rows/grad": x.grad / distributed.world()}


def normalising(groups: int) -> dict[str, Tensor]:
    layer = Norm(groups=groups).build(3)
    torch.nn.init.uniform_(layer.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(0))
    x = half(given(8, 3, 2, 2) * 3 + 1).requires_grad_()
    y = layer(x)
    (y * half(given(8, 3, 2, 2, seed=1))).sum().backward()
    distributed.average(layer.buffers())
    mean_weight = distributed.gather(layer.weight.grad[None]).sum(0)
    return {
        "rows/y": y.detach(),
        "rows/grad": x.grad,
        "weight": mean_weight,
        "mean": layer.running_mean,
        "var": layer.running_var,
    }


def simclr(groups: int, objective_name: str, cuts: int = 1) -> dict[str, Tensor]:
    """Three steps of training: losses, weights and running statistics, equal on all ranks after every step."""
    entry = {"objective": objective_name, "head": {"nonlinear": {"out_dim": 8}}}
    model = built("simclr", Norm(groups=groups), **entry)
    model.micro_batches = cuts
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(3):
        views = [half(given(8, 3, 8, 8, seed=10 * step + view)) for view in (0, 1)]
        batch = batch_of(views, half(torch.arange(8)))
        losses.append(optimise(model, {"main": optimizer}, batch, Progress(step, 3, 3))["loss"])
    return {"losses": torch.stack(losses), **{name: value.clone() for name, value in model.state_dict().items()}}


def agreeing() -> dict[str, Tensor]:
    """Sums of what only the first and only the last rank know."""
    last = distributed.world() - 1
    known = [
        distributed.any_rank(distributed.rank() == last),
        distributed.any_rank(False),
        distributed.from_first(lambda: {"rank": distributed.rank()}) == {"rank": 0},
    ]
    odd = [torch.arange(6.0).view(2, 3).T, torch.tensor(2.0), torch.ones(3, dtype=torch.float64)]
    distributed.average(odd)
    return {"known": torch.tensor(known), **{f"average of {one.dtype} {one.dim()}": one for one in odd}}


SCENARIOS: dict[str, Scenario] = {
    "gather": gathering,
    **{f"norm of {groups}": lambda groups=groups: normalising(groups) for groups in (1, 2, 4)},
    **{f"simclr, {groups} groups": lambda groups=groups: simclr(groups, "nt_xent") for groups in (1, 2, 4)},
    "simclr, triplets": lambda: simclr(1, "margin_triplet"),
    "simclr, in two passes": lambda: simclr(4, "nt_xent", 2),
    "agreement": agreeing,
}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.initialise(Rank(rank=rank, world=2, meeting=f"file://{folder}/meeting"))
    assert (distributed.rank(), distributed.world()) == (rank, 2)
    results = {name: scenario() for name, scenario in SCENARIOS.items()}
    torch.save(results, Path(folder) / f"{rank}.pt")
    assert distributed.go_on_alone() is (rank == 0)
    assert distributed.world() == 1


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, dict[str, Tensor]]]]:
    """What every scenario gives on either of two processes, started once for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_of_two, args=(str(folder),), nprocs=2)
    yield [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_are_one(name: str, both: list[dict[str, dict[str, Tensor]]]) -> None:
    alone = SCENARIOS[name]()
    for key, expected in alone.items():
        ranks = [results[name][key] for results in both]
        if key.startswith("rows/"):
            ranks = [torch.cat(ranks)]
        for ours in ranks:
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow
def test_all_ranks_hold_the_same_bits(both: list[dict[str, dict[str, Tensor]]]) -> None:
    """Or the state that rank 0 writes down would be another than the one that rank 1 goes on with."""
    for name, one in both[0].items():
        for key, value in one.items():
            if name.startswith("simclr"):
                assert torch.equal(value, both[1][name][key]), f"{name}: {key}"


def test_alone_everything_is_the_identity() -> None:
    x = torch.ones(2, 2)
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert distributed.gather(x) is x
    distributed.average([x])
    assert torch.equal(x, torch.ones(2, 2))
    assert distributed.any_rank(True) and not distributed.any_rank(False)
    assert distributed.from_first(lambda: x) is x
    distributed.initialise(Rank())
    assert distributed.go_on_alone() and distributed.world() == 1
    written = []
    distributed.on_first_rank(written.append)("once")
    assert written == ["once"]


@pytest.mark.parametrize(("world", "groups"), [(2, 3), (4, 6)])
def test_groups_that_do_not_fit_the_processes_are_refused(
    world: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world", lambda: world)
    with pytest.raises(ValueError, match=f"{groups} groups cannot be laid out on {world} processes"):
        Norm(groups=groups).build(2)(torch.zeros(12, 2))
