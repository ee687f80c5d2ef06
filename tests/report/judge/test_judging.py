"""What is left of a claim about a size where the setting is not the paper's: its direction, judged as any claim is."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from typing import Any

import pytest

from harness.report.judge.judging import judge_all
from harness.report.judge.score import Score
from harness.report.judge.verdicts import Verdict
from harness.report.read.collect import collect
from harness.report.render.page import render
from tests.report.fake_results import BATCH, EPOCHS, FakeResults, add, write

TWO = {"greater": [{BATCH: 2}, {BATCH: 1}]}


def judged(fake: FakeResults, gaps: tuple[float, ...], expect: Mapping[str, Any], **fields: Any) -> Score:
    """Batch 2 over batch 1, by these gaps seed by seed."""

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        return {"linear": {"top1": 40.0 + seed + (gaps[seed] if settings[BATCH] == 2 else 0.0)}}

    arms = [add(fake, {BATCH: x}, len(gaps), lambda *_: "done", values) for x in (1, 2)]
    claim = {"id": "c", "says": "two is better", "on": "linear/top1", "expect": dict(expect)}
    fake.experiment("sizes", arms=arms, claims=[claim], **fields)
    (one,) = judge_all(collect(fake.root))
    return Score(one)


@pytest.mark.parametrize(
    ("gaps", "verdict", "holds"),
    [
        ((4.8, 5.2, 5.0), Verdict.INCONCLUSIVE, True),  # about the margin, far above zero
        ((1.8, 2.2, 2.0), Verdict.DIRECTION, True),
        ((-2.2, -1.8, -2.0), Verdict.NOT_REPRODUCED, False),
        ((-9.0, 9.0, 0.5), Verdict.INCONCLUSIVE, False),
        ((9.8, 10.2, 10.0), Verdict.REPRODUCED, False),  # all of it is: there is nothing to add
        ((2.0,), Verdict.INCONCLUSIVE, False),  # one seed shows no direction either
    ],
)
def test_a_direction_is_judged_like_any_claim(
    fake: FakeResults, gaps: tuple[float, ...], verdict: Verdict, holds: bool
) -> None:
    score = judged(fake, gaps, {**TWO, "margin": 5.0})
    assert score.judged.ours.verdict is verdict and score.direction_holds is holds
    top = render(collect(fake.root)).partition("Scoreboard")[0]
    said = "direction reproduced, size not</span>" if verdict is Verdict.DIRECTION else "in size; the direction holds"
    assert (said in top.lower()) is holds


def test_at_the_papers_scale_a_size_is_a_size(fake: FakeResults) -> None:
    score = judged(fake, (4.8, 5.2, 5.0), {**TWO, "margin": 5.0}, paper_scale=True)
    assert score.judged.direction is None and not score.direction_holds


@pytest.mark.parametrize("expect", [TWO, {**TWO, "margin": -1.0}, {"equivalent": TWO["greater"], "within": 5.0}])
def test_without_a_margin_there_is_no_direction_apart(fake: FakeResults, expect: dict[str, Any]) -> None:
    assert judged(fake, (4.8, 5.2, 5.0), expect).judged.direction is None


def test_a_claim_may_be_about_the_loss_of_the_last_epoch(fake: FakeResults) -> None:
    claim = {"id": "c", "says": "s", "on": "training/loss", "expect": {"greater": [{BATCH: 1}, {BATCH: 2}]}}
    fifty = lambda *_: {"linear": {"top1": 50.0}}  # noqa: E731
    arms = [add(fake, {BATCH: x, EPOCHS: 2}, 3, lambda *_: "done", fifty) for x in (1, 2)]
    for arm in arms:
        for seed, run in arm["runs"].items():
            losses = [9.0, 5.0 + int(seed) / 10 if arm["settings"][BATCH] == 1 else 4.0]
            lines = [json.dumps({"epoch": n, "step": n, "lr": 1.0, "loss": loss}) for n, loss in enumerate(losses, 1)]
            (fake.folder(run) / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            outcome = {"run": run, "status": "trained", "epochs": 2, "steps": 2, "loss": losses[-1]}
            write(fake.folder(run) / "outcome.json", outcome)
    fake.experiment("losses", arms=arms, claims=[claim])
    (one,) = judge_all(collect(fake.root))
    assert one.ours.verdict is Verdict.REPRODUCED
    assert one.ours.deciding is not None and one.ours.deciding.sample == pytest.approx((1.0, 1.1, 1.2))
    (fake.folder(arms[0]["runs"]["0"]) / "metrics.jsonl").unlink()
    (one,) = judge_all(collect(fake.root))
    assert one.ours.verdict is Verdict.INCONCLUSIVE, "a seed without a loss is a seed that is missing"


def test_how_many_arms_a_side_averages_is_said(fake: FakeResults) -> None:
    width = "head.out_dim"

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        return {"linear": {"top1": 40.0 + 5 * settings[BATCH] + settings[width] + seed / 10}}

    grid = [{BATCH: 1, width: 1}, {BATCH: 2, width: 1}, {BATCH: 2, width: 2}, {BATCH: 2, width: 3}]
    arms = [add(fake, settings, 2, lambda *_: "done", values) for settings in grid]
    paper = [{"at": settings, "metric": "linear/top1", "value": 10.0 * settings[BATCH]} for settings in grid[:3]]
    claim = {"id": "c", "says": "s", "on": "linear/top1", "expect": TWO}
    fake.experiment("widths", arms=arms, claims=[claim], published={"simclr/table": {"cells": paper}})
    (one,) = judge_all(collect(fake.root))
    assert one.ours.deciding is not None and one.ours.deciding.name == "batch size 2 (mean of 3) over batch size 1"
    assert one.paper is not None and one.paper[1].name == "batch size 2 (mean of 2) over batch size 1"


def test_a_difference_that_the_planned_looks_would_find_is_ruled_out(fake: FakeResults) -> None:
    gaps = (0.3, -0.2, 0.1, -0.3, 0.2, -0.1, 0.15, -0.15)
    score = judged(fake, gaps, TWO, looks=[8])
    assert score.judged.ours.verdict is Verdict.TOO_SMALL
    deviation = statistics.stdev(gaps)
    reach = (1.959964 + 0.841621) * deviation / math.sqrt(8)
    half = 1.894579 * deviation / math.sqrt(8)  # Student's t of seven degrees of freedom, 5 % on each side
    assert score.judged.ours.bounds == pytest.approx((-half, half))
    assert score.ruled_out.startswith(f"a difference of {reach:.2f} or more, which the look at 8 seeds would find")
    page = render(collect(fake.root))
    assert "too small to matter</span>" in page and score.ruled_out[2:] in page
    assert judged(fake, gaps, TWO, looks=[7, 9]).judged.ours.n == 7, "the manifest says when"
    sized = judged(fake, gaps, {**TWO, "margin": 0.01}, looks=[8], paper_scale=True).judged.ours
    assert sized.verdict is Verdict.INCONCLUSIVE, "of a size nothing is too small: its line is not zero"
