"""Submit SLURM arrays through submitit, which is transport only: results are read from our own files.

What travels is the path of a work order under ``results/jobs``; the job (``job.py``) runs the same pool as a sweep on a
laptop. No other module imports submitit.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shlex
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console

from harness.components import Evaluation
from harness.config.errors import SpecError
from harness.store import snapshot
from harness.store.results import Store
from harness.store.snapshot import Snapshot
from harness.sweep.display.live import clock, say
from harness.sweep.display.tables import show_claims, show_plan
from harness.sweep.plan.cost import Prices, estimate
from harness.sweep.plan.manifest import record
from harness.sweep.plan.plan import Plan, PlannedRun
from harness.sweep.plan.preflight import check_data, check_processes
from harness.sweep.slurm import limits, queue
from harness.sweep.slurm.config import Cluster, describe
from harness.sweep.slurm.job import Job
from harness.sweep.slurm.passthrough import overruled
from harness.sweep.slurm.sbatch import TIME_CLASSES, device, parameters, python_command, time_class
from harness.sweep.slurm.submissions import Chunk, Submission, submitting, write_task

UNSURE = re.compile(r"timed? ?out|unable to contact|zero bytes|communicat|connect|killed|i/o error", re.IGNORECASE)
"""Words of an sbatch that did not hear the controller's answer, which may have been yes."""
UNKNOWN_S = 4 * 3600 / 3
"""Of a run that nobody can price: four hours, after which it goes on in another job."""
MANY_TIMEOUTS = 1000
"""Requeues after time-outs are not counted here: the attempt log shows them."""


@dataclass(frozen=True)
class JobGroup:
    """Jobs with the same resources: what one array can hold."""

    minutes: int
    tasks: tuple[tuple[PlannedRun, ...], ...]
    seconds: float


def sweep_on(
    console: Console,
    plan: Plan,
    runs: Sequence[PlannedRun],
    named: tuple[str, Cluster],
    data: Path,
    *,
    only_plan: bool = False,
) -> int:
    """Submit what is neither done nor in the queue, and return at once. Returns the exit code."""
    name, cluster = named
    _check_folder(plan.store.root.resolve())
    with nullcontext() if only_plan else submitting(plan.store, lambda line: say(console, line, style="yellow")):
        if not only_plan:
            for line in queue.adopt(plan.store):
                say(console, line, style="yellow")
        jobs_now = queue.query(plan.store, exclusive=not only_plan, read_only=only_plan)
        missing = [one for one in runs if one.folder.id not in jobs_now.runs]
        if not only_plan:  # which may be of runs as --retry would leave them
            missing = _left(plan, missing)
        behind = _behind(console, plan, runs, jobs_now)
        prices = prices_on(plan.store, plan.evaluations, cluster, data)
        at_once = cluster.array_cap * cluster.at_once
        chosen = [*missing, *behind]
        waiting = sum(one.folder.id in jobs_now.runs for one in runs) - len(behind)
        cost = estimate(prices, chosen, plan.evaluations, at_once)
        show_plan(console, plan, cost, f"on {name}, at most {at_once} at a time", data=data, queued=waiting)
        if only_plan:
            show_claims(console, plan, prices, {one.folder.id for one in runs} | {*jobs_now.runs})
        batches = []
        for some in (missing, behind):
            groups = group(plan, some, cluster, prices)
            batches.append((draw_up(plan, groups, cluster), groups))
            _show_arrays(console, batches[-1][0], cluster)
        if only_plan:
            return 0
        check_data(chosen, data)
        check_processes(chosen, cluster.processes_per_run, cluster.images_per_pass, cluster.compile)
        record(plan)  # also where nothing is submitted: status and report are to know of this sweep
        ahead = sorted({str(chunk.job) for one in behind for _, chunk in jobs_now.orders[one.folder.id]})
        for (submission, groups), after in zip(batches, ([], ahead), strict=True):
            if groups:
                submit(plan, submission, groups, cluster, data, after=after)
    if chosen:
        jobs = sum(len(chunk.tasks) for submission, _ in batches for chunk in submission.chunks)
        ids = [one for submission, _ in batches for one in _ids(submission)]
        say(console, f"Submitted {len(chosen)} runs as {jobs} jobs: {', '.join(ids)}.", style="green")
        say(
            console, f"How far they are: python -m harness.sweep --status --results {shlex.quote(str(plan.store.root))}"
        )
    return 0


def _check_folder(results: Path) -> None:
    """Raises :class:`SpecError` where SLURM would read something else into the names of the jobs' logs."""
    if odd := sorted({letter for letter in str(results) if letter in "%\\" or not letter.isprintable()}):
        raise SpecError(
            f"--results {str(results)!r}: SLURM does not take {', '.join(map(repr, odd))} as it is in a path"
        )


