"""The loop on two gloo processes: the losses, the id and the files of one; stopped, resumed and diverging as one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from harness import distributed
from harness.config.errors import SpecError
from harness.runtime import Rank, Runtime, passes
from harness.store.results import RunFolder, State, read_json
from harness.train import checkpoint, loop
from tests.train.test_loop import HERE, assert_same, final, tiny

SIX_STEPS = {
    "data.synthetic.train_images": 32,
    "schedule": {"batch_size": 32, "epochs": 6, "warmup_epochs": 1},
    "optimizer": {"sgd": {"lr": 0.03, "lr_scaling": "none"}},
}
"""Full-batch epochs: every line of the metrics is a step. SGD, because LARS is blind to the scale of a gradient."""
GENTLE = {"optimizer": {"sgd": {"lr": 0.003, "lr_scaling": "none"}}}
"""Where a last digit decides which negative is the closest, the loss jumps; large steps would make much of that."""
OBJECTIVES: dict[str, dict[str, Any]] = {
    "nt_xent": {},
    "nt_xent, one view": {"objective": {"nt_xent": {"negatives": "other_view"}}},
    "nt_logistic": {"objective": "nt_logistic"},
    "nt_logistic, semi-hard": {"objective": {"nt_logistic": {"mining": "semi_hard"}}, **GENTLE},
    "margin_triplet": {"objective": "margin_triplet"},
    "margin_triplet, semi-hard": {"objective": {"margin_triplet": {"mining": "semi_hard"}}, **GENTLE},
    "supervised": {"method": "supervised", "head": "none", "objective": "cross_entropy"},
}
SHARED = [(name, groups, 0) for name in OBJECTIVES for groups in (1, 2, 4)]
CUT = [(name, 4, 8) for name in OBJECTIVES]
"""With 8 images per pass: 4 passes of one process, 2 of each of two."""

LONGER = {"schedule": {"batch_size": 16, "epochs": 3, "warmup_epochs": 1}}
WILD = {"optimizer": {"sgd": {"lr": 1e30, "lr_scaling": "none"}}}
STEP = 6
"""Where rank 1, and only rank 1, is asked to stop: within the second of three epochs of four steps."""


def case(name: str, groups: int) -> dict[str, Any]:
    return {**SIX_STEPS, **OBJECTIVES[name], "norm.groups": groups}


def place(images_per_pass: int) -> Runtime:
    return replace(HERE, images_per_pass=images_per_pass)


def where(folder: Path, name: str, groups: int, images_per_pass: int) -> Path:
    return folder / f"{name} {groups} {images_per_pass}".replace(" ", "-")


class Meeting:
    """One rank's diary of all meetings, each at a file of its own."""

    def __init__(self, rank: int, folder: Path) -> None:
        self.rank, self.folder, self.count = rank, folder, 0

    def __call__(self, results: Path, changes: dict[str, Any], at: Runtime = HERE, *, evaluate: bool = True) -> str:
        """Execute one run together; how it ended."""
        self.count += 1
        me = Rank(rank=self.rank, world=2, meeting=f"file://{self.folder}/meeting{self.count}")
        distributed.initialise(me)
        assert (distributed.rank(), distributed.world()) == (self.rank, 2)
        run, asked = tiny(results, **changes)
        try:
            loop.execute(run, asked if evaluate else [], at)
            return "returned"
        except loop.Interrupted as stopped:
            return str(stopped)
        finally:
            distributed.shutdown()


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    together = Meeting(rank, folder)
    for name, groups, images_per_pass in (*SHARED, *CUT):
        results = where(folder / "two", name, groups, images_per_pass)
        assert together(results, case(name, groups), place(images_per_pass), evaluate=False) == "returned"
    together(folder / "whole", LONGER)
    together(folder / "diverged", WILD)
    ticks, tick = [0], loop.Clock.tick

    def stop_the_second(clock: loop.Clock, step: int, images: int) -> None:
        tick(clock, step, images)
        ticks[0] += 1
        if rank == 1 and step == STEP:
            os.kill(os.getpid(), signal.SIGTERM)

    loop.Clock.tick = stop_the_second  # type: ignore[method-assign]
    assert together(folder / "stopped", LONGER) == f"stopped by a signal after step {STEP} of 12"
    assert ticks[0] == STEP, "a rank went on"
    loop.Clock.tick = tick  # type: ignore[method-assign]
    if rank == 0:
        shutil.copytree(folder / "stopped", folder / "stopped, resumed by one")
    together(folder / "stopped", LONGER)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that two processes do here, done once."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_of_two, args=(folder,), nprocs=2)
    yield folder


def losses(folder: RunFolder) -> list[dict[str, float]]:
    return [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]


