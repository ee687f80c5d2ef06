"""The local pool against real processes: who fails, fails alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.components import Evaluation
from harness.store import RunFolder, State, process_start, read_json, write_json
from harness.sweep.attempts import Cause, last
from harness.sweep.pool import Outcome, Pool
from harness.train.place import Place
from tests.sweep.fake_executors import behave

LINEAR = Evaluation("linear", "linear-00000000", {"linear": {}})
ROOT = Path(__file__).resolve().parents[2]


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

    def tick(self, running: Sequence[RunFolder]) -> None:
        self.most = max(self.most, len(running))


def runs(tmp_path: Path, *behaviours: str) -> list[RunFolder]:
    folders = [RunFolder(tmp_path / f"run{index}") for index in range(len(behaviours))]
    for index, (folder, what) in enumerate(zip(folders, behaviours, strict=True)):
        write_json(folder.spec, {"id": folder.id, "spec": {"behave": what, "seed": index}})
    return folders


def swim(
    folders: list[RunFolder], jobs: int = 2, gpus: Sequence[str] = (), job: str | None = None
) -> tuple[Outcome, Record]:
    view = Record()
    pool = Pool(folders, [LINEAR], Place(threads=3), view, jobs=jobs, gpus=gpus, execute=behave, job=job)
    return pool.run(), view


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
        assert folder.state([LINEAR.handle]) is state, what
        assert entry is not None and entry["cause"] == cause.value, what
        assert f"does: {what}" in folder.log.read_text(), what
        assert folder.claim_state() is None, what
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
    assert folders[0].take_claim()
    outcome, _ = swim(folders)
    assert outcome.causes == {"run0": Cause.ELSEWHERE, "run1": Cause.DONE}
    assert not (folders[0].path / "executed").exists()
    assert folders[0].claim_state() is State.RUNNING


def test_no_claim_outlives_its_run_however_it_died(tmp_path: Path) -> None:
    folders = runs(tmp_path, "killed", "segfault", "stop early")
    outcome, _ = swim(folders)
    assert [folder.id for folder in folders if folder.claim.exists()] == []
    assert outcome.causes["run2"] is Cause.INTERRUPTED and folders[2].state() is State.TODO


def test_in_a_job_a_killed_run_spoils_no_other_but_a_stopped_one_ends_the_job(tmp_path: Path) -> None:
    outcome, _ = swim(runs(tmp_path / "a", "killed", "raise", "work", "work"), jobs=1, job="7_0")
    assert list(outcome.causes.values()) == [Cause.INTERRUPTED, Cause.CODE, Cause.DONE, Cause.DONE]
    outcome, _ = swim(runs(tmp_path / "b", "stop early", "work"), jobs=1, job="7_0")
    assert list(outcome.causes.values()) == [Cause.INTERRUPTED] and outcome.stopped, "its node is being taken away"


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


SWEEP = """
import sys
from pathlib import Path
from test_pool import runs, swim
if __name__ == "__main__":
    outcome, view = swim(runs(Path(sys.argv[1]), "wait", "wait", "work"), jobs=2)
    print({run: cause.value for run, cause in sorted(outcome.causes.items())}, outcome.stopped)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_lets_the_runs_save_and_starts_no_more(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 600  # the machine may be busy: it takes seconds
        while not all((tmp_path / f"run{i}" / "waiting").exists() for i in (0, 1)) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        said, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert said.strip() == "{'run0': 'interrupted', 'run1': 'interrupted'} True"
    assert not (tmp_path / "run2" / "executed").exists()
    for index in (0, 1):
        folder = RunFolder(tmp_path / f"run{index}")
        assert folder.state() is State.TODO and folder.claim_state() is None
        entry = last(folder)
        assert entry is not None and "step 7" in entry["detail"]
