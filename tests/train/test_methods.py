"""Every registered method through the real loop: killed and resumed, on two processes, and in micro-batches.

Each on the run that it ships as its example: adding a method touches no file here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from harness import distributed
from harness.config.registry import method
from harness.runtime import Rank
from harness.store.results import RunFolder
from harness.train import checkpoint, loop
from tests.methods.pieces import examples, tiny_run
from tests.train.test_loop import HERE, ROOT, assert_same, tiny

STEPS = {
    "data.synthetic.train_images": 32,
    "schedule": {"batch_size": 16, "epochs": 3, "warmup_epochs": 1},
    "optimizer": {"sgd": {"lr": 0.02, "lr_scaling": "none"}},
}
"""Six steps. SGD: LARS is blind to the scale of a gradient, and Adam makes much of a last digit."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run_of(name: str, **changes: Any) -> dict[str, Any]:
    """The settings of a method's example as the tests of the loop take them."""
    about = {("norm.groups" if key == "norm" else key): value for key, value in tiny_run(name).items()}
    if isinstance(about.get("norm.groups"), dict):
        about["norm.groups"] = about["norm.groups"]["groups"]
    views = {f"views.{key}": value for key, value in dict(about.pop("views", {})).items()}
    return {**STEPS, "method": {name: examples(name)[0]}, **about, **views, **changes}


def losses(folder: RunFolder) -> list[dict[str, float]]:
    return [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]


RUNNER = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.train.test_loop import HERE, tiny
from harness.train import loop
tick = loop.Clock.tick
loop.Clock.tick = lambda *arguments: (time.sleep(0.15), tick(*arguments))
folder, asked = tiny(Path(sys.argv[1]), **json.loads(sys.argv[2]))
loop.execute(folder, [], HERE)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", method.names())
def test_killed_in_mid_training_and_resumed_it_is_what_it_would_have_been(tmp_path: Path, name: str) -> None:
    settings = run_of(name)
    folder, _ = tiny(tmp_path / "killed", **settings)
    command = [sys.executable, "-c", RUNNER.format(root=str(ROOT)), str(tmp_path / "killed"), json.dumps(settings)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(folder.checkpoints.glob("step-*.pt")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL and not folder.outcome.exists()
    loop.execute(folder, [], HERE)
    whole, _ = tiny(tmp_path / "whole", **settings)
    loop.execute(whole, [], HERE)
    assert_same(folder, whole)


class StopAfter:
    """An event that is set from the n-th look on: a signal that arrives within an epoch."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize("name", method.names())
def test_stopped_within_an_epoch_it_goes_on_bit_by_bit(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    folder, _ = tiny(tmp_path / "stopped", **run_of(name))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_on_signal", lambda: nullcontext(StopAfter(2)))
        with pytest.raises(loop.Interrupted, match="after step 3 of 6"):
            loop.execute(folder, [], HERE)
    loop.execute(folder, [], HERE)
    whole, _ = tiny(tmp_path / "whole", **run_of(name))
    loop.execute(whole, [], HERE)
    assert_same(folder, whole)


@pytest.mark.parametrize("name", method.names())
def test_in_micro_batches_it_trains_the_same(tmp_path: Path, name: str) -> None:
    settings = run_of(name, **{"norm.groups": 2})
    whole, cut = (tiny(tmp_path / part, **settings)[0] for part in ("whole", "cut"))
    loop.execute(whole, [], HERE)
    loop.execute(cut, [], replace(HERE, images_per_pass=8))
    assert_close(cut, whole)


def assert_close(ours: RunFolder, theirs: RunFolder) -> None:
    """The epochs' losses, and every number of the final state but what a last digit may have decided."""
    for one, other in zip(losses(ours), losses(theirs), strict=True):
        assert one.keys() == other.keys()
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-3, abs=2e-3)
    weights, others = (checkpoint.load(one.weights, torch.device("cpu"))["method"] for one in (ours, theirs))
    for key, value in weights.items():
        torch.testing.assert_close(value, others[key], rtol=0.05, atol=0.02, msg=lambda text, key=key: f"{key}: {text}")


CASES = [(name, groups) for name in method.names() for groups in (1, 2)]


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    for number, (name, groups) in enumerate(CASES):
        distributed.initialise(Rank(rank=rank, world=2, meeting=f"file://{folder}/meeting{number}"))
        run, _ = tiny(folder / "two" / f"{name}-{groups}", **run_of(name, **{"norm.groups": groups}))
        loop.execute(run, [], HERE)
        distributed.shutdown()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What two processes make of every method, started once for all of them."""
    folder = tmp_path_factory.mktemp("methods")
    mp.spawn(one_of_two, args=(folder,), nprocs=2)
    yield folder / "two"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "groups"), CASES)
def test_two_processes_train_what_one_does(name: str, groups: int, two: Path, tmp_path: Path) -> None:
    settings = run_of(name, **{"norm.groups": groups})
    ours, _ = tiny(two / f"{name}-{groups}", **settings)
    alone, _ = tiny(tmp_path, **settings)
    loop.execute(alone, [], HERE)
    assert ours.id == alone.id
    assert_close(ours, alone)
