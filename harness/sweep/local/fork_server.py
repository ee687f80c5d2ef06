"""The server that runs are forked from. It has imported torch, so a run starts in milliseconds."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess

from harness.store.run_lock import ends_within, process_start
from harness.store.snapshot import Snapshot
from harness.sweep.worker import worker

PRELOAD = ["harness.components", "harness.train.loop", "harness.data.ops.preloaded", "torch._dynamo"]
"""The last: every optimiser imports it, which takes 3 s."""
TRIES, GONE_S = 3, 10.0
"""How often a dying server is replaced before that is a fault; how long one that hung up may take to be gone."""


def start_server(code: Snapshot | None = None) -> None:
    """Start the fork server with torch preloaded, unless it runs. With ``code`` it is one that imported that snapshot.

    It ignores SLURM's signals and that of a terminal which is gone, and so does a run until it listens.
    """
    multiprocessing.set_forkserver_preload(PRELOAD)
    if code is not None and code.folder.name not in [one.folder.name for one in _SERVED]:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        _SERVED[:] = [code]
    if process_start(server_pid()) is not None:
        return  # not a moment deaf to signals for nothing: a warning may be the only one
    with _stops_ignored(), _importing(code):
        forkserver.ensure_running()


def start_from_server(make: Callable[[], BaseProcess]) -> BaseProcess:
    """Start a process, forked from the server. That may die at any moment: then from a new one, of the same code."""
    code, tries = _SERVED[0] if _SERVED else None, TRIES
    while True:
        start_server(code)
        process, asked = make(), server_pid()
        try:
            with _importing(code):  # multiprocessing may start a new one by itself
                process.start()
            return process
        except (EOFError, ConnectionError):
            tries -= 1
            if not tries:
                raise
            ends_within(asked, GONE_S)  # it hangs up a moment before it is gone, and would be taken for alive


def server_pid() -> int | None:
    """Of the server that forks what is started now."""
    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


_SERVED: list[Snapshot] = []
"""The snapshot that the fork server has imported, if it was started for one. There is one server in a process."""


@contextmanager
def _importing(code: Snapshot | None) -> Iterator[None]:
    """A server that is started now imports that code."""
    with code.exported() if code else nullcontext(), _first_in_path(code):
        yield


@contextmanager
def _first_in_path(code: Snapshot | None) -> Iterator[None]:
    """From Python 3.12.8 and 3.13.1 on (CPython gh-117378) the server takes its parent's ``sys.path`` over before it
    preloads, so what stands in ``PYTHONPATH`` would come after the parent's checkout.
    """
    before = sys.path[:]
    sys.path[:0] = [str(code.folder)] if code is not None else []
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _stops_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = (*worker.STOP_SIGNALS, signal.SIGHUP, signal.SIGINT)  # Ctrl-C too, while the server still imports torch
    before = {number: signal.signal(number, signal.SIG_IGN) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
