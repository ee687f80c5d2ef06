"""The local pool against real processes: who fails, fails alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from harness.components import Evaluation
from harness.runtime import Runtime
from harness.store.attempts import last
from harness.store.causes import Cause
from harness.store.results import RunFolder, State, read_json, write_json
from harness.store.run_lock import process_start
from harness.sweep.local import fork_server, pool, ranks, resources, run_process
from harness.sweep.local.fork_server import server_pid
from harness.sweep.local.gpu_locks import GpuLocks
from harness.sweep.local.pool import Outcome, Pool
from harness.sweep.local.run_process import ActiveRun
from tests.sweep.fake_executors import behave

LINEAR = Evaluation("linear", "linear-00000000", {"linear": {}})
ROOT = Path(__file__).resolve().parents[3]


class Record:
    """A view that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.most = 0

    def started(self, folder: RunFolder) -> None:
        self.lines.append(("start", folder.id))

    def ended(self, folder: RunFolder, cause: Cause, detail: str) -> None:
        self.lines.append((cause.value, folder.id))

    def held(self, count: int, detail: str) -> None:
        self.lines.append(("held", detail))

    def note(self, text: str) -> None:
        self.lines.append(("note", text))

    def tick(self, running: Sequence[RunFolder]) -> None:
        self.most = max(self.most, len(running))


def runs(tmp_path: Path, *behaviours: str) -> list[RunFolder]:
    folders = [RunFolder(tmp_path / f"run{index}") for index in range(len(behaviours))]
    for index, (folder, what) in enumerate(zip(folders, behaviours, strict=True)):
        write_json(folder.spec, {"id": folder.id, "spec": {"behave": what, "seed": index}})
    return folders


def swim(
    folders: list[RunFolder],
    jobs: int = 2,
    gpus: Sequence[str] = (),
    job: str | None = None,
    leases: GpuLocks | None = None,
    view: Record | None = None,
) -> tuple[Outcome, Record]:
    view = view or Record()
    one = Pool(
        folders, [LINEAR], Runtime(threads=3), view, jobs=jobs, gpus=gpus, execute=behave, job=job, leases=leases
    )
    return one.run(), view


WAYS_TO_END = {
    "work": (Cause.DONE, State.DONE),
    "diverge": (Cause.DIVERGED, State.DIVERGED),
    "raise": (Cause.CODE, State.FAILED),
    "oom": (Cause.OOM, State.FAILED),
    "cuda oom": (Cause.OOM, State.FAILED),
    "segfault": (Cause.CODE, State.FAILED),
    "lie": (Cause.CODE, State.FAILED),
    "killed": (Cause.INTERRUPTED, State.TODO),  # by whom is not known, so it is not called failed
}


def test_every_way_to_end_is_told_apart_and_none_spoils_another(tmp_path: Path) -> None:
    folders = runs(tmp_path, *WAYS_TO_END)
    outcome, view = swim(folders, jobs=3)
    for folder, (what, (cause, state)) in zip(folders, WAYS_TO_END.items(), strict=True):
        entry = last(folder)
        assert outcome.causes[folder.id] is cause, what
        assert folder.state([LINEAR.id]) is state, what
        assert entry is not None and entry["cause"] == cause.value, what
        assert f"does: {what}" in folder.log.read_text(), what
        assert folder.lock_state() is None, what
    assert view.most <= 3
    assert not outcome.clean and len(outcome.failed) == 5
    raised = read_json(folders[2].failure)
    assert "bad value 2" in raised["message"] and "Traceback" in raised["traceback"]
    assert "Traceback" in folders[2].log.read_text()
    assert "SIGSEGV" in read_json(folders[5].failure)["message"]
    assert read_json(folders[0].outcome)["threads"] == 3


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    folders = runs(tmp_path, "work")
    assert swim(folders)[0].clean and swim(folders)[0].clean
    assert (folders[0].path / "executed").read_text() == "x"
    assert len(list(folders[0].attempts.iterdir())) == 1


def test_a_run_that_a_live_process_holds_is_left_alone(tmp_path: Path) -> None:
    folders = runs(tmp_path, "work", "work")
    assert folders[0].lock.take()
    outcome, _ = swim(folders)
    assert outcome.causes == {"run0": Cause.ELSEWHERE, "run1": Cause.DONE}
    assert not (folders[0].path / "executed").exists()
    assert folders[0].lock_state() is State.RUNNING


