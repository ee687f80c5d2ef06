"""Sweeps through submitit and a real Slurm: what happens to jobs out there happens here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.store.results import read_json
from harness.train import checkpoint
from tests.slurm.lab import Lab, Sweep, kill_at_once, speak_to, wait_for

pytestmark = pytest.mark.slurm
LONG, ENDLESS = 600, 100_000
"""Epochs: some ten seconds of one core, enough to be interrupted in the middle; and more than a test waits for."""


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


def test_three_jobs_that_die_alike_hold_the_others(
    here: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in a job of its own: what they have in common they know from one another's files."""
    sweep = Sweep(tmp_path, here, seeds=5, array_cap=1)
    here.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        assert sweep() == 0
        for run in sweep.runs:
            (run.path / "checkpoints").write_text("not a folder")
    finally:
        here.ask("scontrol", "update", "PartitionName=main", "State=UP")
    sweep.wait_until("failed", "failed", "failed", "to do", "to do")
    capsys.readouterr()
    assert sweep("--status") == 1
    assert "2 held back, for 3 died alike before any had succeeded" in " ".join(capsys.readouterr().out.split())


def most_at_once(lab: Lab, job: str) -> int:
    """How many jobs of an array ran side by side, from Slurm's own accounting."""
    asked = ("sacct", "-X", "-n", "-P", "-j", job, "-o", "JobID,Start,End")
    wait_for(
        lambda: lab.agrees(*asked) and lab.ask(*asked).count("\n") == 3 and "Unknown" not in lab.ask(*asked),
        "the accounting of three jobs",
    )
    spans = [line.split("|")[1:] for line in lab.ask(*asked).splitlines()]
    # An end counts before a start of the same second.
    events = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running = [sum(change for _, change in events[: number + 1]) for number in range(len(events))]
    return max(running)


# --- a job that is taken away in the middle -------------------------------------------------------------------


@dataclass(frozen=True)
class Disturbance:
    """What is done to the job, what tells that it has come to it, how it is submitted, and how its first attempt is to
    be seen in the ledger.
    """

    act: Callable[[Sweep], object]
    came: Callable[[Sweep], object]
    asks: dict[str, Any]
    cause: str


def crash(sweep: Sweep) -> None:
    sweep.lab.crash(sweep.attempts(sweep.runs[0])[0]["host"])


def preempt(sweep: Sweep) -> None:
    """A job of a partition with precedence wants the whole node."""
    whole = ("--nodelist=node4", "--exclusive", "--mem=1G")  # by default all its cores ask for more than it has
    sweep.lab.ask("sbatch", "--partition=high", *whole, "--output=/dev/null", "--wrap=true")


def at_once(sweep: Sweep) -> bool:
    return True


def warned(sweep: Sweep) -> bool:
    return sweep.heard("Caught signal SIGUSR2")


def again(sweep: Sweep) -> bool:
    return sweep.lab.says("Restarts=1", "scontrol", "show", "job", sweep.job)


HERE, THERE = {"sbatch": {"nodelist": "node1"}}, {"sbatch": {"exclude": "node[1,4]"}}
LOW = {"partition": "low", "sbatch": {"nodelist": "node4", "exclusive": True}}
DISTURBANCES = {
    "nothing": Disturbance(at_once, at_once, HERE, "done"),
    "USR2": Disturbance(lambda one: one.lab.ask("scancel", "--signal=USR2", one.job), warned, HERE, "interrupted"),
    "requeue": Disturbance(lambda one: one.lab.ask("scontrol", "requeue", one.job), again, HERE, "interrupted"),
    "preempted": Disturbance(preempt, warned, LOW, "interrupted"),
    "node down": Disturbance(crash, at_once, THERE, "node failure"),
}


