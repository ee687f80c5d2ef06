"""Run ``jobs`` runs at a time, each in processes forked from a server that has imported torch.

A failing run fails alone. When the first runs all die of the same fault the rest is held back. Used by the sweep on
this machine and, unchanged, inside a SLURM job.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Protocol

from harness.runtime import Runtime
from harness.store.attempts import cause_of
from harness.store.causes import Cause
from harness.store.results import RunFolder, StoreError, read_json
from harness.store.snapshot import Snapshot
from harness.sweep.local.circuit_breaker import HOLD_AFTER, CircuitBreaker
from harness.sweep.local.fork_server import start_server
from harness.sweep.local.gpu_locks import GpuLocks
from harness.sweep.local.ranks import OneProcess, Ranks, start_process
from harness.sweep.local.resources import oom_kills
from harness.sweep.local.run_process import ActiveRun
from harness.sweep.worker import worker
from harness.sweep.worker.worker import Assignment, Execute

if TYPE_CHECKING:
    from harness.components import Evaluation

POLL_S = 0.2


class View(Protocol):
    """What the pool tells whoever watches."""

    def started(self, folder: RunFolder) -> None: ...
    def ended(self, folder: RunFolder, cause: Cause, detail: str) -> None: ...
    def held(self, count: int, detail: str) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self, running: Sequence[RunFolder]) -> None: ...


@dataclass
class Outcome:
    """How a pool ended: the cause for every run that was started, and the runs that never were."""

    causes: dict[str, Cause] = field(default_factory=dict)
    held: list[RunFolder] = field(default_factory=list)
    stopped: bool = False

    @property
    def failed(self) -> list[str]:
        """Ids of the runs that failed."""
        return [run for run, cause in self.causes.items() if cause.failed]

    @property
    def clean(self) -> bool:
        """Nothing failed, nothing was held back or interrupted."""
        return not (self.failed or self.held or self.stopped or any(one.resumes for one in self.causes.values()))


class Pool:
    """Runs ``folders`` in order. ``gpus`` are given to the runs, fewest tenants first; none = the CPU.

    With ``leases`` a GPU that another sweep of this machine has is waited for (in a job, the scheduler sees to that).
    With ``code``, every run imports that snapshot of the package, whatever becomes of the checkout meanwhile. ``ranks``
    makes several processes of every run. With ``breaker`` it holds the rest back with other pools, as one of them.
    """

    def __init__(
        self,
        folders: Sequence[RunFolder],
        asked: Sequence[Evaluation],
        runtime: Runtime,
        view: View,
        *,
        jobs: int,
        gpus: Sequence[str] = (),
        execute: Execute = worker.train,
        job: str | None = None,
        code: Snapshot | None = None,
        ranks: Ranks | None = None,
        leases: GpuLocks | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.waiting = list(folders)
        self.again: list[RunFolder] = []  # lost through no fault of theirs: once more, at the end
        self.put_back: set[str] = set()
        self.alone: list[RunFolder] = []  # ran out of memory beside others: once more, by themselves, after those
        self.leases, self.told_to_wait = leases, False
        self.asked, self.runtime, self.execute, self.job, self.code = tuple(asked), runtime, execute, job, code
        self.view, self.jobs, self.gpus = view, jobs, list(gpus)
        self.children: list[ActiveRun] = []
        self.outcome = Outcome()
        self.alike: list[str] = []
        self.breaker = breaker
        self.disk_faults = 0
        self.told = False  # to stop, by a signal that nobody has acknowledged yet
        self.context = multiprocessing.get_context("forkserver")
        self.ranks: Ranks = ranks or OneProcess()

    def run(self, *, own_signals: bool = True) -> Outcome:
        """Work until nothing is left. With ``own_signals``, Ctrl-C and SIGTERM stop it cleanly; twice, at once."""
        start_server(self.code)
        with self._signals() if own_signals else nullcontext():
            while self.children or ((self.waiting or self.again or self.alone) and not self.outcome.stopped):
                if not self.waiting:
                    self.waiting, self.again = self.again, []
                self._fill()
                if self.outcome.stopped:
                    self._ask_to_stop()
                self._acknowledge()
                connection.wait([child.process.sentinel for child in self.children], timeout=POLL_S)
                for child in list(self.children):
                    child.look_after()
                    if not child.process.is_alive():
                        self._ended(child)
                self.view.tick([child.folder for child in self.children])
        if self.leases is not None:
            self.leases.release_all()
        return self.outcome

    def _acknowledge(self) -> None:
        """Not from within the signal's handler: it may have come in the middle of printing."""
        if self.told and self.children:
            self.view.note("Stopping: runs save checkpoints; press Ctrl-C again to kill them")
        self.told = False

    def stop(self, grace_s: float = 0.0) -> None:
        """Ask every run to checkpoint and end; start no more. Waits up to ``grace_s`` seconds for them."""
        self.outcome.stopped = True
        deadline = time.monotonic() + grace_s
        while self._ask_to_stop() and time.monotonic() < deadline:
            connection.wait([child.process.sentinel for child in self.children], timeout=1.0)

    def _ask_to_stop(self) -> bool:
        """SIGTERM to every run, again and again: one that was just forked does not listen yet."""
        alive = [child.ask_to_stop() for child in self.children]
        return any(alive)

    def kill(self) -> None:
        """End every run now, with everything it started. They resume from their last checkpoint."""
        self.outcome.stopped = True
        for child in self.children:
            child.kill()

    def _fill(self) -> None:
        """Start runs until all places are taken."""
        while not self.outcome.stopped and len(self.children) < self.jobs:
            if self.waiting and self.breaker is not None and (why := self.breaker.held()):
                self._hold(why)
            if not self.waiting and (self.children or not self.alone):
                return
            gpus = self._lease(self.ranks.here)
            if gpus is None:
                return
            self._start((self.waiting or self.alone).pop(0), gpus)

    def _start(self, folder: RunFolder, gpus: tuple[str, ...]) -> None:
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._note_end(folder, cause_of(error), str(error))
            return
        if folder.cancelled.exists():  # `--cancel` from another terminal
            self._note_end(folder, Cause.INTERRUPTED, "cancelled")
            return
        start_server(self.code)  # it may have died; a new one is to import the same code
        before = oom_kills()
        code = self.code.folder if self.code else None
        assignment = Assignment(folder, self.asked, self.runtime, self.execute, self.job, code=code)
        first, peers = self.ranks.start(assignment, gpus)
        self.children.append(ActiveRun(folder, start_process(self.context, first), gpus, before, peers))
        for child in self.children:
            child.had_company |= len(self.children) > 1
        self.view.started(folder)

    def _lease(self, count: int) -> tuple[str, ...] | None:
        """So many GPUs (or all, if there are fewer), those with the fewest tenants; None if other sweeps have them."""
        tenants, found = self._tenants(), list[str]()
        count = min(count, len(self.gpus))
        crowd = math.ceil(self.jobs * count / len(self.gpus)) if self.gpus else 0
        for gpu in sorted(self.gpus, key=lambda one: tenants[one]):
            if len(found) < count and tenants[gpu] < crowd and (self.leases is None or self.leases.take(gpu)):
                found.append(gpu)
        if len(found) == count:
            return tuple(found)
        self._give_back()
        if not self.told_to_wait and self.leases is not None:
            others = ", ".join(f"{gpu} has {self.leases.holder(gpu)}" for gpu in self.gpus if not tenants[gpu])
            self.view.note(f"Waiting for GPUs that other sweeps on this machine use: {others}")
            self.told_to_wait = True
        return None

    def _tenants(self) -> Counter[str]:
        return Counter(gpu for child in self.children for gpu in child.gpus)

    def _give_back(self) -> None:
        """GPUs without a run of ours are for other sweeps too."""
        tenants = self._tenants()
        for gpu in self.gpus:
            if self.leases is not None and not tenants[gpu]:
                self.leases.release(gpu)

    def _ended(self, child: ActiveRun) -> None:
        cause, detail = child.reap()
        self.children.remove(child)
        self._give_back()
        first = child.folder.id not in self.outcome.causes
        # Not only company at its end: the others may have ended after its memory and before its process did.
        if cause is Cause.OOM and child.had_company and first and not self.outcome.stopped:
            self.outcome.causes[child.folder.id] = cause
            self.alone.append(child.folder)
            self.view.note(f"{child.folder.id} ran out of memory; retried at the end without concurrent runs: {detail}")
            return
        told = cause in (Cause.INTERRUPTED, Cause.TIMEOUT) and child.process.exitcode != -signal.SIGKILL
        cancelled = child.folder.cancelled.exists()  # this run alone
        told = told and not (child.lost_server or cancelled)
        if told and self.job is not None:
            self.outcome.stopped = True  # the node is being taken away: start nothing more on it
        if cause.resumes and not (told or cancelled) and self._puts_back(child.folder):
            self.outcome.causes[child.folder.id] = cause
            self._count_disk_faults(cause, detail)
            self.view.note(f"{child.folder.id} resumes after the other runs: {detail}")
            return
        self._note_end(child.folder, cause, detail)

    def _puts_back(self, folder: RunFolder) -> bool:
        """Whether the run is worked on once more here, after the others.

        Else a job would end as if it had succeeded, and nobody would go on before the next sweep.
        """
        if self.outcome.stopped or folder.id in self.put_back:
            return False
        self.put_back.add(folder.id)
        self.again.append(folder)
        return True

    def _note_end(self, folder: RunFolder, cause: Cause, detail: str) -> None:
        self.outcome.causes[folder.id] = cause
        self.view.ended(folder, cause, detail)
        self._count_disk_faults(cause, detail)
        if cause.failed:
            self._hold_if_alike(folder)
        elif cause in (Cause.DONE, Cause.DIVERGED):
            self.alike = ["something succeeded"]
            if self.breaker is not None:
                self.breaker.succeeded()

    def _count_disk_faults(self, cause: Cause, detail: str) -> None:
        self.disk_faults = self.disk_faults + 1 if cause is Cause.DISK else 0
        if self.disk_faults == HOLD_AFTER:  # whether or not others succeeded before: nothing can be written now
            self._hold(detail)

    def _hold_if_alike(self, folder: RunFolder) -> None:
        failure: dict[str, Any] = {}
        with suppress(StoreError):
            failure = read_json(folder.failure) or {}
        self.alike.append(failure.get("fingerprint", "?"))
        if self.breaker is not None:
            self.breaker.died(folder.id, failure)
        if self.alike == [self.alike[0]] * HOLD_AFTER:
            self._hold(f"{failure.get('type')}: {failure.get('message')}")

    def _hold(self, why: str) -> None:
        self.again.clear()
        if self.waiting:
            self.outcome.held, self.waiting = self.waiting, []
            self.view.held(len(self.outcome.held), why)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets every run checkpoint, the second ends them at once.

        So does the first SIGHUP (the terminal is gone), but no other: who hangs up may say so twice, or SIGTERM after
        it. One that is ignored, by ``nohup``, stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        told: list[int] = []

        def handle(number: int, _: object) -> None:
            self.told = not self.outcome.stopped
            self.kill() if told and number != signal.SIGHUP else self.stop()
            told.extend([number] * (number != signal.SIGHUP))

        numbers = [signal.SIGINT, signal.SIGTERM]
        numbers += [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)
        before = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
