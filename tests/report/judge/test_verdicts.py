"""The rule from comparisons to a verdict, against p-values of scipy's t tests and its own error rates."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.report.judge.comparison import Agreement, Comparison
from harness.report.judge.judging import judge_all
from harness.report.judge.looks import spent
from harness.report.judge.verdicts import Verdict, judge
from harness.report.read.collect import collect
from harness.report.stats import kendall
from tests.report.fake_results import FakeResults, add, fate_of, figure_5


def by_p_values(comparisons: list[Comparison]) -> Verdict:
    """The same rule with one-sided p-values: intersection-union for yes, Bonferroni for no, TOST for a range."""

    def p(comparison: Comparison, bound: float, alternative: str) -> float:
        if math.isinf(bound):
            return 0.0
        return float(scipy_stats.ttest_1samp(comparison.sample, bound, alternative=alternative).pvalue)

    inside = [max(p(c, c.above, "greater"), p(c, c.below, "less")) for c in comparisons]
    outside = [
        min(
            1.0 if math.isinf(c.above) else p(c, c.above, "less"),
            1.0 if math.isinf(c.below) else p(c, c.below, "greater"),
        )
        for c in comparisons
    ]
    if max(inside) < 0.025:
        return Verdict.REPRODUCED
    if min(outside) * len(comparisons) < 0.025:
        return Verdict.NOT_REPRODUCED
    return Verdict.INCONCLUSIVE


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("bounds", [(1.0, math.inf), (-math.inf, 1.0), (-1.0, 1.0)])
def test_verdict_is_that_of_the_p_values(count: int, bounds: tuple[float, float]) -> None:
    rng = np.random.default_rng(count)
    seen = set()
    for trial in range(30):
        centre = rng.normal(0, 2.5)
        samples = rng.normal(centre, 0.4, (count, 3 + trial % 4))
        comparisons = [Comparison("c", tuple(sample), *bounds) for sample in samples.tolist()]
        expected = by_p_values(comparisons)
        seen.add(expected)
        assert judge([comparisons], (3 + trial % 4,)).verdict is expected
    assert len(seen) >= 2


@pytest.mark.parametrize("alternatives", [1, 2])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("bounds", [(0.0, math.inf), (-1.0, 1.0)])
@pytest.mark.parametrize("looks", [(4,), (2, 4, 9)])
def test_every_verdict_follows_from_the_interval_that_is_shown(
    alternatives: int, count: int, bounds: tuple[float, float], looks: tuple[int, ...]
) -> None:
    """Wholly inside, wholly outside, or across a line: the reader of the page can check it with his eyes."""
    rng = np.random.default_rng(count)
    seen = set()
    for centre in [-2.5, -0.9, 0.0, 0.3, 2.5] * 24:
        offered = [
            [Comparison("c", tuple(rng.normal(rng.normal(centre, 0.3), 0.2, 4)), *bounds) for _ in range(count)]
            for _ in range(alternatives)
        ]
        judged = judge(offered, looks)
        low, high = judged.bounds or (math.nan, math.nan)
        inside, outside = bounds[0] < low and high < bounds[1], high < bounds[0] or bounds[1] < low
        seen.add(judged.verdict)
        if judged.verdict is Verdict.TOO_SMALL:
            reach = judged.seen.reach if judged.seen and judged.seen.reach else 0.0
            assert -reach < low and high < reach
            continue
        assert inside is (judged.verdict is Verdict.REPRODUCED)
        assert outside is (judged.verdict is Verdict.NOT_REPRODUCED)
    assert len(seen - {Verdict.TOO_SMALL}) == 3


@pytest.mark.parametrize("count", [1, 6])
def test_wrong_verdicts_are_rare_where_the_truth_lies_on_the_line(count: int) -> None:
    """With every true difference exactly at the margin neither verdict may be given often: 2.5 % each way."""
    rng = np.random.default_rng(7)
    drawn = (rng.normal(2.0, 1.0, (count, 3)).tolist() for _ in range(600))
    verdicts = [judge([[Comparison("c", tuple(one), 2.0) for one in samples]], (3,)).verdict for samples in drawn]
    assert verdicts.count(Verdict.REPRODUCED) / 600 < 0.045
    assert verdicts.count(Verdict.NOT_REPRODUCED) / 600 < 0.045


def test_inconclusive_says_which_look_would_decide() -> None:
    """The first at which this mean clears zero with this deviation and its degrees of freedom."""
    sample, looks = (0.7, 1.0, 1.4), (3, 5, 8, 12)
    judged = judge([[Comparison("c", sample, 0.0)]], looks)
    assert judged.verdict is Verdict.INCONCLUSIVE and judged.decide.startswith("9 more seeds (the look at 12)")

    def p(look: int) -> float:
        t = float(np.mean(sample) / (np.std(sample, ddof=1) / math.sqrt(look)))
        return float(2 * scipy_stats.t.sf(t, 2))

    clears = [look for look, cost in zip(looks, spent(looks), strict=True) if p(look) < cost]
    assert clears == [12]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (((1.0,),), "the look at 3 seeds: 1 is in"),
        (((1.0, 1.1, 0.9), (2.0, 2.1)), "the look at 3 seeds: 2 are in for 1 of 2 comparisons"),
        (((1.0, 1.1, 0.9), ()), "runs for 1 of 2 comparisons"),
        (((-1.0, 1.0, 0.1),), "no planned look (up to 12) is sure to decide it"),
        (((-0.8, 1.0, 1.0) * 4,), "all looks (at 3, 5, 8, 12 seeds) are done"),
    ],
)
def test_what_would_decide(samples: tuple[tuple[float, ...], ...], words: str) -> None:
    judged = judge([[Comparison("c", sample, 0.0) for sample in samples]])
    assert judged.verdict is Verdict.INCONCLUSIVE and words in judged.decide


def test_a_diverged_run_refutes_nothing() -> None:
    """The survivors say little about a setting under which some runs do not survive."""
    survivors = Comparison("c", (-5.0, -5.1, -4.9), 0.0)
    assert judge([[survivors]], (3,)).verdict is Verdict.NOT_REPRODUCED
    judged = judge([[replace(survivors, diverged=1)]], (3,))
    assert judged.verdict is Verdict.INCONCLUSIVE and "diverged" in judged.decide


def test_seeds_are_counted_from_those_of_the_comparison_that_needs_them() -> None:
    """The second comparison has many seeds already; the first must not be told to bring as many again."""
    few, many = Comparison("few", (0.2, 1.0, 1.9), 0.0), Comparison("many", (5.0, 5.1) * 6, 0.0)
    assert judge([[few, many]]).decide == judge([[few]]).decide


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Verdict.NOT_COMPARABLE),
        ({"paper_scale": True, "overrides": {"schedule.epochs": 5}}, Verdict.NOT_COMPARABLE),
        ({"paper_scale": True}, Verdict.NOT_REPRODUCED),
    ],
)
def test_a_number_of_another_setting_is_not_failed_to_be_reproduced(
    fake: FakeResults, fields: dict[str, Any], expected: Verdict
) -> None:
    """Our CIFAR-10 accuracy next to ImageNet's 64.4 refutes nobody; at the paper's own scale it would."""
    at = {"objective.nt_xent.temperature": 0.1}
    arm = add(fake, at, 3, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 40.0 + seed / 10}})
    claims = [
        {"id": "value", "says": "reaches 64.4", "on": "linear/top1", "expect": {"close": at, "within": 1.0}},
    ]
    published = {"simclr/table_5": {"cells": [{"at": at, "metric": "linear/top1", "value": 64.4}]}}
    fake.experiment("one", arms=[arm], claims=claims, published=published, **fields)
    (judged,) = judge_all(collect(fake.root))
    assert judged.ours.verdict is expected
    assert judged.ours.deciding is not None and judged.ours.deciding.mean == pytest.approx(40.1 - 64.4)
    assert ("not comparable" in judged.ours.decide) == (expected is Verdict.NOT_COMPARABLE)


def test_the_papers_numbers_are_judged_through_our_arms(fake: FakeResults) -> None:
    """Figure 5 prints rows and columns, its claims speak of pairs: our arms say which pair stands where."""
    figure_5(fake, fate_of(0.0, mishaps=False), seeds=1)
    judged = {one.claim.id: one for one in judge_all(collect(fake.root))}
    holds, deciding = judged["crop-with-color-wins"].paper or (False, None)
    assert holds and deciding is not None and deciding.mean == pytest.approx(56.3 - 46.2)
    assert judged["same-ranking"].paper is None
    assert {one.ours.verdict for one in judged.values()} == {Verdict.NOT_RUN}


def test_an_unreadable_claim_is_not_run(fake: FakeResults) -> None:
    fake.experiment("one", claims=[{"id": "c", "says": "s", "expect": {"bets": {"a": [1]}}}])
    (judged,) = judge_all(collect(fake.root))
    assert judged.ours.verdict is Verdict.NOT_RUN and "cannot be read" in judged.ours.decide


def ranking(gaps: float, noise: float, *, flip: bool = False, at_least: float = 0.6) -> Verdict:
    """Twelve cells that truly rank as printed (or the other way round), ``gaps`` apart, three seeds."""
    luck = random.Random(0)
    printed = [float(place) for place in range(12)]
    truth = [gaps * (-place if flip else place) for place in printed]
    cells = tuple(tuple(value + luck.gauss(0, noise) for _ in range(3)) for value in truth)
    taus = tuple(kendall([one[seed] for one in cells], printed) for seed in range(3))
    one = Agreement("tau", taus, above=at_least, planned=3, step=4 / 132, cells=cells, printed=tuple(printed))
    return judge([[one]], (3,)).verdict


def test_noise_lowers_tau_and_never_refutes_a_ranking() -> None:
    assert ranking(3.0, 0.5) is Verdict.REPRODUCED
    assert ranking(1.0, 4.0) is Verdict.INCONCLUSIVE, "tau of each seed is far below the line, the truth is 1"
    assert ranking(3.0, 0.5, flip=True) is Verdict.NOT_REPRODUCED
    assert ranking(0.0, 0.0, flip=True) is Verdict.INCONCLUSIVE, "equal numbers have no ranking"


def test_a_ranking_that_is_wrong_in_part_is_refuted_by_as_many_pairs_as_it_takes() -> None:
    """Ten pairs of five cells: of tau 0.4 three may be reversed. Nearly no noise: each pair is what it looks like."""
    seeds = (0.0, 0.01, 0.005)
    for order, reversed_pairs in (
        ([0, 1, 2, 3, 4], 0),
        ([1, 0, 2, 4, 3], 2),
        ([2, 1, 0, 3, 4], 3),
        ([3, 2, 1, 0, 4], 6),
    ):
        cells = tuple(tuple(10.0 * place + (bump if place % 2 else -bump) for bump in seeds) for place in order)
        tau = 1 - 2 * reversed_pairs / 10
        one = Agreement("t", (tau,) * 3, above=0.4, planned=3, step=0.2, cells=cells, printed=(0.0, 1.0, 2.0, 3.0, 4.0))
        look = one.at(3, (3,))
        assert look is not None and look.outside(0.05) is (reversed_pairs > 3)