@pytest.fixture(scope="module")
def disturbed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sweep]]:
    """One and the same run in folders of their own, side by side: each is disturbed once it has begun."""
    with pytest.MonkeyPatch.context() as patch:
        speak_to(lab, patch)
        sweeps = {}
        for name, one in DISTURBANCES.items():
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            sweeps[name] = Sweep(folder, lab, epochs=LONG, **one.asks)
            assert sweeps[name]() == 0
        with ExitStack() as all_of_them:
            for sweep in sweeps.values():
                all_of_them.enter_context(sweep.in_the_middle())
            for name, one in DISTURBANCES.items():
                one.act(sweeps[name])
                wait_for(partial(one.came, sweeps[name]), f"{name} to come to its job", sweeps[name].evidence)
        for one in sweeps.values():
            one.wait_until("done")
        yield sweeps
        lab.script("up")  # the node that was crashed


@pytest.mark.parametrize("name", [name for name in DISTURBANCES if name != "nothing"])
def test_a_job_that_is_taken_away_resumes(disturbed: dict[str, Sweep], name: str) -> None:
    sweep = disturbed[name]
    (run,) = sweep.runs
    first, *_, last = sweep.attempts(run)
    assert (first.get("cause"), last["cause"]) == (DISTURBANCES[name].cause, "done"), sweep.attempts(run)
    assert first["job"] == last["job"] and len(sweep.submissions) == 1, "requeued by Slurm, not submitted anew"
    assert name != "node down" or first["host"] != last["host"]  # the others go where Slurm finds room first
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


def kill_whole(job: str) -> None:
    """SIGKILL to every Python of a job at once, as the kernel does to a step that is out of memory."""
    mark = f"SLURM_JOB_ID={job}".encode()
    kill_at_once(
        lambda one: (
            mark in (one / "environ").read_bytes().split(b"\0") and (one / "exe").readlink().name.startswith("python")
        )
    )


def test_a_job_that_is_killed_whole_is_seen_and_its_run_submitted_again(here: Lab, tmp_path: Path) -> None:
    """Its runs, its pool and all. On another node the claim would seem alive for a quarter of an hour."""
    sweep = Sweep(tmp_path, here, epochs=ENDLESS)
    assert sweep() == 0
    sweep.wait_for_epoch(3)
    kill_whole(sweep.job)  # scancel would ask the runs to stop first
    sweep.wait_for_the_queue()
    assert sweep("--status") == 0
    (entry,) = sweep.attempts(sweep.runs[0])
    assert entry["cause"] == "interrupted" and "state FAILED" in entry["detail"] and sweep.states() == ["to do"]
    assert sweep() == 0 and len(sweep.submissions) == 2
    assert sweep("--cancel", "--yes") == 0
    sweep.wait_for_the_queue()


def test_a_job_whose_time_is_up_saves_and_goes_on(here: Lab, tmp_path: Path) -> None:
    """Slurm's own warning, USR2 ahead of the limit. It looks every thirty seconds; limits are whole minutes."""
    end = "export SLURM_JOB_END_TIME=$(($(date +%s) + 120))"  # which later Slurms say themselves
    sweep = Sweep(tmp_path, here, epochs=ENDLESS, time="00:06:00", signal_seconds=120, setup=[end])
    begin = time.time()
    assert sweep() == 0
    (run,) = sweep.runs
    sweep.wait_for_epoch(3)
    left = int(time.time() - begin) // 60 + 3  # minutes: two to three from now
    here.ask("scontrol", "update", f"JobId={sweep.job}", f"TimeLimit={left}")
    wait_for(lambda: sweep.attempts(run)[0].get("cause"), "the warning", sweep.evidence)
    saved = sweep.epochs()
    # Between its two lives a job is completing, for as long as the machine is slow, and takes no update then.
    longer = ("scontrol", "update", f"JobId={sweep.job}", "TimeLimit=60")
    wait_for(lambda: here.agrees(*longer), "another limit", sweep.evidence)
    wait_for(lambda: sweep.epochs() > saved + 3, "an epoch of its second life", sweep.evidence)
    assert sweep("--cancel", "--yes") == 0
    sweep.wait_for_the_queue()
    first, *_, last = sweep.attempts(run)
    assert (first["cause"], first["job"]) == ("timeout", last["job"])
    epochs = [line["epoch"] for line in metrics(run.metrics)]
    assert epochs == list(range(1, len(epochs) + 1)), "no epoch is missing or there twice"
    assert warned(sweep)
