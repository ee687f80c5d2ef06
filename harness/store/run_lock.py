"""Who works on a run: a claim file with a heartbeat, held by at most one live process, on whatever machine.

The rule is to be sure before taking over. On the same machine the process table is asked. Of another machine only the
heartbeat is known, as the time of a file; and because wall clocks differ and jump, a claim that looks silent is watched
by our own monotonic clock before it is taken.
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
"""A claim of another host without a heartbeat for this long belongs to a dead process."""
FORMER_LIFE_S = 60.0
"""The same for a claim in the name of the job that asks (SLURM took it from that host and started it anew here), and
for one of a host of our own name that booted at another time: this one before a restart, or its namesake."""
WATCH_S = 25.0
"""A silent claim is taken over only after so long without a sign of life by our own monotonic clock, two heartbeats:
wall clocks of two machines differ, and jump."""


class Holder(Enum):
    """What can be known of whoever holds a claim."""

    NOBODY = auto()
    ALIVE = auto()
    SILENT = auto()


@dataclass(frozen=True)
class Claim:
    """The claim of one run. ``progress`` is a second file that a live process touches."""

    path: Path
    progress: Path

    def read(self) -> dict[str, Any]:
        """Who holds it; empty where that cannot be read, as after a copy that stopped half-way."""
        with contextlib.suppress(OSError, ValueError):
            held = json.loads(self.path.read_text(encoding="utf-8"))
            return held if isinstance(held, dict) else {}
        return {}

    def holder(self, job: str | None = None) -> Holder:
        """Whether a process lives that holds it. ``job`` is the scheduler's name of whoever asks, if it has one."""
        try:
            heard = self.path.stat().st_mtime
        except FileNotFoundError:
            return Holder.NOBODY
        except OSError:
            return Holder.ALIVE  # it is there, but the file server does not answer
        with contextlib.suppress(OSError):
            heard = max(heard, self.progress.stat().st_mtime)
        held, (host, boot) = self.read(), machine()
        if not held:
            try:
                if self._seen() is None:
                    return Holder.NOBODY  # given back since it was looked at
            except OSError:
                return Holder.ALIVE  # it is there, and not for us to read
        near = held.get("host") == host
        if near and held.get("boot", boot) == boot:
            return Holder.ALIVE if held.get("started") == process_start(held.get("pid")) else Holder.NOBODY
        ours = job is not None and held.get("job") == job
        # A sign of life from the future is as strange as an old one: somebody's clock jumped.
        recent = abs(time.time() - heard) < (FORMER_LIFE_S if ours or near else STALE_HEARTBEAT_S)
        return Holder.ALIVE if recent else Holder.SILENT

    def take(self, job: str | None = None) -> bool:
        """Claim it for this process; False if a live one holds it. Raises ``OSError`` where nothing can be written."""
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
                    if temporary.stat().st_nlink == 2:  # NFS lost the answer and asked again: it is ours
                        return True
                    judged = self._seen()  # before it is judged: what comes after is not what was judged
                    held = self.holder(job)
                    if held is Holder.ALIVE or (held is Holder.SILENT and not self._stays_silent()):
                        return False
                    if judged is not None and not self._bury(judged, job):
                        return False
            return False
        finally:
            temporary.unlink(missing_ok=True)

    def release_of(self, pid: int) -> None:
        """Give it back in the name of a process of this machine that is known to have died."""
        judged, held = self._seen(), self.read()
        if judged is not None and held.get("pid") == pid and held.get("host") == machine()[0]:
            self._bury(judged)

    def release_of_job(self, job: str) -> None:
        """Give it back in the name of a job that the scheduler has seen the end of: all its processes are killed.

        One that lives in spite of it claims the run anew with its next heartbeat.
        """
        judged = self._seen()
        if judged is not None and self.read().get("job") == job:
            self._bury(judged)

    def _bury(self, judged: tuple[bytes, int], job: str | None = None) -> bool:
        """Remove the claim that was judged dead, and no other; False if it is not there any more.

        Several processes may have judged it so. Who was slow must not remove the claim that another has put in its
        place, so to look again and to remove it takes the right to bury this very claim: a claim like any other, for
        one that dies with it is replaced by the same rule.
        """
        name = hashlib.sha256(b"%d %b" % (judged[1], judged[0])).hexdigest()[:16]
        right = Claim(self.path.with_name(f".claim.{name}.right"), self.path.with_name(f".claim.{name}.progress"))
        if not right.take(job):
            return False
        try:
            seen = self._seen()
            if seen != judged:
                return seen is None  # given back meanwhile; or another's by now
            self.path.unlink()
            return True
        except FileNotFoundError:  # one that had only been silent gave it back
            return True
        finally:
            right.release()

    def clear_rights(self) -> None:
        """Remove the rights to bury whose holders were killed inside a take-over. Only for whoever holds this claim.

        The claims that those were for are gone: this one lies in their place. Whoever judged one of them, and is slow,
        takes its right anew, looks again and finds this claim instead. The right of a process that lives stays.
        """
        for path in self.path.parent.glob(".claim.*.right"):
            if Claim(path, path.with_suffix(".progress")).holder() is not Holder.ALIVE:
                path.unlink(missing_ok=True)

    def beat(self, job: str | None = None) -> bool:
        """Sign of life. False if the claim is no longer this process's.

        That happens to one that was frozen for so long that another took over: it must not go on.
        """
        if not self.path.exists():
            return self.take(job)  # somebody removed it
        held = self.read()
        if held and not _is_ours(held):
            return False
        with contextlib.suppress(OSError):  # a file server that does not answer for a while takes nobody's claim away
            os.utime(self.path)
        return True

    def taken_over(self) -> bool:
        """Whether another process holds it; not if nobody does, or if it cannot be read."""
        held = self.read()
        return bool(held) and not _is_ours(held)

    def release(self) -> None:
        """Give it back, if it is this process's."""
        if _is_ours(self.read()):
            self.path.unlink(missing_ok=True)

    def _seen(self) -> tuple[bytes, int] | None:
        """Content, and nanoseconds of the last heartbeat, which tell one claim from every other; None: no claim."""
        try:
            with self.path.open("rb") as file:
                return file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None

    def _stays_silent(self) -> bool:
        """Whether nothing is heard of the holder while we watch."""
        before, until = self._heard(), time.monotonic() + WATCH_S
        while time.monotonic() < until:
            time.sleep(WATCH_S / 10)
            if self._heard() != before:
                return False
        return True

    def _heard(self) -> list[tuple[int, int] | None]:
        """What changes with every sign of life. Opened each time: NFS hands out old attributes otherwise."""
        found: list[tuple[int, int] | None] = []
        for path in (self.path, self.progress):
            try:
                with path.open("rb") as file:
                    about = os.fstat(file.fileno())
                found.append((about.st_ino, about.st_mtime_ns))
            except OSError:
                found.append(None)
        return found


def _is_ours(held: dict[str, Any]) -> bool:
    return (held.get("pid"), held.get("host"), held.get("boot")) == (os.getpid(), *machine())


@functools.cache
def machine() -> tuple[str, str]:
    """Name of this machine, and what tells it from a namesake and from itself before a restart.

    The second also tells apart containers that share the host's name: each counts processes for itself.
    """
    boot = "?"
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:8]
        boot += "-" + str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    return socket.gethostname(), boot


def process_start(pid: object) -> str | None:
    """Start time of a live process (so that a reused pid is another process); None if there is none, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def ends_within(pid: object, seconds: float) -> bool:
    """Whether the process of that pid ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while process_start(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