def test_a_run_that_was_lost_while_its_process_was_frozen_is_left_to_its_successor(tmp_path: Path) -> None:
    (folder,) = runs(tmp_path, "lose the claim")
    assert swim([folder])[0].causes == {"run0": Cause.ELSEWHERE}
    assert folder.lock_state() is State.RUNNING and not folder.failure.exists()


def test_no_claim_outlives_its_run_however_it_died(tmp_path: Path) -> None:
    folders = runs(tmp_path, "killed", "segfault", "stop early")
    outcome, _ = swim(folders)
    assert [folder.id for folder in folders if folder.lock.path.exists()] == []
    assert outcome.causes["run2"] is Cause.INTERRUPTED and folders[2].state() is State.TODO


def test_in_a_job_a_killed_run_spoils_no_other_but_a_stopped_one_ends_the_job(tmp_path: Path) -> None:
    outcome, _ = swim(runs(tmp_path / "a", "killed", "raise", "work", "work"), jobs=1, job="7_0")
    assert list(outcome.causes.values()) == [Cause.INTERRUPTED, Cause.CODE, Cause.DONE, Cause.DONE]
    outcome, _ = swim(runs(tmp_path / "b", "stop early", "work"), jobs=1, job="7_0")
    assert list(outcome.causes.values()) == [Cause.INTERRUPTED] and outcome.stopped, "its node is being taken away"


@pytest.mark.parametrize("what", ["killed at first", "full disk at first"])
@pytest.mark.parametrize("job", [None, "7_0"])
def test_what_was_lost_is_worked_on_once_more_after_the_others(tmp_path: Path, what: str, job: str | None) -> None:
    folders = runs(tmp_path, what, "work")
    outcome, view = swim(folders, jobs=1, job=job)
    assert outcome.clean and view.lines[-1] == ("done", "run0")
    assert [line for line in view.lines if line[0] == "start"] == [("start", f"run{index}") for index in (0, 1, 0)]


def test_who_is_told_again_while_it_leaves_has_said_where_it_stopped(tmp_path: Path) -> None:
    (folder,) = runs(tmp_path, "told twice")
    assert swim([folder], job="7_0")[0].causes == {"run0": Cause.INTERRUPTED}
    assert (last(folder) or {})["detail"] == "stopped by a signal after step 7 of 9"


def test_once_more_is_once(tmp_path: Path) -> None:
    folders = runs(tmp_path, "killed", "full disk", "stop early")
    outcome, _ = swim(folders, jobs=1)
    assert outcome.causes == {"run0": Cause.INTERRUPTED, "run1": Cause.DISK, "run2": Cause.INTERRUPTED}
    assert [(folder.path / "executed").read_text() for folder in folders] == ["xx", "xx", "x"], "the last was told to"


def test_a_fork_server_that_dies_costs_no_run_and_holds_nothing(tmp_path: Path) -> None:
    """It takes its children's exit codes with it, not the children: they save, and go on from a new server."""
    folders = runs(tmp_path, *["wait at first"] * 3, "work")

    class Killing(Record):
        def tick(self, running: Sequence[RunFolder]) -> None:
            super().tick(running)
            if all((folder.path / "waiting").exists() for folder in folders[:3]) and not self.notes():
                server = server_pid()
                assert server is not None
                os.kill(server, signal.SIGKILL)

        def notes(self) -> list[str]:
            return [text for kind, text in self.lines if kind == "note"]

    view = Killing()
    outcome, _ = swim(folders, jobs=3, job="7_0", view=view)
    assert outcome.clean and set(outcome.causes.values()) == {Cause.DONE} and len(view.notes()) == 3
    for folder in folders[:3]:
        first = read_json(folder.attempts / "001.json")
        assert first["cause"] == "interrupted" and "step 7" in first["detail"], "it was asked to save"
        assert len(list(folder.attempts.iterdir())) == 2


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_server_that_dies_just_before_it_is_asked_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs_up: bool
) -> None:
    """It was looked at, and lived. It hangs up a moment before it is gone."""
    folders = runs(tmp_path, "work", "work")
    swim(runs(tmp_path / "before", "work"))
    start, killed = fork_server.start_from_server, list[int]()

    def late(make: Callable[[], BaseProcess]) -> BaseProcess:
        def of_a_dying_one() -> BaseProcess:
            process = make()
            if not killed and (pid := server_pid()) is not None:
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)
                if hangs_up:
                    monkeypatch.setattr(process, "start", lambda: (_ for _ in ()).throw(ConnectionRefusedError()))
            return process

        return start(of_a_dying_one)

    monkeypatch.setattr(ranks, "start_from_server", late)
    assert swim(folders)[0].clean and killed and server_pid() not in killed
    (ignored,) = re.findall(r"SigIgn:\s*(\w+)", Path(f"/proc/{server_pid()}/status").read_text())
    assert all(int(ignored, 16) >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP))


