"""What runs inside a SLURM job: the local pool, told by a work order, and submitit's hook for being taken away."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import submitit
from rich.console import Console

from harness.store import RunFolder, Store
from harness.sweep.attempts import Cause, fail, fingerprint
from harness.sweep.live import Watch
from harness.sweep.machine import gpus
from harness.sweep.pool import Pool
from harness.sweep.snapshot import Snapshot
from harness.sweep.submission import read_task
from harness.train.place import Place


class Job:
    """What runs inside a SLURM job. An instance, because submitit looks for ``checkpoint`` on the callable."""

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self.grace_s = 60.0

    def __call__(self, order: str) -> dict[str, str]:
        """Work through the runs of one work order; returns the cause each ended with. A failing run fails alone."""
        if os.environ.get("SLURM_PROCID", "0") != "0":
            print("srun started this job more than once; this copy leaves", flush=True)
            return {}
        from harness.components import Evaluation

        task = read_task(Path(order))
        job = os.environ.get("SLURM_ARRAY_JOB_ID")
        name = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ.get("SLURM_JOB_ID", "?")
        _mark_started(Path(task["submission"]) / "started" / name)
        store = Store(Path(task["results"]))
        runs = [store.run(run) for run in task["runs"]]
        _assert_cores(task["cpus"], runs, name)
        place = Place(data=Path(task["data"]), device=task["device"], threads=max(1, task["cpus"] // task["at_once"]))
        leased = [gpu for gpu, _ in gpus()] if task["device"] != "cpu" else []
        with Watch(Console(highlight=False), len(runs), task["at_once"], task["seconds"], task["labels"]) as watch:
            asked = [Evaluation(**one) for one in task["evaluations"]]
            self.grace_s = task["grace_s"]
            code = Snapshot(**{name: Path(path) for name, path in task["code"].items()})
            self.pool = Pool(runs, asked, place, watch, jobs=task["at_once"], gpus=leased, job=name, code=code)
            outcome = self.pool.run(own_signals=False)
        if outcome.stopped:
            _await_the_end()
        return {run: cause.value for run, cause in outcome.causes.items()}

    def checkpoint(self, order: str) -> submitit.helpers.DelayedSubmission:
        """submitit calls this on SLURM's warning: let the runs save, then be requeued with the same work order."""
        if self.pool is not None:
            self.pool.stop(self.grace_s)
        return submitit.helpers.DelayedSubmission(Job(), order)


def _mark_started(path: Path) -> None:
    """Evidence that the job reached Python: without it, a job that left the queue is a failed launch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _assert_cores(wanted: int, runs: Sequence[RunFolder], job: str) -> None:
    """A step may be bound to fewer cores than the job was given: SLURM 22.05 and later forget ``--cpus-per-task`` in
    srun (we repeat it), and sites bind in their own ways. Runs many times slower than planned are no runs: they fail.
    Raises ``RuntimeError``.
    """
    have = len(os.sched_getaffinity(0))
    print(f"cores: {have}, asked for: {wanted}", flush=True)
    if have >= wanted:
        return
    said = f"job {job} asked for {wanted} cores, but srun lets it use {have}"
    advice = "in the cluster file, lower cpus or add srun: ['--cpu-bind=none']; then --retry"
    about = {
        "type": "TooFewCores",
        "message": f"{said}: {advice}",
        "traceback": "",
        "fingerprint": fingerprint("cores"),
    }
    for run in runs:
        if not run.outcome.exists() and run.claim_state() is None:
            fail(run, Cause.LAUNCH, about, 0)
    raise RuntimeError(f"{said}: {advice}")


def _await_the_end(seconds: float = 120.0) -> None:
    """The runs were told to stop, so this job is being taken away: leaving now would look like success to SLURM."""
    time.sleep(seconds)
    raise RuntimeError("the runs were stopped from outside and have saved; sweep again to go on")
