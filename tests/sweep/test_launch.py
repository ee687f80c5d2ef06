"""Submission to a pretend SLURM. The real one is in tests/slurm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.spec.errors import SpecError
from harness.store import State, Store, read_json, write_json
from harness.sweep import launch, scheduler
from harness.sweep.__main__ import main
from harness.sweep.cluster import Cluster, load_cluster
from harness.sweep.scheduler import Chunk
from tests.sweep.shims import Shims, tasks

ROOT = Path(__file__).resolve().parents[2]
CLUSTERS = ROOT / "experiments" / "clusters"
Write = Callable[..., Path]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shims:
    shims = Shims(tmp_path / "slurm")
    for key, value in shims.environment.items():
        monkeypatch.setenv(key, value)
    return shims


@pytest.fixture
def results(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def sweep(path: Path, store: Store, *more: str) -> int:
    return main([str(path), "--results", str(store.root), "--data", str(store.root.parent), *more])


def test_a_sweep_submits_one_array_and_returns(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(write(), results) == 0, "auto: sbatch is on the PATH"
    ((job, script),) = slurm.scripts().items()
    assert tasks(job, script) == [f"{job}_{index}" for index in range(4)]
    for option in ("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=8", "--gpus-per-node=1", "--time=30"):
        assert f"#SBATCH {option}\n" in script
    assert "srun --unbuffered" in script and "--cpus-per-task=8 " in script.splitlines()[-1]
    assert f'export PYTHONPATH="{(results.code).resolve()}/' in script and "export PYTHONSAFEPATH=" in script
    assert "Submitted 4 runs as 4 jobs" in " ".join(capsys.readouterr().out.split())
    (submission,) = scheduler.submissions(results)
    assert submission.chunks[0].job == job
    orders = [read_json(submission.task_file(0, index)) for index in range(4)]
    assert {run for order in orders for run in order["runs"]} == {folder.id for folder in results.all_runs()}


def test_sweeping_again_submits_only_what_is_missing(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    slurm.enqueue()
    assert sweep(write(), results) == 0
    assert len(slurm.scripts()) == 1, "all four wait in the queue"
    other = write(("[0.1, 0.5]", "[0.5, 1.0]"), ("temperature: 0.1", "temperature: 1.0"), name="other")
    sweep(other, results)
    (_, second) = slurm.scripts().values()
    assert len(tasks("1", second)) == 2, "two of the four are in the queue already, for another experiment"


def test_plan_submits_nothing(write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(write(), results, "--plan") == 0
    assert not slurm.calls("sbatch") and not results.experiments.exists()
    assert "array: jobs 4, runs per job 1" in " ".join(capsys.readouterr().out.split())


def test_the_queue_is_asked_once_a_minute(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    slurm.enqueue()
    before = len(slurm.calls("squeue"))
    for second in range(0, 130, 10):
        scheduler.look(results, now=1e10 + second)
    assert len(slurm.calls("squeue")) - before == 3


@pytest.mark.parametrize("answer", ["down", "empty", "strange"])
def test_no_answer_makes_nothing_failed(write: Write, slurm: Shims, results: Store, answer: str) -> None:
    sweep(write(), results)
    if answer == "down":
        (slurm.folder / "down").touch()
    if answer == "strange":
        (slurm.folder / "queue").write_text("101_[0-3%2]|REVOKED\nsqueue: warning\n")
    queue = scheduler.look(results)
    assert set(queue.runs.values()) == {"unknown"} and len(queue.runs) == 4
    assert sweep(write(), results) == 0
    assert len(slurm.scripts()) == 1, "nothing is submitted twice"
    assert all(folder.state() is State.TODO for folder in results.all_runs())


def test_a_job_that_never_reached_python_is_a_failed_launch(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    (submission,) = scheduler.submissions(results)
    job = submission.chunks[0].job
    (submission.logs / f"{job}_0_0_log.err").write_text("bash: /opt/python: bad interpreter\n")
    first = submission.submitted + 100
    assert set(scheduler.look(results, now=first).runs.values()) == {"unknown"}, "seen missing once"
    assert scheduler.look(results, now=first + 400).runs == {}
    run = submission.chunks[0].tasks[0][0]
    failure = read_json(results.run(run).failure)
    assert failure["cause"] == "launch" and "bad interpreter" in failure["traceback"]
    assert scheduler.submissions(results)[0].chunks[0].over == "ended"


def test_a_job_that_ran_and_left_frees_its_runs(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    (submission,) = scheduler.submissions(results)
    started = submission.folder / "started"
    started.mkdir()
    for index in range(4):
        (started / submission.chunks[0].task_id(index)).touch()
    assert scheduler.look(results, now=submission.submitted + 100).runs == {}
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
    orders = [read_json(path) for path in scheduler.submissions(results)[0].folder.glob("tasks/*.json")]
    runs = [run for order in orders for run in order["runs"]]
    assert len(runs) == len(set(runs)) == 1500


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


def killed_at_sbatch(write: Write, slurm: Shims, results: Store) -> None:
    """kill -9 of the sweep after sbatch has taken the job and before it could say its number."""
    (slurm.folder / "die").touch()
    command = [sys.executable, "-m", "harness.sweep", str(write()), "--results", str(results.root)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **slurm.environment}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (slurm.folder / "die").unlink()
    (submission,) = scheduler.submissions(results)
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
    (submission,) = scheduler.submissions(results)
    submission.chunks[0].job = None
    submission.save()
    assert "adopted as job 101" in scheduler.adopt(results)[0]
    assert sweep(write(), results) == 0 and len(slurm.scripts()) == 1


def test_an_orphan_that_never_reached_the_queue_is_forgotten(write: Write, slurm: Shims, results: Store) -> None:
    sweep(write(), results)
    (submission,) = scheduler.submissions(results)
    submission.chunks[0].job = None
    submission.save()
    (slurm.folder / "down").touch()
    assert scheduler.adopt(results) == [], "no answer: nothing is decided"
    (slurm.folder / "down").unlink()
    assert "never submitted" in scheduler.adopt(results)[0]


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


def test_status_counts_the_queue(
    write: Write, slurm: Shims, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(write(), results)
    slurm.enqueue()
    (results.jobs / "squeue.json").unlink(missing_ok=True)
    capsys.readouterr()
    assert main(["--status", "--results", str(results.root)]) == 0
    assert re.search(r"small@smoke +4 +- +- +4 +- +- +-", capsys.readouterr().out)


def test_submitting_from_within_a_job_hides_that_job(
    write: Write, slurm: Shims, results: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    with launch._outside_of_jobs():
        assert "SLURM_ARRAY_TASK_ID" not in os.environ and os.environ["SLURM_CONF"] == "/etc/slurm.conf"
    assert os.environ["SLURM_ARRAY_TASK_ID"] == "7"


def test_a_second_copy_of_a_job_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert launch.Job()(str(tmp_path / "no such order.json")) == {}


def test_the_callable_has_the_hook_that_submitit_looks_for() -> None:
    again = launch.Job().checkpoint("order.json")
    assert isinstance(again.function, launch.Job) and again.args == ("order.json",)


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
    write_json(results.jobs / "squeue.json", {"time": 0, "names": [], "tasks": {}, "absent": {}})
    assert scheduler.look(results, now=scheduler.submissions(results)[0].submitted + 100).runs == {}
