"""A run executes the code it was submitted with, and results of other code are named with the files that changed."""

from __future__ import annotations

import importlib.machinery
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import pytest

from harness.store import provenance, snapshot
from harness.store.results import Store, read_json, write_json
from harness.sweep.local import fork_server
from harness.sweep.worker import worker
from tests.sweep.shims import Shims

ROOT = Path(__file__).resolve().parents[2]
Write = Callable[..., Path]

SAYS_SO = """

_execute = execute
def execute(*arguments):
    print("this is the old code", flush=True)
    _execute(*arguments)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package that may be edited; its loop says who it is."""
    made = tmp_path / "checkout"
    shutil.copytree(ROOT / "harness", made / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    with (made / "harness/train/loop.py").open("a", encoding="utf-8") as file:
        file.write(SAYS_SO)
    return made


def edit(checkout: Path) -> None:
    """From now on the code of the checkout cannot even be imported."""
    for name in (
        "harness/__init__.py",
        "harness/train/loop.py",
        "harness/components.py",
        "harness/sweep/worker/worker.py",
    ):
        (checkout / name).write_text("this is no Python")


def of(checkout: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", provenance.ORIGIN)}
    return {**kept, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}


def python(checkout: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=checkout,
        env={**of(checkout), **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


TWO_RUNS = (("seeds: 2", "seeds: 1"), ("runs: 4", "runs: 2"))


def assert_old_code_ran(store: Store) -> None:
    folders = list(store.all_runs())
    assert len(folders) == 2
    (origin,) = (store.code / "origins").iterdir()
    for folder in folders:
        assert "this is the old code" in folder.log.read_text(), folder.log.read_text()
        about, submitted = read_json(folder.provenance), read_json(origin)
        assert folder.outcome.exists() and about["code"] == submitted["code"]
        assert about["snapshot"] == submitted["snapshot"] and (store.code / about["snapshot"] / "harness").is_dir()


@pytest.mark.slow
def test_a_job_that_starts_after_an_edit_runs_the_code_that_was_submitted(
    write: Write, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims, store, cluster = Shims(tmp_path / "slurm"), Store(tmp_path / "results"), tmp_path / "site.yaml"
    cluster.write_text("gpus: 0\nruns_per_job: 2\nat_once: 2\ncpus: 2\n")
    sweep = ["-m", "harness.sweep", str(write(*TWO_RUNS)), "--results", str(store.root), "--cluster", str(cluster)]
    submitting = python(checkout, *sweep, **shims.environment)
    assert "Submitted 2 runs as 1 jobs" in " ".join(submitting.communicate()[0].split())
    edit(checkout)
    monkeypatch.chdir(checkout)  # where sbatch was called is where jobs start
    for name, value in of(checkout).items():
        monkeypatch.setenv(name, value)
    (done,) = shims.run_jobs()
    assert done.returncode == 0, done.stderr
    assert_old_code_ran(store)


@pytest.mark.slow
def test_an_edit_during_a_local_sweep_does_not_reach_its_later_runs(
    write: Write, checkout: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "results")
    sweep = python(
        checkout, "-m", "harness.sweep", str(write(*TWO_RUNS)), "--results", str(store.root), "--jobs", "1",
        "--cluster", "local", "--yes",
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while not any(folder.log.exists() for folder in store.all_runs()) and time.monotonic() < deadline:
        time.sleep(0.01)
    edit(checkout)
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, said
    assert_old_code_ran(store)


TAKE = """
import sys
from pathlib import Path
from harness.store.results import Store
from harness.store import snapshot
taken = snapshot.take(Store(Path(sys.argv[1])), Path(sys.argv[2]))
print(taken.folder, taken.origin)
"""


def take(checkout: Path, store: Store, experiment: Path) -> tuple[Path, dict[str, Any]]:
    process = python(checkout, "-c", TAKE, str(store.root), str(experiment))
    said, _ = process.communicate()
    assert process.returncode == 0, said
    folder, origin = said.split()
    return Path(folder), json.loads(Path(origin).read_text())


def git(checkout: Path, *arguments: str) -> str:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity |= {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **identity}
    ).stdout.strip()


def test_commit_diff_and_untracked_files_are_written_down_once(write: Write, checkout: Path, tmp_path: Path) -> None:
    store, experiment = Store(tmp_path / "results"), write()
    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "first")
    folder, clean = take(checkout, store, experiment)
    assert (clean["commit"], clean["dirty"]) == (git(checkout, "rev-parse", "HEAD"), False)
    assert (clean["diff"], clean["untracked"]) == (None, [])
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert names == {path.relative_to(checkout) for path in (checkout / "harness").rglob("*") if path.is_file()}
    assert take(checkout, store, experiment) == (folder, clean), "the same code is stored once"
    with (checkout / "harness/train/loop.py").open("a") as file:
        file.write("EDITED = True\n")
    (checkout / "harness/new.py").write_text("")
    (checkout / "scratch.py").write_text("not part of the code")
    other, dirty = take(checkout, store, experiment)
    assert other != folder and dirty["dirty"] and dirty["untracked"] == ["harness/new.py"]
    assert "+EDITED = True" in (store.code / "diffs" / f"{dirty['diff']}.diff").read_text()
    assert dirty["code"] != clean["code"] and {path.stem for path in store.sources.iterdir()} == {
        clean["code"],
        dirty["code"],
    }
    assert len(list((store.code / "experiments").iterdir())) == 1


@pytest.fixture
def as_imported(tmp_path: Path) -> Iterator[tuple[Store, snapshot.Snapshot]]:
    """A snapshot of the package that these tests run."""
    store = Store(tmp_path / "results")
    yield store, snapshot.take(store)


def test_the_snapshot_is_preloaded_where_the_server_takes_its_parents_path_over(
    as_imported: tuple[Store, snapshot.Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python 3.12.8 and 3.13.1 on, before it preloads: ``sys.path[:] = sys_path`` (CPython gh-117378)."""
    _, taken = as_imported
    paths: list[list[str]] = []
    monkeypatch.setattr(
        fork_server.forkserver, "ensure_running", lambda: paths.append(spawn.get_preparation_data("ignore")["sys_path"])
    )
    monkeypatch.setattr(fork_server.forkserver._forkserver, "_stop", lambda: None)
    monkeypatch.setattr(fork_server, "server_pid", lambda: None)
    monkeypatch.setattr(fork_server, "_SERVED", [])
    monkeypatch.syspath_prepend(str(ROOT))
    before = sys.path[:]
    fork_server.start_server(taken)
    assert sys.path == before
    found = importlib.machinery.PathFinder.find_spec("harness", paths[0])
    assert found is not None and found.origin is not None
    assert Path(found.origin).is_relative_to(taken.folder)


def test_components_from_outside_have_to_be_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "outside_files", lambda: {"study/parts.py": "0123", "study/more.py": "4567"})
    taken = snapshot.take(Store(tmp_path))
    monkeypatch.setattr(provenance, "origin", lambda: read_json(taken.origin))
    imported = Path(provenance.PACKAGE).parent
    worker._check_code(imported)
    monkeypatch.setattr(provenance, "outside_files", lambda: {"study/parts.py": "edited", "study/more.py": "4567"})
    with pytest.raises(ImportError, match=r"since the run was submitted: study/parts\.py$"):
        worker._check_code(imported)
    worker._check_code(None)


def test_a_snapshot_that_was_damaged_is_mended(as_imported: tuple[Store, snapshot.Snapshot]) -> None:
    store, taken = as_imported
    loop = taken.folder / "harness/train/loop.py"
    whole = loop.read_bytes()
    loop.write_bytes(whole[:100])
    (taken.folder / "harness/store/results.py").unlink()
    assert snapshot.take(store) == taken
    assert loop.read_bytes() == whole and (taken.folder / "harness/store/results.py").exists()


def test_a_large_diff_is_cut(as_imported: tuple[Store, snapshot.Snapshot], monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = as_imported
    monkeypatch.setattr(provenance, "local_changes", lambda: ("+x" * 1000, [f"{index}.py" for index in range(300)]))
    monkeypatch.setattr(snapshot, "DIFF_CAP", 100)
    about = read_json(snapshot.take(store).origin)
    stored = (store.code / "diffs" / f"{about['diff']}.diff").read_text()
    assert len(stored) < 200 and stored.endswith("[cut: 2,000 bytes]\n")
    assert len(about["untracked"]) == snapshot.LISTED + 1 and about["untracked"][-1] == "and 100 more"


def test_results_of_other_code_name_the_files_that_changed(as_imported: tuple[Store, snapshot.Snapshot]) -> None:
    store, _ = as_imported
    today = dict(provenance.numeric_files())
    assert snapshot.what_changed(store, {"code": provenance.code_fingerprint()}) == "changed since: "
    write_json(store.sources / "0123456789ab.json", {**today, "train/loop.py": "x", "data/gone.py": "y"})
    assert snapshot.what_changed(store, {"code": "0123456789ab"}) == "changed since: data/gone.py, train/loop.py"
    assert "of commit 00000; the changed files" in snapshot.what_changed(
        store, {"code": "ffffffffffff", "commit": "0" * 5}
    )
    assert snapshot.what_changed(store, {}) == "made by code that was not recorded"


def test_a_commit_says_what_its_files_were_where_nothing_was_recorded(tmp_path: Path) -> None:
    before = provenance.numeric_files_at("HEAD")
    assert before is not None, "the tests run in a checkout"
    said = snapshot.what_changed(Store(tmp_path), {"code": "ffffffffffff", "commit": "HEAD", "dirty": False})
    assert said == f"changed since: {', '.join(provenance.differing(before))}"
    assert "the changed files are not known" in snapshot.what_changed(
        Store(tmp_path), {"code": "ffffffffffff", "commit": "HEAD", "dirty": True}
    )


def test_a_process_that_imported_other_code_refuses_to_compute(tmp_path: Path) -> None:
    worker._check_code(None)
    with pytest.raises(ImportError, match="not from the snapshot"):
        worker._check_code(tmp_path / "0123456789ab")
