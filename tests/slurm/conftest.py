"""Labs live as long as the session. Where none can be had the tests are skipped, or fail if a Slurm is required."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.sweep import scheduler
from tests.slurm.lab import Lab, why_not


@contextmanager
def started(**settings: str) -> Iterator[Lab]:
    reason = why_not()
    if reason is not None:
        if os.environ.get("HARNESS_REQUIRE_SLURM") == "1":
            pytest.fail(f"HARNESS_REQUIRE_SLURM=1, but there is no Slurm: {reason}", pytrace=False)
        pytest.skip(f"no Slurm here: {reason}")
    lab = Lab(settings)
    try:
        lab.script("up")
        yield lab
    finally:
        lab.script("wipe")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three nodes and accounting."""
    with started(NODES="3") as made:
        yield made


@pytest.fixture(scope="session")
def bare_lab() -> Iterator[Lab]:
    """One node, no accounting, and arrays of two jobs at the most."""
    with started(NODES="1", ACCOUNTING="0", EXTRA="MaxArraySize=2") as made:
        yield made


@pytest.fixture(autouse=True, scope="module")
def impatient() -> Iterator[None]:
    """Ask the queue whenever it matters: a test cannot wait a minute between two questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "ASK_EVERY_S", 0.0)
        patch.setattr(scheduler, "SETTLE_S", 0.0)
        yield
