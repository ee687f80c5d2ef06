"""GpuLocks of GPUs: between sweeps, and when the holder dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.sweep.local.gpu_locks import GpuLocks, default_folder

GPU = "GPU-5c1e/../x y"
ROOT = Path(__file__).resolve().parents[3]


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    ours, theirs = GpuLocks(tmp_path / "leases"), GpuLocks(tmp_path / "leases")
    assert ours.take(GPU) and ours.take(GPU), "twice is once"
    assert not theirs.take(GPU) and theirs.take("1")
    assert theirs.holder(GPU) == f"process {os.getpid()} in {Path.cwd()}"
    assert theirs.holder("2") == "another process"
    theirs.release(GPU)
    assert not theirs.take(GPU), "what is not ours cannot be given back"
    ours.release_all()
    assert theirs.take(GPU)
    assert {path.parent for path in tmp_path.rglob("*.lease")} == {tmp_path / "leases"}


HOLDER = """
import sys, time
from pathlib import Path
from harness.sweep.local.gpu_locks import GpuLocks
held = GpuLocks(Path(sys.argv[1]))
print(held.take("0"), flush=True)
time.sleep(600)
"""


def test_a_lease_ends_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    ours = GpuLocks(tmp_path)
    assert not ours.take("0") and f"process {holder.pid} " in ours.holder("0")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert ours.take("0")


def test_other_users_may_lock_and_nobody_may_redirect(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    before = os.umask(0o077)
    try:
        assert GpuLocks(folder).take("0")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert (folder / "0.lease").stat().st_mode & 0o777 == 0o666
    (folder / "1.lease").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        GpuLocks(folder).take("1")
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(NotADirectoryError):
        GpuLocks(tmp_path / "link").take("0")


def test_the_folder_is_the_machines_own() -> None:
    assert default_folder().is_absolute() and "results" not in default_folder().parts
