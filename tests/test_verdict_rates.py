"""The simulation of verdicts, at a size of seconds: its counts are right, and it would find a judge that is too lax."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import verdicts
from benchmarks.verdicts import NULLS, Null, judged, main, normal, paired, rates, spent_seeds, table
from harness.report.judge import comparison
from harness.report.judge.claims import claim_kind
from harness.report.judge.verdicts import Verdict

TABLES = 150
FEW = [null for null in NULLS if null.name in ("greater, tied", "equivalent, on its bound", "order, all tied")]
ALLOWED = int(stats.binom.ppf(0.9999, TABLES, 0.05))


def test_every_kind_of_claim_is_simulated() -> None:
    assert {kind for null in NULLS for kind in null.expect} >= set(claim_kind.names())


def test_the_truth_lies_where_it_is_said_to_lie() -> None:
    """Nearly without noise the mean that each claim hangs on lies on the line of the claim."""
    experiments, means = table()
    rng = np.random.default_rng(0)
    exact = judged(experiments, means, 1e-6 * normal(rng), rng)
    told = {one.claim.says: one.ours.deciding for one in exact}
    near = {says: min(abs(one.mean - end) for end in (one.above, one.below)) for says, one in told.items() if one}
    assert len(near) == len(NULLS)
    off = {says for says, away in near.items() if away > 1e-3}
    noisy = {"two metrics of a run, equal", "best of a grid, equal", "too small, at the reach of the looks"}
    assert off <= noisy | {"agrees, at its line"}


def test_false_decisions_are_rare_and_a_judge_that_is_too_lax_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = rates(normal, TABLES, 1, FEW)
    assert all(count <= ALLOWED for count in honest.values()) and sum(honest.values()) > 0
    monkeypatch.setattr(comparison, "level", lambda looks, look, alpha=0.05, known=True: 2 * alpha)
    assert rates(normal, TABLES, 1, FEW)["greater, tied"] > ALLOWED


def test_power_is_that_of_the_test_where_there_is_one_look_and_a_spread_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four paired seeds at 5 %: the noncentral t distribution."""
    monkeypatch.setattr(comparison, "KNOWN", 999)
    monkeypatch.setattr("harness.report.judge.spread.MODERATED", 999)
    power, seeds = spent_seeds(2.0, (4,), 60, 3)
    assert seeds == 4 and power == pytest.approx(paired(2.0, 4), abs=0.07)


def test_seeds_are_counted_until_a_decision() -> None:
    power, seeds = spent_seeds(9.0, (3, 5), 2, 3)
    assert (power, seeds) == (1.0, 3.0)
    assert 3.0 < spent_seeds(0.0, (3, 5), 4, 3)[1] < 5.0


def test_rates_are_of_the_verdicts_that_are_false() -> None:
    """The reach of the looks may be found (REPRODUCED), and must not be called too small."""
    (null,) = (one for one in NULLS if one.name.startswith("too small"))
    assert Verdict.REPRODUCED not in null.false and Verdict.TOO_SMALL in null.false
    sure = Null("far", {"greater": [{"arm": 6}, {"arm": 1}]}, {6: 50.0}, (Verdict.REPRODUCED,))
    assert rates(normal, 3, 0, [sure]) == {"": 3, "far": 3}


def test_results_are_written_and_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: one for name, one in verdicts.noises().items() if name in ("normal", "exponential")}
    monkeypatch.setattr(verdicts, "noises", lambda: kept)
    monkeypatch.setattr(verdicts, "CHUNK", 1)
    monkeypatch.setattr(verdicts, "DEVIATIONS", (2.0,))
    first = verdicts.measure(1, 1, tmp_path / "verdicts.json")
    assert main(["--tables", "2", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))
    assert len(found["chunks"]) == 2 * len(first["chunks"]) == 10 and first["chunks"].items() <= found["chunks"].items()
    told = verdicts.summary(found)
    assert told["tables"] == {"normal": 2, "exponential": 2} and len(told["designs"]) == 3
    text = (tmp_path / "verdicts.md").read_text(encoding="utf-8")
    assert all(f"| {null.name} |" in text for null in NULLS)
    monkeypatch.setattr(verdicts, "code", lambda: "another")
    assert len(verdicts.measure(1, 1, tmp_path / "verdicts.json")["chunks"]) == 5, "another code starts anew"
    with pytest.raises(SystemExit, match="2"):
        main(["--tables", "0"])


def test_marks_follow_exact_intervals() -> None:
    assert verdicts.shown(490, 10_000) == "4.9" and verdicts.shown(4, 100) == "4.0 ?"
    assert verdicts.shown(600, 10_000) == "6.0 !"
