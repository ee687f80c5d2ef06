"""Run several processes for one run: start them, notice that one has died, and end the others.

A pool starts the first process of a run itself and leaves the others to one of these: processes of this machine
(:class:`ProcessesHere`), or one process in each other task of a SLURM job, started there by :func:`follow` at the word
of the pool in the first task (:class:`Tasks`).
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.runtime import Rank
from harness.store.run_lock import process_start
from harness.sweep.local.fork_server import start_from_server
from harness.sweep.local.resources import oom_kills
from harness.sweep.worker import worker
from harness.sweep.worker.worker import Assignment

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

POLL_S = 0.2
AWAY_S = 60.0
"""A task whose process of an ended run has not been heard of for so long is not waited for any longer."""


class Peers(Protocol):
    """The processes of one run but the first, by rank from 1."""

    def codes(self) -> dict[int, int]:
        """Exit codes of those that have ended."""
        ...

    def ask_to_stop(self) -> None:
        """SIGTERM to those that have not ended, where this process can; all processes of a run stop together."""
        ...

    def kill(self) -> None:
        """SIGKILL to those of this machine, from within a signal's handler too; :meth:`end` is still to come."""
        ...

    def end(self, patience_s: float) -> dict[int, int]:
        """Codes of those that end by themselves within so many seconds; the others are killed, with what they began."""
        ...


class Ranks(Protocol):
    """How a run becomes ``world`` processes, ``here`` of them on this machine: so many of its GPUs it takes."""

    world: int
    here: int

    def start(self, assignment: Assignment, gpus: Sequence[str]) -> tuple[Assignment, Peers]:
        """Start the other processes of a run; returns what the first is to do, and them."""
        ...


