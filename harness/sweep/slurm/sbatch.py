"""Translate a cluster file to submitit's parameters: resources, and the lines of the job's script around Python."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from harness.store.snapshot import Snapshot
from harness.sweep.slurm.config import Cluster, Flags
from harness.sweep.slurm.submissions import Chunk
from harness.sweep.worker.worker import WARNED_S

TIME_CLASSES = (30, 60, 120, 240, 480, 720, 1440, 2880, 4320, 10_080)
"""Minutes. Below half an hour submitit takes every signal for a time-out."""

LAUNCHES, LAUNCH_PAUSE_S = 3, 10
"""How often a job asks srun to start its tasks, and the seconds in between."""
LAUNCH = "HARNESS_LAUNCH"
"""The variable that counts them, from 1: the first argument of the job's script, which SLURM calls without any."""
_FAILED = "grep -cs 'Application launch failed' /proc/self/fd/2"
COUNT_LAUNCHES = [
    f'export {LAUNCH}="${{1:-1}}"',
    "shift $#  # what the site's lines source would take it for an argument of its own",
]
BEFORE_SRUN = [
    f"launches_failed=$([ -f /proc/self/fd/2 ] && {_FAILED} || true)",
    "set +e  # or it would be over with srun",
]
LAUNCH_AGAIN = [
    "code=$?",
    "# A node that did not answer srun is no fault of the job's: its script begins anew, within the same allocation.",
    f'if [ $code != 0 ] && [ "${LAUNCH}" -lt {LAUNCHES} ] && [ -f /proc/self/fd/2 ] \\',
    f'    && [ "$({_FAILED})" -gt "${{launches_failed:-0}}" ]; then',
    f'  echo "srun could not start the job: launch $(({LAUNCH} + 1)) of {LAUNCHES} in {LAUNCH_PAUSE_S} s"',
    f'  sleep {LAUNCH_PAUSE_S} && exec bash "$0" $(({LAUNCH} + 1))',
    "fi",
    "exit $code",
]
"""The end of a job's script. Its standard error is its log, of earlier lives as well: what was there does not count."""


def time_class(seconds: float, cluster: Cluster, longest: int | None = None) -> int:
    """Three times the price, rounded up: too short a limit costs requeues, too long a one costs priority.

    No more than the partition's ``longest``: SLURM takes such jobs, and never starts them.
    """
    minutes = 3 * max(seconds * math.ceil(cluster.runs_per_job / cluster.at_once), cluster.signal_seconds) / 60
    wanted = next((limit for limit in TIME_CLASSES if limit >= minutes), TIME_CLASSES[-1])
    return min(wanted, longest or wanted)


def device(cluster: Cluster) -> str:
    """A job that asked for a GPU is not to do without one. Of other gres (a shard of one, say) nobody knows."""
    if not cluster.gres:
        return "cuda" if cluster.gpus else "cpu"
    return "cuda" if re.match(r"(gres/)?gpu\b", cluster.gres) else "auto"


def parameters(
    cluster: Cluster, chunk: Chunk, *, after: Sequence[str] = (), code: Snapshot | None = None
) -> dict[str, Any]:
    """submitit's parameters. One task, or one for each process of a run; srun is told the cores it forgets.

    Packing is ours: a task works on ``at_once`` runs. With several tasks, one that dies takes the others along.
    """
    together = ["--kill-on-bad-exit=1"] if cluster.processes_per_run > 1 else []
    wanted: dict[str, Any] = {
        "job_name": chunk.name,
        "time": chunk.minutes,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.tasks_per_node,
        "cpus_per_task": cluster.cpus_per_task,
        "gpus_per_node": cluster.gpus if cluster.gpus and not cluster.gres else None,
        "gres": cluster.gres,
        "mem": cluster.mem,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "dependency": f"afterany:{':'.join(after)}" if after else None,
        "array_parallelism": chunk.cap,
        "signal_delay_s": cluster.signal_seconds,
        "setup": [*COUNT_LAUNCHES, _end_time(chunk), *cluster.setup, *_environment(cluster, code), *BEFORE_SRUN],
        "teardown": LAUNCH_AGAIN,
        "additional_parameters": _flags(cluster),
        "srun_args": [f"--cpus-per-task={cluster.cpus_per_task}", *together, *cluster.srun],
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _flags(cluster: Cluster) -> Flags:
    """Further sbatch options. Jobs may be requeued, also where the site does not let them by default (JobRequeue=0)."""
    wanted: Flags = {"requeue": not cluster.sbatch.get("no-requeue"), **cluster.sbatch}
    return {key: value for key, value in wanted.items() if value is not False}


def _end_time(chunk: Chunk) -> str:
    """SLURM says when a job's time is up from 23.02 on; it tells a time-out from a preemption in the attempt log."""
    return f'export SLURM_JOB_END_TIME="${{SLURM_JOB_END_TIME:-$(($(date +%s) + {60 * chunk.minutes}))}}"'


def python_command() -> str:
    """How SLURM starts Python: deaf to signals until submitit listens, or one in the first seconds would end the job
    as if it had failed of itself; whoever takes the job away kills it later, and starts it anew.
    """
    return f"""sh -c 'trap "" USR2 TERM; exec "$0" "$@"' {shlex.quote(sys.executable)}"""


def _environment(cluster: Cluster, code: Snapshot | None) -> list[str]:
    """The job imports the snapshot that was submitted, whatever it finds in its working directory, and does not
    oversubscribe cores. ``code`` is None where nothing is going to run.
    """
    threads = max(1, cluster.cpus_per_task // cluster.at_once)
    why = f"{threads} threads a run, `cpus` of the cluster file over `at_once`"  # a site's profile often says 1
    lines = [
        f'[ "${{OMP_NUM_THREADS:-{threads}}}" = {threads} ] || '
        f'echo "OMP_NUM_THREADS=$OMP_NUM_THREADS is not heeded: "{shlex.quote(why)}',
        f"export OMP_NUM_THREADS={threads}",
    ]
    lines.append(f"export {WARNED_S}={cluster.signal_seconds}")
    for name, value in code.environment.items() if code else ():
        behind = "${PYTHONPATH:+:$PYTHONPATH}" if name == "PYTHONPATH" else ""
        lines.append(f'export {name}="{value}{behind}"')
    return lines
