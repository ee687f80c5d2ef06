"""``--accept`` and ``--check``."""

from __future__ import annotations

import json

import pytest

from harness.report.__main__ import main
from tests.report.fake_results import FakeResults, fate_of, figure_5


@pytest.fixture
def accepted(fake: FakeResults) -> FakeResults:
    figure_5(fake, fate_of(1.0))
    assert main([str(fake.root), "--accept"]) == 0
    return fake


def test_what_holds_still_holds(accepted: FakeResults, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(accepted.root), "--check"]) == 0
    assert "3 of 3 claims that held still hold" in capsys.readouterr().err


def test_a_lost_run_is_a_lost_claim(accepted: FakeResults, capsys: pytest.CaptureFixture[str]) -> None:
    figure_5(accepted, fate_of(1.0), seeds=4)  # the accepted ones, and a fourth seed for all ...
    for path in accepted.root.glob("runs/*/outcome.json"):
        held = json.loads(path.read_text(encoding="utf-8"))
        spec = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["spec"]
        if spec["seed"] == 3 and [*spec["views"]["targeted"][0]] == ["crop"]:  # ... which diverged wherever crop leads
            path.write_text(json.dumps(held | {"status": "diverged"}), encoding="utf-8")
    assert main([str(accepted.root), "--check"]) == 1
    err = capsys.readouterr().err
    assert "no longer holds: augmentation_pairs@micro/crop-with-color-wins: INCONCLUSIVE" in err


def test_a_claim_that_is_gone_is_lost(accepted: FakeResults, capsys: pytest.CaptureFixture[str]) -> None:
    (accepted.root / "experiments" / "augmentation_pairs@micro.json").unlink()
    assert main([str(accepted.root), "--check"]) == 1
    assert capsys.readouterr().err.count("the claim is gone") == 3


def test_without_a_baseline_there_is_nothing_to_check(fake: FakeResults, capsys: pytest.CaptureFixture[str]) -> None:
    figure_5(fake, fate_of(1.0), seeds=1)
    assert main([str(fake.root), "--check"]) == 2
    assert "nothing was accepted yet" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_baseline_is_2(accepted: FakeResults, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (accepted.root / "verdicts.json").write_text(text, encoding="utf-8")
    assert main([str(accepted.root), "--check"]) == 2
    assert "--accept writes it anew" in capsys.readouterr().err


def test_a_new_verdict_is_not_a_loss(accepted: FakeResults, capsys: pytest.CaptureFixture[str]) -> None:
    path = accepted.root / "verdicts.json"
    held = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(dict.fromkeys(held, "INCONCLUSIVE")), encoding="utf-8")  # as it was written once
    assert main([str(accepted.root), "--check"]) == 0
    assert "nothing to lose" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"margin": -99.0}, {"margin": 3.0}])
def test_a_claim_that_was_weakened_is_not_the_accepted_one(
    accepted: FakeResults, change: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    path = accepted.root / "experiments" / "augmentation_pairs@micro.json"
    held = json.loads(path.read_text(encoding="utf-8"))
    held["claims"][0]["expect"] |= change
    path.write_text(json.dumps(held), encoding="utf-8")
    assert main([str(accepted.root), "--check"]) == (1 if change["margin"] < 0 else 0)
    assert ("it demands something else now" in capsys.readouterr().err) is (change["margin"] < 0)