class Nobody:
    """No other processes."""

    def codes(self) -> dict[int, int]:
        return {}

    def ask_to_stop(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def end(self, patience_s: float) -> dict[int, int]:
        return {}


NOBODY = Nobody()


class OneProcess:
    """A run is one process."""

    world = here = 1

    def start(self, assignment: Assignment, gpus: Sequence[str]) -> tuple[Assignment, Peers]:
        return replace(assignment, gpu=gpus[0] if gpus else None), NOBODY


class ProcessesHere:
    """A run is ``world`` processes of this machine, each with one of its GPUs if it has any; they meet at a file."""

    def __init__(self, world: int) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.world = self.here = world

    def start(self, assignment: Assignment, gpus: Sequence[str]) -> tuple[Assignment, Peers]:
        folder = Path(tempfile.mkdtemp(prefix="harness-ranks-"))
        ranks = [Rank(rank=index, world=self.world, meeting=f"file://{folder}/meeting") for index in range(self.world)]
        leased = [*gpus, *[None] * (self.world - len(gpus))]
        first, *others = (replace(assignment, rank=rank, gpu=gpu) for rank, gpu in zip(ranks, leased, strict=True))
        started = {one.rank.rank: start_process(self.context, one) for one in others}
        return first, _Local(started, folder)


class _Local:
    def __init__(self, processes: dict[int, BaseProcess], folder: Path) -> None:
        self.processes, self.folder, self.oom_kills = processes, folder, oom_kills()
        self.born = {rank: process_start(one.pid) for rank, one in processes.items()}

    def codes(self) -> dict[int, int]:
        return {
            rank: _ended_as(one, self.oom_kills) for rank, one in self.processes.items() if one.exitcode is not None
        }

    def ask_to_stop(self) -> None:
        for rank, process in self.processes.items():
            terminate(process.pid, self.born[rank])

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            sweep_up(process)

    def end(self, patience_s: float) -> dict[int, int]:
        deadline = time.monotonic() + patience_s
        for process in self.processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
        codes = self.codes()
        self.kill()
        for process in self.processes.values():
            process.join()
        shutil.rmtree(self.folder, ignore_errors=True)
        return codes


def start_process(context: Any, assignment: Assignment) -> BaseProcess:
    """One process of a run, forked from the server."""
    rank = f" rank {assignment.rank.rank}" if assignment.rank.world > 1 else ""
    name = f"run {assignment.folder.id}{rank}"
    return start_from_server(lambda: context.Process(target=worker.work, args=(assignment,), name=name))


def terminate(pid: int | None, born: str | None) -> bool:
    """SIGTERM to a process that lives, and to no other that has its number by now; whether it lived."""
    if pid is None or born is None or process_start(pid) != born:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return True


def sweep_up(process: BaseProcess) -> None:
    """Kill what is left of a process's group: loader workers, never the sweep itself."""
    with suppress(ProcessLookupError, PermissionError):
        if process.pid:
            os.killpg(process.pid, signal.SIGKILL)


def _ended_as(process: BaseProcess, oom_before: int) -> int:
    code = process.exitcode or 0
    return worker.EXIT_OOM if code == -signal.SIGKILL and oom_kills() > oom_before else code


# --- the tasks of a job ---------------------------------------------------------------------------------------
#
# The first task keeps a store (torch's TCPStore) for as long as the job lasts; its keys, n counting the job's runs:
#   run/n          the id of the n-th run: the other tasks start their process of it
#   over/n         its first process has ended: theirs is to end, or is killed
#   ended/n/rank   the exit code of the process in the task `rank`
#   the end        the job is done
#   gone/rank      the task `rank` has heard so
# The processes of the n-th run meet in the same store, under names that begin with meet/n.


class Tasks:
    """A run is one process in each of the ``world`` tasks of a job; this is the first. ``address`` is the store's."""

    here = 1

    def __init__(self, store: Store, address: str, world: int) -> None:
        self.store, self.address, self.world, self.count = store, address, world, 0

    def start(self, assignment: Assignment, gpus: Sequence[str]) -> tuple[Assignment, Peers]:
        number, self.count = self.count, self.count + 1
        self.store.set(f"run/{number}", assignment.folder.id)
        return replace(assignment, gpu=gpus[0] if gpus else None, rank=self.rank(0, number)), _Remote(self, number)

    def rank(self, rank: int, number: int) -> Rank:
        return rank_of_task(rank, self.world, self.address, number)

    def dismiss(self) -> None:
        """There are no more runs. Waits until the other tasks have heard so: the store ends with this one."""
        self.store.set("the end", "")
        deadline = time.monotonic() + AWAY_S
        while not self.store.check([f"gone/{rank}" for rank in range(1, self.world)]) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def rank_of_task(rank: int, world: int, address: str, number: int) -> Rank:
    """The place of a task's process in the ``number``-th run of its job."""
    return Rank(rank=rank, world=world, meeting=f"tcp://{address}/meet/{number}")


class _Remote:
    def __init__(self, tasks: Tasks, number: int) -> None:
        self.tasks, self.store, self.number = tasks, tasks.store, number

    def codes(self) -> dict[int, int]:
        keys = {rank: f"ended/{self.number}/{rank}" for rank in range(1, self.tasks.world)}
        return {rank: int(self.store.get(key)) for rank, key in keys.items() if self.store.check([key])}

    def ask_to_stop(self) -> None:
        pass  # the first process, which was asked, tells the others at the next step

    def kill(self) -> None:
        pass  # without the first the others are killed as soon as it is buried

    def end(self, patience_s: float) -> dict[int, int]:
        noted = self._wait(patience_s)
        self.store.set(f"over/{self.number}", "")
        self._wait(AWAY_S)  # the next run needs their GPUs
        return noted

    def _wait(self, seconds: float) -> dict[int, int]:
        deadline = time.monotonic() + seconds
        while len(codes := self.codes()) < self.tasks.world - 1 and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return codes


def follow(store: Store, rank: int, start: Callable[[str, int], BaseProcess]) -> None:
    """What every task of a job but the first does: start its process of each run, and end it when the run is over.

    ``start`` takes a run's id and the number of the run in this job. Ends when the job does. If the first task is lost,
    the store is lost with it: its process is killed, and torch's error raised.
    """
    number = 0
    while not store.check(["the end"]):
        if not store.check([f"run/{number}"]):
            time.sleep(POLL_S)
            continue
        before = oom_kills()
        process = start(store.get(f"run/{number}").decode(), number)
        try:
            while process.is_alive() and not store.check([f"over/{number}"]):
                process.join(POLL_S)
        finally:
            process.kill()
            process.join()
            sweep_up(process)
        store.set(f"ended/{number}/{rank}", str(_ended_as(process, before)))
        number += 1
    store.set(f"gone/{rank}", "")
