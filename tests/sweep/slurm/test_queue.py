"""What follows from the answers of a pretend SLURM that errs, and from folders where nothing can be written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.store.results import RunFolder, State, Store, read_json, write_json
from harness.sweep.__main__ import main
from harness.sweep.local.circuit_breaker import CircuitBreaker
from harness.sweep.slurm import limits, queue
from harness.sweep.slurm.submissions import Chunk, Submission, idle, submissions, submitting
from tests.sweep.shims import Shims, sweep

ROOT = Path(__file__).resolve().parents[3]
Write = Callable[..., Path]
OTHERS = {"_101_1": "RUNNING", "_101_2": "RUNNING", "_101_3": "RUNNING"}
"""All jobs of the first array but its first."""


class Clock:
    """What time it is for everybody."""

    def __init__(self) -> None:
        self.seconds = 1e10


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(queue.time, "time", lambda: made.seconds)
    return made


@pytest.fixture
def path(write: Write, slurm: Shims, results: Store, clock: Clock) -> Path:
    """An experiment whose four runs were submitted as array 101, two minutes ago."""
    made = write()
    assert sweep(made, results) == 0
    clock.seconds += 120
    return made


def first_run(store: Store) -> RunFolder:
    return store.run(submissions(store)[0].chunks[0].tasks[0][0])


def words(store: Store) -> set[str]:
    return set(queue.query(store).runs.values())


# --- jobs that are over -------------------------------------------------------------------------------------


def test_a_job_that_was_cancelled_leaves_a_run_alone_that_was_submitted_anew(
    path: Path, slurm: Shims, results: Store, clock: Clock
) -> None:
    slurm.answer(_101_0="CANCELLED", **OTHERS)
    assert sweep(path, results) == 0
    first, second = submissions(results)
    assert second.chunks[0].tasks == [first.chunks[0].tasks[0]] and first_run(results).state() is State.TODO
    first.chunks[0].settled = []  # as records have it that were written before there was such a list
    first.save()
    clock.seconds += 120
    slurm.answer(_101_0="CANCELLED", _102="PENDING", **OTHERS)
    assert len(queue.query(results).runs) == 4
    assert first_run(results).state() is State.TODO


def test_a_launch_that_failed_can_be_tried_again_while_its_array_lives(
    path: Path, slurm: Shims, results: Store, clock: Clock
) -> None:
    slurm.answer(_101_0="FAILED", **OTHERS)
    queue.query(results)
    assert first_run(results).state() is State.FAILED
    clock.seconds += 120
    assert sweep(path, results, "--retry") == 0
    assert first_run(results).state() is State.TODO and list(slurm.scripts()) == ["101", "102"]


def test_a_job_that_came_back_is_settled_again(path: Path, slurm: Shims, results: Store, clock: Clock) -> None:
    """``scontrol requeue`` starts a job anew that has ended."""
    for word in ("FAILED", "RUNNING", "FAILED"):
        first_run(results).failure.unlink(missing_ok=True)
        slurm.answer(_101_0=word, **OTHERS)
        queue.query(results)
        assert first_run(results).state() is (State.FAILED if word == "FAILED" else State.TODO)
        clock.seconds += 60


def began(store: Store, host: str = "node7") -> tuple[RunFolder, str]:
    """The first job has reached Python, on another machine, and its run is under way there."""
    (submission,) = submissions(store)
    task, run = submission.chunks[0].task_id(0), first_run(store)
    submission.started(task).parent.mkdir(exist_ok=True)
    submission.started(task).touch()
    submission.log(task).write_text("slurmstepd: error: the last words\n")
    write_json(run.lock.path, {"pid": 1, "host": host, "boot": "b", "started": "s", "job": task})
    write_json(run.attempts / "001.json", {"attempt": 1, "host": host, "pid": 1, "job": task, "start": "now"})
    return run, task


@pytest.mark.parametrize(
    ("word", "said", "cause", "state"),
    [
        ("OUT_OF_MEMORY", "", "out of memory", State.FAILED),
        (
            "FAILED",
            "slurmstepd: error: Step 7 exceeded memory limit (9 > 8), being killed\n",
            "out of memory",
            State.FAILED,
        ),
        ("FAILED", "", "interrupted", State.TODO),
        ("TIMEOUT", "", "timeout", State.TODO),
    ],
)
def test_a_job_that_died_with_a_run_under_way_is_seen(
    path: Path,
    slurm: Shims,
    results: Store,
    capsys: pytest.CaptureFixture[str],
    word: str,
    said: str,
    cause: str,
    state: State,
) -> None:
    run, task = began(results)
    with submissions(results)[0].log(task).open("a") as log:
        log.write(said)
    slurm.answer(_101_0=word, **OTHERS)
    assert main(["--status", "--results", str(results.root)]) == (1 if state is State.FAILED else 0)
    assert f"1 {cause}: " in " ".join(capsys.readouterr().out.split())
    entry = read_json(run.attempts / "001.json")
    assert entry["cause"] == cause and word in entry["detail"] and run.state() is state
    if state is State.FAILED:
        assert "the last words" in read_json(run.failure)["traceback"]
        assert sweep(path, results) == 0 and list(slurm.scripts()) == ["101"], "it would only die again"


def test_a_job_that_fails_before_it_begins_a_run_is_a_failed_launch(path: Path, slurm: Shims, results: Store) -> None:
    """It had reached Python; without a word here it would be submitted again with every sweep, for ever."""
    run, _ = began(results)
    run.lock.path.unlink()
    (run.attempts / "001.json").unlink()
    slurm.answer(_101_0="FAILED", **OTHERS)
    assert sweep(path, results) == 0 and list(slurm.scripts()) == ["101"]
    failure = read_json(run.failure)
    assert failure["cause"] == "launch" and "the last words" in failure["traceback"]


def test_what_a_dead_job_had_done_stays_done(path: Path, slurm: Shims, results: Store) -> None:
    run, _ = began(results)
    run.lock.path.unlink()
    write_json(run.outcome, {"run": run.id, "status": "trained"})
    for handle in submissions(results)[0].evaluations:
        write_json(run.evaluation(handle), {"run": run.id, "values": {}})
    slurm.answer(_101_0="OUT_OF_MEMORY", **OTHERS)
    queue.query(results)
    assert run.state(submissions(results)[0].evaluations) is State.DONE and not run.failure.exists()


def test_a_submission_that_is_held_back_is_said_once(
    path: Path, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (submission,) = submissions(results)
    for run in "abc":
        CircuitBreaker(submission.folder).died(run, {"fingerprint": "f", "type": "KeyError", "message": "x"})
    slurm.enqueue()
    status = ["--status", "--results", str(results.root)]
    assert main(status) == 0
    assert "held back" not in capsys.readouterr().out, "its jobs still wait"
    slurm.enqueue("COMPLETED")
    started(results)
    clock_back(results)
    assert main(status) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 held back, for 3 died alike before any had succeeded: KeyError: x" in said


def clock_back(store: Store) -> None:
    """The next look asks the queue."""
    (store.jobs / "squeue.json").unlink()


def test_jobs_that_will_never_start_are_said(
    path: Path, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.answer(_101_0="PENDING", _101_1="PENDING", _101_2="PENDING", _101_3="RUNNING")
    reasons = iter(["PartitionTimeLimit", "launch failed requeued held", "Priority", "None"])
    lines = (slurm.folder / "queue").read_text().splitlines()
    (slurm.folder / "queue").write_text("".join(f"{line}|{next(reasons)}\n" for line in lines))
    assert main(["--status", "--results", str(results.root)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 jobs cannot start (PartitionTimeLimit): 101_0;" in said
    assert "(launch failed requeued held): 101_1;" in said and "Priority" not in said
    assert set(queue.query(results).runs.values()) == {"PENDING", "RUNNING"}


@pytest.mark.parametrize(
    ("partition", "minutes"), [(None, 2880), ("long", 10080), ("free", None), ("main,long", 10080), ("none", None)]
)
def test_the_longest_job_of_a_partition(slurm: Shims, partition: str | None, minutes: int | None) -> None:
    (slurm.folder / "partitions").write_text(
        "PartitionName=main AllowGroups=ALL Default=YES MaxNodes=2 MaxTime=2-00:00:00 State=UP\n"
        "PartitionName=long Default=NO MaxTime=7-00:00:00\nPartitionName=free Default=NO MaxTime=UNLIMITED\n"
    )
    assert limits.longest_minutes(partition) == minutes


# --- answers that err ---------------------------------------------------------------------------------------


def started(store: Store) -> None:
    (submission,) = submissions(store)
    for task in submission.chunks[0].task_ids():
        submission.started(task).parent.mkdir(exist_ok=True)
        submission.started(task).touch()


def test_one_empty_answer_ends_no_array(path: Path, slurm: Shims, results: Store, clock: Clock) -> None:
    started(results)
    slurm.answer()
    assert words(results) == {"unknown"}
    clock.seconds += 59
    assert words(results) == {"unknown"}, "the same answer, looked at twice"
    clock.seconds += 1
    slurm.answer(_101_0="RUNNING", **OTHERS)
    assert words(results) == {"RUNNING"}
    slurm.answer()
    clock.seconds += 60
    assert words(results) == {"unknown"} and not submissions(results)[0].chunks[0].over, "it begins anew"
    clock.seconds += 60
    assert words(results) == set() and submissions(results)[0].chunks[0].over == "ended"


def test_after_a_last_word_a_job_may_leave_the_answer_at_once(
    path: Path, slurm: Shims, results: Store, clock: Clock
) -> None:
    started(results)
    slurm.answer(_101_0="COMPLETED", **OTHERS)
    assert len(queue.query(results).runs) == 3
    clock.seconds += 60
    slurm.answer(**OTHERS)
    assert len(queue.query(results).runs) == 3


def test_slurm_is_asked_again_after_the_clock_was_set_back(
    path: Path, slurm: Shims, results: Store, clock: Clock
) -> None:
    slurm.answer(_101_0="PENDING", **OTHERS)
    assert words(results) == {"PENDING", "RUNNING"}
    clock.seconds -= 1e6
    slurm.answer(_101_0="RUNNING", **OTHERS)
    assert words(results) == {"RUNNING"}


# --- what does not obey -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"), [("denied", "Access/permission denied"), ("hang", "no answer from SLURM in")]
)
def test_jobs_that_could_not_be_cancelled_are_not_called_cancelled(
    path: Path,
    slurm: Shims,
    results: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    said: str,
) -> None:
    slurm.answer(_101_0="RUNNING", **OTHERS)
    queue.query(results)
    (slurm.folder / fault).write_text("scancel: error: Kill job error on job id 101: Access/permission denied\n")
    cancel = ["--cancel", "--yes", "--results", str(results.root)]
    with monkeypatch.context() as patch:
        patch.setattr(queue, "PATIENCE_S", 0.5 if fault == "hang" else 60.0)
        assert main(cancel) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Nothing was cancelled" in out and f"101: not cancelled: {said}" in out.replace(
        "scancel: error: Kill job error on job id 101: ", ""
    )
    assert not submissions(results)[0].chunks[0].over
    (slurm.folder / fault).unlink()
    assert main(cancel) == 0 and submissions(results)[0].chunks[0].over == "cancelled"


def test_a_stray_that_could_not_be_cancelled_keeps_its_runs(
    path: Path, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (submission,) = submissions(results)
    submission.chunks[0].job = None
    submission.save()
    for pickled in submission.logs.glob("*_submitted.pkl"):
        pickled.unlink()
    slurm.enqueue()
    (slurm.folder / "denied").write_text("Access/permission denied\n")
    assert sweep(path, results) == 0
    assert "could not be cancelled (Access/permission denied)" in " ".join(capsys.readouterr().out.split())
    assert len(slurm.scripts()) == 1 and not submissions(results)[0].chunks[0].over


# --- two at a time ------------------------------------------------------------------------------------------


def another_array(store: Store) -> Submission:
    """What a second sweep adds to the record, as it does with a sweep of several arrays."""
    (submission,) = submissions(store)
    submission.chunks.append(Chunk("another", [submission.chunks[0].tasks[0]], 1, 30, job="102"))
    submission.save()
    return submission


def test_two_that_look_at_once_ask_one_question(path: Path, slurm: Shims, results: Store) -> None:
    slurm.enqueue()
    (slurm.folder / "slow").touch()
    before = len(slurm.calls("squeue"))
    seen: list[int] = []
    both = [threading.Thread(target=lambda: seen.append(len(queue.query(results).runs))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert seen == [4, 4] and len(slurm.calls("squeue")) - before == 1


def test_who_has_to_wait_to_submit_hears_for_whom(results: Store) -> None:
    said: list[str] = []

    def second() -> None:
        with submitting(results, said.append):
            said.append("now")

    with submitting(results):
        waiting = threading.Thread(target=second)
        waiting.start()
        while not said and waiting.is_alive():
            time.sleep(0.01)
        with idle(results) as alone:
            assert not alone
    waiting.join()
    assert f"pid {os.getpid()} on " in said[0] and said[1] == "now"


def test_what_is_submitted_while_the_queue_is_asked_stays_on_record(
    path: Path, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_queue(names: object) -> dict[str, list[str]]:
        submission = another_array(results)
        return {task: ["COMPLETED", submission.chunks[0].name] for task in submission.chunks[0].task_ids()}

    monkeypatch.setattr(queue, "ask_queue", ask_queue)
    queue.query(results)
    assert [chunk.over for chunk in submissions(results)[0].chunks] == ["ended", ""]


def test_what_is_submitted_while_cancel_waits_is_cancelled_too(
    path: Path, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def submitting(store: Store) -> Iterator[None]:
        another_array(store)
        yield

    monkeypatch.setattr(queue, "submitting", submitting)
    assert main(["--cancel", "--yes", "--results", str(results.root)]) == 0
    assert slurm.calls("scancel") == ["scancel 101", "scancel 102"]
    assert [chunk.over for chunk in submissions(results)[0].chunks] == ["cancelled", "cancelled"]


# --- looking without writing --------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--budget", "1h")], ids=["plan", "budget"])
def test_a_plan_asks_the_queue_and_writes_nothing(
    path: Path, slurm: Shims, results: Store, more: tuple[str, ...]
) -> None:
    slurm.answer(_101_0="CANCELLED", **OTHERS)
    (results.jobs / "lock").unlink()

    def tree() -> dict[Path, bytes]:
        return {one: one.read_bytes() if one.is_file() else b"" for one in results.root.rglob("*")}

    before, asked = tree(), len(slurm.calls("squeue"))
    assert sweep(path, results, "--plan", *more) == 0
    assert tree() == before and len(slurm.calls("squeue")) > asked


@pytest.mark.slow
def test_in_a_folder_of_somebody_else_one_may_look(write: Write, slurm: Shims, results: Store) -> None:
    path = write()
    assert sweep(path, results) == 0
    slurm.answer(_101_0="CANCELLED", **OTHERS)
    run = first_run(results)
    look = "; ".join(
        f"assert main({[*asked, '--results', str(results.root)]}) == 0, {asked}"
        for asked in (["--status"], ["--logs", run.id], [str(path), "--plan"])
    )
    write_ = f"assert main({[str(path), '--results', str(results.root)]}) == 2"
    # Root may write anywhere; without this capability it is held to the modes of files as anybody is.
    as_anybody = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    script = f"from harness.sweep.__main__ import main; {look}; {write_}"
    paths = [results.root, *results.root.rglob("*")]
    modes = {one: one.stat().st_mode for one in paths}
    for one in paths:
        one.chmod(modes[one] & 0o555)
    try:
        done = subprocess.run(
            [*as_anybody, sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
        )
    finally:
        for one in paths:
            one.chmod(modes[one])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is not writable" in " ".join(done.stderr.split())
    assert not run.cancelled.exists() and read_json(results.jobs / "squeue.json") is None
