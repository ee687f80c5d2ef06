"""The local pool: ``jobs`` runs at a time, each in processes of its own, forked from a server that has torch in memory.

A failing run fails alone. When the first runs all die of the same fault the rest is held back. Used by the sweep on
this machine and, unchanged, inside a SLURM job.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from typing import TYPE_CHECKING, Any, Protocol

from harness.store import RunFolder, StoreError, read_json
from harness.sweep import worker
from harness.sweep.attempts import Cause
from harness.sweep.child import Child
from harness.sweep.machine import oom_kills
from harness.sweep.ranks import OneProcess, Ranks, start_process
from harness.sweep.snapshot import Snapshot
from harness.sweep.worker import Assignment, Execute
from harness.train.place import Place

if TYPE_CHECKING:
    from harness.components import Evaluation

HOLD_AFTER = 3
"""So many runs that die alike, before any has succeeded, hold the rest of the sweep."""

PRELOAD = ["harness.components", "harness.train.loop", "torch._dynamo"]  # the last: every optimiser imports it (3 s)
POLL_S = 0.2


class View(Protocol):
    """What the pool tells whoever watches."""

    def started(self, folder: RunFolder) -> None: ...
    def ended(self, folder: RunFolder, cause: Cause, detail: str) -> None: ...
    def held(self, count: int, detail: str) -> None: ...
    def tick(self, running: Sequence[RunFolder]) -> None: ...


@dataclass
class Outcome:
    """How a pool ended: the cause for every run that was started, and the runs that never were."""

    causes: dict[str, Cause] = field(default_factory=dict)
    held: list[RunFolder] = field(default_factory=list)
    stopped: bool = False

    @property
    def failed(self) -> list[str]:
        return [run for run, cause in self.causes.items() if cause.failed]

    @property
    def clean(self) -> bool:
        """Nothing failed, nothing was held back or interrupted."""
        unfinished = (Cause.INTERRUPTED, Cause.TIMEOUT)
        return not (self.failed or self.held or self.stopped or any(c in unfinished for c in self.causes.values()))


class Pool:
    """Runs ``folders`` in order. ``gpus`` are leased to the runs, fewest tenants first; none = the CPU.

    With ``code``, every run imports that snapshot of the package, whatever becomes of the checkout meanwhile. ``ranks``
    makes several processes of every run.
    """

    def __init__(
        self,
        folders: Sequence[RunFolder],
        asked: Sequence[Evaluation],
        place: Place,
        view: View,
        *,
        jobs: int,
        gpus: Sequence[str] = (),
        execute: Execute = worker.train,
        job: str | None = None,
        code: Snapshot | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.waiting = list(folders)
        self.asked, self.place, self.execute, self.job, self.code = tuple(asked), place, execute, job, code
        self.view, self.jobs, self.gpus = view, jobs, list(gpus)
        self.children: list[Child] = []
        self.outcome = Outcome()
        self.alike: list[str] = []
        self.context = multiprocessing.get_context("forkserver")
        self.ranks: Ranks = ranks or OneProcess()

    def run(self, *, own_signals: bool = True) -> Outcome:
        """Work until nothing is left. With ``own_signals``, Ctrl-C and SIGTERM stop it cleanly; twice, at once."""
        start_server(self.code)
        with self._signals() if own_signals else nullcontext():
            while self.children or (self.waiting and not self.outcome.stopped):
                while self.waiting and len(self.children) < self.jobs and not self.outcome.stopped:
                    self._start(self.waiting.pop(0))
                if self.outcome.stopped:
                    self._ask_to_stop()
                connection.wait([child.process.sentinel for child in self.children], timeout=POLL_S)
                for child in list(self.children):
                    child.look_after()
                    if not child.process.is_alive():
                        self._ended(child)
                self.view.tick([child.folder for child in self.children])
        return self.outcome

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

    def _start(self, folder: RunFolder) -> None:
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.cancelled.exists():  # `--cancel` from another terminal
            self.outcome.causes[folder.id] = Cause.INTERRUPTED
            self.view.ended(folder, Cause.INTERRUPTED, "cancelled")
            return
        start_server(self.code)  # it may have died; a new one is to import the same code
        before, gpus = oom_kills(), self._lease(self.ranks.here)
        code = self.code.folder if self.code else None
        assignment = Assignment(folder, self.asked, self.place, self.execute, self.job, code=code)
        first, peers = self.ranks.start(assignment, gpus)
        self.children.append(Child(folder, start_process(self.context, first), gpus, before, peers))
        self.view.started(folder)

    def _lease(self, count: int) -> tuple[str, ...]:
        """So many GPUs, those with the fewest tenants."""
        tenants = Counter(gpu for child in self.children for gpu in child.gpus)
        return tuple(sorted(self.gpus, key=lambda one: tenants[one])[:count])

    def _ended(self, child: Child) -> None:
        cause, detail = child.bury()
        self.children.remove(child)
        self.outcome.causes[child.folder.id] = cause
        self.view.ended(child.folder, cause, detail)
        told = cause in (Cause.INTERRUPTED, Cause.TIMEOUT) and child.process.exitcode != -signal.SIGKILL
        if told and self.job is not None:
            self.outcome.stopped = True  # the node is being taken away: start nothing more on it
        self._hold_if_alike(child.folder, cause)

    def _hold_if_alike(self, folder: RunFolder, cause: Cause) -> None:
        if not cause.failed:
            if cause in (Cause.DONE, Cause.DIVERGED):
                self.alike = ["something succeeded"]
            return
        with suppress(StoreError):
            failure: dict[str, Any] = read_json(folder.failure) or {}
            self.alike.append(failure.get("fingerprint", "?"))
            if self.alike == [self.alike[0]] * HOLD_AFTER and self.waiting:
                self.outcome.held, self.waiting = self.waiting, []
                self.view.held(len(self.outcome.held), f"{failure.get('type')}: {failure.get('message')}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets every run checkpoint, the second ends them at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(*_: object) -> None:
            self.kill() if self.outcome.stopped else self.stop()

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def start_server(code: Snapshot | None = None) -> None:
    """Start the fork server with torch preloaded, unless it runs. With ``code`` it is one that imported that snapshot.

    It ignores SLURM's signals, and so does a run until it listens.
    """
    multiprocessing.set_forkserver_preload(PRELOAD)
    if code is not None and [code.folder.name] != _SERVED:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        _SERVED[:] = [code.folder.name]
    with _stops_ignored(), code.exported() if code else nullcontext():
        forkserver.ensure_running()


_SERVED: list[str] = []
"""The snapshot that the fork server has imported, if it was started for one. There is one server in a process."""


@contextmanager
def _stops_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in worker.STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
