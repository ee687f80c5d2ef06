"""Run inside a SLURM job: the local pool, told by a work order, and submitit's hook for preemption."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from harness.config.run import Evaluation
from harness.runtime import Runtime
from harness.store.attempts import Cause, fail, fingerprint
from harness.store.causes import DISK_ERRORS
from harness.store.results import RunFolder, Store, StoreError, read_json
from harness.store.run_lock import machine
from harness.store.snapshot import Snapshot
from harness.sweep.display.live import Watch
from harness.sweep.local.circuit_breaker import CircuitBreaker
from harness.sweep.local.pool import Pool
from harness.sweep.local.resources import gpus
from harness.sweep.plan.code_changes import Recording
from harness.sweep.slurm.rendezvous import Tasked
from harness.sweep.slurm.requeue import job_name, leave_requeued, tell
from harness.sweep.slurm.sbatch import LAUNCH
from harness.sweep.slurm.submissions import read_task
from harness.sweep.worker.worker import Assignment

DISK_FOR_S, DISK_PAUSE_S = 1800.0, 15.0
"""How long a job waits for results that cannot be written when it starts, and between two tries."""


class Job:
    """What runs inside a SLURM job. An instance, because submitit looks for ``checkpoint`` on the callable."""

    def __init__(self, processes: int = 1) -> None:
        self.processes = processes  # that share a run, each in a task of its own
        self.pool: Pool | None = None
        self.grace_s = 60.0

    def __call__(self, order: str) -> dict[str, str]:
        """Work through the runs of one work order; returns the cause each ended with. A failing run fails alone."""
        rank = int(os.environ.get("SLURM_PROCID", "0"))
        if rank and self.processes == 1:
            print("srun started this job more than once; this copy exits", flush=True)
            return {}
        task = read_task(Path(order))
        name = job_name()
        _mark_started(Path(task["submission"]) / "started" / name)
        store = Store(Path(task["results"]))
        runs = [run for run in map(store.run, task["runs"]) if not _waits_for_retry(run, name, task["at_once"])]
        _assert_cores(task["cpus"], runs, name)
        runtime = Runtime(
            data=Path(task["data"]),
            device=task["device"],
            threads=max(1, task["cpus"] // task["at_once"]),
            images_per_pass=task.get("images_per_pass", 0),
            compile=task.get("compile", "off"),
        )
        leased = [gpu for gpu, _ in gpus()] if task["device"] != "cpu" else []
        _assert_gpu(task["device"], leased, runs, name)
        asked = [Evaluation(one["label"], one["handle"], one["resolved"]) for one in task["evaluations"]]
        code = Snapshot(**{name: Path(path) for name, path in task["code"].items()})
        self.grace_s = task["grace_s"]
        ranks = None
        if self.processes > 1:
            # A file of an earlier life, or of a launch that failed half-way, tells of a store that is no more.
            life = ".".join(os.environ.get(one, first) for one, first in (("SLURM_RESTART_COUNT", "0"), (LAUNCH, "1")))
            meet = Tasked(self.processes, Path(task["submission"]) / "met" / f"{name}.{life}.json")
            leased = leased[meet.local_rank % len(leased) :][:1] if leased else []
            if rank:
                gpu = leased[0] if leased else None
                meet.follow(
                    store,
                    Assignment(store.run(task["runs"][0]), tuple(asked), runtime, job=name, gpu=gpu, code=code.folder),
                    code,
                )
                return {}
            ranks = meet.tasks()
        with Watch(Console(highlight=False), len(runs), task["at_once"], task["seconds"], task["labels"]) as watch:
            at_once = task["at_once"]
            self.pool = Pool(
                runs,
                asked,
                runtime,
                watch,
                jobs=at_once,
                gpus=leased,
                job=name,
                code=code,
                ranks=ranks,
                breaker=_breaker(task),
            )
            with Recording(store, partial(print, flush=True), code) as recording:
                outcome = self.pool.run(own_signals=False)
                if outcome.stopped:
                    recording.drop()
        if outcome.stopped:
            _await_the_end(task.get("killed_within_s", 120.0))
        if ranks is not None:
            ranks.dismiss()
        return {run: cause.value for run, cause in outcome.causes.items()}

    def checkpoint(self, order: str) -> NoReturn:
        """submitit calls this on SLURM's warning: let the runs save, and be requeued with the same work order."""
        if self.pool is not None:
            self.pool.stop(self.grace_s)
        leave_requeued()


