"""The ledger of attempts, causes, and fingerprints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.store.attempts import Attempt, cause_of, describe, entries, fail, last
from harness.store.causes import Cause, policy
from harness.store.results import RunFolder, StoreError, read_json, write_json


def raised(work: object, *arguments: object) -> dict[str, str]:
    try:
        work(*arguments)  # type: ignore[operator]
    except Exception as error:
        return describe(error)
    raise AssertionError("nothing was raised")


def lose(step: int) -> None:
    raise ValueError(f"loss is {step / 7} at step {step} of run {step:012x} in /tmp/x{step}/runs")


def crash(step: int) -> None:
    raise ValueError(f"shapes differ: {step}")


def test_the_same_fault_has_one_fingerprint_whatever_the_numbers() -> None:
    assert raised(lose, 3)["fingerprint"] == raised(lose, 123456)["fingerprint"]


def test_other_faults_have_other_fingerprints() -> None:
    faults = [raised(lose, 3), raised(crash, 3), raised(int, "a")]
    assert len({one["fingerprint"] for one in faults}) == 3


def test_a_description_holds_what_a_reader_needs() -> None:
    described = raised(crash, 5)
    assert described["type"] == "ValueError" and described["message"] == "shapes differ: 5"
    assert "in crash" in described["traceback"]


def test_the_ledger_counts_up_and_keeps_every_entry(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "abc")
    Attempt.begin(folder, job="12_3").end(Cause.INTERRUPTED, "killed by SIGTERM")
    second = Attempt.begin(folder)
    assert [path.name for path in sorted(folder.attempts.iterdir())] == ["001.json", "002.json"]
    first = read_json(folder.attempts / "001.json")
    assert (first["cause"], first["job"], first["pid"]) == ("interrupted", "12_3", os.getpid())
    assert first["start"] <= first["end"]
    entry = last(folder)
    assert entry is not None and entry["attempt"] == 2 and "cause" not in entry
    assert Attempt.unfinished(folder, os.getpid()) == second
    assert Attempt.unfinished(folder, os.getpid() + 1) is None
    second.end(Cause.DONE)
    assert Attempt.unfinished(folder, os.getpid()) is None


def test_the_thousandth_attempt_is_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "abc")
    for number in (2, 998):
        Attempt(folder, number).end(Cause.INTERRUPTED)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    for number in (999, 1000, 1001):
        assert Attempt.begin(folder, "7_0").number == number
        entry = last(folder)
        assert entry is not None and (entry["attempt"], entry["restarts"]) == (number, 3)
    assert [path.stem for path in entries(folder)] == ["1001", "1000", "999", "998", "002"]


def test_a_truncated_entry_hides_nothing_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "abc")
    Attempt.begin(folder).end(Cause.DONE)
    (folder.attempts / "002.json").write_text('{"attempt": 2, "ho')
    entry = last(folder)
    assert entry is not None and entry["attempt"] == 1
    assert Attempt.begin(folder).number == 3


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), Cause.OOM),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), Cause.OOM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), Cause.OOM),
        (OSError(12, "Cannot allocate memory"), Cause.OOM),
        (OSError(28, "No space left on device"), Cause.DISK),
        (OSError(30, "Read-only file system"), Cause.DISK),
        (FileNotFoundError(2, "No such file or directory"), Cause.CODE),
        (StoreError("run.json: unreadable"), Cause.INPUT),
        (SpecError("data_batch_1.bin is damaged"), Cause.INPUT),
        (ValueError("x"), Cause.CODE),
        (RuntimeError("memory format channels_last is not supported"), Cause.CODE),
    ],
)
def test_causes(error: Exception, cause: Cause) -> None:
    assert cause_of(error) is cause


def test_only_lasting_faults_are_failures() -> None:
    assert {cause for cause in Cause if cause.failed} == {Cause.OOM, Cause.INPUT, Cause.CODE, Cause.LAUNCH}
    assert not any(cause.failed and cause.resumes for cause in Cause)


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_policy(cause: Cause) -> None:
    assert policy(str(cause)) == cause.policy and policy("no such cause") == ""


@pytest.mark.parametrize(
    ("entry", "cause", "said"),
    [
        ({"host": "elsewhere"}, Cause.NODE, "elsewhere stopped responding; detected at the next attempt"),
        ({"host": "elsewhere", "job": "7_0"}, Cause.NODE, "and SLURM requeued the job"),
        ({"boot": "before"}, Cause.NODE, "restarted"),
        ({}, Cause.INTERRUPTED, "killed together"),
    ],
)
def test_whoever_comes_next_closes_the_entry_of_one_that_died_without_a_word(
    tmp_path: Path, entry: dict[str, str], cause: Cause, said: str
) -> None:
    folder = RunFolder(tmp_path / "abc")
    Attempt.begin(folder)
    first = folder.attempts / "001.json"
    write_json(first, {**read_json(first), **entry})
    Attempt.begin(folder, job="7_0")
    closed = read_json(first)
    assert closed["cause"] == cause.value and said in closed["detail"] and not cause.failed
    Attempt.begin(folder)
    assert read_json(first) == closed, "and nobody closes it twice"


def test_failed_json_is_what_the_report_reads(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "abc")
    fail(folder, Cause.CODE, raised(crash, 1), attempt=4)
    held = read_json(folder.failure)
    assert set(held) >= {"run", "attempt", "type", "message", "traceback", "fingerprint", "time", "cause"}
    assert (held["run"], held["attempt"], held["cause"]) == ("abc", 4, "code")


def test_the_ledger_counts_the_lives_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    Attempt.begin(RunFolder(tmp_path / "run"), "7_0")
    assert (last(RunFolder(tmp_path / "run")) or {})["restarts"] == 2
    Attempt.begin(RunFolder(tmp_path / "here"))
    assert "restarts" not in (last(RunFolder(tmp_path / "here")) or {})
