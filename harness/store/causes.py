"""Why an attempt at a run ended, and what happens then: one table for sweep, status and report."""

from __future__ import annotations

import errno
from enum import StrEnum

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
"""Results cannot be written: nothing is wrong with the run, and later they may be."""


class Cause(StrEnum):
    """Why an attempt ended. What is not known is never called failed."""

    DONE = "done"
    DIVERGED = "diverged"  # an outcome, written by the loop
    ELSEWHERE = "elsewhere"  # a live process holds the lock
    INTERRUPTED = "interrupted"  # asked to stop, or killed from outside
    TIMEOUT = "timeout"  # the job's time limit
    NODE = "node failure"  # its machine restarted or stopped responding
    DISK = "disk"  # results cannot be written: full, over quota, read-only
    OOM = "out of memory"
    INPUT = "input"  # a file that it reads is missing or damaged
    CODE = "code"  # an exception, or a crash of the interpreter
    LAUNCH = "launch"  # the job died before Python

    @property
    def failed(self) -> bool:
        """Whether the run stays failed until someone asks to retry it (``failed.json`` is there)."""
        return self in (Cause.OOM, Cause.INPUT, Cause.CODE, Cause.LAUNCH)

    @property
    def resumes(self) -> bool:
        """Whether the next sweep, or the requeued job, goes on from the last checkpoint without being asked."""
        return self in (Cause.INTERRUPTED, Cause.TIMEOUT, Cause.NODE, Cause.DISK)

    @property
    def policy(self) -> str:
        """What becomes of the run, in one sentence."""
        return POLICIES[self]


POLICIES = {
    Cause.DONE: "nothing left to do",
    Cause.DIVERGED: "a result, shown as diverged; not tried again",
    Cause.ELSEWHERE: "left to the process that is running it",
    Cause.INTERRUPTED: "resumes from its last checkpoint: in this sweep if killed alone, else in the next",
    Cause.TIMEOUT: "resumes from its last checkpoint: requeued by SLURM, else in the next sweep",
    Cause.NODE: "resumes from its last checkpoint: requeued by SLURM, else in the next sweep",
    Cause.DISK: "resumes from its last checkpoint: retried once at the end of this sweep, else in the next",
    Cause.OOM: "retried once without concurrent runs; then failed until --retry: give it more memory",
    Cause.INPUT: "failed until --retry: fix the file that the message names",
    Cause.CODE: "failed until --retry: fix the code; three equal failures before any success stop the sweep",
    Cause.LAUNCH: "failed until --retry: see the job's log that the message names",
}


def policy(cause: str) -> str:
    """The policy of a cause as a file spells it; empty for a word that is none."""
    return next((said for one, said in POLICIES.items() if one == cause), "")