def assert_close(ours: RunFolder, theirs: RunFolder, exact: int = 4) -> None:
    """The same id, and equal numbers up to rounding: metrics, weights, running statistics, evaluations.

    Training doubles a difference at every step, or worse; after ``exact`` steps it is no longer called rounding.
    """
    assert ours.id == theirs.id
    lines, others = losses(ours), losses(theirs)
    assert len(lines) == len(others)
    for line, other in zip(lines, others, strict=True):
        assert line == pytest.approx(other, rel=1e-5 if line["step"] <= exact else 2e-3)
    (weights, _, values), (expected, _, other_values) = final(ours), final(theirs)
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-2, atol=3e-3, msg=lambda text, name=name: name + text)
    for name, numbers in other_values.items():
        assert values[name] == pytest.approx(numbers, abs=4)  # percent of 32 images: one more or less


def exact_steps(name: str) -> int:
    """The closest negative may be another one after the last digit of a projection has changed."""
    return 2 if "semi-hard" in name else 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "groups", "images_per_pass"), [*SHARED, *CUT])
def test_two_processes_give_what_one_gives(
    name: str, groups: int, images_per_pass: int, two: Path, tmp_path: Path
) -> None:
    alone, _ = tiny(tmp_path, **case(name, groups))
    loop.execute(alone, [], HERE)
    shared, _ = tiny(where(two / "two", name, groups, images_per_pass), **case(name, groups))
    assert len(losses(alone)) == 6 and shared.state() is State.DONE
    assert_close(shared, alone, exact_steps(name))
    assert read_json(shared.provenance)["processes"] == 2


@pytest.mark.parametrize(("name", "groups", "images_per_pass"), CUT)
def test_a_batch_in_passes_gives_what_it_gives_at_once(
    name: str, groups: int, images_per_pass: int, tmp_path: Path
) -> None:
    once, _ = tiny(tmp_path / "once", **case(name, groups))
    loop.execute(once, [], HERE)
    cut, _ = tiny(tmp_path / "cut", **case(name, groups))
    loop.execute(cut, [], place(images_per_pass))
    assert_close(cut, once, exact_steps(name))


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_one_step_and_the_run_resumes_exactly(two: Path) -> None:
    stopped, asked = tiny(two / "stopped", **LONGER)
    assert stopped.state([one.id for one in asked]) is State.DONE
    whole, _ = tiny(two / "whole", **LONGER)
    assert_same(stopped, whole)


@pytest.mark.slow
def test_a_run_of_two_processes_can_be_resumed_by_one(two: Path) -> None:
    folder, asked = tiny(two / "stopped, resumed by one", **LONGER)
    state = checkpoint.load_newest(folder.checkpoints, torch.device("cpu"))
    assert state is not None and state["step"] == STEP
    loop.execute(folder, asked, HERE)
    whole, _ = tiny(two / "whole", **LONGER)
    assert_close(folder, whole, exact=4 * (STEP // 4))


@pytest.mark.slow
def test_divergence_is_agreed_on(two: Path) -> None:
    folder, _ = tiny(two / "diverged", **WILD)
    assert folder.state() is State.DIVERGED


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 64, "groups": 1, "world": 4}, 1),
        ({"batch_size": 64, "groups": 4, "world": 1, "images_per_pass": 64}, 1),
        ({"batch_size": 64, "groups": 4, "world": 1, "images_per_pass": 63}, 2),
        ({"batch_size": 64, "groups": 4, "world": 1, "images_per_pass": 16}, 4),
        ({"batch_size": 64, "groups": 4, "world": 2, "images_per_pass": 16}, 2),
        ({"batch_size": 64, "groups": 4, "world": 4, "images_per_pass": 16}, 1),
        ({"batch_size": 96, "groups": 12, "world": 2, "images_per_pass": 20}, 3),
    ],
)
def test_a_batch_is_cut_into_the_fewest_passes_of_whole_groups(settings: dict[str, int], expected: int) -> None:
    assert passes(**settings) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 64, "groups": 1, "world": 3}, "batch size 64 is not divisible by 3 processes"),
        ({"batch_size": 60, "groups": 4, "world": 6}, "norm.groups 4 and 6 processes"),
        ({"batch_size": 64, "groups": 1, "world": 1, "images_per_pass": 32}, "the 64 images of one batch-norm group"),
        ({"batch_size": 64, "groups": 1, "world": 2, "images_per_pass": 16}, "allow 32 images per pass, or use more"),
        ({"batch_size": 64, "groups": 4, "world": 1, "images_per_pass": 8}, "allow 16 images per pass"),
    ],
)
def test_what_would_change_the_statistics_is_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        passes(**settings)


def test_a_refused_place_leaves_nothing_behind(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path)
    with pytest.raises(SpecError, match="images per pass"):
        loop.execute(folder, asked, place(8))
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]
