"""A pretend SLURM: ``sbatch`` & co. as shell scripts on the PATH, with all state in one folder.

``sbatch`` keeps the script and answers with a number; ``squeue`` says what ``queue`` holds; ``calls`` counts.
``run_jobs`` does what a node would: runs the scripts, with the variables SLURM would set.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from harness.store.results import Store
from harness.sweep.__main__ import main

SBATCH = """#!/bin/sh
echo "sbatch $*" >> "$SHIM/calls"
[ -f "$SHIM/refuse" ] && { cat "$SHIM/refuse" >&2; exit 1; }
n=$(( $(cat "$SHIM/last" 2>/dev/null || echo 100) + 1 ))
[ -f "$SHIM/room" ] && [ $n -gt $(cat "$SHIM/room") ] && { echo "error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }
echo $n > "$SHIM/last"
cp "$1" "$SHIM/$n.sh"
[ -f "$SHIM/die" ] && kill -9 $PPID
[ -f "$SHIM/deaf" ] && { cat "$SHIM/deaf" >&2; exit 1; }
[ -f "$SHIM/mute" ] && exit 0
echo "Submitted batch job $n"
"""
SQUEUE = """#!/bin/sh
echo "squeue $*" >> "$SHIM/calls"
[ -f "$SHIM/slow" ] && sleep 1
[ -f "$SHIM/down" ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
cat "$SHIM/queue" 2>/dev/null; exit 0
"""
SCONTROL = """#!/bin/sh
echo "scontrol $*" >> "$SHIM/calls"
[ "$1" = requeue ] && [ -s "$SHIM/unheard" ] && { sed -i 1d "$SHIM/unheard"; echo "Unable to contact" >&2; exit 1; }
[ "$2" = partition ] && { cat "$SHIM/partitions" 2>/dev/null; exit 0; }
echo "MaxArraySize            = $(cat "$SHIM/max" 2>/dev/null || echo 1001)"
"""
SCANCEL = """#!/bin/sh
echo "scancel $*" >> "$SHIM/calls"
[ -f "$SHIM/hang" ] && exec sleep 600
[ -f "$SHIM/denied" ] && { cat "$SHIM/denied" >&2; exit 1; }
exit 0
"""
SRUN = """#!/bin/sh
while case "$1" in --output|--error) shift;; -*) ;; *) false;; esac; do shift; done
exec "$@"
"""


class Shims:
    """The folder behind the pretend commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        commands = {"sbatch": SBATCH, "squeue": SQUEUE, "scontrol": SCONTROL, "scancel": SCANCEL, "srun": SRUN}
        for name, text in commands.items():
            path = folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {"SHIM": str(self.folder), "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def calls(self, command: str) -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(command)]

    def answer(self, **states: str) -> None:
        """Let squeue list these jobs and no others: ``answer(_101_0="RUNNING")``."""
        lines = [self.line(task[1:], state) + "\n" for task, state in states.items()]
        (self.folder / "queue").write_text("".join(lines))

    def scripts(self) -> dict[str, str]:
        """Job id -> the script that sbatch was given."""
        return {path.stem: path.read_text() for path in sorted(self.folder.glob("*.sh"))}

    def enqueue(self, state: str = "PENDING") -> None:
        """Put every job that was ever submitted into the queue's answer."""
        lines = [self.line(task, state) for job, text in self.scripts().items() for task in tasks(job, text)]
        (self.folder / "queue").write_text("\n".join(lines) + "\n")

    def line(self, task: str, state: str) -> str:
        """What squeue says of one job."""
        return f"{task}|{state}|{job_name(self.scripts()[task.partition('_')[0]])}"

    def run_jobs(self, **environment: str) -> list[subprocess.CompletedProcess[str]]:
        """Run every job as a node would, one after the other."""
        done = []
        for job, text in self.scripts().items():
            for task in tasks(job, text):
                _, _, index = task.partition("_")
                variables = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
                if index:
                    variables |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": index}
                done.append(
                    subprocess.run(
                        ["bash", str(self.folder / f"{job}.sh")],
                        env={**os.environ, **self.environment, **variables, **environment},
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                )
        return done


def sweep(path: Path, store: Store, *more: str) -> int:
    """The command line, for one experiment file; returns the exit code."""
    return main([str(path), "--results", str(store.root), "--data", str(store.root.parent), *more])


def job_name(script: str) -> str:
    found = re.search(r"--job-name=(\S+)", script)
    assert found
    return found.group(1)


def tasks(job: str, script: str) -> list[str]:
    """``12_0 12_1 ...`` of an array, ``12`` of a single job."""
    found = re.search(r"--array=0-(\d+)", script)
    return [f"{job}_{index}" for index in range(int(found.group(1)) + 1)] if found else [job]
