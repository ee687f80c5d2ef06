"""The real Slurm of ``lab.sh``, as an object; and sweeps small enough to be sent through it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness.store.results import RunFolder, Store, read_json
from harness.sweep.__main__ import main
from harness.sweep.slurm.submissions import Chunk, Submission, submissions

HERE = Path(__file__).resolve().parent
EXPERIMENTS = HERE.parents[1] / "experiments"
CLIENTS = "/usr/local/lib/slurmlab/bin"
"""Where `lab.sh install` puts sbatch and the like: on nobody's PATH, or every program would take this for a cluster."""
PREFIX = os.environ.get("SLURMLAB_PREFIX", "slurmlab-")
"""Of the labs' folders in /tmp: whoever set it knows which labs are those of its own tests, and no other's."""
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "srun", "munged", "mariadbd")
PATIENCE_S = 600.0
"""How long a test waits for what takes seconds: the machine may be busy with something else."""

EXPERIMENT = """\
# Does a job reach its end, whatever happens to it?
title: Through Slurm
scale: smoke
fixed:
  data: {{synthetic: {{train_images: 64, test_images: 32}}}}
  schedule.batch_size: 32
  schedule.epochs: {epochs}
vary:
  - objective.nt_xent.temperature: [0.5]
seeds: {seeds}
runs: {seeds}
evaluate: [contrastive]
"""
CLUSTER = {"gpus": 0, "cpus": 1, "mem": "1G"}


def why_not() -> str | None:
    """What keeps a Slurm from being started here; None if nothing does."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return "a Slurm of our own needs root"
    path = os.pathsep.join([CLIENTS, os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [one for one in PROGRAMS if shutil.which(one, path=path) is None]
    return f"not installed: {', '.join(missing)} (`make test-slurm` installs them)" if missing else None


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where `HARNESS_REQUIRE_SLURM=1` says that nothing may be skipped."""
    if os.environ.get("HARNESS_REQUIRE_SLURM") == "1":
        pytest.fail(f"HARNESS_REQUIRE_SLURM=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def free_ports() -> int:
    """The first of a hundred ports of which those that a lab uses are free."""
    for _ in range(50):
        first = random.randrange(20_000, 30_000, 100)
        try:
            for offset in (*range(5), 90, 91):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
    raise RuntimeError("no free ports")


@dataclass
class Lab:
    """One cluster. ``settings`` are lab.sh's, without their prefix (``NODES="3"``)."""

    settings: dict[str, str]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")))
    port: int = field(default_factory=free_ports)

    def __post_init__(self) -> None:
        self.folder.chmod(0o755)  # munge and MariaDB, with users of their own, must get in

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process, and the jobs it submits, talk to this cluster."""
        path = os.environ.get("PATH", os.defpath)
        path = path if path.startswith(CLIENTS) else f"{CLIENTS}{os.pathsep}{path}"
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf"), "PATH": path}

    def script(self, command: str) -> None:
        """``lab.sh up``, ``down`` or ``wipe``. A failing one fails the test with the script's words."""
        named = {f"SLURMLAB_{key}": value for key, value in self.settings.items()}
        environment = {**os.environ, **named, "SLURMLAB": str(self.folder), "SLURMLAB_PORT": str(self.port)}
        done = subprocess.run(
            [str(HERE / "lab.sh"), command], env=environment, capture_output=True, text=True, timeout=1200, check=False
        )
        if done.returncode != 0:
            pytest.fail(f"lab.sh {command}:\n{done.stdout}\n{done.stderr}", pytrace=False)

    def ask(self, *command: str) -> str:
        """What a Slurm command prints. Fails the test with the command's words where it is refused."""
        done = self._run(*command)
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}{done.stdout}", pytrace=False)
        return done.stdout

    def agrees(self, *command: str) -> bool:
        """Whether Slurm does what it is asked. Right after an event it may not yet: see :func:`wait_for`."""
        return self._run(*command).returncode == 0

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    def says(self, expected: str, *command: str) -> bool:
        """Whether a Slurm command answers, and ``expected`` is in it. One that is refused did not say so yet."""
        done = self._run(*command)
        return done.returncode == 0 and expected in done.stdout

    def running(self, job: str) -> bool:
        return self.says(f"{job} RUNNING", "squeue", "--noheader", "--array", "--format=%i %T", "--me")

    def queued(self) -> list[str]:
        """All jobs that are neither over nor forgotten, one line each: ``12_0 RUNNING``."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i %T").splitlines()

    def crash(self, node: str) -> None:
        """End everything on a node without a word, as a power cut does, and let Slurm notice at once."""
        here = Path("/proc/self/ns/uts").readlink()
        there = Path(f"/proc/{(self.folder / f'run/slurmd-{node}.pid').read_text().strip()}/ns/uts").readlink()
        if there == here:
            unavailable("this machine permits no UTS namespaces, by which a node's processes are known")
        kill_at_once(lambda process: (process / "ns/uts").readlink() == there)
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=crashed")


def kill_at_once(chosen: Callable[[Path], bool]) -> None:
    """SIGKILL to all processes of which ``chosen(/proc/PID)`` holds, and none of them sees another die: all are
    stopped first, until no new one turns up.
    """
    stopped: set[int] = set()
    while True:
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if chosen(process) and int(process.name) not in stopped:
                    os.kill(int(process.name), signal.SIGSTOP)
                    found.add(int(process.name))
        if not found:
            break
        stopped |= found
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def speak_to(lab: Lab, patch: pytest.MonkeyPatch) -> None:
    """From now on this process, and what it submits, means this lab when it says Slurm."""
    for key, value in lab.environment.items():
        patch.setenv(key, value)


def wait_for(reached: Callable[[], object], what: str, say: Callable[[], object] = lambda: "") -> None:
    """Poll. Fails the test with ``what`` was awaited, and what ``say`` says, when patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE_S:.0f} s for {what}\n{say()}", pytrace=False)
        time.sleep(0.3)


