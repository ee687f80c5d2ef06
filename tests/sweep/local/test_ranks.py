"""Runs that several processes share, end to end: the local pool, the tasks of a job, torchrun; and one that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.errors import SpecError
from harness.runtime import Runtime
from harness.store.attempts import last
from harness.store.causes import Cause
from harness.store.results import RunFolder, State, Store, read_json, write_json
from harness.store.run_lock import process_start
from harness.sweep.__main__ import main
from harness.sweep.local import resources, run_process
from harness.sweep.local.pool import Outcome, Pool
from harness.sweep.local.ranks import ProcessesHere
from harness.sweep.local.resources import allocate
from harness.sweep.local.run_process import ActiveRun
from harness.sweep.slurm.config import Cluster, altered
from harness.sweep.slurm.sbatch import _environment
from harness.sweep.worker.worker import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_LOST
from tests.sweep.local.test_pool import ROOT, Record
from tests.train.test_loop import TINY, tiny

LONG = {"schedule": {"batch_size": 16, "epochs": 400, "warmup_epochs": 1}}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def swim(results: Path, meanwhile: Callable[[Pool], None] | None = None, **changes: Any) -> tuple[Outcome, RunFolder]:
    """One run shared by two processes of the local pool."""
    folder, asked = tiny(results, **changes)
    runtime = Runtime(device="cpu", threads=1, checkpoint_gap_s=0.0)
    pool = Pool([folder], asked, runtime, Record(), jobs=1, ranks=ProcessesHere(2))
    if meanwhile is not None:
        threading.Thread(target=meanwhile, args=(pool,), daemon=True).start()
    return pool.run(), folder


def once_it_trains(pool: Pool, do: Callable[[ActiveRun], None]) -> None:
    """``do`` something to the run, a little after its first checkpoint."""
    deadline = time.monotonic() + 600  # the machine may be busy
    while time.monotonic() < deadline:
        if pool.children and list(pool.children[0].folder.checkpoints.glob("step-*")):
            return do(pool.children[0])
        time.sleep(0.02)


def peers(of: ActiveRun) -> list[int]:
    return [one.pid for one in of.peers.processes.values()]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_two_processes_of_the_pool_train_one_run(tmp_path: Path) -> None:
    outcome, folder = swim(tmp_path)
    assert outcome.causes == {folder.id: Cause.DONE}, folder.log.read_text()
    assert read_json(folder.provenance)["processes"] == 2
    assert len(list(folder.attempts.iterdir())) == 1 and not folder.lock.path.exists()
    assert (folder.path / "run.rank1.log").exists()
    assert len(list((folder.path / "evaluations").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "other"])
def test_one_killed_takes_the_run_along_and_leaves_no_orphans(tmp_path: Path, victim: str) -> None:
    pids: list[int] = []

    def meanwhile(pool: Pool) -> None:
        def kill(run: ActiveRun) -> None:
            pool.put_back.add(run.folder.id)  # it would go on, and end well
            pids.extend([run.pid, *peers(run)])
            os.kill(pids[0] if victim == "first" else pids[1], signal.SIGKILL)

        once_it_trains(pool, kill)

    outcome, folder = swim(tmp_path, meanwhile, **LONG)
    entry = last(folder)
    assert outcome.causes == {folder.id: Cause.INTERRUPTED} and entry is not None, folder.log.read_text()
    assert entry["cause"] == "interrupted" and "SIGKILL" in entry["detail"]
    assert ("process 1 of the run" in entry["detail"]) is (victim == "other")
    assert folder.state() is State.TODO and not folder.lock.path.exists() and not folder.failure.exists()
    assert len(pids) == 2 and [pid for pid in pids if process_start(pid) is not None] == []


@pytest.mark.slow
def test_asked_to_stop_both_save_at_one_step(tmp_path: Path) -> None:
    outcome, folder = swim(tmp_path, lambda pool: once_it_trains(pool, lambda _: pool.stop()), **LONG)
    entry = last(folder)
    assert outcome.stopped and entry is not None and "after step" in entry["detail"]
    assert list(folder.checkpoints.glob(f"step-*{entry['detail'].split('after step ')[1].split()[0]}.pt"))


@pytest.mark.slow
def test_an_exception_in_one_process_is_the_failure_of_the_run(tmp_path: Path) -> None:
    """A batch that two can share, on a data set that holds fewer images: both raise, and one failure is written."""
    outcome, folder = swim(tmp_path, **{"schedule.batch_size": 128})
    assert outcome.causes == {folder.id: Cause.CODE}
    assert "exceeds the" in read_json(folder.failure)["message"]


class Dead:
    """Processes that are no more, with these exit codes."""

    def __init__(self, codes: dict[int, int]) -> None:
        self.dead = codes

    def codes(self) -> dict[int, int]:
        return self.dead

    def ask_to_stop(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def end(self, patience_s: float) -> dict[int, int]:
        return self.dead


@pytest.mark.parametrize(
    ("code", "others", "guilty"),
    [
        (EXIT_LOST, {1: -9, 2: EXIT_LOST}, (1, -9)),
        (EXIT_LOST, {1: EXIT_INTERRUPTED, 2: -11}, (2, -11)),
        (EXIT_LOST, {1: EXIT_LOST, 2: EXIT_FAILED}, (2, EXIT_FAILED)),
        (EXIT_LOST, {1: EXIT_LOST}, (0, EXIT_LOST)),
        (-9, {1: EXIT_LOST}, (0, -9)),
        (EXIT_INTERRUPTED, {1: EXIT_INTERRUPTED}, (1, EXIT_INTERRUPTED)),
    ],
)
def test_who_took_the_others_along(tmp_path: Path, code: int, others: dict[int, int], guilty: tuple[int, int]) -> None:
    process: Any = SimpleNamespace(pid=None)
    run = ActiveRun(RunFolder(tmp_path), process, (), 0, Dead(others), codes=others)
    assert run._first_to_die(code) == guilty


def test_a_first_process_that_does_not_notice_a_death_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        killed, pid = False, None

        def kill(self) -> None:
            self.killed = True

    process: Any = Hanging()
    run = ActiveRun(RunFolder(tmp_path), process, (), 0, Dead({1: -9}))
    run.look_after()
    assert not process.killed, "it is given time"
    monkeypatch.setattr(run_process, "NOTICE_S", -1.0)
    write_json(run.folder.outcome, {})
    run.look_after()
    assert not process.killed, "a trained run needs no other process"
    run.folder.outcome.unlink()
    run.look_after()
    assert process.killed


@pytest.fixture
def small(folder: Path) -> Iterator[Path]:
    """An experiment of one tiny run."""
    settings = "\n".join(f"  {path}: {value}" for path, value in TINY.items() if "." in path)
    made = folder / "tiny.yaml"
    made.write_text(
        "# Does it run on two?\ntitle: Tiny\nscale: smoke\nfixed:\n"
        "  data: {synthetic: {train_images: 64, test_images: 32, image_size: 16}}\n"
        "  encoder: {micro: {stem: 8, widths: [8, 16], depth: 1}}\n  schedule.batch_size: 16\n"
        f"  schedule.epochs: 3\n{settings}\nvary:\n  - objective.nt_xent.temperature: [0.5]\n"
        "seeds: 1\nruns: 1\nevaluate: [contrastive]\n"
    )
    yield made


@pytest.mark.slow
def test_a_sweep_with_two_processes_per_run(small: Path, tmp_path: Path) -> None:
    arguments = [str(small), "--results", str(tmp_path / "results"), "--cluster", "local"]
    assert main([*arguments, "--processes-per-run", "2"]) == 0
    (run,) = Store(tmp_path / "results").all_runs()
    assert run.state() is State.DONE and read_json(run.provenance)["processes"] == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--processes-per-run", "3"], "batch size 16 is not divisible by 3 processes"),
        (["--images-per-pass", "8"], "share their statistics, so a pass of fewer would change"),
        (["--compile", "default"], "compile: default needs a compiler: no no-such-compiler on the PATH"),
        (["--compile", "reduce-overhead", "--processes-per-run", "2"], "which a CUDA graph cannot hold; use default"),
    ],
)
def test_what_cannot_be_shared_cut_or_compiled_is_said_before_anything_is_written(
    small: Path,
    tmp_path: Path,
    flags: list[str],
    said: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main([str(small), "--results", str(tmp_path / "results"), "--cluster", "local", *flags]) == 2
    assert said in capfd.readouterr().err
    assert not (tmp_path / "results").exists()


def test_how_to_compile_reaches_the_runs(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):
        pass

    def pool(runs: Any, evaluations: Any, runtime: Runtime, *_: Any, **named: Any) -> None:
        raise Seen(runtime.compile)

    monkeypatch.setattr("harness.sweep.local.run_local.Pool", pool)
    arguments = [str(small), "--results", str(tmp_path / "results"), "--cluster", "local"]
    with pytest.raises(Seen, match=r"^off$"):
        main(arguments)
    with pytest.raises(Seen, match=r"^reduce-overhead$"):
        main([*arguments, "--compile", "reduce-overhead"])


@pytest.mark.slow
def test_torchrun_starts_the_processes_too(small: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "harness.sweep.torchrun", str(small), "--results", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = Store(tmp_path / "results").all_runs()
    assert run.state() is State.DONE and read_json(run.provenance)["processes"] == 2
    assert f"{run.id}  done" in done.stdout and "epoch 3/3" in run.log.read_text()


JOB = """
import sys
from harness.sweep.slurm.job import Job
if __name__ == "__main__":
    print("ENDED", Job(2)(sys.argv[1]))
