"""The moderated spread of a table: against a slow oracle, its own assumptions, and what must not change it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, special, stats

from harness.report.judge.comparison import difference
from harness.report.judge.selection import pool
from harness.report.judge.spread import STRONGEST, Spread, Spreads, inverse_trigamma
from harness.report.read.records import Cell, State

M = "linear/top1"
PATTERN = ((M, 1.0),)


def drawn(arms: int, seeds: int, *, luck: int = 0, deviations: Sequence[float] = (), common: float = 0.0) -> np.ndarray:
    """Normal numbers of arms x seeds about levels that differ; ``common``: deviation of what a seed does to all."""
    rng = np.random.default_rng(luck)
    scale = np.array(deviations or [1.0] * arms)
    return (
        40
        + np.arange(arms)[:, None]
        + scale[:, None] * rng.normal(size=(arms, seeds))
        + common * rng.normal(size=seeds)
    )  # type: ignore[no-any-return]


def cells(values: np.ndarray, metric: str = M) -> list[Cell]:
    return [Cell({"x": arm}, dict(enumerate(one)), {}, (arm,), terms={(metric, arm): 1.0})
            for arm, one in enumerate(values.tolist())]  # fmt: skip


def spreads(values: np.ndarray) -> Spreads:
    held = cells(values)
    return Spreads(lambda metric: held)


@pytest.mark.parametrize("value", [1e-4, 0.3, 1.645, 5.0, 100.0])
def test_trigamma_is_inverted(value: float) -> None:
    assert float(special.polygamma(1, inverse_trigamma(value))) == pytest.approx(value)


def test_moderated_variances_are_those_of_the_rule_written_out_slowly() -> None:
    """Seven arms (no trend): moments of log variances, a prior of the mean of the others, an F test, by loops."""
    apart = []
    for luck in range(12):
        values = drawn(7, 4, luck=luck, deviations=[1.0] * 6 + [5.0])
        own = [float(np.var(one, ddof=1)) for one in values]
        beyond = float(np.var(np.log(own), ddof=1)) - float(special.polygamma(1, 1.5))
        trigamma = lambda x, beyond=beyond: float(special.polygamma(1, x)) - beyond  # noqa: E731
        known = 2 * optimize.brentq(trigamma, 1e-3, 1e3) if beyond > 1e-3 else math.inf
        found = Spread(PATTERN, 4, dict(enumerate(values.tolist()))).moderated
        for arm, variance in enumerate(own):
            others = sum(own[:arm] + own[arm + 1 :]) / 6
            prior = 1 / (1 / min(known, STRONGEST) + 1 / (6 * 3))
            apart.append(float(stats.f.sf(variance / others, 3, prior)) < 0.05)
            prior = 0.0 if apart[-1] else prior
            assert found[arm] == pytest.approx(((prior * others + 3 * variance) / (prior + 3), prior + 3))
    assert 2 < sum(apart) < 14


@pytest.mark.parametrize("freedom", [3.0, 8.0])
def test_the_prior_of_variances_that_were_drawn_from_one_is_found(freedom: float) -> None:
    rng = np.random.default_rng(5)
    deviations = np.sqrt(freedom / rng.chisquare(freedom, 600)).tolist()
    values = drawn(600, 3, deviations=deviations) - np.arange(600)[:, None]  # levels say nothing of them
    spread = Spread(PATTERN, 3, dict(enumerate(values.tolist())))
    assert spread.freedom == pytest.approx(freedom, rel=0.35) and abs(spread.slope) < 0.3
    alike = Spread(PATTERN, 3, dict(enumerate(drawn(600, 3).tolist())))
    assert alike.freedom == STRONGEST


def test_where_weak_settings_vary_more_the_prior_follows_the_level() -> None:
    steep = [math.exp(-arm / 20) for arm in range(40)]
    spread = Spread(PATTERN, 5, dict(enumerate(drawn(40, 5, luck=2, deviations=steep).tolist())))
    assert spread.slope == pytest.approx(-0.1, abs=0.04)
    deviations = [math.sqrt(spread.moderated[arm][0]) for arm in (2, 37)]
    assert deviations[0] / deviations[1] == pytest.approx(steep[2] / steep[37], rel=0.6)
    assert spread.moderated[0][1] < spread.moderated[20][1], "at the edge few others say what the scale is"


def test_fewer_than_four_settings_are_judged_by_their_own_differences() -> None:
    for arms, moderated in ((3, False), (4, True)):
        values = drawn(arms, 3)
        look = difference("d", *cells(values)[:2]).at(3, (3,), spreads(values))
        assert look is not None and (look.contrast is not None) is moderated
        sample = values[0] - values[1]
        expected = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
        assert (look.bounds() == pytest.approx((expected.low, expected.high))) is not moderated


def test_a_look_sees_the_first_seeds_alone() -> None:
    """Whatever later seeds hold, and in whichever arm."""
    values = drawn(9, 8)
    changed = values.copy()
    changed[:, 3:] += np.random.default_rng(9).normal(0, 50, (9, 5))
    looks = [difference("d", *cells(one)[:2]).at(3, (3, 5), spreads(one)) for one in (values, changed)]
    assert looks[0] is not None and looks[1] is not None
    assert looks[0].bounds() == looks[1].bounds()


def test_what_seeds_do_to_all_settings_is_taken_out_where_it_pays_and_only_from_differences() -> None:
    shaken, quiet = drawn(12, 3, common=5.0), drawn(12, 3)
    plain = spreads(quiet).contrast({(M, 0): 1.0, (M, 1): -1.0}, 3)
    paired = spreads(shaken).contrast({(M, 0): 1.0, (M, 1): -1.0}, 3)
    alone = spreads(shaken).contrast({(M, 0): 1.0}, 3)
    assert plain is not None and paired is not None and alone is not None
    assert not plain.spread.common and paired.spread.common and not alone.spread.common
    assert paired.variance == pytest.approx(plain.variance, rel=0.5) and alone.variance > 5
    assert paired.spread.correlation > 0.8 > 0.3 > plain.spread.correlation


def test_the_variance_taken_after_the_seeds_is_that_of_the_arms() -> None:
    """On average over many tables, whatever the seeds did: nothing is lost with their means."""
    each = [Spread(PATTERN, 3, dict(enumerate(drawn(6, 3, luck=luck, common=9.0).tolist())), common=True).typical ** 2
            for luck in range(400)]  # fmt: skip
    assert np.mean(each) == pytest.approx(1.0, abs=0.08)


def test_contrasts_are_sums_over_arms() -> None:
    """Sides that are means of arms, gaps of gaps, and a constant (which varies not at all)."""
    held = cells(drawn(8, 3))
    of = Spreads(lambda metric: held)
    gap = difference("g", pool(held[:2]), pool(held[2:6]))
    assert gap.terms == {(M, arm): 0.5 if arm < 2 else -0.25 for arm in range(6)}
    contrast = of.contrast(gap.terms or {}, 3)
    spread = of.of(PATTERN, 3)
    assert contrast is not None
    variances = [spread.moderated[arm][0] for arm in range(6)]
    assert contrast.variance == pytest.approx(sum(variances[:2]) / 4 + sum(variances[2:]) / 16)
    fixed = difference("f", held[0], replace(held[0], terms={}))
    assert fixed.terms == {(M, 0): 1.0}
    assert difference("n", held[0], replace(held[0], terms=None)).terms is None


def test_two_metrics_of_one_run_are_a_metric_of_their_own() -> None:
    """h and z rise and fall together with the run: their difference varies by little, in every arm."""
    h = drawn(8, 3, deviations=[3.0] * 8)
    z = h - 4 + drawn(8, 3, luck=8, deviations=[0.1] * 8) - 40 - np.arange(8)[:, None]
    held = {M: cells(h), "z": cells(z, "z")}
    of = Spreads(held.__getitem__)
    one = difference("h over z", pool(held[M][:3]), pool(held["z"][:3]))
    contrast = of.contrast(one.terms or {}, 3)
    assert contrast is not None and contrast.spread.pattern == ((M, 1.0), ("z", -1.0))
    assert math.sqrt(contrast.variance) == pytest.approx(0.1 / math.sqrt(3), rel=0.5)
    assert of.contrast({(M, 0): 1.0, ("z", 1): -1.0}, 3) is None, "of other runs: no spread in common"


def test_arms_that_lost_runs_or_show_no_spread_say_nothing() -> None:
    held = cells(drawn(8, 3, luck=1))
    whole = Spreads(lambda metric: held).of(PATTERN, 3)
    spoilt: Mapping[int, Cell] = {
        5: replace(held[5], states={3: State.DIVERGED}),
        6: replace(held[6], unconverged=frozenset({1})),
        7: replace(held[7], values=dict.fromkeys(range(3), 41.0)),
    }
    less = Spreads(lambda metric: [spoilt.get(arm, one) for arm, one in enumerate(held)]).of(PATTERN, 3)
    assert (whole.arms, less.arms) == (8, 5) and {5, 6}.isdisjoint(less.moderated)


def test_skewed_residuals_are_seen() -> None:
    rng = np.random.default_rng(4)
    skewed = Spread(PATTERN, 8, dict(enumerate(rng.exponential(size=(16, 8)).tolist())))
    seen = [Spread(PATTERN, 3, dict(enumerate(drawn(16, 3, luck=luck).tolist()))).skewed for luck in range(100)]
    assert skewed.skewed and sum(seen) <= 3
