"""GPUs are leased: two sweeps on one machine, of whichever user, never take the same one.

A lease is a lock that the kernel keeps on a file of the machine's own temporary folder. It ends with the process that
took it, however that ends, so none is ever stale and no clock or process table is asked. Runs that a sweep leaves
behind notice that it is gone, save and stop (:mod:`harness.sweep.worker.parent_watchdog`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def default_folder() -> Path:
    """Of this machine, for all its users."""
    return Path(tempfile.gettempdir()) / "harness-gpu-leases"


class Leases:
    """The GPUs that this process has leased, by the name that CUDA_VISIBLE_DEVICES has for them (their UUID)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self.held: dict[str, int] = {}

    def take(self, gpu: str) -> bool:
        """Whether it is ours now. Raises ``OSError`` where leases cannot be written."""
        if gpu in self.held:
            return True
        descriptor = self._open(gpu)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        with suppress(OSError):  # for people, and for `holder`; the lock is what counts
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "folder": str(Path.cwd())}).encode(), 0)
        self.held[gpu] = descriptor
        return True

    def release(self, gpu: str) -> None:
        """Give it back, if it is ours. The file stays: another may be opening it."""
        if (descriptor := self.held.pop(gpu, None)) is not None:
            os.close(descriptor)

    def release_all(self) -> None:
        for gpu in list(self.held):
            self.release(gpu)

    def holder(self, gpu: str) -> str:
        """Who took it last, for people: ``process 12 in /home/me/study``."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            held = json.loads(self._path(gpu).read_text(encoding="utf-8"))
            return f"process {held['pid']} in {held['folder']}"
        return "another process"

    def _path(self, gpu: str) -> Path:
        return self.folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lease"

    def _open(self, gpu: str) -> int:
        with suppress(FileExistsError):
            self.folder.mkdir()
            self.folder.chmod(0o1777)  # whoever comes first makes it for everybody, like the folder it is in
        if not stat.S_ISDIR(self.folder.lstat().st_mode):
            raise NotADirectoryError(20, "leases of GPUs need a folder here", str(self.folder))
        path, flags = self._path(gpu), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT, 0o666)
            with suppress(OSError):
                os.fchmod(descriptor, 0o666)  # whatever the umask; another user's sweep must be able to lock it
            return descriptor
