"""The wheel, in a folder of its own: built-in experiments, an experiment of one's own, provenance. Needs no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store import provenance

ROOT = Path(__file__).resolve().parents[1]
DATA = "{synthetic: {train_images: 64, test_images: 32}}"

OWN = """\
title: A study of one's own
scale: smoke
vary:
  - objective.nt_xent.temperature: [0.1, 0.5]
seeds: 1
runs: 2
evaluate: [linear]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel of this checkout is unpacked, as pip does; ``bin/harness`` is its command."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("harness", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", source / "dist", source], check=True)
    (wheel,) = (source / "dist").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)
    return site


def harness(site: Path, folder: Path, *arguments: str) -> str:
    """What the command says, run in ``folder`` with the libraries that are installed here. It must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [str(site / "bin" / "harness"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_experiments(site: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        found = (path for path in folder.rglob("*") if path.suffix in (".yaml", ".json"))
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    assert files(site / "harness" / "experiments") == files(ROOT / "experiments")


@pytest.mark.slow
def test_a_built_in_experiment_and_one_of_ones_own_run_from_the_wheel(site: Path, tmp_path: Path) -> None:
    """A run of Figure 5 and one of a file that has neither ``scales/`` nor ``paper/`` beside it; then the page.

    The folder lies in another project's git repository, whose commit is none of the harness's.
    """
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    for words in (("init", "-q"), (*identity, "commit", "-q", "--allow-empty", "-m", "theirs")):
        subprocess.run(["git", *words], cwd=site, check=True)
    (tmp_path / "mine.yaml").write_text(OWN, encoding="utf-8")
    both = ("augmentation_pairs", "mine.yaml", "--scale", "smoke", "--cluster", "local", "--jobs", "1")
    small = ("-o", f"data={DATA}", "-o", "schedule.batch_size=32", "-o", "schedule.epochs=1")
    plans = json.loads(harness(site, tmp_path, "plan", *both, *small, "--json"))
    files = (str(site / "harness" / "experiments" / "augmentation_pairs.yaml"), "mine.yaml")
    assert tuple(one["file"] for one in plans) == files
    chosen = [one["runs"][0]["id"] for one in plans]
    harness(site, tmp_path, "run", *both, *small, "--only", ",".join(chosen))
    assert [one["states"].get("done") for one in json.loads(harness(site, tmp_path, "status", "--json"))] == [1, 1]
    harness(site, tmp_path, "report", "-o", "report.html")
    assert "A study of one&#39;s own" in (tmp_path / "report.html").read_text(encoding="utf-8")
    about = json.loads((tmp_path / "results" / "runs" / chosen[0] / "provenance.json").read_text(encoding="utf-8"))
    assert about["commit"] is None and about["code"] == provenance.code_fingerprint()
    (snapshot,) = (path for path in (tmp_path / "results" / "code").iterdir() if (path / "harness").is_dir())
    assert about["snapshot"] == snapshot.name and not (snapshot / "harness" / "experiments").exists()
