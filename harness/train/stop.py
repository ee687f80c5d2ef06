"""Stop on request: signals set a flag that the loop checks between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.store.results import RunFolder


class Interrupted(RuntimeError):
    """A signal asked this process to stop; everything up to the last step is in the checkpoint."""


class TakenOver(RuntimeError):
    """This process was frozen for so long that another took its run over: what is there now is not to be replaced."""


def check_ours(folder: RunFolder, result: Path | None = None) -> None:
    """Just before a result is written. Raises :class:`TakenOver` if the run is another's, or has this result by now.

    The heartbeat notices too, but only some seconds after the process goes on.
    """
    if folder.lock.taken_over() or (result is not None and result.exists()):
        raise TakenOver("frozen for so long that another process took over this run")


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM, SIGINT and SIGUSR2 (submitit's warning) set; the loop looks at it between steps.

    Nothing is saved inside the handler: a handler may run in the middle of an optimiser step.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
