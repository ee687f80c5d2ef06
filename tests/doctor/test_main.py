"""The command: its screen, its exit codes, and that torch is imported by none but the check of torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.doctor import __main__ as doctor
from harness.doctor.finding import Finding, fail, note, ok, warn

ROOT = Path(__file__).resolve().parents[2]


def run(monkeypatch: pytest.MonkeyPatch, *found: Finding) -> int:
    monkeypatch.setattr(doctor, "findings", lambda asked: iter(found))
    return doctor.main([])


def test_one_fault_is_enough_for_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fine = (ok("Python", "3.12"), note("GPU", "none"), warn("room", "little", "make some"))
    assert run(monkeypatch, *fine) == 0
    assert "A sweep would run here." in capsys.readouterr().out
    assert run(monkeypatch, *fine, fail("data", "no [CIFAR-10]", "fetch it")) == 1
    said = capsys.readouterr().out
    assert "FAIL data         no [CIFAR-10]\n                  -> fetch it" in said
    assert "1 of 4 would make a sweep fail" in said


def test_bad_usage_is_2() -> None:
    with pytest.raises(SystemExit) as left:
        doctor.main(["--clutser", "x"])
    assert left.value.code == 2


def test_importing_the_doctor_leaves_torch_alone() -> None:
    code = "import sys, harness.doctor.__main__; sys.exit('torch' in sys.modules or 'submitit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_scale_without_an_experiment_is_bad_usage() -> None:
    with pytest.raises(SystemExit) as left:
        doctor.main(["--scale", "micro"])
    assert left.value.code == 2


@pytest.mark.slow
def test_on_this_machine_it_fills_one_screen_and_names_the_missing_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.doctor", "--cluster", "local"]
    command += ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr
    assert f"python -m harness.data cifar10 --root {tmp_path / 'data'}" in done.stdout
    assert len(done.stdout.splitlines()) <= 24
    assert list(tmp_path.iterdir()) == []
