"""Four runs packed into one task, each ending in its own way; the kernel's part is played by the kernel."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.runtime import Runtime
from harness.store.attempts import last
from harness.store.causes import Cause
from harness.store.results import RunFolder, State, Store, read_json, write_json
from harness.sweep.worker import worker
from tests.sweep.skips import cannot
from tests.train.test_loop import tiny

if TYPE_CHECKING:
    from harness.components import Evaluation

ROOT = Path(__file__).resolve().parents[2]
WILD = {"optimizer": {"sgd": {"lr": 1e30, "lr_scaling": "none"}}}
LIMIT = 3 << 30
"""Bytes for the whole task: enough for torch and three small runs, not for one that never stops asking."""


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group with a memory limit, beside or beneath our own; version 1 or 2, whichever this machine has."""
    made = None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        top = {"memory": "/sys/fs/cgroup/memory", "": "/sys/fs/cgroup"}.get(controllers)
        if top is None or made is not None:
            continue
        candidate = Path(top + group.rstrip("/")) / f"packing-{os.getpid()}-{secrets.token_hex(4)}"
        with suppress(OSError):
            candidate.mkdir()
            made = candidate
            limit = candidate / ("memory.limit_in_bytes" if controllers else "memory.max")
            limit.write_text(str(LIMIT))
            swap = candidate / ("memory.memsw.limit_in_bytes" if controllers else "memory.swap.max")
            with suppress(OSError):
                swap.write_text(str(LIMIT) if controllers else "0")
            break
        if made is not None:
            made.rmdir()
            made = None
    if made is None:
        cannot("no control group with a memory limit can be made here: that takes root, or a delegated one")
    yield made
    for _ in range(50):  # the kernel may be a moment late to see that its processes are gone
        with suppress(OSError):
            made.rmdir()
            return
        time.sleep(0.1)


def packed(folder: RunFolder, asked: Sequence[Evaluation], runtime: Runtime) -> None:
    """The real loop, except for what ``behave`` in the run's folder says."""
    behave = folder.path / "behave"
    what = behave.read_text() if behave.exists() else ""
    if what == "raise":
        raise ValueError("a bug in this run only")
    hog = []
    while what == "take all memory":
        hog.append(b"x" * (64 << 20))
    worker.train(folder, asked, runtime)


TASK = """
import json, os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from harness.store.results import Store
from harness.sweep.local.pool import Pool
from harness.runtime import Runtime
from tests.sweep.test_packing import packed
from tests.sweep.local.test_pool import Record
from tests.train.test_loop import tree
from harness import components
if __name__ == "__main__":
    store, runs = Store(Path(sys.argv[2])), sys.argv[3:]
    asked = components.resolve_evaluations(tree(), ["linear"])
    pool = Pool([store.run(one) for one in runs], asked, Runtime(device="cpu", threads=1), Record(), jobs=4,
                execute=packed, job="7_0")
    print(json.dumps({run: cause.value for run, cause in pool.run().causes.items()}))
"""


@pytest.mark.slow
def test_four_packed_runs_end_in_four_ways(
    tmp_path: Path, control_group: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed by the kernel for memory, one raises, the loss of one is no number, the fourth finishes."""
    results = tmp_path / "results"
    ways = {
        "take all memory": Cause.OOM,
        "raise": Cause.CODE,
        "diverge": Cause.DIVERGED,
        "finish": Cause.DONE,
    }
    folders: dict[str, RunFolder] = {}
    for seed, what in enumerate(ways):
        folders[what], asked = tiny(results, seed, **(WILD if what == "diverge" else {}))
        (folders[what].path / "behave").write_text(what)
    script = tmp_path / "task.py"
    script.write_text(TASK)
    done = subprocess.run(
        [sys.executable, str(script), str(control_group), str(results), *(one.id for one in folders.values())],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for what, cause in ways.items():
        entry = last(folders[what])
        assert said[folders[what].id] == cause and entry is not None and entry["cause"] == cause, (what, entry)
    entry = last(folders["take all memory"])
    assert entry is not None and entry["detail"] == "killed by the kernel for memory"
    assert entry["attempt"] in (1, 2), "a second one, alone, if others still ran when it was killed"
    handles = [one.id for one in asked]
    assert folders["finish"].state(handles) is State.DONE and folders["diverge"].state(handles) is State.DIVERGED
    assert "a bug in this run only" in read_json(folders["raise"].failure)["message"]
    monkeypatch.setenv("COLUMNS", "200")  # at 80 the cells of a row are wrapped side by side
    _status_names_them(Store(results), folders, handles[0], capsys)


def _status_names_them(
    store: Store, folders: dict[str, RunFolder], handle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.sweep.__main__ import main

    arms = [{"settings": {"what": what}, "runs": {"0": folder.id}} for what, folder in folders.items()]
    manifest = {"name": "packed", "scale": "smoke", "arms": arms, "evaluations": {"linear": handle}}
    write_json(store.experiment("packed", "smoke"), manifest)
    assert main(["--status", "--results", str(store.root)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "killed by the kernel for memory" in told and "a bug in this run only" in told
    for cause in (Cause.OOM, Cause.CODE, Cause.DIVERGED):
        assert f"1 {cause}: {cause.policy}" in told
