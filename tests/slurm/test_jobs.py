"""Sweeps through submitit and a real Slurm: what happens to jobs out there happens here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from harness.store import read_json
from harness.train import checkpoint
from tests.slurm.lab import Lab, Sweep, wait_for

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
LONG = 200
"""Epochs: some seconds of one core, enough to be interrupted in the middle."""


@pytest.fixture
def here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab, as the Slurm that this process speaks to."""
    for key, value in lab.environment.items():
        monkeypatch.setenv(key, value)
    return lab


def test_an_array_keeps_its_cap_and_a_failing_run_fails_alone(here: Lab, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, here, seeds=3, array_cap=2)
    assert sweep("--plan") == 0 and not sweep.submissions
    here.ask("scontrol", "update", "PartitionName=main", "State=DOWN")  # so that nothing starts before we are ready
    try:
        assert sweep() == 0
        spoilt = sweep.runs[0]
        (spoilt.path / "checkpoints").write_text("not a folder")
        (chunk,) = sweep.submissions[0].chunks
        assert "ArrayTaskThrottle=2" in here.ask("scontrol", "show", "job", str(chunk.job))
        assert sweep() == 0 and len(sweep.submissions) == 1, "all three wait in the queue: nothing is submitted twice"
    finally:
        here.ask("scontrol", "update", "PartitionName=main", "State=UP")
    sweep.wait_until("done", "done", "failed")
    failure = read_json(spoilt.failure)
    assert failure["cause"] == "code" and "checkpoints" in failure["message"]
    (attempt,) = sweep.attempts(spoilt)
    assert attempt["job"].partition("_")[0] == chunk.job and attempt["host"].startswith("node")
    assert most_at_once(here, str(chunk.job)) == 2
    assert sweep("--status") == 1


def most_at_once(lab: Lab, job: str) -> int:
    """How many jobs of an array ran side by side, from Slurm's own accounting."""
    asked = ("sacct", "-X", "-n", "-P", "-j", job, "-o", "JobID,Start,End")
    wait_for(
        lambda: lab.ask(*asked).count("\n") == 3 and "Unknown" not in lab.ask(*asked), "the accounting of three jobs"
    )
    spans = [line.split("|")[1:] for line in lab.ask(*asked).splitlines()]
    # An end counts before a start of the same second.
    events = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running = [sum(change for _, change in events[: number + 1]) for number in range(len(events))]
    return max(running)


def test_two_sweeps_of_one_file_at_once_train_each_run_once(here: Lab, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, here, seeds=2, runs_per_job=2, at_once=2)
    command = [sys.executable, "-m", "harness.sweep", *sweep.arguments]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sum("Submitted 2 runs as 1 jobs" in one for one in said) == 1, said
    sweep.wait_until("done", "done")
    assert [len(sweep.attempts(run)) for run in sweep.runs] == [1, 1]
    assert sweep() == 0 and len(sweep.submissions) == 1, "and a third one finds nothing to do"


def test_a_job_cancelled_behind_our_back_is_done_by_the_next_sweep(here: Lab, tmp_path: Path) -> None:
    """scancel of one waiting job of an array: Slurm's accounting forgets it, and submitit would wait for ever."""
    sweep = Sweep(tmp_path, here, seeds=2, array_cap=1)
    assert sweep() == 0
    (chunk,) = sweep.submissions[0].chunks
    here.ask("scancel", chunk.task_id(1))
    sweep.wait_until("done", "to do")
    assert sweep() == 0
    assert [len(one.chunks[0].tasks) for one in sweep.submissions] == [2], "unknown at first, and so left alone"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.sweep.scheduler.LOST_AFTER_S", 0.0)
        assert sweep("--status") == 1
    assert sweep("--retry") == 0
    assert [len(one.chunks[0].tasks) for one in sweep.submissions] == [2, 1]
    sweep.wait_until("done", "done")


# --- a job that is taken away in the middle -------------------------------------------------------------------


@dataclass(frozen=True)
class Disturbance:
    """What is done to the job, where it may run, and how its first attempt is to be seen in the ledger."""

    act: Callable[[Sweep], object]
    nodes: str
    cause: str | None


def crash(sweep: Sweep) -> None:
    sweep.lab.crash("node2")


DISTURBANCES = {
    "nothing": Disturbance(lambda sweep: None, "node[2-3]", "done"),
    "USR2": Disturbance(lambda s: s.lab.ask("scancel", "--signal=USR2", s.job), "node[2-3]", "interrupted"),
    "requeue": Disturbance(lambda s: s.lab.ask("scontrol", "requeue", s.job), "node[2-3]", "interrupted"),
    "node down": Disturbance(crash, "node1", None),
}


@pytest.fixture(scope="module")
def disturbed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sweep]]:
    """One and the same run four times, in folders of their own, side by side: each is disturbed once it has begun."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in lab.environment.items():
            patch.setenv(key, value)
        sweeps = {}
        for name, one in DISTURBANCES.items():
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            sweeps[name] = Sweep(folder, lab, epochs=LONG, sbatch=f"{{exclude: '{one.nodes}'}}")
            assert sweeps[name]() == 0
        waiting = dict(sweeps)
        while waiting:
            wait_for(lambda: any(one.epochs() >= 3 for one in waiting.values()), "an epoch", evidence(waiting))
            for name in [name for name, one in waiting.items() if one.epochs() >= 3]:
                assert not waiting[name].runs[0].outcome.exists(), "it was over too soon: make the run longer"
                DISTURBANCES[name].act(waiting.pop(name))
        for one in sweeps.values():
            one.wait_until("done")
        yield sweeps
        lab.script("up")  # node2 again


def evidence(sweeps: dict[str, Sweep]) -> Callable[[], str]:
    return lambda: "\n".join(f"=== {name}\n{one.evidence()}" for name, one in sweeps.items())


@pytest.mark.parametrize("name", [name for name in DISTURBANCES if name != "nothing"])
def test_a_job_that_is_taken_away_resumes(disturbed: dict[str, Sweep], name: str) -> None:
    sweep = disturbed[name]
    (run,) = sweep.runs
    first, *_, last = sweep.attempts(run)
    assert (first.get("cause"), last["cause"]) == (DISTURBANCES[name].cause, "done"), sweep.attempts(run)
    assert first["job"] == last["job"] and len(sweep.submissions) == 1, "requeued by Slurm, not submitted anew"
    assert (first["host"] != last["host"]) == (name == "node down")
    epochs = [line["epoch"] for line in metrics(run.metrics)]
    assert epochs == list(range(1, LONG + 1)), "no epoch is missing or there twice"


@pytest.mark.parametrize("name", [name for name in DISTURBANCES if name != "nothing"])
def test_and_ends_with_the_weights_of_one_that_was_left_alone(disturbed: dict[str, Sweep], name: str) -> None:
    expected, found = (weights(disturbed[one]) for one in ("nothing", name))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def weights(sweep: Sweep) -> dict[str, torch.Tensor]:
    held: dict[str, torch.Tensor] = checkpoint.load(sweep.runs[0].weights, torch.device("cpu"))["method"]
    return held


def metrics(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
