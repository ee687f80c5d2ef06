"""SIGKILL at 100 moments, in any line, inside writes and inside kernels: what resumes ends as if nothing had been."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness.components import Evaluation
from harness.runtime import Runtime
from harness.store.results import RunFolder, State, read_json
from harness.sweep.local.pool import Pool
from tests.sweep.killers import STAGES, killed
from tests.sweep.local.test_pool import Record
from tests.train.test_loop import assert_same, tiny

SHORT: dict[str, Any] = {"schedule": {"batch_size": 8, "epochs": 3, "warmup_epochs": 1}}
OFTEN = Runtime(device="cpu", threads=1, checkpoint_minutes=0.0, checkpoint_gap_s=0.0)
"""A checkpoint after every step: most of what a kill can hit is the writing of one."""


def attempt(folder: RunFolder, asked: list[Evaluation], moment: dict[str, Any] | None) -> bool:
    """One life of a run, up to ``moment``; whether it was killed."""
    kill = folder.path / "kill.json"
    kill.write_text(json.dumps(moment)) if moment is not None else kill.unlink(missing_ok=True)
    pool = Pool([folder], asked, OFTEN, Record(), jobs=1, execute=killed)
    pool.put_back.add(folder.id)  # it would go on by itself, towards the same moment
    cause = pool.run(own_signals=False).causes[folder.id]
    if cause != "interrupted":
        assert folder.state([one.id for one in asked]) is State.DONE, folder.log.read_text()[-3000:]
        return False
    assert folder.lock_state() is None and "SIGKILL" in read_json(max(folder.attempts.iterdir()))["detail"]
    return True


def moments(seed: int, counts: dict[str, int]) -> Any:
    """An endless list of moments, always the same for a seed. A life lasts for a sixth of the run on average."""
    draw = random.Random(seed)
    while True:
        kind = draw.choice(("line", "line", "write", "write", "after"))
        if kind == "line":
            yield {"line": draw.randrange(1, counts["lines"] // 3)}
        elif kind == "write":
            yield {"write": draw.randrange(1, counts["writes"] // 3), "stage": draw.choice(STAGES)}
        else:
            yield {"after": draw.uniform(0.02, 0.4)}


def sequence(folder: RunFolder, asked: list[Evaluation], seed: int, counts: dict[str, int], most: int) -> int:
    """Kill a run again and again, at most so often, then let it end; how often it was."""
    kills = 0
    for moment in moments(seed, counts):
        if kills == most or not attempt(folder, asked, moment):
            break
        kills += 1
    assert not attempt(folder, asked, None)  # even if only its last word, in the ledger, was missing
    return kills


@pytest.mark.slow
def test_a_hundred_kills_change_nothing(tmp_path: Path) -> None:
    whole, asked = tiny(tmp_path / "whole", **SHORT)
    assert not attempt(whole, asked, None)
    counts = json.loads((whole.path / "counts.json").read_text())
    assert counts["writes"] > 24, "a checkpoint after every step"
    kills = number = 0
    while kills < 100:
        folder, _ = tiny(tmp_path / f"killed{number}", **SHORT)
        kills += sequence(folder, asked, number, counts, 100 - kills)
        number += 1
        assert_same(whole, folder)
        assert number < 40, f"only {kills} kills in so many runs"
        assert not list(folder.path.rglob("*.tmp")), "what a kill inside a write leaves is removed"
        assert not list(folder.checkpoints.glob("step-*"))
        causes = [read_json(path)["cause"] for path in sorted(folder.attempts.iterdir())]
        assert causes[:-1] == ["interrupted"] * (len(causes) - 1), "every life is closed in the ledger"
        assert causes[-1] in ("done", "interrupted"), "the last may have been killed when all was written"
    assert number > 3, "several runs"