def _breaker(task: dict[str, Any]) -> CircuitBreaker:
    settings = {run: label.rpartition(", seed")[0] for run, label in task["labels"].items()}
    return CircuitBreaker(Path(task["submission"]), settings, task.get("settings", 1))


def _waits_for_retry(run: RunFolder, job: str, at_once: int) -> bool:
    """Whether it has failed in an earlier life of this job, and is not to be tried again by itself.

    ``--retry`` lays failures aside before it submits. A failed launch was a job's, and this one is here. A run that was
    out of memory beside others still has its second try.
    """
    with suppress(StoreError):
        cause = (read_json(run.failure) or {"cause": Cause.LAUNCH}).get("cause", Cause.CODE)
        if cause == Cause.OOM and at_once > 1:
            attempts = [read_json(path) or {} for path in run.attempts.glob("[0-9]*.json")]
            return sum((one.get("cause"), one.get("job")) == (Cause.OOM, job) for one in attempts) > 1
        return bool(cause != Cause.LAUNCH)
    return False


def _mark_started(path: Path) -> None:
    """CircuitBreaker that the job reached Python: without it, a job that left the queue is a failed launch.

    A disk that is full for a while is no reason to fail: it is waited for, as long as the site's people may take.
    """
    until = time.monotonic() + DISK_FOR_S
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            return
        except OSError as error:
            if error.errno not in DISK_ERRORS or time.monotonic() > until:
                raise
            tell(f"{path}: {error.strerror}; waiting until it can be written")
        time.sleep(DISK_PAUSE_S)


def _assert_cores(wanted: int, runs: Sequence[RunFolder], job: str) -> None:
    """A step may be bound to fewer cores than the job was given: SLURM 22.05 and later forget ``--cpus-per-task`` in
    srun (we repeat it), and sites bind in their own ways. Runs many times slower than planned are no runs: they fail.
    Raises ``RuntimeError``.
    """
    have = len(os.sched_getaffinity(0))
    print(f"cores: {have}, asked for: {wanted}", flush=True)
    if have < wanted:
        said = f"job {job} asked for {wanted} cores, but srun lets it use {have}"
        advice = "in the cluster file, lower cpus or add srun: ['--cpu-bind=none']; then --retry"
        _refuse(runs, "TooFewCores", f"{said}: {advice}")


def _assert_gpu(device: str, seen: Sequence[str], runs: Sequence[RunFolder], job: str) -> None:
    """The same of a GPU that was asked for and is not there: a run would train on the cores, for weeks.

    The driver's word suffices; torch is asked where the driver has none (no nvidia-smi in a container, another maker).
    Raises ``RuntimeError``.
    """
    if device != "cuda" or seen:
        return
    import torch

    if not torch.cuda.is_available():
        said = f"job {job} asked for a GPU, but on {machine()[0]} neither nvidia-smi nor torch sees one"
        _refuse(
            runs, "NoGpu", f"{said}: exclude that node (sbatch: {{exclude: ...}}) or fix the environment; then --retry"
        )


def _refuse(runs: Sequence[RunFolder], kind: str, said: str) -> NoReturn:
    """Fail what the job was to do, before it does it."""
    about = {"type": kind, "message": said, "traceback": "", "fingerprint": fingerprint(kind)}
    for run in runs:
        if not run.outcome.exists() and run.lock_state() is None:
            fail(run, Cause.LAUNCH, about, 0)
    raise RuntimeError(said)


def _await_the_end(seconds: float) -> NoReturn:
    """The runs were told to stop, so this job is being taken away: leaving now would look like success to SLURM.

    A job that is cancelled or requeued is killed within ``seconds``. One that lives on is being preempted with a long
    grace, and what is left of that is of no use.
    """
    time.sleep(seconds)
    leave_requeued()
