"""A number whose probe did not converge is shown as such and decides nothing; what was not recorded, is said."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.claim import BestOf
from harness.report.judge.claim_data import Evidence
from harness.report.judge.judging import judge_all
from harness.report.judge.selection import choose, cross_chosen, pool
from harness.report.judge.verdicts import Verdict
from harness.report.read.collect import collect
from harness.report.read.probes import collapse_of, fit_of
from harness.report.read.records import Cell
from harness.report.render import export
from harness.report.render.page import render
from tests.report.fake_results import HANDLES, TAU, FakeResults, add, fate_of, figure_5

AWAY = {"converged": False, "gradient": 0.19, "gap": 0.45, "tolerance": 0.01, "loss": 2.06}
THERE = {"converged": True, "gradient": 7e-6, "gap": 4.5e-8, "tolerance": 0.01, "loss": 1.61}


def told(root: Path, convergence: Any, *, seeds: tuple[int, ...] = (0, 1, 2), **more: Any) -> None:
    """Write into every linear evaluation of these seeds how its probe ended."""
    for path in root.glob(f"runs/*/evaluations/{HANDLES['linear']}.json"):
        if json.loads((path.parents[1] / "run.json").read_text())["spec"]["seed"] in seeds:
            path.write_text(json.dumps(json.loads(path.read_text()) | {"convergence": convergence} | more))


def verdicts(root: Path) -> dict[str, Verdict]:
    return {one.claim.id: one.ours.verdict for one in judge_all(collect(root))}


def text(root: Path) -> str:
    return re.sub(r"<[^>]+>", "", render(collect(root)))


def test_no_verdict_rests_on_a_probe_that_did_not_converge(fake: FakeResults) -> None:
    figure_5(fake, fate_of(1.0))
    before = verdicts(fake.root)
    assert Verdict.REPRODUCED in before.values()
    assert "Convergence not recorded. 147 of 147 linear" in text(fake.root)

    told(fake.root, THERE)
    assert verdicts(fake.root) == before
    page = text(fake.root)
    assert "All 147 linear probes converged: at most 4.5e-08 nats" in page and "gap 4.5e-08, gradient 7e-06" in page
    assert "not recorded" not in page

    told(fake.root, AWAY, seeds=(1,))
    assert {*verdicts(fake.root).values()} == {Verdict.INCONCLUSIVE}
    (one,) = (one.ours.decide for one in judge_all(collect(fake.root)) if one.claim.id == "crop-beats-color-alone")
    assert one.startswith("probes that converge")
    page = text(fake.root)
    assert "Not converged. 49 of 147 linear probes" in page and "0.45 at most" in page
    assert "not converged: gap 0.45, gradient 0.19" in page
    assert page.count(" ‡") >= 49, "every number of the heatmap has its mark"


def test_the_mark_stands_in_tables_and_exports(fake: FakeResults) -> None:
    arms = [
        add(fake, {TAU: tau}, 3, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 40.0 + seed}})
        for tau in (0.1, 0.5)
    ]
    block = {"table": {"rows": {"temperature": TAU}, "columns": {"Top-1": "linear/top1"}}}
    fake.experiment("temperature", arms=arms, report=[block])
    told(fake.root, THERE)
    told(fake.root, AWAY, seeds=(0, 2))
    results = collect(fake.root)
    assert text(fake.root).count("probe not converged in 2 of 3") == 2
    assert export.to_markdown(results).count("probe not converged in 2") == 2
    assert [*export.tidy(results)["unconverged"]] == [2, 2]


def test_what_is_made_of_several_numbers_rests_on_all_of_their_probes() -> None:
    values = {seed: 40.0 + seed for seed in range(3)}
    test = [Cell({TAU: tau}, values, arms=(arm,), unconverged=frozenset({arm})) for arm, tau in enumerate((0.1, 0.5))]
    assert pool(test).unconverged == {0, 1}
    assert Evidence(test).side({TAU: 0.1, "minus": {TAU: 0.5}}).unconverged == {0, 1}
    rule = BestOf(over=[TAU], by="linear@validation/top1")
    good = [replace(cell, unconverged=frozenset()) for cell in test]
    by = [replace(cell, unconverged=frozenset({2})) for cell in test]
    for chosen in (choose(good, by, rule).cell, cross_chosen(good, by, rule)):
        assert chosen.unconverged == {2}, "nor does a choice by such numbers decide"


def test_a_collapsed_representation_is_said_to_be_one(fake: FakeResults) -> None:
    figure_5(fake, fate_of(1.0), seeds=1)
    told(fake.root, THERE, seeds=(0,), collapsed={"features": 160, "of": 160})
    assert "Collapsed. In 49 runs no feature that linear sees varies" in text(fake.root)
    told(fake.root, THERE, seeds=(0,), collapsed={"features": 25, "of": 160})
    page = text(fake.root)
    assert "Collapsed." not in page and "Of the 160 features that linear sees up to 25 do not vary" in page


@pytest.mark.parametrize(
    "held",
    [None, [], "converged", {"gap": "small", "tolerance": 0.01}, {"gap": True, "tolerance": 1}, {"gap": 0.1},
     {"gap": float("nan"), "tolerance": 0.01}, {"loss": 0.3}],
    ids=str,
)  # fmt: skip
def test_a_record_that_says_nothing_is_none(held: Any) -> None:
    assert fit_of(held) is None


@pytest.mark.parametrize(
    "held", [None, {"features": 0, "of": 3}, {"features": 4, "of": 3}, {"features": "all"}], ids=str
)
def test_a_collapse_that_cannot_be_is_none(held: Any) -> None:
    assert collapse_of(held) is None


def test_the_numbers_decide_and_not_the_word_beside_them() -> None:
    fit = fit_of(AWAY | {"converged": True})
    assert fit is not None and not fit.converged
