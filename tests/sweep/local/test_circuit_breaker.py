"""The circuit breaker that the jobs of one submission share."""

from __future__ import annotations

from pathlib import Path

from harness.runtime import Runtime
from harness.store.results import RunFolder, read_json
from harness.sweep.local.circuit_breaker import CircuitBreaker
from harness.sweep.local.pool import Outcome, Pool
from tests.sweep.fake_executors import behave
from tests.sweep.local.test_pool import LINEAR, Record, runs

FAULT = {"fingerprint": "abcd", "type": "KeyError", "message": "x"}


def job(folder: RunFolder, breaker: CircuitBreaker) -> Outcome:
    """One job of a single run, as ``runs_per_job: 1`` makes them."""
    return Pool([folder], [LINEAR], Runtime(), Record(), jobs=1, execute=behave, job="7_0", breaker=breaker).run()


def test_three_jobs_that_die_alike_hold_the_fourth(tmp_path: Path) -> None:
    breaker = CircuitBreaker(tmp_path)
    *dying, last = runs(tmp_path / "runs", "raise", "raise", "raise", "work")
    assert all(job(folder, breaker).failed == [folder.id] for folder in dying)
    outcome = job(last, CircuitBreaker(tmp_path))
    assert outcome.held == [last] and not outcome.causes and not (last.path / "executed").exists()
    assert "ValueError: bad value" in read_json(tmp_path / "held.json")["why"]


def test_one_that_succeeds_lets_all_go_on(tmp_path: Path) -> None:
    breaker = CircuitBreaker(tmp_path)
    first, *others = runs(tmp_path / "runs", "work", "raise", "raise", "raise", "work")
    assert job(first, breaker).clean
    assert [job(folder, breaker).held for folder in others] == [[]] * 4


def test_faults_that_differ_hold_nothing(tmp_path: Path) -> None:
    breaker = CircuitBreaker(tmp_path)
    for run in "abc":
        breaker.died(run, {**FAULT, "fingerprint": run})
    assert not breaker.held()


def test_the_seeds_of_one_bad_setting_hold_no_other(tmp_path: Path) -> None:
    settings = {"a": "lr 1", "b": "lr 1", "c": "lr 1", "d": "lr 2", "e": "lr 3"}
    breaker = CircuitBreaker(tmp_path, settings, different=8)
    for run in "abcd":
        breaker.died(run, FAULT)
        assert not breaker.held()
    breaker.died("e", FAULT)
    assert breaker.held()
