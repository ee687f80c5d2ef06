"""Locks on GPUs: two sweeps on one machine, of the same user or of two, never use the same GPU.

The kernel keeps each lock, on a file in the machine's temporary folder, and drops it when the process that holds it
ends, however it ends. So no lock is ever stale. Runs of a sweep that was killed notice, save and stop
(:mod:`harness.sweep.worker.parent_watchdog`).
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


def default_folder() -> Path:
    """Return the folder of lock files that all users of this machine share."""
    return Path(tempfile.gettempdir()) / "harness-gpu-leases"


class GpuLocks:
    """The GPUs that this process has locked, by their name in CUDA_VISIBLE_DEVICES (their UUID)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self.held: dict[str, FileLock] = {}

    def take(self, gpu: str) -> bool:
        """Lock a GPU; return whether this process holds it now. Raises ``OSError`` where locks cannot be written."""
        if gpu in self.held:
            return True
        with suppress(FileExistsError):
            self.folder.mkdir()
            self.folder.chmod(0o1777)  # shared by all users, as the temporary folder is
        if not stat.S_ISDIR(self.folder.lstat().st_mode):
            raise NotADirectoryError(20, "locks of GPUs need a folder here", str(self.folder))
        path = self._path(gpu)
        lock = FileLock(path, mode=0o666)  # another user's sweep must be able to lock it
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        with suppress(OSError), path.open("r+", encoding="utf-8") as file:  # for messages only
            file.truncate()
            json.dump({"pid": os.getpid(), "folder": str(Path.cwd())}, file)
        self.held[gpu] = lock
        return True

    def release(self, gpu: str) -> None:
        """Unlock a GPU, if this process holds it."""
        if (lock := self.held.pop(gpu, None)) is not None:
            lock.release()

    def release_all(self) -> None:
        """Unlock every GPU that this process holds."""
        for gpu in list(self.held):
            self.release(gpu)

    def holder(self, gpu: str) -> str:
        """Name who locked a GPU last, for messages: ``process 12 in /home/me/study``."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            holder = json.loads(self._path(gpu).read_text(encoding="utf-8"))
            return f"process {holder['pid']} in {holder['folder']}"
        return "another process"

    def _path(self, gpu: str) -> Path:
        return self.folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lease"
