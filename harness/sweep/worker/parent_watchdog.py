"""Stop a run when its sweep has exited: its GPU lock is gone, and the next sweep would use the same GPU.

A sweep that is told to stop tells its runs. One that is killed, or whose machine runs out of memory, tells nobody.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing import connection
from multiprocessing.process import BaseProcess

SAVE_S = 600.0
"""So long may a run take to notice and to save: some parts of evaluations look up once in minutes."""


def stop_without_sweep() -> None:
    """From now on SIGTERM comes to this process when its sweep is gone, and SIGKILL if it does not listen to that."""
    sweep = multiprocessing.parent_process()  # whoever asked the fork server for this process, never that server itself
    if sweep is not None:
        threading.Thread(target=_outlive, args=(sweep,), daemon=True).start()


def _outlive(sweep: BaseProcess) -> None:
    connection.wait([sweep.sentinel])  # the other end of a pipe, which the kernel closes however the sweep ended
    print("parent sweep exited; saving checkpoint and stopping", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SAVE_S)
    if os.getpgrp() == os.getpid():  # this run's own group: loader workers end with it
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
