"""Submission to a pretend SLURM. The real one is in tests/slurm."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.runtime import Runtime
from harness.store.causes import Cause
from harness.store.results import RunFolder, State, Store, read_json, write_json
from harness.sweep.__main__ import main
from harness.sweep.local import run_local
from harness.sweep.slurm import job, queue, requeue, sbatch, submit
from harness.sweep.slurm.config import Cluster, load_cluster
from harness.sweep.slurm.submissions import Chunk, submissions
from harness.sweep.worker import worker
from tests.sweep.shims import Shims, sweep, tasks

ROOT = Path(__file__).resolve().parents[3]
CLUSTERS = ROOT / "experiments" / "clusters"
Write = Callable[..., Path]


def test_a_sweep_submits_one_array_and_returns(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(write(), results) == 0, "auto: sbatch is on the PATH"
    ((job, script),) = slurm.scripts().items()
    assert tasks(job, script) == [f"{job}_{index}" for index in range(4)]
    for option in ("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=8", "--gpus-per-node=1", "--time=30"):
        assert f"#SBATCH {option}\n" in script
    (command,) = [line for line in script.splitlines() if line.startswith("srun --unbuffered ")]
    assert "--cpus-per-task=8 " in command
    assert f'export PYTHONPATH="{(results.code).resolve()}/' in script and "export PYTHONSAFEPATH=" in script
    assert "Submitted 4 runs as 4 jobs" in " ".join(capsys.readouterr().out.split())
    (submission,) = submissions(results)
    assert submission.chunks[0].job == job
    orders = [read_json(submission.task_file(0, index)) for index in range(4)]
    assert {run for order in orders for run in order["runs"]} == {folder.id for folder in results.all_runs()}


@pytest.mark.parametrize(("ask_s", "answer", "code"), [(0.0, "n", 2), (0.0, "y", 0), (1e9, "n", 0)])
def test_a_person_is_asked_before_long_jobs_are_submitted(
    write: Write, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch, ask_s: float, answer: str, code: int
) -> None:
    monkeypatch.setattr(run_local, "ASK_S", ask_s)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    assert sweep(write(), results) == code and bool(slurm.scripts()) == (code == 0)


def test_sweeping_again_submits_only_what_is_missing(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    slurm.enqueue()
    assert sweep(write(), results) == 0
    assert len(slurm.scripts()) == 1, "all four wait in the queue"
    other = write(("[0.1, 0.5]", "[0.5, 1.0]"), ("temperature: 0.1", "temperature: 1.0"), name="other")
    sweep(other, results)
    (_, second) = slurm.scripts().values()
    assert len(tasks("1", second)) == 2, "two of the four are in the queue already, for another experiment"


def test_another_experiment_s_evaluations_follow_the_jobs_that_have_its_runs(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is on record as well: status and report read nothing else."""
    sweep(write(), results)
    slurm.enqueue()
    other = write(("evaluate: [linear]", "evaluate: [linear, contrastive]"), name="other")
    assert sweep(other, results, "--plan") == 0 and len(slurm.scripts()) == 1
    assert sweep(other, results) == 0
    ((first, _), (_, second)) = slurm.scripts().items()
    assert len(tasks("1", second)) == 4 and f"--dependency=afterany:{first}\n" in second
    manifest = read_json(results.experiments / "other@smoke.json")
    orders = [read_json(submissions(results)[1].task_file(0, index)) for index in range(4)]
    assert {one["handle"] for one in orders[0]["evaluations"]} == {*manifest["evaluations"].values()}
    assert "a second job of each follows the first" in " ".join(capsys.readouterr().out.split())
    slurm.enqueue()
    assert sweep(other, results) == 0 and len(slurm.scripts()) == 2, "now all of it is ordered"
    fewer = write(("evaluate: [linear]", "evaluate: [contrastive]"), name="fewer")
    fewer.write_text(fewer.read_text().replace("linear/top1", "contrastive/top1"))
    assert sweep(fewer, results) == 0 and len(slurm.scripts()) == 2, "and of this one too"
    assert read_json(results.experiments / "fewer@smoke.json")["evaluations"]


