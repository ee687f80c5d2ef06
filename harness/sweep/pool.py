"""The local pool: ``jobs`` runs at a time, each in its own process, forked from a server that has torch in memory.

A failing run fails alone. When the first runs all die of the same fault the rest is held back. Used by the sweep on
this machine and, unchanged, inside a SLURM job.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.store import RunFolder, StoreError, read_json
from harness.sweep import worker
from harness.sweep.attempts import Attempt, Cause, fail, fingerprint, last
from harness.sweep.snapshot import Snapshot
from harness.sweep.worker import Assignment, Execute
from harness.train.place import Place

if TYPE_CHECKING:
    from harness.components import Evaluation

HOLD_AFTER = 3
"""So many runs that die alike, before any has succeeded, hold the rest of the sweep."""

KILLED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
PRELOAD = ["harness.components", "harness.train.loop", "torch._dynamo"]  # the last: every optimiser imports it (3 s)
POLL_S = 0.2


class View(Protocol):
    """What the pool tells whoever watches."""

    def started(self, folder: RunFolder) -> None: ...
    def ended(self, folder: RunFolder, cause: Cause, detail: str) -> None: ...
    def held(self, count: int, detail: str) -> None: ...
    def tick(self, running: Sequence[RunFolder]) -> None: ...


@dataclass
class Child:
    """One run that is being worked on."""

    folder: RunFolder
    process: BaseProcess
    gpu: str | None
    oom_kills: int


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

    With ``code``, every run imports that snapshot of the package, whatever becomes of the checkout meanwhile.
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
    ) -> None:
        self.waiting = list(folders)
        self.asked, self.place, self.execute, self.job, self.code = tuple(asked), place, execute, job, code
        self.view, self.jobs, self.gpus = view, jobs, list(gpus)
        self.children: list[Child] = []
        self.outcome = Outcome()
        self.alike: list[str] = []
        self.context = multiprocessing.get_context("forkserver")

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
                for child in [one for one in self.children if not one.process.is_alive()]:
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
        alive = [child for child in self.children if child.process.is_alive()]
        for child in alive:
            with suppress(ProcessLookupError):
                os.kill(child.process.pid or 0, signal.SIGTERM)
        return bool(alive)

    def kill(self) -> None:
        """End every run now, with everything it started. They resume from their last checkpoint."""
        self.outcome.stopped = True
        for child in self.children:
            child.process.kill()
            _sweep_up(child)

    def _start(self, folder: RunFolder) -> None:
        tenants = Counter(child.gpu for child in self.children)
        gpu = min(self.gpus, key=lambda one: tenants[one]) if self.gpus else None
        code = self.code.folder if self.code else None
        assignment = Assignment(folder, self.asked, self.place, self.execute, self.job, gpu, code)
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.cancelled.exists():  # `--cancel` from another terminal
            self.outcome.causes[folder.id] = Cause.INTERRUPTED
            self.view.ended(folder, Cause.INTERRUPTED, "cancelled")
            return
        start_server(self.code)  # it may have died; a new one is to import the same code
        process = self.context.Process(target=worker.work, args=(assignment,), name=f"run {folder.id}")
        process.start()
        self.children.append(Child(folder, process, gpu, oom_kills()))
        self.view.started(folder)

    def _ended(self, child: Child) -> None:
        child.process.join()
        _sweep_up(child)
        _release_claim(child)
        self.children.remove(child)
        cause, detail = self._cause(child)
        self.outcome.causes[child.folder.id] = cause
        self.view.ended(child.folder, cause, detail)
        told = cause in (Cause.INTERRUPTED, Cause.TIMEOUT) and child.process.exitcode != -signal.SIGKILL
        if told and self.job is not None:
            self.outcome.stopped = True  # the node is being taken away: start nothing more on it
        self._hold_if_alike(child.folder, cause)

    def _cause(self, child: Child) -> tuple[Cause, str]:
        """From the ledger, which the child wrote, or from how the process died, which we then write."""
        code, pid = child.process.exitcode or 0, child.process.pid or -1
        if code == worker.EXIT_ELSEWHERE:
            return Cause.ELSEWHERE, "a live process holds it"
        with suppress(OSError, StoreError):
            attempt = Attempt.unfinished(child.folder, pid)
            if attempt is None:
                entry = last(child.folder)
                if entry is not None and entry.get("pid") == pid:
                    return Cause(entry["cause"]), entry.get("detail", "")
                if code == 0:
                    return Cause.DONE, "nothing was left to do"
            return self._died(child, code, attempt)
        return Cause.CODE, f"exit code {code}; its ledger cannot be read or written"

    def _died(self, child: Child, code: int, attempt: Attempt | None) -> tuple[Cause, str]:
        name = _signal_name(-code) if code < 0 else f"exit code {code}"
        if code == worker.EXIT_INTERRUPTED:
            name = "a signal before its first step"
        if code == -signal.SIGKILL and oom_kills() > child.oom_kills:
            cause, detail = Cause.OOM, "killed by the kernel for memory"
        elif code in (worker.EXIT_INTERRUPTED, *(-number for number in KILLED_FROM_OUTSIDE)):
            cause, detail = Cause.INTERRUPTED, f"stopped by {name}"
        else:
            cause, detail = Cause.CODE, f"the interpreter died: {name} (see the end of its log)"
        if attempt is not None:
            attempt.end(cause, detail)
        if cause.failed:
            about = {"type": name, "message": detail, "traceback": "", "fingerprint": fingerprint(name, detail)}
            fail(child.folder, cause, about, attempt.number if attempt else 0)
        return cause, detail

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


def _sweep_up(child: Child) -> None:
    """Kill what is left of a run's process group: loader workers, never the sweep itself."""
    with suppress(ProcessLookupError, PermissionError):
        if child.process.pid:
            os.killpg(child.process.pid, signal.SIGKILL)


def _release_claim(child: Child) -> None:
    """A run that was killed could not give its claim back; on another machine it would seem alive for a while."""
    with suppress(OSError, StoreError):
        held = read_json(child.folder.claim) or {}
        if held.get("pid") == child.process.pid and held.get("host") == socket.gethostname():
            child.folder.claim.unlink()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def oom_kills() -> int:
    """How often the kernel has killed in this control group for memory; 0 where it does not say."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        group = next((line.split("::", 1)[1].strip() for line in lines if "::" in line), "/")
        events = Path(f"/sys/fs/cgroup{group.rstrip('/')}/memory.events").read_text(encoding="utf-8").splitlines()
        return sum(int(line.split()[1]) for line in events if line.startswith("oom_kill "))
    return 0