"""


@pytest.mark.slow
def test_the_tasks_of_a_job_share_its_runs(tmp_path: Path) -> None:
    """Two processes with the variables that srun gives its tasks; the second run fails on both."""
    from harness.store import snapshot

    results = tmp_path / "results"
    good, asked = tiny(results)
    bad, _ = tiny(results, **{"schedule.batch_size": 128})
    again, _ = tiny(results, seed=1)
    code = snapshot.take(Store(results))
    order, script = tmp_path / "order.json", tmp_path / "job.py"
    script.write_text(JOB)
    write_json(
        order,
        {
            "submission": str(tmp_path / "jobs"),
            "results": str(results),
            "code": {"folder": str(code.folder), "origin": str(code.origin)},
            "data": str(tmp_path),
            "runs": [good.id, bad.id, again.id],
            "labels": {},
            "evaluations": [{"label": one.label, "handle": one.id, "resolved": one.resolved} for one in asked],
            "at_once": 1,
            "cpus": 1,
            "images_per_pass": 0,
            "compile": "off",
            "device": "cpu",
            "grace_s": 10.0,
            "seconds": 1.0,
        },
    )
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    tasks = [
        subprocess.Popen(
            [sys.executable, str(script), str(order)],
            env={**os.environ, **code.environment, **job, "SUBMITIT_EXECUTOR": "slurm"}
            | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [task.communicate(timeout=900)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    ended = {good.id: "done", bad.id: "code", again.id: "done"}
    assert f"ENDED {ended}" in said[0] and "ENDED {}" in said[1], said
    for run in (good, again):
        assert read_json(run.provenance)["processes"] == 2
        assert len(list(run.attempts.iterdir())) == 1


def test_too_few_gpus_for_the_processes_of_a_run_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "gpus", lambda: (("0", "GPU"), ("1", "GPU")))
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert allocate(4, None, 2) == resources.Allocation(1, 4, ("0", "1"), 2)
    with pytest.raises(SpecError, match="--processes-per-run 3: each process needs a GPU, 2 here"):
        allocate(4, None, 3)


def test_on_cores_the_processes_of_all_runs_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "gpus", tuple)
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert allocate(10, None, 2) == resources.Allocation(4, 1, (), 2)
    assert allocate(1, None, 2) == resources.Allocation(1, 4, (), 2)
    assert allocate(1, None, 16) == resources.Allocation(1, 1, (), 16)


@pytest.mark.parametrize(
    ("said", "threads"), [("3", 3), ("2,1", 2), (" 5 ", 5), ("0", 8), ("many", 8), ("-1", 8), ("", 8)]
)
def test_threads_are_as_many_as_the_user_exported(monkeypatch: pytest.MonkeyPatch, said: str, threads: int) -> None:
    monkeypatch.setattr(resources, "gpus", tuple)
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert allocate(1, None).threads == threads


@pytest.mark.parametrize(("said", "heard"), [("5", True), ("2", False), ("2,1", True), (None, False)])
def test_a_job_that_has_other_threads_than_the_user_exported_says_so(said: str | None, heard: bool) -> None:
    cluster = Cluster.model_validate({"cpus": 4, "at_once": 2, "gpus": 0})
    lines = [*_environment(cluster, None), 'echo "now $OMP_NUM_THREADS"']
    before = {"PATH": os.environ["PATH"]} | ({"OMP_NUM_THREADS": said} if said else {})
    done = subprocess.run(["sh", "-euc", "\n".join(lines)], env=before, capture_output=True, text=True, check=True)
    assert ("is not heeded: 2 threads a run" in done.stdout) is heard and done.stdout.endswith("now 2\n")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"processes_per_run": 3, "nodes": 2}, "3 is not divisible by 2 nodes"),
        ({"processes_per_run": 2, "gpus": 2, "at_once": 2}, "at_once: must be 1"),
        ({"processes_per_run": 4, "gpus": 2}, "4 processes on a node need as many GPUs, not 2"),
        ({"processes_per_run": 16, "gpus": 0}, "16 processes on a node need a core each, not 8"),
        ({"compile": "fast"}, "'off', 'default' or 'reduce-overhead'"),
    ],
)
def test_cluster_files_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        altered(Cluster(), **settings)


def test_a_cluster_file_shares_cores_and_tasks_out() -> None:
    asked = Cluster(processes_per_run=8, nodes=2, gpus=4, cpus=32)
    assert (asked.tasks_per_node, asked.cpus_per_task) == (4, 8)


def test_a_job_has_a_task_for_each_process_of_a_run() -> None:
    from harness.sweep.slurm.sbatch import parameters
    from harness.sweep.slurm.submissions import Chunk

    cluster = Cluster(processes_per_run=8, nodes=2, gpus=4, cpus=32, srun=["--cpu-bind=none"])
    asked = parameters(cluster, Chunk("n", [["a"]], 1, 30))
    wanted = {"nodes": 2, "ntasks_per_node": 4, "cpus_per_task": 8, "gpus_per_node": 4}
    assert {key: asked[key] for key in wanted} == wanted
    assert asked["srun_args"] == ["--cpus-per-task=8", "--kill-on-bad-exit=1", "--cpu-bind=none"]
    assert "export OMP_NUM_THREADS=8" in asked["setup"]
    alone = parameters(Cluster(), Chunk("n", [["a"]], 1, 30))
    assert (alone["nodes"], alone["ntasks_per_node"], alone["srun_args"]) == (1, 1, ["--cpus-per-task=8"])