def test_nothing_follows_a_job_that_may_not_be_there(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(write(), results)
    (slurm.folder / "down").touch()
    other = write(("evaluate: [linear]", "evaluate: [linear, contrastive]"), name="other")
    assert sweep(other, results) == 0 and len(slurm.scripts()) == 1
    assert "4 runs may be in the queue, but not for all" in " ".join(capsys.readouterr().out.split())
    assert (results.experiments / "other@smoke.json").exists()


def test_a_run_that_ends_after_the_plan_was_made_is_not_submitted_again(
    write: Write, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time the queue is asked its job has left it, and what the plan says of the run is old."""
    sweep(write(), results)
    slurm.enqueue("RUNNING")
    ask = queue.query

    def look(store: Store, **more: bool) -> queue.Queue:
        (manifest,) = store.experiments.glob("*.json")
        (handle,) = read_json(manifest)["evaluations"].values()
        for folder in list(store.all_runs())[:3]:
            write_json(folder.outcome, {"run": folder.id, "status": "trained"})
            write_json(folder.evaluation(handle), {"run": folder.id, "values": {}})
        slurm.enqueue("COMPLETED")
        return ask(store, **more)

    monkeypatch.setattr(queue, "query", look)
    (submission,) = submissions(results)
    for task in submission.chunks[0].task_ids():
        submission.started(task).parent.mkdir(exist_ok=True)
        submission.started(task).touch()
    assert sweep(write(), results) == 0
    (_, second) = slurm.scripts().values()
    assert len(tasks("1", second)) == 1, "the one that is left; the other three are done"


def test_plan_submits_nothing(write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(write(), results, "--plan") == 0
    assert not slurm.calls("sbatch") and not results.root.exists()
    assert "array: jobs 4, runs per job 1" in " ".join(capsys.readouterr().out.split())


def test_slurm_is_asked_one_question_a_minute_at_most(
    write: Write, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often one looks, whatever the answer, and in sweep and status alike."""
    path = write()
    sweep(path, results)
    clock = [1e10]
    monkeypatch.setattr(queue.time, "time", lambda: clock[0])
    before = len(slurm.calls(""))
    for second in range(130):
        clock[0] = 1e10 + second
        (slurm.folder / "down").unlink(missing_ok=True)
        if second > 60:
            (slurm.folder / "down").touch()
        else:
            slurm.enqueue()
        queue.query(results)
        if second % 40 == 0:
            assert main(["--status", "--results", str(results.root)]) == 0
            assert sweep(path, results) == 0
    asked = slurm.calls("")[before:]
    assert [one.split()[0] for one in asked] == ["squeue"] * 3, asked


@pytest.mark.parametrize("answer", ["down", "empty", "strange"])
def test_no_answer_makes_nothing_failed(write: Write, slurm: Shims, results: Store, answer: str) -> None:
    sweep(write(), results)
    if answer == "down":
        (slurm.folder / "down").touch()
    if answer == "strange":
        (slurm.folder / "queue").write_text("101_[0-3%2]|REVOKED|small\nsqueue: warning\n101_1|REVOKED|small\n")
    seen = queue.query(results)
    assert set(seen.runs.values()) <= {"unknown", "REVOKED"} and len(seen.runs) == 4
    assert sweep(write(), results) == 0
    assert len(slurm.scripts()) == 1, "nothing is submitted twice"
    assert all(folder.state() is State.TODO for folder in results.all_runs())


def test_a_job_that_never_reached_python_is_a_failed_launch(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    (submission,) = submissions(results)
    job = submission.chunks[0].job
    (submission.logs / f"{job}_0_0_log.err").write_text("bash: /opt/python: bad interpreter\n")
    first = submission.submitted + 100
    assert set(queue.query(results, now=first).runs.values()) == {"unknown"}, "seen missing once"
    assert queue.query(results, now=first + 400).runs == {}
    first_run, *others = [results.run(task[0]) for task in submission.chunks[0].tasks]
    failure = read_json(first_run.failure)
    assert failure["cause"] == "launch" and "bad interpreter" in failure["traceback"]
    assert {one.state() for one in others} == {State.CANCELLED}, "no log: they never began"
    assert submissions(results)[0].chunks[0].over == "ended"


@pytest.mark.parametrize(
    ("word", "log", "state"),
    [
        ("CANCELLED", False, State.CANCELLED),
        ("CANCELLED", True, State.CANCELLED),
        ("FAILED", False, State.FAILED),
        ("FAILED", True, State.FAILED),
        ("COMPLETED", True, State.FAILED),
        ("TIMEOUT", True, State.FAILED),
        ("OUT_OF_MEMORY", True, State.FAILED),
    ],
)
def test_jobs_that_ended_before_python(
    write: Write, slurm: Shims, results: Store, word: str, log: bool, state: State
) -> None:
    """The queue says at once how a job ended: no need to wait for it to be gone for long."""
    sweep(write(), results)
    slurm.enqueue(word)
    (submission,) = submissions(results)
    for task in submission.chunks[0].task_ids() if log else ():
        submission.log(task).write_text("slurmstepd: error\n")
    assert queue.query(results, now=submission.submitted + 1).runs == {}
    assert {folder.state() for folder in results.all_runs()} == {state}
    if state is State.FAILED:
        assert word in read_json(next(results.all_runs()).failure)["message"]
    assert sweep(write(), results) == 0
    assert len(slurm.scripts()) == (2 if state is State.CANCELLED else 1), "cancelled is to do again, failed is not"


@pytest.mark.parametrize("word", ["NODE_FAIL", "PREEMPTED"])
def test_a_job_that_was_taken_away_may_come_back(write: Write, slurm: Shims, results: Store, word: str) -> None:
    sweep(write(), results)
    slurm.enqueue(word)
    (submission,) = submissions(results)
    for task in submission.chunks[0].task_ids():
        submission.log(task).write_text("slurmstepd: error: DUE TO PREEMPTION\n")
    first = submission.submitted + 100
    assert set(queue.query(results, now=first).runs.values()) == {word}, "SLURM may start it anew"
    (slurm.folder / "queue").write_text("")
    assert set(queue.query(results, now=first + 100).runs.values()) == {"unknown"}
    assert queue.query(results, now=first + 500).runs == {}
    assert {folder.state() for folder in results.all_runs()} == {State.TODO}, "it did not; that is no fault of the run"


def test_a_job_that_ran_and_left_frees_its_runs(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    (submission,) = submissions(results)
    started = submission.folder / "started"
    started.mkdir()
    for index in range(4):
        (started / submission.chunks[0].task_id(index)).touch()
    first = submission.submitted + 100
    assert set(queue.query(results, now=first).runs.values()) == {"unknown"}, "one answer may be a slip"
    assert queue.query(results, now=first + 60).runs == {}
    assert all(folder.state() is State.TODO for folder in results.all_runs()), "cut off: to do again, not failed"


def test_arrays_are_no_longer_than_the_site_allows_and_share_the_cap(
    write: Write, slurm: Shims, results: Store, tmp_path: Path
) -> None:
    (slurm.folder / "max").write_text("1001")
    cluster = tmp_path / "site.yaml"
    cluster.write_text("array_cap: 65\ngpus: 0\n")
    many = write(("seeds: 2", "seeds: 750"), ("runs: 4", "runs: 1500"))
    assert sweep(many, results, "--cluster", str(cluster)) == 0
    scripts = list(slurm.scripts().values())
    assert [len(tasks("1", script)) for script in scripts] == [1001, 499]
    caps = [int(re.search(r"--array=\S+%(\d+)", script).group(1)) for script in scripts]  # type: ignore[union-attr]
    assert sum(caps) == 65
    assert "gpus" not in scripts[0]
    orders = [read_json(path) for path in submissions(results)[0].folder.glob("tasks/*.json")]
    runs = [run for order in orders for run in order["runs"]]
    assert len(runs) == len(set(runs)) == 1500


def test_the_files_of_one_command_share_the_cap(write: Write, slurm: Shims, results: Store, tmp_path: Path) -> None:
    cluster = tmp_path / "site.yaml"
    cluster.write_text("array_cap: 5\ngpus: 0\n")
    first = write()
    others = [write((": [0.1, 0.5]", f": [{10 + n}.0, {20 + n}.0]"), name=f"other{n}") for n in range(2)]
    for other in others:
        other.write_text(other.read_text().partition("claims:")[0])
    assert sweep(first, results, "--cluster", str(cluster), "--seeds", "0") == 0, "one file has all of it"
    files = [str(one) for one in (first, *others)]
    assert main([*files, "--results", str(results.root), "--data", str(tmp_path), "--cluster", str(cluster)]) == 0
    caps = [re.search(r"--array=\S+%(\d+)", script) for script in slurm.scripts().values()]
    assert [int(found.group(1)) for found in caps if found] == [2, 1, 1, 1]


def test_more_arrays_than_the_cap_follow_one_another(
    write: Write, slurm: Shims, results: Store, tmp_path: Path
) -> None:
    (slurm.folder / "max").write_text("2")
    cluster = tmp_path / "site.yaml"
    cluster.write_text("array_cap: 1\n")
    sweep(write(), results, "--cluster", str(cluster))
    (first, _), (_, second) = slurm.scripts().items()
    assert f"--dependency=afterany:{first}" in second


def test_what_sbatch_refuses_is_said_in_its_own_words(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (slurm.folder / "refuse").write_text("sbatch: error: invalid partition specified: gpu\n")
    assert sweep(write(), results) == 2
    said = capsys.readouterr().err
    assert "invalid partition specified: gpu" in said and "Traceback" not in said
    (slurm.folder / "refuse").unlink()
    assert sweep(write(), results) == 0 and len(slurm.scripts()) == 1, "refused jobs do not count as queued"


def test_arrays_before_a_refused_one_stay_and_the_rest_goes_out_later(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on submitted jobs (MaxSubmitJobs) stops a long sweep half-way."""
    (slurm.folder / "max").write_text("2")
    (slurm.folder / "room").write_text("101")
    assert sweep(write(), results) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "QOSMaxSubmitJobPerUserLimit" in said and "submitted before it: 101 (2)" in said
    slurm.enqueue()
    (slurm.folder / "room").unlink()
    assert sweep(write(), results) == 0
    orders = [read_json(path)["runs"] for path in results.jobs.glob("*/tasks/*.json")]
    assert [len(tasks(job, text)) for job, text in slurm.scripts().items()] == [2, 2]
    queued = [run for one in submissions(results) for chunk in one.chunks if not chunk.over for run in chunk.tasks]
    assert len(orders) == 6 and sorted(map(str, queued)) == sorted(str([one.id]) for one in results.all_runs())


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "",
    ],
)
def test_a_job_that_slurm_may_have_taken_is_not_called_refused(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    """sbatch ended badly, or with an answer that means nothing, after the controller had accepted the array."""
    path = write()
    (slurm.folder / ("deaf" if said else "mute")).write_text(said)
    assert sweep(path, results) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "may have been submitted" in told and said.split("error: ")[-1] in told
    (slurm.folder / ("deaf" if said else "mute")).unlink()
    (chunk,) = submissions(results)[0].chunks
    assert (chunk.job, chunk.over) == (None, "")
    slurm.enqueue()
    (results.jobs / "squeue.json").unlink(missing_ok=True)
    assert sweep(path, results) == 0
    assert slurm.calls("scancel") == ["scancel 101"], "the stray, whose pickles are not in place"
    assert list(slurm.scripts()) == ["101", "102"]


def test_pickles_that_cannot_be_put_in_place_refuse_nothing(
    write: Write, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    path = write()
    with monkeypatch.context() as patch:
        patch.setattr("submitit.core.utils.JobPaths.move_temporary_file", stale)
        assert sweep(path, results) == 2
    (chunk,) = submissions(results)[0].chunks
    assert (chunk.job, chunk.over) == (None, "") and list(slurm.scripts()) == ["101"]


def killed_at_sbatch(write: Write, slurm: Shims, results: Store) -> None:
    """kill -9 of the sweep after sbatch has taken the job and before it could say its number."""
    (slurm.folder / "die").touch()
    command = [sys.executable, "-m", "harness.sweep", str(write()), "--results", str(results.root)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **slurm.environment}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (slurm.folder / "die").unlink()
    (submission,) = submissions(results)
    assert submission.chunks[0].job is None


def test_a_sweep_killed_between_sbatch_and_its_answer_leaves_no_stray(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_at_sbatch(write, slurm, results)
    slurm.enqueue()  # it is in the queue, but its pickles are not where it looks for them
    assert sweep(write(), results) == 0
    assert "half-submitted" in " ".join(capsys.readouterr().out.split())
    assert slurm.calls("scancel") == ["scancel 101"] and len(slurm.scripts()) == 2


def test_an_orphan_whose_pickles_are_in_place_is_adopted(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    slurm.enqueue()
    (submission,) = submissions(results)
    submission.chunks[0].job = None
    submission.save()
    assert "adopted as job 101" in queue.adopt(results)[0]
    assert sweep(write(), results) == 0 and len(slurm.scripts()) == 1


def test_an_orphan_that_never_reached_the_queue_is_forgotten(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    (submission,) = submissions(results)
    submission.chunks[0].job = None
    submission.save()
    (slurm.folder / "down").touch()
    assert "does not answer" in queue.adopt(results, now=1e10)[0]
    (slurm.folder / "down").unlink()
    assert "may have been submitted" in queue.adopt(results, now=1e10 + 30)[0], "not twice in a minute"
    assert "is not in the queue" in queue.adopt(results, now=1e10 + 61)[0], "one answer may be a slip"
    assert submissions(results)[0].chunks[0].over == ""
    assert "was not submitted" in queue.adopt(results, now=1e10 + 121)[0]


def test_cancel_stops_whole_arrays_and_marks_the_runs(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    slurm.enqueue()
    assert main(["--cancel", "--results", str(results.root)]) == 2, "without a terminal it wants --yes"
    assert main(["--cancel", "--yes", "--results", str(results.root)]) == 0
    assert slurm.calls("scancel") == ["scancel 101"]
    assert {folder.state() for folder in results.all_runs()} == {State.CANCELLED}
    (slurm.folder / "queue").write_text("")
    assert sweep(write(), results) == 0 and len(slurm.scripts()) == 2, "and sweeping again goes on"
    assert {folder.state() for folder in results.all_runs()} == {State.TODO}


def test_cancel_stops_a_job_whose_other_runs_are_done(
    write: Write, slurm: Shims, results: Store, tmp_path: Path
) -> None:
    cluster = tmp_path / "site.yaml"
    cluster.write_text("gpus: 0\nruns_per_job: 2\n")
    sweep(write(), results, "--cluster", str(cluster))
    slurm.enqueue("RUNNING")
    (submission,) = submissions(results)
    (done, open_), _ = submission.chunks[0].tasks
    write_json(results.run(done).outcome, {"run": done, "status": "trained"})
    assert main(["--cancel", "--yes", "--only", open_, "--results", str(results.root)]) == 0
    assert slurm.calls("scancel") == [f"scancel {submission.chunks[0].task_id(0)}"], "and not the job of other runs"


def test_status_counts_the_queue(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(write(), results)
    slurm.enqueue()
    (results.jobs / "squeue.json").unlink(missing_ok=True)
    capsys.readouterr()
    assert main(["--status", "--results", str(results.root)]) == 0
    assert re.search(r"small@smoke +4 +- +- +4 +- +- *\n", capsys.readouterr().out)
    slurm.enqueue("CANCELLED")
    (results.jobs / "squeue.json").unlink()
    assert main(["--status", "--results", str(results.root)]) == 0
    assert re.search(r"small@smoke +4 +- +- +- +4 +- *\n", capsys.readouterr().out)


def test_submitting_from_within_a_job_hides_that_job(
    write: Write, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    with submit._undisturbed(Cluster()):
        assert "SLURM_ARRAY_TASK_ID" not in os.environ and os.environ["SLURM_CONF"] == "/etc/slurm.conf"
    assert os.environ["SLURM_ARRAY_TASK_ID"] == "7"


def test_how_to_compile_reaches_the_runs_of_a_job(
    write: Write, slurm: Shims, results: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the cluster file, or from the command line before it; neither makes another run."""

    class Seen(Exception):
        pass

    def pool(runs: object, evaluations: object, runtime: Runtime, *_: object, **__: object) -> None:
        raise Seen(runtime.compile)

    monkeypatch.setattr("harness.sweep.slurm.job.Pool", pool)
    cluster = tmp_path / "site.yaml"
    for written, said in ([], "off"), (["--compile", "reduce-overhead"], "reduce-overhead"):
        cluster.write_text("gpus: 0\ncpus: 1\ncompile: off\n")
        assert sweep(write(), results, "--cluster", str(cluster), *written) == 0
        order = submissions(results)[-1].task_file(0, 0)
        with pytest.raises(Seen, match=rf"^{said}$"):
            submit.Job()(str(order))
        shutil.rmtree(results.root)


def test_a_job_that_starts_on_a_full_disk_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would count as a failed launch, and so would all others of the array."""
    tries: list[int] = []
    touch = Path.touch

    def full(path: Path, *_: object) -> None:
        tries.append(errno.ENOSPC if len(tries) < 2 else 0)
        if tries[-1]:
            raise OSError(tries[-1], os.strerror(tries[-1]))
        touch(path)

    monkeypatch.setattr(Path, "touch", full)
    monkeypatch.setattr(job, "DISK_PAUSE_S", 0.0)
    job._mark_started(tmp_path / "started" / "7_0")
    assert len(tries) == 3 and (tmp_path / "started" / "7_0").exists()
    tries.clear()
    monkeypatch.setattr(job, "DISK_FOR_S", -1.0)
    with pytest.raises(OSError, match="No space left"):
        job._mark_started(tmp_path / "started" / "7_1")


def test_a_requeued_job_leaves_alone_what_had_failed_before(
    write: Write, slurm: Shims, results: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed until --retry, not until the job is preempted. A launch is the failure of a job that is not this one."""
    seen: list[str] = []

    def pool(runs: list[RunFolder], *_: object, **__: object) -> None:
        seen[:] = [run.id for run in runs]
        raise RuntimeError("enough")

    monkeypatch.setattr("harness.sweep.slurm.job.Pool", pool)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    cluster = tmp_path / "site.yaml"
    cluster.write_text("gpus: 0\ncpus: 1\nruns_per_job: 4\nat_once: 2\n")
    assert sweep(write(), results, "--cluster", str(cluster)) == 0
    _, launched, once, twice = runs = list(results.all_runs())
    for run, cause in zip(runs, ("code", "launch", "out of memory", "out of memory"), strict=True):
        write_json(run.failure, {"run": run.id, "cause": cause})
    for number, run in enumerate((once, twice, twice)):
        entry = {"attempt": number, "cause": "out of memory", "job": "7"}
        write_json(run.attempts / f"{number:03d}.json", entry)
    with pytest.raises(RuntimeError, match="enough"):
        submit.Job()(str(submissions(results)[0].task_file(0, 0)))
    assert sorted(seen) == sorted([launched.id, once.id])


def test_a_second_copy_of_a_job_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert submit.Job()(str(tmp_path / "no such order.json")) == {}


def test_on_slurm_s_warning_a_job_asks_to_be_requeued_until_it_is(
    slurm: Shims, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The controller may be down at that moment. submitit looks for this very hook on the callable."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setattr(requeue, "FIRST_PAUSE_S", 0.01)
    (slurm.folder / "unheard").write_text("once\ntwice\n")
    with pytest.raises(SystemExit) as left:
        submit.Job().checkpoint("order.json")
    assert left.value.code == -1, "not as if it were done"
    assert slurm.calls("scontrol") == ["scontrol requeue 12_3"] * 3
    assert "12_3 is not requeued yet: Unable to contact" in capsys.readouterr().out
    (slurm.folder / "unheard").write_text("never\n" * 99)
    monkeypatch.setattr(requeue, "ASK_FOR_S", 0.1)
    with pytest.raises(RuntimeError, match="could not be requeued"):
        submit.Job().checkpoint("order.json")


def test_a_job_that_outlives_its_grace_is_requeued(slurm: Shims, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM alone, and no SIGKILL after it: a preemption with a long GraceTime."""
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with pytest.raises(SystemExit):
        job._await_the_end(0.01)
    assert slurm.calls("scontrol") == ["scontrol requeue 12"]


@pytest.mark.parametrize(
    ("flags", "asked"), [({}, True), ({"no-requeue": True}, False), ({"requeue": False}, False), ({"nice": 1}, True)]
)
def test_jobs_may_be_requeued_unless_the_cluster_file_says_no(flags: dict[str, bool | int], asked: bool) -> None:
    found = sbatch.parameters(Cluster(sbatch=flags), Chunk("n", [["a"]], 1, 30)).get("additional_parameters", {})
    assert ("requeue" in found) == asked
    assert {key: value for key, value in flags.items() if value is not False}.items() <= found.items()


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_cluster_files_are_valid(path: Path) -> None:
    assert load_cluster(path)


def test_the_example_explains_every_key() -> None:
    text = (CLUSTERS / "example.yaml").read_text(encoding="utf-8")
    assert [key for key in Cluster.model_fields if not re.search(rf"^(# )?{key}:", text, re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partion: gpu\n", "site.yaml:1: partion: unknown key: did you mean 'partition'?"),
        ("gpus: 1\ncpus: many\n", "site.yaml:2: cpus: "),
        ("time: 4 hours\n", "site.yaml:1: time: time must be auto"),
        ("array_cap: 0\n", "site.yaml:1: array_cap: "),
        ('time: "00:08:00"\n', "00:08:00 is below 540 s, three times signal_seconds"),
    ],
)
def test_a_bad_cluster_file_names_the_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=re.escape(said)):
        load_cluster(path)


@pytest.mark.parametrize(
    ("time", "minutes"), [("auto", None), ("04:00:00", 240), ("1-12:30:01", 2191), ("0:30:00", 30)]
)
def test_time_limits(time: str, minutes: int | None) -> None:
    assert Cluster(time=time).minutes == minutes


def test_a_long_warning_makes_longer_jobs() -> None:
    assert sbatch.time_class(1.0, Cluster()) == 30
    assert sbatch.time_class(1.0, Cluster(signal_seconds=900)) == 60


def test_no_job_asks_for_longer_than_its_partition_allows(write: Write, slurm: Shims, results: Store) -> None:
    """SLURM would take it, and never start it."""
    (slurm.folder / "partitions").write_text("PartitionName=main Default=YES MaxTime=00:20:00\n")
    assert sweep(write(), results) == 0
    assert "#SBATCH --time=20\n" in slurm.scripts()["101"]


def test_jobs_know_how_long_before_their_end_they_are_warned() -> None:
    assert (
        "export HARNESS_WARNED_S=600"
        in sbatch.parameters(Cluster(signal_seconds=600), Chunk("n", [["a"]], 1, 30))["setup"]
    )


@pytest.mark.parametrize(
    ("left", "warned", "cause"),
    [
        (550, "600", Cause.TIMEOUT),
        (650, "600", Cause.TIMEOUT),  # it may come a minute early
        (240, "120", Cause.INTERRUPTED),  # preempted half-way through eight minutes
        (100, "120", Cause.TIMEOUT),
        (200, "", Cause.TIMEOUT),
        (4000, "", Cause.INTERRUPTED),
    ],
)
def test_a_time_out_is_told_from_a_preemption_by_the_warning_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, left: int, warned: str, cause: Cause
) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + left))
    monkeypatch.setenv("HARNESS_WARNED_S", warned)
    assert worker.stop_cause() is cause


def test_python_starts_deaf_to_the_signals_that_submitit_will_handle(tmp_path: Path) -> None:
    """USR2 ends a Python that does not listen yet, and the job would look as if it had failed of itself."""
    script = "import signal; print(*(signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGUSR2, signal.SIGTERM)))"
    command = f"{sbatch.python_command()} -c {shlex.quote(script)}"
    assert subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout == "True True\n"


@pytest.mark.parametrize("setup", ["", "set -euo pipefail", "set -- a b", "source ./site.sh"])
@pytest.mark.parametrize(
    ("failures", "words", "launches"),
    [
        (0, "Application launch failed", 1),
        (1, "Application launch failed", 2),
        (9, "Application launch failed", 3),
        (9, "python: No such file", 1),
    ],
)
def test_a_step_that_srun_could_not_start_is_tried_again_and_nothing_else_is(
    tmp_path: Path, failures: int, words: str, launches: int, setup: str
) -> None:
    """A node that is late to answer. The job's log, of an earlier life as well, knows of one already."""
    job, log = tmp_path / "job.sh", tmp_path / "log"
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "srun").write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/asked\n"
        f'[ $(wc -l < {tmp_path}/asked) -gt {failures} ] || {{ echo "srun: error: {words}: late" >&2; exit 7; }}\n'
    )
    for tool in ("sleep", "srun"):
        (tmp_path / tool).chmod(0o755)
    log.write_text("srun: error: Application launch failed: of an earlier life\n")
    (tmp_path / "site.sh").write_text("[ $# = 0 ] || exit 9\nset -- of its own\n")
    asked = sbatch.parameters(Cluster(setup=[setup]), Chunk("n", [["a"]], 1, 30))
    job.write_text("\n".join(["#!/bin/bash", *asked["setup"], "srun python", "", *asked["teardown"]]))
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with log.open("a") as heard:
        done = subprocess.run(
            ["bash", str(job)], stderr=heard, stdout=subprocess.PIPE, env=environment, check=False, cwd=tmp_path
        )
    assert (tmp_path / "asked").read_text() == "x\n" * launches
    assert done.returncode == (7 if failures >= launches else 0)
    assert log.read_text().count(words) - (words in log.read_text().splitlines()[0]) == min(failures, launches)


def test_the_end_of_a_job_is_known_where_slurm_does_not_tell() -> None:
    def end(**environment: str) -> int:
        command = sbatch._end_time(Chunk("n", [["a"]], 1, 30)) + "; echo $SLURM_JOB_END_TIME"
        told = {"PATH": os.environ["PATH"], **environment}
        return int(subprocess.run(["bash", "-c", command], env=told, capture_output=True, check=True).stdout)

    assert abs(end() - time.time() - 1800) < 600
    assert end(SLURM_JOB_END_TIME="77") == 77, "SLURM knows better"


def test_too_few_cores_fail_the_runs_of_a_job_and_say_what_to_do(results: Store) -> None:
    fresh, done = results.run("fresh"), results.run("done")
    write_json(done.outcome, {"run": "done", "status": "trained"})
    job._assert_cores(1, [fresh, done], "12_3")
    assert not fresh.failure.exists()
    with pytest.raises(RuntimeError, match="job 12_3 asked for 4096 cores"):
        job._assert_cores(4096, [fresh, done], "12_3")
    assert fresh.state() is State.FAILED and "--cpu-bind=none" in read_json(fresh.failure)["message"]
    assert not done.failure.exists()


@pytest.mark.parametrize(
    ("asks", "device"),
    [
        ({"gpus": 1}, "cuda"),
        ({"gpus": 0}, "cpu"),
        ({"gres": "gpu:a100:1"}, "cuda"),
        ({"gres": "gpu"}, "cuda"),
        ({"gres": "shard:1"}, "auto"),
    ],
)
def test_a_job_that_asks_for_a_gpu_is_told_to_use_it(asks: dict[str, int | str], device: str) -> None:
    assert sbatch.device(Cluster.model_validate(asks)) == device


def test_a_gpu_that_was_asked_for_and_is_not_there_fails_the_runs_of_a_job(
    results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would train on the cores of that node, silently."""
    run = results.run("fresh")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    job._assert_gpu("cuda", [], [run], "12_3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for device, seen in (("cpu", []), ("auto", []), ("cuda", ["GPU-1"])):
        job._assert_gpu(device, seen, [run], "12_3")
    assert not run.failure.exists()
    with pytest.raises(RuntimeError, match="job 12_3 asked for a GPU"):
        job._assert_gpu("cuda", [], [run], "12_3")
    assert run.state() is State.FAILED and read_json(run.failure)["cause"] == "launch"


def test_a_single_job_is_no_array() -> None:
    assert Chunk("n", [["a"]], 1, 30, job="7").task_id(0) == "7"
    assert Chunk("n", [["a"], ["b"]], 1, 30, job="7").task_id(1) == "7_1"


@pytest.mark.slow
def test_jobs_do_what_a_local_sweep_does(write: Write, slurm: Shims, results: Store, tmp_path: Path) -> None:
    """The scripts that sbatch was given, run: four runs in two jobs, one of which fails alone."""
    cluster = tmp_path / "site.yaml"
    cluster.write_text("gpus: 0\nruns_per_job: 2\nat_once: 2\ncpus: 2\n")
    assert sweep(write(), results, "--cluster", str(cluster)) == 0
    spoilt = next(iter(results.all_runs()))
    (spoilt.path / "checkpoints").write_text("not a folder")
    done = slurm.run_jobs()
    assert len(done) == 2 and all(job.returncode == 0 for job in done), [job.stderr for job in done]
    states = [folder.state() for folder in results.all_runs()]
    assert sorted(states) == [*[State.DONE] * 3, State.FAILED]
    attempt = read_json(spoilt.attempts / "001.json")
    assert attempt["job"].startswith("101_") and attempt["cause"] == "code"
    write_json(results.jobs / "squeue.json", {"time": 0, "names": [], "jobs": {}, "absent": {}})
    first = submissions(results)[0].submitted + 100
    queue.query(results, now=first)
    assert queue.query(results, now=first + 60).runs == {}
