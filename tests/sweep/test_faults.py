"""Disks and inputs that fail: one clear message each, other runs go on, nothing is overwritten."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.store.causes import Cause
from harness.store.results import RunFolder, State, Store, read_json
from harness.sweep.__main__ import main
from harness.sweep.local.resources import disk_fault
from tests.sweep.local.test_pool import LINEAR, runs, swim
from tests.sweep.skips import cannot

Write = Callable[..., Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, really."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        cannot("no file system can be mounted here: that takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("required", ["", "1"])
def test_what_a_machine_does_not_permit_is_skipped_or_fails(monkeypatch: pytest.MonkeyPatch, required: str) -> None:
    monkeypatch.setenv("HARNESS_REQUIRE_ALL", required)
    with pytest.raises(pytest.fail.Exception if required else pytest.skip.Exception, match="no mounts"):
        cannot("no mounts")


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    folders = runs(small_disk, "work", "work", "work")
    assert swim(folders[:1], jobs=1)[0].clean
    before = {path: path.read_bytes() for path in folders[0].path.rglob("*") if path.is_file()}
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"0" * (1 << 20))
    outcome, _ = swim(folders[1:], jobs=1)
    assert outcome.causes == {"run1": Cause.DISK, "run2": Cause.DISK} and not outcome.failed
    assert "No space left on device" in disk_fault(folders[1].path)
    assert {path: path.read_bytes() for path in before} == before, "what was there is as it was"
    filler.unlink()
    outcome, _ = swim(folders[1:], jobs=1)
    assert outcome.clean and folders[2].state([LINEAR.id]) is State.DONE
    assert not list(small_disk.rglob(".*.tmp"))


def test_results_that_become_read_only(small_disk: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folders = runs(small_disk, "work")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outcome, _ = swim(folders)
    assert outcome.causes == {"run0": Cause.DISK}
    assert "Read-only file system" in disk_fault(folders[0].path)
    assert main([str(write()), "--results", str(small_disk), "--cluster", "local"]) == 2
    assert "is not writable" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_results_folder_copied_half_way(tmp_path: Path, share: float) -> None:
    """Each file stops somewhere: what is whole counts, what is not is named, and nothing is thought finished."""
    (whole,) = runs(tmp_path / "from", "work")
    assert swim([whole])[0].clean
    copy = RunFolder(tmp_path / "to" / whole.id)
    files = sorted(path.relative_to(whole.path) for path in whole.path.rglob("*.json"))
    for stopped in files:
        shutil.rmtree(copy.path, ignore_errors=True)
        shutil.copytree(whole.path, copy.path)
        content = (whole.path / stopped).read_bytes()
        (copy.path / stopped).write_bytes(content[: int(len(content) * share)])
        state = copy.state([LINEAR.id])
        needed = stopped.name == "outcome.json" or "evaluations" in stopped.parts
        assert state is (State.BROKEN if needed else State.DONE), stopped


def test_a_broken_run_is_named_and_the_others_are_planned(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = Store(tmp_path / "results"), write()
    arguments = [str(path), "--results", str(store.root), "--cluster", "local", "--plan"]
    from harness.config.experiment import load_experiment
    from harness.sweep.plan.plan import make_plan

    first = next(iter(make_plan(load_experiment(path), store).runs))
    folder = store.run(first)
    folder.path.mkdir(parents=True)
    folder.outcome.write_text('{"run": "' + first)
    assert main(arguments) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "3 to do" in told and f"{folder.outcome}: unreadable" in told
    assert folder.outcome.read_text() == '{"run": "' + first


def test_damaged_input_is_a_class_of_its_own(tmp_path: Path) -> None:
    folders = runs(tmp_path, "bad data", "work")
    outcome, _ = swim(folders)
    assert outcome.causes == {"run0": Cause.INPUT, "run1": Cause.DONE}
    failed = read_json(folders[0].failure)
    assert failed["cause"] == "input" and "data_batch_1.bin is damaged" in failed["message"]
