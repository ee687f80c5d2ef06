"""Connect the tasks of a SLURM job that share its runs: a store at a free port, named in a file.

submitit's environment names a port too, drawn from the job's number: on a node that others use as well it may be taken,
and the job would die of it. So the first task takes one that is free, and writes down which.
"""

from __future__ import annotations

import multiprocessing
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from harness.store.results import Store, StoreError, read_json, write_json
from harness.store.snapshot import Snapshot
from harness.sweep.local.fork_server import start_server
from harness.sweep.local.ranks import Tasks, follow, rank_of_task, start_process
from harness.sweep.worker.worker import Assignment

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store as Meeting

POLL_S = 0.2
PATIENCE_S = 1800.0
"""How long a task waits for the first one's word: that may be waiting for a full disk, or be started later."""
ANSWER_WITHIN = timedelta(seconds=60)
"""A store that does not answer within this is no more: its address was an earlier life's of this job."""


class Tasked:
    """This task among those that share the runs of its job, as submitit's environment describes them.

    The first task keeps the store by which all of them, and the processes of the runs, find one another; ``told`` is
    the file, anew in each life of a job, in which the others read where it is. Raises ``RuntimeError`` where SLURM
    started another number of tasks than a run has processes, or where the first task says nothing for half an hour.
    """

    def __init__(self, processes: int, told: Path) -> None:
        seen = submitit.helpers.TorchDistributedEnvironment()
        if seen.world_size != processes:
            raise RuntimeError(f"a run has {processes} processes, but this job was started as {seen.world_size} tasks")
        self.rank, self.local_rank, self.world = seen.rank, seen.local_rank, seen.world_size
        if self.rank == 0:
            alone = seen.local_world_size == seen.world_size
            self.store, self.address = keep("localhost" if alone else seen.master_addr, told)
        else:
            self.store, self.address = find(told)

    def tasks(self) -> Tasks:
        """For the pool of the first task."""
        return Tasks(self.store, self.address, self.world)

    def follow(self, store: Store, alike: Assignment, code: Snapshot) -> None:
        """In every other task: this one's process of each run, whose assignments are ``alike`` but for run and rank."""
        context = multiprocessing.get_context("forkserver")

        def start(run: str, number: int) -> BaseProcess:
            start_server(code)
            rank = rank_of_task(self.rank, self.world, self.address, number)
            return start_process(context, replace(alike, folder=store.run(run), rank=rank))

        follow(self.store, self.rank, start)


def keep(host: str, told: Path) -> tuple[Meeting, str]:
    """A store at a free port of ``host``, which is this machine, for as long as this process lives; and its address."""
    from harness import distributed

    store, port = distributed.keep_store(host)
    address = f"{host}:{port}"
    write_json(told, {"address": address})
    return store, address


def find(told: Path, patience_s: float = PATIENCE_S, answer_within: timedelta = ANSWER_WITHIN) -> tuple[Meeting, str]:
    """The store of which ``told`` says where it is, once it does, and its address. Raises ``RuntimeError``."""
    from harness import distributed

    until = time.monotonic() + patience_s
    why = "the file was never written"
    while time.monotonic() < until:
        address = _address(told)
        if address:
            try:
                return distributed.store_at(address, answer_within), address
            except RuntimeError as error:  # torch's DistNetworkError is one
                why = f"no answer at {address} ({str(error).splitlines()[0]})"
        time.sleep(POLL_S)
    raise RuntimeError(f"cannot reach the first task of this job through {told}: {why}")


def _address(told: Path) -> str:
    with suppress(StoreError):
        return str((read_json(told) or {}).get("address", ""))
    return ""