class Sweep:
    """A small experiment, its cluster file and its results folder, all beneath ``folder``.

    With ``pretend`` its jobs are real, but do not train: see ``pretend.sh``.
    """

    def __init__(
        self, folder: Path, lab: Lab, *, seeds: int = 1, epochs: int = 1, pretend: bool = False, **cluster: Any
    ) -> None:
        self.lab, self.store, self.folder = lab, Store(folder / "results"), folder
        self.pretended = self.store.root / "pretended"
        experiments = folder / "experiments"
        experiments.mkdir(parents=True)
        for name in ("scales", "paper", "clusters"):
            (experiments / name).symlink_to(EXPERIMENTS / name)
        self.file, self.cluster = experiments / "small.yaml", folder / "site.yaml"
        self.file.write_text(EXPERIMENT.format(seeds=seeds, epochs=epochs))
        if pretend:
            cluster["setup"] = [f"export RESULTS={self.store.root}", f". {HERE / 'pretend.sh'}"]
            cluster.setdefault("mem", "10M")
        self.cluster.write_text(
            "".join(f"{key}: {json.dumps(value)}\n" for key, value in {**CLUSTER, **cluster}.items())
        )

    @property
    def arguments(self) -> list[str]:
        where = ["--results", str(self.store.root), "--data", str(self.folder), "--cluster", str(self.cluster)]
        return [str(self.file), *where]

    def __call__(self, *more: str) -> int:
        """Sweep, in this process; returns the exit code."""
        return main([*self.arguments, *more])

    @property
    def runs(self) -> list[RunFolder]:
        return list(self.store.all_runs())

    def hold(self) -> None:
        """Pretended jobs are not to end."""
        self.pretended.mkdir(parents=True, exist_ok=True)
        (self.pretended / "hold").touch()

    def release(self) -> None:
        (self.pretended / "hold").unlink()

    def worked(self) -> list[str]:
        """The runs that pretended jobs have worked on, as often as they did, sorted."""
        path = self.pretended / "worked"
        return sorted(path.read_text().split()) if path.exists() else []

    @property
    def submissions(self) -> list[Submission]:
        return submissions(self.store)

    @property
    def job(self) -> str:
        """The first job of the newest submission, as Slurm writes it."""
        return self.submissions[-1].chunks[0].task_id(0)

    def run_of(self, chunk: Chunk, index: int) -> RunFolder:
        """The first run of one job."""
        return self.store.run(chunk.tasks[index][0])

    def handles(self) -> list[str]:
        (manifest,) = self.store.experiments.glob("*.json")
        return list(read_json(manifest)["evaluations"].values())

    def states(self) -> list[str]:
        """Of all runs, sorted."""
        return sorted(run.state(self.handles()).value for run in self.runs)

    def epochs(self) -> int:
        """How many epochs the first run has written down."""
        path = self.runs[0].metrics
        return len(path.read_text().splitlines()) if path.exists() else 0

    def attempts(self, run: RunFolder) -> list[dict[str, Any]]:
        return [read_json(path) for path in sorted(run.attempts.glob("[0-9]*.json"))]

    def wait_until(self, *states: str) -> None:
        """Until the runs' sorted states are these and none of their jobs is left in the queue."""
        wait_for(lambda: self.states() == list(states), f"{states}, the states of the runs", self.evidence)
        self.wait_for_the_queue()

    def wait_for_the_queue(self) -> None:
        """Until none of its jobs is left there."""
        names = [chunk.name for one in self.submissions for chunk in one.chunks]
        asked = ("squeue", "--noheader", "--name=" + ",".join(names))
        wait_for(lambda: self.lab.agrees(*asked) and not self.lab.ask(*asked).strip(), "an empty queue", self.evidence)

    def wait_for_epoch(self, number: int, run: RunFolder | None = None) -> None:
        """Until a run, the first if it is not said which, has written down so many. Fails at once if it has failed."""
        run = run or self.runs[0]

        def reached() -> bool:
            if run.failure.exists():
                pytest.fail(f"{run.id} failed\n{self.evidence()}", pytrace=False)
            return run.metrics.exists() and len(run.metrics.read_text().splitlines()) >= number

        wait_for(reached, f"epoch {number}", self.evidence)

    @contextmanager
    def in_the_middle(self, run: RunFolder | None = None) -> Iterator[None]:
        """Once a run has written down some epochs it stands still, as long as this lasts: nothing can come too late."""
        run = run or self.runs[0]
        self.wait_for_epoch(3, run)
        pid = int(self.attempts(run)[-1]["pid"])
        os.kill(pid, signal.SIGSTOP)
        try:
            assert not run.outcome.exists(), "it was over too soon: make the run longer"
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def heard(self, words: str) -> bool:
        """Whether the log of the first job says so."""
        return any(words in path.read_text(errors="replace") for path in self.store.jobs.glob("*/log/*_0_log.*"))

    def evidence(self) -> str:
        """All that may explain why a sweep is not where it should be."""
        logs = [*self.store.jobs.glob("*/log/*.err"), *self.store.jobs.glob("*/log/*.out")]
        logs += [run.log for run in self.runs if run.log.exists()]
        tails = [f"--- {path}\n{path.read_text(errors='replace')[-1500:]}" for path in logs]
        ledger = [str(self.attempts(run)) for run in self.runs]
        return "\n".join([str(self.states()), *self.lab.queued(), *ledger, *tails])
