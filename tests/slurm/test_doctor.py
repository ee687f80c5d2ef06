"""What the doctor says about Slurms that are really there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.doctor.finding import Finding, Severity
from harness.doctor.slurm import check_slurm
from tests.slurm.lab import EXPERIMENTS, Lab

pytestmark = pytest.mark.slurm


def look(folder: Path, cluster: str) -> dict[str, Finding]:
    path = folder / "site.yaml"
    path.write_text(cluster)
    return {one.about: one for one in check_slurm(str(path), EXPERIMENTS, folder / "results")}


def test_a_slurm_with_everything(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in lab.environment.items():
        monkeypatch.setenv(key, value)
    found = look(tmp_path, "gpus: 0\ncpus: 1\nmem: 1G\n")
    assert {one.level for name, one in found.items() if name != "shared"} == {Severity.OK}, found
    assert "cluster lab" in found["SLURM"].seen and "MaxArraySize=1001" in found["arrays"].seen
    assert "sacct answers" in found["accounting"].seen and "warned (USR2)" in found["preemption"].seen
    assert "to start at" in found["cluster"].seen
    before = lab.queued()
    for asks, hint in [
        ("gpus: 1\ncpus: 1\nmem: 1G\n", "gpus: 1 (or gres: 'gpu:TYPE:1')"),
        ("gpus: 0\ncpus: 64\nmem: 1G\n", "cpus: 64"),
        ("gpus: 0\ncpus: 1\nmem: 500G\n", "mem: 500G"),
        ("gpus: 0\ncpus: 1\nmem: 1G\npartition: nope\n", "partition: one of"),
    ]:
        refused = look(tmp_path, asks)["cluster"]
        assert refused.level is Severity.FAIL and hint in refused.remedy, refused
    assert len(lab.queued()) <= len(before), "nothing was submitted"


def test_a_slurm_without_accounting(bare_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in bare_lab.environment.items():
        monkeypatch.setenv(key, value)
    found = look(tmp_path, "gpus: 0\ncpus: 1\nmem: 1G\n")
    assert found["accounting"].level is Severity.NOTE and "off" in found["accounting"].seen
    assert "MaxArraySize=2" in found["arrays"].seen and found["cluster"].level is Severity.OK
    assert found["requeue"].level is Severity.OK and "JobRequeue=0" in found["requeue"].seen
    assert found["preemption"].level is Severity.WARN and "only SIGTERM" in found["preemption"].seen