def test_no_signal_is_lost_while_a_run_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM warns once. It may be in the middle of anything."""
    folders = runs(tmp_path, "work", "work")
    swim(runs(tmp_path / "before", "work"))
    heard = []

    def listening(code: object = None) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(fork_server, "_stops_ignored", lambda: pytest.fail("deaf, although the server runs"))
            fork_server.start_server()
        heard.append(signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN)

    monkeypatch.setattr(pool, "start_server", listening)
    assert swim(folders)[0].clean and heard == [True] * 3


def test_an_entry_of_another_host_with_the_same_pid_is_not_this_runs(tmp_path: Path) -> None:
    class Ended:
        exitcode, pid = -signal.SIGKILL, 2**22 + 1

        def join(self) -> None:
            pass

    (folder,) = runs(tmp_path, "work")
    write_json(folder.attempts / "001.json", {"attempt": 1, "pid": Ended.pid, "host": "elsewhere"})
    process: Any = Ended()
    assert ActiveRun(folder, process, (), resources.oom_kills()).reap() == (Cause.INTERRUPTED, "stopped by SIGKILL")


def test_a_failure_is_forgotten_when_the_run_succeeds(tmp_path: Path) -> None:
    folders = runs(tmp_path, "work")
    write_json(folders[0].failure, {"run": "run0"})
    assert swim(folders)[0].clean
    assert not folders[0].failure.exists()


def test_the_first_runs_that_die_alike_hold_the_rest(tmp_path: Path) -> None:
    folders = runs(tmp_path, *["raise"] * 6)
    outcome, view = swim(folders, jobs=1)
    assert len(outcome.failed) == 3 and [one.id for one in outcome.held] == ["run3", "run4", "run5"]
    assert [detail for kind, detail in view.lines if kind == "held"] != []
    assert all(folder.state() is State.TODO for folder in outcome.held)


@pytest.mark.parametrize("second", ["work", "raise differently"])
def test_faults_that_differ_or_follow_a_success_hold_nothing(tmp_path: Path, second: str) -> None:
    folders = runs(tmp_path, "raise", second, "raise", "raise", "raise")
    outcome, _ = swim(folders, jobs=1)
    assert not outcome.held and len(outcome.causes) == 5


def test_gpus_are_leased_one_run_each(tmp_path: Path) -> None:
    folders = runs(tmp_path, *["work"] * 4)
    outcome, _ = swim(folders, jobs=2, gpus=["0", "GPU-aa"])
    assert outcome.clean
    assert {read_json(folder.outcome)["gpu"] for folder in folders} == {"0", "GPU-aa"}


def test_a_gpu_that_another_sweep_has_is_waited_for(tmp_path: Path) -> None:
    other, ours = GpuLocks(tmp_path / "leases"), GpuLocks(tmp_path / "leases")
    assert other.take("GPU-b")
    outcome, _ = swim(runs(tmp_path / "one", "work", "work"), jobs=2, gpus=["GPU-a", "GPU-b"], leases=ours)
    used = [read_json(RunFolder(tmp_path / "one" / name).outcome)["gpu"] for name in ("run0", "run1")]
    assert outcome.clean and used == ["GPU-a", "GPU-a"], "one after the other on the free one"
    assert other.take("GPU-a"), "and given back"

    class Releasing(Record):
        def note(self, text: str) -> None:
            super().note(text)
            other.release("GPU-a")

    outcome, view = swim(runs(tmp_path / "two", "work"), gpus=["GPU-a", "GPU-b"], leases=ours, view=Releasing())
    assert outcome.clean and read_json(RunFolder(tmp_path / "two" / "run0").outcome)["gpu"] == "GPU-a"
    (said,) = [text for kind, text in view.lines if kind == "note"]
    assert "Waiting for GPUs" in said and f"GPU-b has process {os.getpid()}" in said


def test_out_of_memory_beside_others_is_tried_once_more_alone(tmp_path: Path) -> None:
    folders = runs(tmp_path, "oom at first", "oom", "work", "work")
    outcome, view = swim(folders, jobs=4)
    assert outcome.causes == {"run0": Cause.DONE, "run1": Cause.OOM, "run2": Cause.DONE, "run3": Cause.DONE}
    assert not folders[0].failure.exists() and folders[1].state() is State.FAILED
    assert [len(list(folder.attempts.iterdir())) for folder in folders] == [2, 2, 1, 1]
    assert view.lines.count(("out of memory", "run1")) == 1 and view.lines[-1] in {
        ("done", "run0"),
        ("out of memory", "run1"),
    }
    (alone,) = runs(tmp_path / "alone", "oom")
    assert swim([alone])[0].causes == {"run0": Cause.OOM} and len(list(alone.attempts.iterdir())) == 1


def test_a_run_whose_last_neighbour_ended_just_before_its_memory_did_is_tried_alone_too(tmp_path: Path) -> None:
    folders = runs(tmp_path, "oom once told", "work")

    class Telling(Record):
        def ended(self, folder: RunFolder, cause: Cause, detail: str) -> None:
            super().ended(folder, cause, detail)
            (folders[0].path / "told").touch()

    outcome, _ = swim(folders, view=Telling())
    assert outcome.causes == {"run0": Cause.OOM, "run1": Cause.DONE}
    assert [len(list(folder.attempts.iterdir())) for folder in folders] == [2, 1]


def test_a_kill_for_memory_answers_for_one_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "oom_kills", lambda: 4)
    monkeypatch.setattr(resources, "_ANSWERED", [0])
    assert [resources.killed_for_memory(3) for _ in range(2)] == [True, False]
    assert not resources.killed_for_memory(0), "a run that started before is killed by somebody else"


@pytest.mark.parametrize(
    ("line", "files", "count"),
    [
        ("0::/job", {"job/memory.events.local": 1, "job/memory.events": 3}, 1),  # two in groups below: not our runs
        ("0::/job", {"job/memory.events": 3}, 3),  # a kernel that counts them together only
        ("0::/", {"memory.events.local": 2}, 2),
        ("4:cpu:/x\n7:memory:/job", {"memory/job/memory.oom_control": 4}, 4),
        ("7:memory:/not/seen/here", {"memory/memory.oom_control": 5}, 5),  # a container's own root
        ("0::/job", {}, 0),
    ],
)
def test_kills_for_memory_are_counted_in_our_own_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, files: dict[str, int], count: int
) -> None:
    held = {"proc/self/cgroup": line} | {f"sys/fs/cgroup/{name}": f"oom_kill {n}\n" for name, n in files.items()}
    for name, text in held.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(resources, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert resources.oom_kills() == count


def test_a_full_disk_is_no_failure_and_ends_a_sweep_that_cannot_write(tmp_path: Path) -> None:
    folders = runs(tmp_path, "work", *["full disk"] * 4)
    outcome, _ = swim(folders, jobs=1)
    assert [outcome.causes[f"run{index}"] for index in range(4)] == [Cause.DONE, *[Cause.DISK] * 3]
    assert [one.id for one in outcome.held] == ["run4"] and not outcome.failed and not outcome.clean
    assert [folder.state() for folder in folders[1:]] == [State.TODO] * 4
    assert "No space left on device" in folders[1].log.read_text()
    write_json(folders[1].spec, {"id": "run1", "spec": {"behave": "work", "seed": 1}})
    assert swim(folders[1:2])[0].clean, "once there is room it goes on"
    entry = read_json(folders[1].attempts / "001.json")
    assert entry["cause"] == "disk" and "a write failed" in entry["detail"]


def test_a_run_whose_folder_cannot_be_made_spoils_no_other(tmp_path: Path) -> None:
    folders = runs(tmp_path, "work", "work")
    (tmp_path / "file").touch()
    outcome, _ = swim([RunFolder(tmp_path / "file" / "run"), *folders])
    assert outcome.causes == {"run": Cause.CODE, "run0": Cause.DONE, "run1": Cause.DONE}


def test_what_a_dead_run_started_dies_with_it(tmp_path: Path) -> None:
    (folder,) = runs(tmp_path, "leave a child")
    swim([folder])
    child = int((folder.path / "child").read_text())
    deadline = time.monotonic() + 20
    while process_start(child) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process_start(child) is None


def test_a_cancelled_run_is_not_started(tmp_path: Path) -> None:
    folders = runs(tmp_path, "work", "work")
    write_json(folders[0].cancelled, {"run": "run0"})
    outcome, _ = swim(folders)
    assert outcome.causes["run0"] is Cause.INTERRUPTED and not (folders[0].path / "executed").exists()
    assert outcome.causes["run1"] is Cause.DONE


def test_a_run_that_is_cancelled_elsewhere_stops_and_the_others_of_its_job_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signal reaches it from another machine: it sees the mark at its next heartbeat."""
    folders = runs(tmp_path, "wait", "work")

    class Cancelling(Record):
        def tick(self, running: Sequence[RunFolder]) -> None:
            if (folders[0].path / "waiting").exists():
                write_json(folders[0].cancelled, {"run": "run0"})

    outcome, view = swim(folders, jobs=1, job="7_0", view=Cancelling())
    assert outcome.causes == {"run0": Cause.INTERRUPTED, "run1": Cause.DONE} and not outcome.stopped
    entry = last(folders[0])
    assert entry is not None and entry["detail"] == "cancelled: stopped by a signal after step 7 of 9"
    assert view.lines.count(("start", "run0")) == 1 and folders[0].state() is State.CANCELLED


