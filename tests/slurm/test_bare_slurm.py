"""A Slurm without accounting, without USR2, with arrays of two jobs and steps bound to cores: what other sites have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.store.results import read_json
from harness.sweep.slurm import limits, queue
from tests.slurm.lab import CLIENTS, Lab, Sweep, wait_for

pytestmark = pytest.mark.slurm
LONG = 600
"""Epochs: some ten seconds of one core, enough to be interrupted in the middle."""


def test_more_runs_than_an_array_holds_go_in_chunks_one_after_the_other(bare: Lab, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="accounting storage is disabled"):
        bare.ask("sacct")
    assert limits.max_array_size() == 2
    sweep = Sweep(tmp_path, bare, seeds=5, array_cap=1, pretend=True)
    sweep.hold()  # a dependency is forgotten once it is fulfilled
    assert sweep() == 0
    (submission,) = sweep.submissions
    assert [len(chunk.tasks) for chunk in submission.chunks] == [2, 2, 1]
    for earlier, later in zip(submission.chunks, submission.chunks[1:], strict=False):
        assert f"afterany:{earlier.job}" in bare.ask("scontrol", "show", "job", str(later.job))
    sweep.release()
    sweep.wait_until(*["done"] * 5)
    assert sweep.worked() == [run.id for run in sweep.runs]
    assert set((sweep.pretended / "at-once").read_text().split()) == {"1"}, "the cap holds over all arrays"
    assert sweep("--status") == 0
    assert all(chunk.over == "ended" for chunk in sweep.submissions[0].chunks)
    assert sweep() == 0 and len(sweep.submissions) == 1


def test_a_controller_that_does_not_answer_makes_nothing_failed(
    bare: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, bare, seeds=2, pretend=True)
    bare.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        assert sweep() == 0
        elsewhere = tmp_path / "slurm.conf"  # a controller at a port where nobody listens
        text = Path(bare.environment["SLURM_CONF"]).read_text()
        told = f"SlurmctldPort={bare.port}\n"
        waits = "MessageTimeout=100\n"
        assert told in text and waits in text
        elsewhere.write_text(text.replace(told, "SlurmctldPort=19\n").replace(waits, "MessageTimeout=2\n"))
        monkeypatch.setenv("SLURM_CONF", str(elsewhere))
        monkeypatch.setattr(queue, "ASK_EVERY_S", 60.0)  # it takes squeue twenty seconds to give up
        (sweep.store.jobs / "squeue.json").unlink(missing_ok=True)
        assert sweep() == 0 and len(sweep.submissions) == 1
        assert set(queue.query(sweep.store).runs.values()) == {"unknown"}
        assert sweep.states() == ["to do", "to do"]
    finally:
        bare.ask("scancel", "--me")
        bare.ask("scontrol", "update", "PartitionName=main", "State=UP")


def test_a_preempted_job_that_hears_sigterm_alone_saves_and_comes_back(bare: Lab, tmp_path: Path) -> None:
    """submitit lets SIGTERM pass: it is the runs that listen. Slurm kills the job when its grace is over."""
    alone = {"partition": "low", "cpus": 2, "at_once": 2, "sbatch": {"exclusive": True}}
    sweep = Sweep(tmp_path, bare, epochs=LONG, **alone)
    assert sweep() == 0
    with sweep.in_the_middle():
        bare.ask("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=true")
        wait_for(lambda: sweep.heard("Bypassing signal SIGTERM"), "SIGTERM", sweep.evidence)
    sweep.wait_until("done")
    (run,) = sweep.runs
    first, *_, last = sweep.attempts(run)
    assert (first["cause"], last["cause"]) == ("interrupted", "done") and first["job"] == last["job"]
    assert sweep.epochs() == LONG and len(sweep.submissions) == 1
    (said,) = sweep.store.jobs.glob("*/log/*_0_log.out")
    assert said.read_text().count("cores: 2, asked for: 2") >= 2, "srun was told what sbatch was told, in both lives"


def test_a_preempted_job_with_a_long_grace_comes_back_before_it_is_over(bare: Lab, tmp_path: Path) -> None:
    """Its run has saved, and Slurm would leave it alone for five minutes more. It must not end as if it had failed, nor
    try again, when it comes back, what had failed before.
    """
    packed = {"partition": "low", "cpus": 2, "runs_per_job": 2, "sbatch": {"exclusive": True}}
    sweep = Sweep(tmp_path, bare, seeds=2, epochs=LONG, **packed)
    bare.ask("scontrol", "update", "PartitionName=low", "GraceTime=300", "State=DOWN")
    try:
        assert sweep() == 0
        spoilt, run = (sweep.store.run(one) for one in sweep.submissions[0].chunks[0].tasks[0])
        (spoilt.path / "checkpoints").write_text("not a folder")
        bare.ask("scontrol", "update", "PartitionName=low", "State=UP")
        with sweep.in_the_middle(run):
            bare.ask("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=true")
            wait_for(lambda: sweep.heard("Bypassing signal SIGTERM"), "SIGTERM", sweep.evidence)
        sweep.wait_until("done", "failed")
    finally:
        bare.ask("scontrol", "update", "PartitionName=low", "GraceTime=20", "State=UP")
    first, *_, last = sweep.attempts(run)
    assert (first["cause"], last["cause"]) == ("interrupted", "done") and first["job"] == last["job"]
    assert [one["cause"] for one in sweep.attempts(spoilt)] == ["code"] and len(sweep.submissions) == 1
    assert sweep.heard(f"asking SLURM to requeue job {sweep.job}")


def test_a_step_that_is_bound_to_fewer_cores_fails_at_once(bare: Lab, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, bare, cpus=2, srun=[f"--cpu-bind=map_cpu:{min(os.sched_getaffinity(0))}"])
    assert sweep() == 0
    sweep.wait_until("failed")
    (run,) = sweep.runs
    failure = read_json(run.failure)
    assert failure["cause"] == "launch" and "asked for 2 cores, but srun lets it use 1" in failure["message"]
    assert not sweep.attempts(run), "nothing was trained so slowly"
    assert sweep("--status") == 1


def test_a_step_that_srun_could_not_start_is_started_again(bare: Lab, tmp_path: Path) -> None:
    """As of a node that is late to answer: the first srun says so, the second is the real one."""
    asked = tmp_path / "asked"
    fake = tmp_path / "bin" / "srun"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\n[ ! -e {asked} ] || exec {CLIENTS}/srun "$@"\ntouch {asked}\n'
        'echo "srun: error: Application launch failed: Zero Bytes were transmitted or received" >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    sweep = Sweep(tmp_path, bare, setup=[f"export PATH={fake.parent}:$PATH"])
    assert sweep() == 0
    sweep.wait_until("done")
    assert asked.exists() and len(sweep.attempts(sweep.runs[0])) == 1
    assert sweep.heard("launch 2 of 3 in 10 s")
