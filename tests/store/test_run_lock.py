"""Claims: between real processes, of other machines, before and after a restart, and when clocks jump."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.store import run_lock
from harness.store.results import RunFolder, State, read_json, write_json
from harness.store.run_lock import REQUEUE_GRACE_S, STALE_HEARTBEAT_S, machine, process_start

PATIENCE_S = 120.0


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "abcdef012345")


def test_of_many_processes_one_gets_the_claim(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folders = [RunFolder(tmp_path / f"{index:012x}") for index in range(30)]
    assert at_the_same_moment(context, folders) == list(range(30))


@pytest.mark.parametrize("job", [None, "7_0"])
def test_a_link_whose_answer_was_lost_is_ours(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, job: str | None
) -> None:
    """NFS asks again when no answer comes, and the second answer says that the file is there: the first made it."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(run_lock.os, "link", twice)
    assert folder.lock.take(job) and read_json(folder.lock.path)["pid"] == os.getpid()
    assert not folder.lock.take(job), "but only that once"


def take_at_once(folders: list[str], ready: Barrier, over: Barrier, won: multiprocessing.Queue[int]) -> None:
    for index, path in enumerate(folders):
        ready.wait(PATIENCE_S)
        if RunFolder(Path(path)).lock.take():
            won.put(index)
    over.wait(PATIENCE_S)  # they live until all have asked for all


def at_the_same_moment(context: Any, folders: list[RunFolder]) -> list[int]:
    """Eight processes ask for each claim; the numbers of the folders, once for each process that got one."""
    won, ready, over = context.Queue(), context.Barrier(8), context.Barrier(8)
    paths = [str(folder.path) for folder in folders]
    many = [context.Process(target=take_at_once, args=(paths, ready, over, won)) for _ in range(8)]
    for one in many:
        one.start()
    winners = [won.get(timeout=PATIENCE_S) for _ in folders]
    for one in many:
        one.join()
    return sorted([*winners, *([-1] * (not won.empty()))])


def dead(folder: RunFolder) -> None:
    host, boot = machine()
    write_json(folder.lock.path, {"pid": 2**22 + 1, "host": host, "boot": boot, "started": "1", "job": None})


