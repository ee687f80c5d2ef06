"""Labs live as long as the session. Where none can be had the tests are skipped, or fail if a Slurm is required."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.sweep.slurm import queue
from tests.slurm.lab import Lab, speak_to, unavailable, why_not


@contextmanager
def started(**settings: str) -> Iterator[Lab]:
    reason = why_not()
    if reason is not None:
        unavailable(f"no Slurm here: {reason}")
    lab = _up(settings)
    try:
        yield lab
    finally:
        lab.script("wipe")


def _up(settings: dict[str, str], tries: int = 3) -> Lab:
    """At ports that were free a moment ago: another program may have taken one since."""
    while True:
        lab, tries = Lab(settings), tries - 1
        try:
            lab.script("up")
            return lab
        except BaseException as error:
            lab.script("wipe")
            if not tries or not isinstance(error, pytest.fail.Exception):
                raise


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Four nodes and accounting; arrays as long as Slurm's default allows; preemption is announced by USR2."""
    with started(NODES="4", CPUS="32", EXTRA="MaxArraySize=1001") as made:
        yield made


@pytest.fixture
def here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab, as the Slurm that this process speaks to."""
    speak_to(lab, monkeypatch)
    return lab


@pytest.fixture(scope="session")
def bare_lab() -> Iterator[Lab]:
    """One node that binds steps to their cores; no accounting; arrays of two jobs at the most; only SIGTERM; jobs are
    not requeued unless they ask for it.
    """
    extra = "MaxArraySize=2\nJobRequeue=0"
    with started(NODES="1", CPUS="2", ACCOUNTING="0", WARN="0", AFFINITY="1", EXTRA=extra) as made:
        yield made


@pytest.fixture
def bare(bare_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The bare lab, as the Slurm that this process speaks to."""
    speak_to(bare_lab, monkeypatch)
    return bare_lab


@pytest.fixture(autouse=True, scope="module")
def impatient() -> Iterator[None]:
    """Ask the queue whenever it matters: a test cannot wait a minute between two questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "ASK_EVERY_S", 0.0)
        patch.setattr(queue, "SETTLE_S", 0.0)
        yield