def test_a_stop_reaches_the_runs_while_the_loop_waits_for_one_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fork server may be on the way out, or its other processes; the sweep's own killer does not wait so long."""
    folders = runs(tmp_path, "wait", "exit 255")

    class Telling(Record):
        def tick(self, running: Sequence[RunFolder]) -> None:
            super().tick(running)
            if (folders[0].path / "waiting").exists():
                (folders[1].path / "told").touch()

    def waiting(pid: int | None, seconds: float) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 60
        while "cause" not in (last(folders[0]) or {}):
            assert time.monotonic() < deadline, "nobody told it"
            time.sleep(0.01)
        return False

    monkeypatch.setattr(run_process, "ends_within", waiting)
    outcome, _ = swim(folders, view=Telling())
    assert outcome.stopped and outcome.causes == {"run0": Cause.INTERRUPTED, "run1": Cause.CODE}


SWEEP = """
import signal
import sys
from pathlib import Path
from test_pool import runs, swim
if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever nohup said to whoever runs the tests
    outcome, view = swim(runs(Path(sys.argv[1]), "wait", "wait", "work"), jobs=2)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the second may be late
    print({run: cause.value for run, cause in sorted(outcome.causes.items())}, outcome.stopped)
"""


def sweep_of_two_that_wait(tmp_path: Path) -> subprocess.Popen[str]:
    """A sweep in a session of its own, as a terminal's is, both of whose first runs are under way."""
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600  # the machine may be busy: it takes seconds
    while not all((tmp_path / f"run{i}" / "waiting").exists() for i in (0, 1)) and time.monotonic() < deadline:
        assert process.poll() is None, "the sweep ended before its runs waited"
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_lets_the_runs_save_and_starts_no_more(tmp_path: Path, number: signal.Signals) -> None:
    """A terminal that is closed tells the whole group, the fork server too, and may tell it twice."""
    process = sweep_of_two_that_wait(tmp_path)
    try:
        for _ in range(2 if number is signal.SIGHUP else 1):
            os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert said.strip() == "{'run0': 'interrupted', 'run1': 'interrupted'} True"
    assert not (tmp_path / "run2" / "executed").exists()
    for index in (0, 1):
        folder = RunFolder(tmp_path / f"run{index}")
        assert folder.state() is State.TODO and folder.lock_state() is None
        entry = last(folder)
        assert entry is not None and "step 7" in entry["detail"]


def test_runs_do_not_outlive_a_sweep_that_is_killed(tmp_path: Path) -> None:
    """Its leases of GPUs end with it, so that the next sweep would train beside them."""
    process = sweep_of_two_that_wait(tmp_path)
    process.kill()
    process.communicate()
    folders, deadline = [RunFolder(tmp_path / f"run{index}") for index in (0, 1)], time.monotonic() + 30
    while any(folder.lock_state() for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.02)
    for folder in folders:
        entry = last(folder)
        assert folder.lock_state() is None and entry is not None and "step 7" in entry["detail"]
        assert "parent sweep exited" in folder.log.read_text()
    assert not (tmp_path / "run2" / "executed").exists()
