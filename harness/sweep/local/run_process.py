"""One active run: its processes, and the cause when they end."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

from harness.store.attempts import Attempt, fail, fingerprint, last
from harness.store.causes import Cause
from harness.store.results import RunFolder, StoreError, read_json
from harness.store.run_lock import ends_within, machine, process_start
from harness.sweep.local.fork_server import GONE_S, server_pid
from harness.sweep.local.ranks import NOBODY, Peers, sweep_up, terminate
from harness.sweep.local.resources import disk_fault, killed_for_memory
from harness.sweep.worker.worker import EXIT_DISK, EXIT_ELSEWHERE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_LOST, EXIT_OOM

KILLED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
NOTICE_S = 30.0
"""A first process that still trains so long after another of its run died has not noticed, and is ended."""
LEAVE_S = 10.0
"""Processes of a run whose first has ended are given so long to end as well."""
EXIT_UNKNOWN = 255
"""What multiprocessing says of a process whose fork server died: it may live, but nobody hears how it ends."""
SAVE_S = 60.0
"""So long may a run that lost its fork server take to save."""


@dataclass
class ActiveRun:
    """One run that is being worked on. ``gpus`` are leased to it; ``oom_kills`` is the kernel's count at its start."""

    folder: RunFolder
    process: BaseProcess
    gpus: tuple[str, ...]
    oom_kills: int
    peers: Peers = NOBODY
    codes: dict[int, int] = field(default_factory=dict)
    alone_since: float | None = None
    server: int | None = field(default_factory=server_pid)
    lost_server: bool = False
    had_company: bool = False  # beside it another run was worked on at some time
    born: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.born = process_start(self.pid)

    @property
    def pid(self) -> int:
        return self.process.pid or -1

    def ask_to_stop(self) -> bool:
        """SIGTERM to every process of the run; whether its first still lives. From within a signal's handler too: the
        process table is asked, not multiprocessing, which may be in the middle of hearing how a process ended.
        """
        if not terminate(self.pid, self.born):
            return False
        self.peers.ask_to_stop()
        return True

    def kill(self) -> None:
        """End every process now, with everything it started."""
        self.process.kill()
        sweep_up(self.process)
        self.peers.kill()

    def look_after(self) -> None:
        """End the first process if another has died and it does not notice: a collective on GPUs may wait for ever."""
        bad = [code for code in self.peers.codes().values() if code not in (0, EXIT_INTERRUPTED)]
        if not bad or self.folder.outcome.exists():  # once it is trained, the first needs no other
            return
        self.alone_since = self.alone_since or time.monotonic()
        if time.monotonic() - self.alone_since > NOTICE_S:
            self.process.kill()

    def reap(self) -> tuple[Cause, str]:
        """The first process has ended: end what is left of the run, and say why it ended."""
        self.process.join()
        if self.process.exitcode == EXIT_UNKNOWN and ends_within(self.server, GONE_S):
            self._part()
        sweep_up(self.process)
        self.codes = self.peers.end(LEAVE_S)
        self._release_lock()
        return self._cause()

    def _part(self) -> None:
        """Its fork server died, so that it cannot be waited for: let it save what it has before it is ended."""
        self.lost_server = True
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)
        ends_within(self.pid, SAVE_S)

    def _release_lock(self) -> None:
        """Release the lock of a run that was killed: on another machine it would seem alive for a while."""
        with suppress(OSError):
            self.folder.lock.release_of(self.pid)

    def _cause(self) -> tuple[Cause, str]:
        """Return cause and detail: from the attempt log, or from how the process died, which is then written there."""
        code = self.process.exitcode or 0
        if code == EXIT_ELSEWHERE:
            return Cause.ELSEWHERE, "a live process holds it"
        with suppress(OSError, StoreError):
            attempt = Attempt.unfinished(self.folder, self.pid)
            if attempt is None:
                entry = last(self.folder)
                if entry is not None and entry.get("pid") == self.pid and entry.get("host") == machine()[0]:
                    return Cause(entry["cause"]), entry.get("detail", "")
                if code == 0:
                    return Cause.DONE, "nothing was left to do"
            return self._died(code, attempt)
        return Cause.DISK, f"exit code {code}, and its attempt log cannot be written: {disk_fault(self.folder.path)}"

    def _died(self, code: int, attempt: Attempt | None) -> tuple[Cause, str]:
        rank, code = self._first_to_die(code)
        failure: dict[str, Any] = read_json(self.folder.failure) or {}
        raised = (rank and code == EXIT_FAILED) or code == EXIT_LOST
        if raised and attempt is not None and failure.get("attempt") == attempt.number:  # a process that raises says so
            cause, detail = Cause(failure["cause"]), f"{failure['type']}: {failure['message']}"
        else:
            cause, name, detail = self._manner(code, rank)
            detail = f"{detail} (process {rank} of the run)" if rank else detail
            if cause.failed:
                about = {"type": name, "message": detail, "traceback": "", "fingerprint": fingerprint(name, detail)}
                fail(self.folder, cause, about, attempt.number if attempt else 0)
        if attempt is not None:
            attempt.end(cause, detail)
        return cause, detail

    def _first_to_die(self, code: int) -> tuple[int, int]:
        """(rank, exit code) of the process that took the others with it: of those with a reason of their own."""
        guilty = {rank: one for rank, one in self.codes.items() if one not in (0, EXIT_LOST)}
        if self.alone_since is None and code not in (EXIT_LOST, EXIT_INTERRUPTED):
            return 0, code
        return min(guilty.items(), key=lambda one: (one[1] == EXIT_INTERRUPTED, one[0]), default=(0, code))

    def _manner(self, code: int, rank: int) -> tuple[Cause, str, str]:
        """(cause, name, detail) of a death without a word, of that process of the run."""
        name = _signal_name(-code) if code < 0 else f"exit code {code}"
        if code == EXIT_OOM or (code == -signal.SIGKILL and killed_for_memory(self.oom_kills)):
            return Cause.OOM, name, "killed by the kernel for memory"
        if code == EXIT_DISK:
            return Cause.DISK, name, disk_fault(self.folder.path)
        if code == EXIT_INTERRUPTED:
            return Cause.INTERRUPTED, name, "stopped by a signal before its first step"
        if code == EXIT_UNKNOWN and (rank or self.lost_server):
            return Cause.INTERRUPTED, name, "its fork server died"
        if -code in KILLED_FROM_OUTSIDE:
            return Cause.INTERRUPTED, name, f"stopped by {name}"
        if code == EXIT_LOST:
            return Cause.CODE, name, "the processes of the run lost contact (see the end of their logs)"
        return Cause.CODE, name, f"Python crashed: {name} (see the end of its log)"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