def _behind(console: Console, plan: Plan, runs: Sequence[PlannedRun], jobs_now: queue.Queue) -> list[PlannedRun]:
    """Runs in the queue for other evaluations than this experiment's: another job is to follow the one that has them.

    Not where that one is not surely in the queue: to follow it, SLURM has to know it.
    """
    evaluation_ids = [one.id for one in plan.evaluations]
    found, unsure = list[PlannedRun](), 0
    for one in runs:
        if one.folder.id in jobs_now.runs and {*(one.lacking or evaluation_ids)} - jobs_now.waits_for(one.folder.id):
            known = jobs_now.runs[one.folder.id] != "unknown" and all(c.job for _, c in jobs_now.orders[one.folder.id])
            found += [one] if known else []
            unsure += not known
    if found:
        said = "are in the queue for fewer evaluations: a second job of each follows the first"
        say(console, f"{len(found)} runs {said}")
    if unsure:
        said = "may be in the queue, but not for all of these evaluations: sweep again once that is clear"
        say(console, f"{unsure} runs {said}", style="yellow")
    return found


def _left(plan: Plan, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Those that are to do by now: one that has left the queue may have done its work since the plan was made."""
    evaluation_ids = [one.id for one in plan.evaluations]
    return [one for one in runs if replace(one, state=one.folder.state(evaluation_ids)).to_do]


def prices_on(store: Store, asked: Iterable[Evaluation], cluster: Cluster, data: Path) -> Prices:
    """What runs cost on the nodes of this cluster file."""
    on_gpus = bool(cluster.gpus or cluster.gres)
    devices = max(1, cluster.gpus) / cluster.at_once if on_gpus else max(1, cluster.cpus // cluster.at_once)
    processes = cluster.processes_per_run
    return Prices.read(
        store, "" if on_gpus else None, [one.id for one in asked], devices * cluster.nodes, processes, data
    )


def group(plan: Plan, runs: Sequence[PlannedRun], cluster: Cluster, prices: Prices) -> list[JobGroup]:
    """Runs -> jobs -> groups of jobs with one time limit."""
    groups_by_limit: dict[int, list[PlannedRun]] = defaultdict(list)
    each = {one.folder.id: prices.left(one, plan.evaluations) for one in runs}
    seconds = {run: UNKNOWN_S if price.unknown else price.seconds for run, price in each.items()}
    longest = limits.longest_minutes(cluster.partition) if runs and cluster.minutes is None else None
    for one in runs:
        groups_by_limit[cluster.minutes or time_class(seconds[one.folder.id], cluster, longest)].append(one)
    size = cluster.runs_per_job
    return [
        JobGroup(
            minutes,
            tuple(tuple(members[first : first + size]) for first in range(0, len(members), size)),
            sum(seconds[one.folder.id] for one in members) / len(members),
        )
        for minutes, members in sorted(groups_by_limit.items())
    ]


def draw_up(plan: Plan, groups: Sequence[JobGroup], cluster: Cluster) -> Submission:
    """Arrays no longer than the site allows, the cap shared out among them, each with a name of its own."""
    token = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    name = f"{plan.experiment.name}@{plan.experiment.scale.name}"
    made = Submission(plan.store.jobs / token, name, describe(cluster), time.time())
    longest = limits.max_array_size() if groups else 1
    for one in groups:
        for first in range(0, len(one.tasks), longest):
            tasks = [[run.folder.id for run in task] for task in one.tasks[first : first + longest]]
            made.chunks.append(Chunk(f"{plan.experiment.name}-{token}-{len(made.chunks)}", tasks, 1, one.minutes))
    for index, chunk in enumerate(made.chunks):
        share, rest = divmod(cluster.array_cap, len(made.chunks))
        chunk.cap = max(1, share + (index < rest))
    return made


def submit(
    plan: Plan,
    submission: Submission,
    groups: Sequence[JobGroup],
    cluster: Cluster,
    data: Path,
    *,
    after: Sequence[str] = (),
) -> None:
    """Write everything down, then call sbatch once per array; all begin when the jobs ``after`` have ended.

    Raises :class:`SpecError` with sbatch's own words.
    """
    code = snapshot.take(plan.store, plan.experiment.document.path)
    runs = {one.folder.id: (one, made.seconds) for made in groups for task in made.tasks for one in task}
    patience = limits.killed_within_s()
    settings = len({one.label.rpartition(", seed")[0] for one, _ in runs.values()})
    for number, chunk in enumerate(submission.chunks):
        for index, task in enumerate(chunk.tasks):
            order = _order(plan, submission, [runs[run][0] for run in task], cluster, data, code)
            order |= {"seconds": runs[task[0]][1], "settings": settings, "killed_within_s": patience}
            write_task(submission.task_file(number, index), order)
    submission.logs.mkdir(parents=True)
    submission.save()  # the orphan token: whoever finds it without a job id asks the queue for the name
    for number, chunk in enumerate(submission.chunks):
        executor = submitit.SlurmExecutor(submission.logs, max_num_timeout=MANY_TIMEOUTS, python=python_command())
        # more arrays than the cap: they follow one another
        earlier = [submission.chunks[number - cluster.array_cap].job] if number >= cluster.array_cap else []
        executor.update_parameters(**parameters(cluster, chunk, after=[*after, *map(str, earlier)], code=code))
        orders = [str(submission.task_file(number, index).resolve()) for index in range(len(chunk.tasks))]
        try:
            with _undisturbed(cluster):
                jobs = executor.map_array(Job(cluster.processes_per_run), orders)
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
            raise _not_submitted(submission, number, error) from None
        chunk.job = jobs[0].job_id.partition("_")[0]
        submission.save()


def _not_submitted(submission: Submission, number: int, error: Exception) -> SpecError:
    """Arrays before the one that failed stay in the queue (a limit on submitted jobs stops a long sweep half-way).

    That one is refused only if sbatch said so. Where it may be in the queue nevertheless it stays on record without a
    job, and :func:`harness.sweep.slurm.queue.adopt` asks the queue for its name.
    """
    words, name = " ".join(str(error).split()) or type(error).__name__, submission.chunks[number].name
    refused = isinstance(error, submitit.core.utils.FailedJobError) and not UNSURE.search(words)
    for chunk in submission.chunks[number if refused else number + 1 :]:
        chunk.over = "refused"
    submission.save()
    said = f"sbatch refused {name}: {words}" if refused else f"{name} may have been submitted: {words}"
    if number:
        said += f"; submitted before it: {', '.join(_ids(submission))}"
    if not refused:
        said += "; sweep again in a minute: runs that are in the queue are not submitted twice"
    elif number:
        said += "; sweep again when there is room for the rest"
    return SpecError(said)


def _order(
    plan: Plan, submission: Submission, runs: Sequence[PlannedRun], cluster: Cluster, data: Path, code: Snapshot
) -> dict[str, Any]:
    return {
        "submission": str(submission.folder.resolve()),
        "results": str(plan.store.root.resolve()),
        "code": {"folder": str(code.folder), "origin": str(code.origin)},
        "data": str(data),
        "runs": [one.folder.id for one in runs],
        "labels": {one.folder.id: one.label for one in runs},
        "evaluations": [_written(evaluation) for evaluation in plan.evaluations],
        "at_once": cluster.at_once,
        "cpus": cluster.cpus_per_task,
        "images_per_pass": cluster.images_per_pass,
        "compile": cluster.compile,
        "device": device(cluster),
        "grace_s": max(10.0, cluster.signal_seconds - 60.0),
    }


def _written(evaluation: Evaluation) -> dict[str, Any]:
    return {"label": evaluation.label, "handle": evaluation.id, "resolved": evaluation.resolved}


def rehearse(cluster: Cluster, *, longest: bool = False) -> tuple[bool, str]:
    """Whether SLURM would take jobs of this cluster file, and its words: ``sbatch --test-only`` on our own script.

    ``longest``: with the longest limit that ``time: auto`` may ask for, instead of the shortest.
    """
    auto = time_class(math.inf, cluster, limits.longest_minutes(cluster.partition)) if longest else TIME_CLASSES[0]
    with tempfile.TemporaryDirectory() as folder:
        chunk = Chunk("doctor", [["a"], ["b"]], 1, cluster.minutes or auto)
        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(**parameters(cluster, chunk))
        executor.parameters["map_count"] = len(chunk.tasks)  # as map_array does it
        script = Path(folder) / "script.sh"
        script.write_text(executor._make_submission_file_text("true", "doctor"), encoding="utf-8")
        with _undisturbed(cluster):
            done = subprocess.run(
                ["sbatch", "--test-only", str(script)], capture_output=True, text=True, timeout=120, check=False
            )
    return done.returncode == 0, (done.stderr + done.stdout).strip()


@contextmanager
def _undisturbed(cluster: Cluster) -> Iterator[None]:
    """sbatch called from within a job inherits that job's array id and limits; SLURM_CONF must stay.

    Nor do variables such as ``SBATCH_TIMELIMIT`` overrule the cluster file.
    """
    asked = describe(cluster)
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(("SLURM_", "SUBMITIT_", "SRUN_")) or overruled(key, asked)
    }
    inherited.pop("SLURM_CONF", None)
    for key in inherited:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(inherited)


def _ids(submission: Submission) -> list[str]:
    return [f"{chunk.job} ({len(chunk.tasks)})" for chunk in submission.chunks if chunk.job]


def _show_arrays(console: Console, submission: Submission, cluster: Cluster) -> None:
    if submission.chunks and cluster.at_once > cluster.runs_per_job:
        said = f"at_once: {cluster.at_once} runs side by side, but a job has {cluster.runs_per_job} (runs_per_job)"
        say(console, f"NO EFFECT: {said}; its cores are divided all the same", style="bold yellow")
    for chunk in submission.chunks:
        shared = f"{cluster.processes_per_run} processes a run, " if cluster.processes_per_run > 1 else ""
        shared += f"nodes {cluster.nodes}, each with " if cluster.nodes > 1 else ""
        gpu = f"{shared}GPUs {cluster.gpus}, " if cluster.gpus else shared
        say(
            console,
            f"array: jobs {len(chunk.tasks)}, runs per job {cluster.runs_per_job}, at most {chunk.cap} at a time; each "
            f"{gpu}cores {cluster.cpus}, {cluster.mem or 'default memory'}, limit {clock(60 * chunk.minutes)}",
        )
