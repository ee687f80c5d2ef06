"""Intervals against scipy's own; the number of seeds against scipy's test at that many seeds."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.report.stats import deviation, estimate, interval, kendall, mean, p_value, paired, seeds_needed


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_interval_is_scipys(n: int, confidence: float) -> None:
    sample = np.random.default_rng(n).normal(40, 2, n)
    expected = scipy_stats.ttest_1samp(sample, 0).confidence_interval(confidence)
    assert interval(sample.tolist(), confidence) == pytest.approx((expected.low, expected.high))


def test_one_number_has_no_interval() -> None:
    only = estimate([48.2])
    assert only is not None
    assert (only.mean, only.n, only.low, only.high, only.half) == (48.2, 1, None, None, None)
    assert interval([48.2]) is None
    assert estimate([]) is None


@pytest.mark.parametrize("huge", [1e155, 1e300, 1.7976931348623157e308])
@pytest.mark.parametrize("rest", [[50.0, 51.0], [0.0], ["huge", "huge"], ["-huge", "-huge"]])
def test_nothing_finite_raises(huge: float, rest: list[float | str]) -> None:
    sample = [huge, *({"huge": huge, "-huge": -huge}.get(str(one), one) for one in rest)]
    assert all(isinstance(value, float) for value in sample)
    found = estimate(sample)  # type: ignore[arg-type]
    assert found is not None and abs(found.mean) <= huge
    assert found.half is None or found.half >= 0
    p_value(sample, 0.0, 1)  # type: ignore[arg-type]
    seeds_needed(sample, 0.0, math.inf)  # type: ignore[arg-type]


def test_huge_numbers_have_their_mean_and_their_spread() -> None:
    assert mean([1.5e308, 1.5e308, 0.0]) == pytest.approx(1e308)
    assert deviation([1e300, 3e300]) == pytest.approx(math.sqrt(2) * 1e300)


def test_paired_takes_the_seeds_that_both_have() -> None:
    assert paired({0: 5.0, 1: 7.0, 3: 9.0}, {3: 1.0, 0: 2.0, 2: 4.0}) == (3.0, 8.0)


def test_pairing_removes_what_a_seed_does_to_both() -> None:
    luck = [random.Random(seed).gauss(0, 10) for seed in range(4)]
    first = {seed: 50 + shift for seed, shift in enumerate(luck)}
    second = {seed: 48 + shift + (-0.01) ** seed for seed, shift in enumerate(luck)}
    low, high = interval(paired(first, second)) or (0.0, 0.0)
    assert 0.0 < low < 2.0 < high < 3.0


@pytest.mark.parametrize("sample", [[2.0, 2.0], [0.3, 0.3, 0.3], [61.7 - 61.4, 61.4 - 61.1]])
def test_equal_numbers_are_no_certainty(sample: list[float]) -> None:
    """A seed that changes nothing, or a metric of a hundred test images: the interval would be a point."""
    assert interval(sample) is None
    assert seeds_needed(sample, 0.0, math.inf) is None and p_value(sample, 0.0, 1) == 1.0


def test_a_coarse_statistic_has_the_spread_of_its_rounding() -> None:
    low, high = interval([1.0, 1.0, 1.0], step=1 / 3) or (0.0, 0.0)
    half = float(scipy_stats.t.ppf(0.975, 2)) / 3 / math.sqrt(12) / math.sqrt(3)
    assert (low, high) == pytest.approx((1 - half, 1 + half))
    assert interval([0.0, 1.0, 2.0], step=1 / 3) == interval([0.0, 1.0, 2.0])


@pytest.mark.parametrize("side", [1, -1])
def test_p_value_is_scipys(side: int) -> None:
    sample = [0.4, 1.1, 0.2, 0.9]
    expected = scipy_stats.ttest_1samp(sample, 0.5, alternative="greater" if side > 0 else "less").pvalue
    assert p_value(sample, 0.5, side) == pytest.approx(expected)


def test_kendall_counts_pairs() -> None:
    first, second = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    agree = sum(math.copysign(1, (first[i] - first[j]) * (second[i] - second[j])) for i, j in pairs)
    assert kendall(first, second) == pytest.approx(agree / len(pairs))


@pytest.mark.parametrize(
    ("mean", "spread", "bound"), [(2.0, 1.0, 0.0), (0.5, 1.0, 0.0), (-1.0, 2.0, 0.0), (3.0, 1.0, 2.0)]
)
def test_seeds_needed_is_the_first_number_that_suffices(mean: float, spread: float, bound: float) -> None:
    sample = [mean - spread / math.sqrt(2), mean + spread / math.sqrt(2)]  # two values with exactly this spread
    needed = seeds_needed(sample, bound, math.inf)
    assert needed is not None

    def significant(n: int) -> bool:
        t = abs(mean - bound) / (spread / math.sqrt(n))
        return bool(2 * scipy_stats.t.sf(t, n - 1) < 0.05)

    assert significant(needed) and not any(significant(n) for n in range(2, needed))


def test_seeds_needed_gives_up_where_no_number_is_honest() -> None:
    assert seeds_needed([1.0], 0.0, math.inf) is None
    assert seeds_needed([-1.0, 1.0], 0.0, math.inf) is None
    assert seeds_needed([-100.0, 101.0], 0.0, math.inf) is None