def test_of_many_processes_one_gets_a_dead_processes_claim(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folders = [RunFolder(tmp_path / f"{index:012x}") for index in range(30)]
    for folder in folders:
        dead(folder)
    assert at_the_same_moment(context, folders) == list(range(30))
    assert all([path.name for path in folder.path.iterdir()] == ["claim.json"] for folder in folders)


def test_a_claim_that_another_put_in_a_dead_ones_place_stays(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = run_lock.RunLock.holder

    def slow(claim: run_lock.RunLock, job: str | None = None) -> run_lock.Holder:
        found = judge(claim, job)
        if claim.path == folder.lock.path and found is run_lock.Holder.NOBODY:  # meanwhile:
            foreign(folder, 0)
        return found

    dead(folder)
    monkeypatch.setattr(run_lock.RunLock, "holder", slow)
    assert not folder.lock.take()
    assert read_json(folder.lock.path)["host"] == "elsewhere"
    assert [path.name for path in folder.path.iterdir()] == ["claim.json"]


def test_one_that_was_silent_and_beats_before_it_is_buried_keeps_its_claim(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(folder, STALE_HEARTBEAT_S + 5)

    def watched(claim: run_lock.RunLock) -> bool:
        os.utime(claim.path)
        return True

    monkeypatch.setattr(run_lock.RunLock, "_stays_silent", watched)
    assert not folder.lock.take()
    assert read_json(folder.lock.path)["host"] == "elsewhere"


@pytest.mark.parametrize("lives", [True, False])
def test_the_removal_is_locked_too(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, lives: bool) -> None:
    """Of a process that died with it, it is taken over; of one that lives, it is not."""
    dead(folder)
    release = run_lock.RunLock.release
    monkeypatch.setattr(run_lock.RunLock, "release", lambda claim: None)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: (_ for _ in ()).throw(OSError("it dies here")))
    with pytest.raises(OSError, match="it dies here"):
        folder.lock.take()
    monkeypatch.undo()
    (right,) = folder.path.glob(".claim.*.right")
    host, boot = machine()
    started = process_start(os.getppid())
    write_json(right, {"pid": os.getppid() if lives else 2**22 + 1, "host": host, "boot": boot, "started": started})
    assert folder.lock.take() is not lives
    assert release is run_lock.RunLock.release and right.exists() is lives


def test_rights_that_outlived_their_holders_are_removed_by_whoever_holds_the_claim(folder: RunFolder) -> None:
    assert folder.lock.take()
    host, boot = machine()
    alive = {"pid": os.getppid(), "host": host, "boot": boot, "started": process_start(os.getppid()), "job": None}
    rights = {
        "lives": alive,
        "died": {**alive, "pid": 2**22 + 1, "started": "1"},
        "elsewhere": {**alive, "host": "elsewhere"},
        "silent": {**alive, "host": "elsewhere"},
    }
    for name, held in rights.items():
        write_json(folder.path / f".claim.{name}.right", held)
    old = time.time() - STALE_HEARTBEAT_S - 5
    os.utime(folder.path / ".claim.silent.right", (old, old))
    folder.clear_leftovers()
    left = sorted(path.name for path in folder.path.iterdir())
    assert left == [".claim.elsewhere.right", ".claim.lives.right", "claim.json"]
    assert not folder.lock.take(), "it is this process's still"


def test_the_claim_of_a_dead_child_is_given_back_and_its_successors_is_not(folder: RunFolder) -> None:
    dead(folder)
    folder.lock.release_of(2**22 + 2)
    assert folder.lock.path.exists()
    folder.lock.release_of(2**22 + 1)
    assert not folder.lock.path.exists()


def test_a_dead_process_loses_its_claim_and_a_live_one_does_not(folder: RunFolder) -> None:
    code = (
        "import pathlib, time; from harness.store.results import RunFolder;"
        f"RunFolder(pathlib.Path({str(folder.path)!r})).lock.take(); print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline()
    assert folder.state() is State.RUNNING
    assert not folder.lock.take()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert folder.state() is State.TODO
    assert folder.lock.take()
    assert folder.state() is State.RUNNING
    folder.lock.release()
    assert not folder.lock.path.exists()


def test_another_host_is_believed_while_its_heart_beats_and_then_unknown(folder: RunFolder) -> None:
    write_json(folder.lock.path, {"pid": 1, "host": "elsewhere", "started": "1", "job": None})
    assert folder.state() is State.RUNNING
    old = time.time() - STALE_HEARTBEAT_S - 1
    os.utime(folder.lock.path, (old, old))
    assert folder.state() is State.UNKNOWN
    write_json(folder.progress, {"stage": "training"})
    assert folder.state() is State.RUNNING


def test_releasing_leaves_other_peoples_claims_alone(folder: RunFolder) -> None:
    write_json(folder.lock.path, {"pid": -5, "host": "elsewhere"})
    folder.lock.release()
    assert folder.lock.path.exists()


def foreign(folder: RunFolder, age: float, **about: object) -> None:
    """A claim of another machine, heard of ``age`` seconds ago by our wall clock."""
    write_json(folder.lock.path, {"pid": 1, "host": "elsewhere", "boot": "b", "started": "1", "job": None, **about})
    os.utime(folder.lock.path, (time.time() - age,) * 2)


def at_once(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Watch a silent claim without waiting; ``meanwhile`` happens while it is watched."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        meanwhile()

    monkeypatch.setattr(run_lock, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock[0], sleep=sleep))


def test_a_silent_claim_is_watched_and_taken(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(folder, STALE_HEARTBEAT_S + 5)
    at_once(monkeypatch)
    assert folder.lock.take() and read_json(folder.lock.path)["pid"] == os.getpid()


@pytest.mark.parametrize("hours", [1, -1], ids=["ours is ahead", "ours is behind"])
def test_a_clock_that_jumped_takes_no_claim_from_a_live_process(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    foreign(folder, hours * 3600)
    assert folder.lock_state() is State.UNKNOWN, "that is all the wall clock says"
    beats = iter(range(1, 1000))
    at_once(monkeypatch, lambda: os.utime(folder.lock.path, (time.time() - hours * 3600 + next(beats),) * 2))
    assert not folder.lock.take()
    assert read_json(folder.lock.path)["host"] == "elsewhere"


def test_progress_is_a_sign_of_life_too(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(folder, STALE_HEARTBEAT_S + 5)
    at_once(monkeypatch, lambda: write_json(folder.progress, {"stage": "training"}))
    assert not folder.lock.take()


def test_a_claim_from_before_a_restart_is_free_after_a_minute(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = machine()
    foreign(folder, REQUEUE_GRACE_S - 30, host=host, boot="before")
    assert folder.lock_state() is State.RUNNING, "it may be a namesake, or a container beside this one"
    foreign(folder, REQUEUE_GRACE_S + 5, host=host, boot="before", pid=os.getpid(), started=process_start(os.getpid()))
    assert folder.lock_state() is State.UNKNOWN, "another process had this pid then"
    at_once(monkeypatch)
    assert folder.lock.take()


@pytest.mark.parametrize("content", ["", '{"pid": 1, "ho', "[]", "null"])
def test_half_a_claim_is_nobodys_once_it_is_old(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    folder.path.mkdir()
    folder.lock.path.write_text(content)
    assert folder.lock_state() is State.RUNNING, "it may be written at this moment, by another machine"
    os.utime(folder.lock.path, (time.time() - STALE_HEARTBEAT_S - 5,) * 2)
    at_once(monkeypatch)
    assert folder.lock.take()


def test_a_claim_that_is_given_back_while_it_is_looked_at_is_nobodys(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(folder, 0)
    read = run_lock.RunLock.read

    def late(claim: run_lock.RunLock) -> dict[str, Any]:
        claim.path.unlink()
        return read(claim)

    monkeypatch.setattr(run_lock.RunLock, "read", late)
    assert folder.lock_state() is None
    foreign(folder, STALE_HEARTBEAT_S + 5)
    monkeypatch.setattr(run_lock.RunLock, "read", read)
    at_once(monkeypatch)
    seen, looks = run_lock.RunLock._snapshot, iter(range(9))

    def gone_by_then(claim: run_lock.RunLock) -> tuple[bytes, int] | None:
        if claim.path == folder.lock.path and next(looks) == 1:
            claim.path.unlink()
        return seen(claim)

    monkeypatch.setattr(run_lock.RunLock, "_snapshot", gone_by_then)
    assert folder.lock.take(), "as it was to be buried"


def test_a_claim_that_is_not_for_us_to_read_is_somebodys(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague's, in a shared folder."""
    foreign(folder, 0)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(Path, "open", refused)
    assert folder.lock_state() is State.RUNNING


def test_one_that_was_frozen_learns_that_another_took_over(folder: RunFolder) -> None:
    assert folder.lock.take() and folder.lock.beat()
    foreign(folder, 0)
    assert not folder.lock.beat()
    folder.lock.release()
    assert folder.lock.path.exists(), "and leaves the other's claim alone"


def test_a_claim_that_somebody_removed_is_taken_again(folder: RunFolder) -> None:
    assert folder.lock.take()
    folder.lock.path.unlink()
    assert folder.lock.beat() and folder.lock_state() is State.RUNNING


def test_own_process_has_a_start_and_absent_ones_none() -> None:
    assert process_start(os.getpid())
    assert process_start(2**22 + 1) is None
