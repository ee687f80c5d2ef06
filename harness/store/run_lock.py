"""The lock of a run: a file with a heartbeat that at most one live process holds, on any machine.

Before it replaces a lock, a process makes sure that the holder is dead. On the same machine it asks the process table.
Of another machine it knows only the heartbeat, which is the modification time of a file. Wall clocks differ and jump,
so a lock that looks silent is first watched for a while by the monotonic clock of the process that wants it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

STALE_HEARTBEAT_S = 15 * 60.0
"""A lock held on another host without a heartbeat for this long may belong to a dead process."""
REQUEUE_GRACE_S = 60.0
"""The same where the holder is known to have been stopped: an earlier life of the job that asks (SLURM requeued it), or
a host of this name that booted at another time (this machine before a restart, or another machine of its name)."""
WATCH_S = 25.0
"""How long a silent lock is watched before it is replaced: two heartbeats."""


class Holder(Enum):
    """What is known of the process that holds a lock."""

    NOBODY = auto()
    ALIVE = auto()
    SILENT = auto()


@dataclass(frozen=True)
class RunLock:
    """The lock of one run. ``progress`` is a second file that its holder touches."""

    path: Path
    progress: Path

    def read(self) -> dict[str, Any]:
        """Return what the holder wrote; empty where that is unreadable, e.g. after an incomplete copy."""
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
        return {}

    def holder(self, job: str | None = None) -> Holder:
        """Return whether a live process holds it. ``job`` is the caller's own SLURM job, if it runs in one."""
        try:
            heard = self.path.stat().st_mtime
        except FileNotFoundError:
            return Holder.NOBODY
        except OSError:
            return Holder.ALIVE  # the file is there, but the file server does not answer
        with contextlib.suppress(OSError):
            heard = max(heard, self.progress.stat().st_mtime)
        content, (host, boot) = self.read(), machine()
        if not content:
            try:
                if self._snapshot() is None:
                    return Holder.NOBODY  # released since the check above
            except OSError:
                return Holder.ALIVE  # this process may not read it
        same_host = content.get("host") == host
        if same_host and content.get("boot", boot) == boot:
            return Holder.ALIVE if content.get("started") == process_start(content.get("pid")) else Holder.NOBODY
        same_job = job is not None and content.get("job") == job
        # A heartbeat from the future is as doubtful as an old one: a clock jumped.
        recent = abs(time.time() - heard) < (REQUEUE_GRACE_S if same_job or same_host else STALE_HEARTBEAT_S)
        return Holder.ALIVE if recent else Holder.SILENT

    def held_by(self, job: str) -> bool:
        """Return whether the lock names this SLURM job, in this life of the job or an earlier one."""
        return bool(self.read().get("job") == job)

    def take(self, job: str | None = None) -> bool:
        """Lock the run for this process; return False if a live process holds it. Raises ``OSError``."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        host, boot = machine()
        mine = {"pid": os.getpid(), "host": host, "boot": boot, "started": process_start(os.getpid()), "job": job}
        temporary = self.path.with_name(f".claim.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_text(json.dumps(mine), encoding="utf-8")
            for _ in range(2):
                try:
                    os.link(temporary, self.path)  # atomic, also on NFS, and never replaces a file
                    return True
                except FileExistsError:
                    if temporary.stat().st_nlink == 2:  # NFS lost its answer and repeated the request: it is ours
                        return True
                    judged = self._snapshot()  # before `holder`: exactly this content may be removed, and no other
                    holder = self.holder(job)
                    if holder is Holder.ALIVE or (holder is Holder.SILENT and not self._stays_silent()):
                        return False
                    if judged is not None and not self._remove_stale(judged, job):
                        return False
            return False
        finally:
            temporary.unlink(missing_ok=True)

    def release(self) -> None:
        """Remove the lock, if this process holds it."""
        if _is_ours(self.read()):
            self.path.unlink(missing_ok=True)

    def release_of(self, pid: int) -> None:
        """Remove the lock of a process of this machine that is known to be dead."""
        judged, content = self._snapshot(), self.read()
        if judged is not None and content.get("pid") == pid and content.get("host") == machine()[0]:
            self._remove_stale(judged)

    def release_of_job(self, job: str) -> None:
        """Remove the lock of a SLURM job that has ended. A process that lives all the same takes it again."""
        judged = self._snapshot()
        if judged is not None and self.read().get("job") == job:
            self._remove_stale(judged)

    def beat(self, job: str | None = None) -> bool:
        """Give a sign of life. Return False if another process holds the lock now: then this one must stop.

        That happens to a process that was frozen for so long that another took the run over.
        """
        if not self.path.exists():
            return self.take(job)
        content = self.read()
        if content and not _is_ours(content):
            return False
        with contextlib.suppress(OSError):  # a file server that does not answer for a while costs no lock
            os.utime(self.path)
        return True

    def taken_over(self) -> bool:
        """Return whether another process holds the lock; False if nobody does or it is unreadable."""
        content = self.read()
        return bool(content) and not _is_ours(content)

    def clear_removal_locks(self) -> None:
        """Remove the locks of processes that were killed inside :meth:`_remove_stale`. Call it as the holder only.

        The run locks that those were for are gone, since this process's lock lies in their place. A slow process that
        still wants to remove one of them takes its removal lock anew, looks again and finds this lock instead.
        """
        for path in self.path.parent.glob(".claim.*.right"):
            if RunLock(path, path.with_suffix(".progress")).holder() is not Holder.ALIVE:
                path.unlink(missing_ok=True)

    def _remove_stale(self, judged: tuple[bytes, int], job: str | None = None) -> bool:
        """Remove the lock whose holder was judged dead, and no other; return False if another lies there now.

        Several processes may have judged it dead at once, and a slow one must not remove the lock that a fast one has
        put in its place. So each first takes a lock on the removal of exactly this lock, and then looks again.
        """
        name = hashlib.sha256(b"%d %b" % (judged[1], judged[0])).hexdigest()[:16]
        removal = RunLock(self.path.with_name(f".claim.{name}.right"), self.path.with_name(f".claim.{name}.progress"))
        if not removal.take(job):
            return False
        try:
            now = self._snapshot()
            if now != judged:
                return now is None  # released meanwhile; or replaced
            self.path.unlink()
            return True
        except FileNotFoundError:  # its holder was only silent, and released it
            return True
        finally:
            removal.release()

    def _snapshot(self) -> tuple[bytes, int] | None:
        """Return content and time of the last heartbeat (ns), which identify a lock; None where there is none."""
        try:
            with self.path.open("rb") as file:
                return file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None

    def _stays_silent(self) -> bool:
        """Watch the holder for :data:`WATCH_S`; return whether it gave no sign of life."""
        before, until = self._signs(), time.monotonic() + WATCH_S
        while time.monotonic() < until:
            time.sleep(WATCH_S / 10)
            if self._signs() != before:
                return False
        return True

    def _signs(self) -> list[tuple[int, int] | None]:
        """Return what changes with every sign of life. Files are opened each time: NFS caches attributes otherwise."""
        signs: list[tuple[int, int] | None] = []
        for path in (self.path, self.progress):
            try:
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                signs.append((status.st_ino, status.st_mtime_ns))
            except OSError:
                signs.append(None)
        return signs


def _is_ours(content: dict[str, Any]) -> bool:
    return (content.get("pid"), content.get("host"), content.get("boot")) == (os.getpid(), *machine())


@functools.cache
def machine() -> tuple[str, str]:
    """Return the host name, and what tells this boot and container from others of the same host name.

    Containers may share the host's name, and each counts processes for itself.
    """
    boot = "?"
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:8]
        boot += "-" + str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    return socket.gethostname(), boot


def process_start(pid: object) -> str | None:
    """Return the start time of a live process, which tells it from a later one of its pid; None if it is dead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]  # Z: a zombie


def ends_within(pid: object, seconds: float) -> bool:
    """Wait for a process to end; return whether it did within ``seconds``."""
    deadline = time.monotonic() + seconds
    while process_start(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
