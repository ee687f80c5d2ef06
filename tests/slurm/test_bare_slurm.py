"""A Slurm without accounting that allows arrays of two jobs only: the other end of what sites have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.sweep import scheduler
from tests.slurm.lab import Lab, Sweep

pytestmark = pytest.mark.slurm


@pytest.fixture
def here(bare_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    for key, value in bare_lab.environment.items():
        monkeypatch.setenv(key, value)
    return bare_lab


def test_more_runs_than_an_array_holds_go_in_chunks_one_after_the_other(here: Lab, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        here.ask("sacct")
    assert "accounting storage is disabled" in refused.value.stderr
    assert scheduler.max_array_size() == 2
    sweep = Sweep(tmp_path, here, seeds=3, array_cap=1)
    assert sweep() == 0
    (submission,) = sweep.submissions
    assert [len(chunk.tasks) for chunk in submission.chunks] == [2, 1]
    assert f"afterany:{submission.chunks[0].job}" in here.ask("scontrol", "show", "job", str(submission.chunks[1].job))
    sweep.wait_until("done", "done", "done")
    assert [len(sweep.attempts(run)) for run in sweep.runs] == [1, 1, 1]
    assert sweep("--status") == 0
    assert all(chunk.over == "ended" for chunk in sweep.submissions[0].chunks)
    assert sweep() == 0 and len(sweep.submissions) == 1


def test_a_controller_that_does_not_answer_makes_nothing_failed(
    here: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, here, seeds=2)
    here.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        assert sweep() == 0
        elsewhere = tmp_path / "slurm.conf"  # a controller at a port where nobody listens
        text = Path(here.environment["SLURM_CONF"]).read_text()
        told = f"SlurmctldPort={here.port}\n"
        assert told in text
        elsewhere.write_text(text.replace(told, "SlurmctldPort=19\n").replace("MessageTimeout=20", "MessageTimeout=2"))
        monkeypatch.setenv("SLURM_CONF", str(elsewhere))
        monkeypatch.setattr(scheduler, "ASK_EVERY_S", 60.0)  # it takes squeue twenty seconds to give up
        (sweep.store.jobs / "squeue.json").unlink(missing_ok=True)
        assert sweep() == 0 and len(sweep.submissions) == 1
        assert set(scheduler.look(sweep.store).runs.values()) == {"unknown"}
        assert sweep.states() == ["to do", "to do"]
    finally:
        here.ask("scancel", "--me")
        here.ask("scontrol", "update", "PartitionName=main", "State=UP")
