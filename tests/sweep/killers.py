"""The real loop in a process that kills itself with SIGKILL at a moment that ``kill.json`` in the run's folder names.

    {"line": n}                  before the n-th line of the project's own code that is executed from here on
    {"write": n, "stage": ...}   inside the n-th atomic write: "half", "whole" (before fsync), "synced", "renamed"
    {"after": seconds}           wherever it is then, inside torch's kernels too

Without such a file it counts lines and writes, into ``counts.json``, so that moments can be drawn from all there are.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import harness
from harness.runtime import Runtime
from harness.store.results import RunFolder
from harness.sweep.worker import worker

if TYPE_CHECKING:
    from harness.components import Evaluation

OURS = str(Path(harness.__file__).parent)
STAGES = ("half", "whole", "synced", "renamed")


def killed(folder: RunFolder, asked: Sequence[Evaluation], runtime: Runtime) -> None:
    path = folder.path / "kill.json"
    moment = json.loads(path.read_text()) if path.exists() else {}
    counts = {"lines": 0, "writes": 0}
    if "after" in moment:
        timer = threading.Timer(moment["after"], die)
        timer.daemon = True
        timer.start()
    elif "write" in moment:
        kill_in_write(moment["write"], moment["stage"], counts)
    else:
        if not moment:
            kill_in_write(0, "", counts)
        count_lines(moment.get("line", 0), counts)
    worker.train(folder, asked, runtime)
    if not moment:
        sys.settrace(None)
        (folder.path / "counts.json").write_text(json.dumps(counts))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def count_lines(last: int, counts: dict[str, int]) -> None:
    def line(_: FrameType, event: str, __: Any) -> Any:
        if event == "line":
            counts["lines"] += 1
            if counts["lines"] == last:
                die()
        return line

    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename.startswith(OURS) else None)


def kill_in_write(number: int, stage: str, counts: dict[str, int]) -> None:
    """Every file under results/ is written to a temporary name, fsynced and renamed: the first two meet here."""
    fsync, replace = os.fsync, Path.replace

    def in_fsync(descriptor: int) -> None:
        counts["writes"] += 1
        if counts["writes"] == number:
            if stage == "half":
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            if stage in ("half", "whole"):
                die()
        fsync(descriptor)
        if counts["writes"] == number and stage == "synced":
            die()

    def in_replace(path: Path, target: Any) -> Path:
        result = replace(path, target)
        if counts["writes"] == number and stage == "renamed":
            die()
        return result

    os.fsync = in_fsync
    Path.replace = in_replace  # type: ignore[method-assign, assignment]
