"""The checks of SLURM, against pretend commands. The real ones answer in tests/slurm/test_doctor.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.doctor.finding import Finding, Severity
from harness.doctor.slurm import NEEDED, accounting, array_size, check_slurm, preemption, requeue

CLUSTERS = Path(__file__).resolve().parents[2] / "experiments"
CONFIG = """\
Configuration data as of 2026-11-22T16:00:00
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = pretend
JobRequeue              = 1
MaxArraySize            = 1001
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
SlurmctldParameters     = preempt_send_user_signal
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds nothing but the pretend commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, **scripts: str) -> None:
    answers = dict.fromkeys((*NEEDED, "sacct"), "exit 0")
    answers["sbatch"] = '[ "$1" = --version ] && echo "slurm 24.05"; exit 0'
    answers["scontrol"] = f"echo '{CONFIG}'"
    for name, body in {**answers, **scripts}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)


def look(tmp_path: Path, cluster: str = "auto") -> list[Finding]:
    return list(check_slurm(cluster, CLUSTERS, tmp_path / "results"))


def by(found: list[Finding]) -> dict[str, Finding]:
    return {one.about: one for one in found}


def test_no_slurm_is_no_fault_unless_it_was_asked_for(commands: Path, tmp_path: Path) -> None:
    assert [one.level for one in look(tmp_path)] == [Severity.NOTE]
    assert [one.level for one in look(tmp_path, "local")] == [Severity.NOTE]
    (found,) = look(tmp_path, "slurm")
    assert found.level is Severity.FAIL and "sbatch, srun, squeue, scancel, scontrol" in found.seen and found.remedy


def test_a_cluster_that_there_is_none_of_is_no_fault_of_slurm(commands: Path, tmp_path: Path) -> None:
    for asked, said in (("slrm", "did you mean 'slurm'?"), (str(tmp_path / "no.yaml"), "no such file")):
        (found,) = look(tmp_path, asked)
        assert found.about == "cluster" and said in found.seen


def test_half_a_slurm_is_a_fault(commands: Path, tmp_path: Path) -> None:
    install(commands)
    (commands / "srun").unlink()
    (found,) = look(tmp_path)
    assert found.level is Severity.FAIL and found.seen == "not on the PATH: srun"


def test_a_controller_that_does_not_answer(commands: Path, tmp_path: Path) -> None:
    install(commands, scontrol="exit 1")
    (found,) = look(tmp_path)
    assert found.level is Severity.FAIL and "slurm 24.05 is installed, but no controller answers" in found.seen


def test_all_is_well(commands: Path, tmp_path: Path) -> None:
    install(commands)
    found = by(look(tmp_path))
    assert found["SLURM"].seen == "slurm 24.05, cluster pretend"
    assert {one.level for name, one in found.items() if name != "shared"} == {Severity.OK}


def test_jobs_that_would_be_refused(commands: Path, tmp_path: Path) -> None:
    refuse = "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1"
    install(commands, sbatch=refuse)
    found = by(look(tmp_path))["cluster"]
    assert found.level is Severity.FAIL
    assert "slurm.yaml would be refused: allocation failure: Requested node" in found.seen
    assert "gpus: 1 (or gres: 'gpu:TYPE:1'), cpus: 8, mem: 32G" in found.remedy
    install(commands, sbatch="echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    assert "partition: one of" in by(look(tmp_path))["cluster"].remedy


def test_the_longest_jobs_are_rehearsed_too_and_short_ones_warned_of(commands: Path, tmp_path: Path) -> None:
    refuse = """[ -z "$2" ] || while read line; do
        case "$line" in *--time=10080) echo 'time limit' >&2; exit 1;; esac
    done < "$2"
    echo fine"""
    install(commands, sbatch=refuse)
    found = by(look(tmp_path))
    assert found["cluster"].level is Severity.OK and found["time"].level is Severity.WARN
    assert "the longest jobs that slurm.yaml may ask for" in found["time"].seen
    path = tmp_path / "site.yaml"
    path.write_text('time: "00:20:00"\n')
    assert "gives a job 20 minutes" in by(look(tmp_path, str(path)))["time"].seen


def test_a_cluster_file_with_a_typo_or_none_at_all(commands: Path, tmp_path: Path) -> None:
    install(commands)
    path = tmp_path / "site.yaml"
    path.write_text("partion: gpu\n")
    found = by(look(tmp_path, str(path)))["cluster"]
    assert found.level is Severity.FAIL and "did you mean 'partition'?" in found.seen
    assert "did you mean 'slurm'?" in by(look(tmp_path, "slrm"))["cluster"].seen


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (array_size({"MaxArraySize": "10001"}), Severity.OK),
        (array_size({"MaxArraySize": "0"}), Severity.FAIL),
        (accounting({"AccountingStorageType": "accounting_storage/none"}), Severity.NOTE),
        (requeue({"JobRequeue": "0"}), Severity.OK),
        (preemption({"PreemptType": "preempt/none"}), Severity.OK),
        (preemption({"PreemptType": "(null)"}), Severity.OK),
        (preemption({"PreemptType": "preempt/qos", "PreemptMode": "REQUEUE"}), Severity.WARN),
        (preemption({"PreemptType": "preempt/qos", "PreemptParameters": "send_user_signal"}), Severity.OK),
    ],
    ids=str,
)
def test_what_settings_mean(finding: Finding, level: Severity) -> None:
    assert finding.level is level
    assert finding.remedy or level in (Severity.OK, Severity.NOTE), "a fault without a remedy helps nobody"


def test_accounting_that_does_not_answer_is_only_mentioned(commands: Path) -> None:
    install(commands, sacct="echo 'sacct: error: slurm_persist_conn_open_without_init' >&2; exit 1")
    found = accounting({"AccountingStorageType": "accounting_storage/slurmdbd"})
    assert found.level is Severity.NOTE and "slurm_persist_conn" in found.seen
