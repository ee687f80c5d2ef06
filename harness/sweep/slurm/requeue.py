"""Requeue the SLURM job of this process, with the same work order.

submitit would ask once, when the controller may just be down, and write its pickle anew before, which a full disk
refuses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import NoReturn

ASK_FOR_S = 1800.0
"""How long it is tried. Whoever takes the job away kills it sooner than that; a refusal that lasts is one."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
COMMAND_S = 60.0


def job_name() -> str:
    """As SLURM writes it: ``12_0`` in an array."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ.get("SLURM_JOB_ID", "?")


def leave_requeued() -> NoReturn:
    """Ask SLURM until it agrees, and end. Raises ``RuntimeError`` where it does not: then the job has failed."""
    job, pause, until = job_name(), FIRST_PAUSE_S, time.monotonic() + ASK_FOR_S
    tell(f"asking SLURM to requeue job {job}")  # ahead of it: SLURM may kill the job before its answer is heard
    while why := _refusal(job):
        tell(f"job {job} is not requeued yet: {why}")
        if time.monotonic() + pause > until:
            raise RuntimeError(f"job {job} could not be requeued ({why}); its runs are saved: sweep again to resume")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    sys.exit(-1)  # not 0: it is not done


def tell(line: str) -> None:
    """For the job's log, which lies with the results: a full disk must not be what ends the job."""
    with suppress(OSError):
        print(line, flush=True)


def _refusal(job: str) -> str:
    """Nothing if SLURM starts the job anew, else why not, in one line."""
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"exit code {done.returncode}"
