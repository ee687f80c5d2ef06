"""Levels of looks against simulated paths, against textbook constants, and against what a single look costs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from harness.report.judge.looks import ALPHA, level, nominal, overall, spent

DEFAULT = (3, 5, 8, 12)


@pytest.mark.parametrize("looks", [(3,), DEFAULT, (2, 3, 5, 8, 12), (7, 500)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_paths_without_drift_cross_a_line_as_often_as_was_spent(looks: tuple[int, ...], alpha: float) -> None:
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((200_000, len(looks))) * np.sqrt(np.diff([0, *looks]))
    paths = steps.cumsum(axis=1) / np.sqrt(looks)
    over = np.abs(paths) > norm.isf(np.array(nominal(looks, alpha)) / 2)
    error = np.sqrt(alpha / len(paths))
    assert over.any(axis=1).mean() == pytest.approx(alpha, abs=4 * error)
    before = np.zeros(len(paths), bool)
    for at, cost in enumerate(spent(looks, alpha)):  # each look's share, too, of paths that crossed none before
        assert (over[:, at] & ~before).mean() == pytest.approx(cost, abs=4 * error)
        before |= over[:, at]


def test_one_look_has_all_of_it_and_many_looks_have_it_together() -> None:
    assert spent((3,)) == nominal((3,)) == pytest.approx((ALPHA,))
    assert sum(spent(DEFAULT)) == pytest.approx(ALPHA)
    assert all(free > cost * (1 - 1e-9) for free, cost in zip(nominal(DEFAULT), spent(DEFAULT), strict=True))
    assert nominal((100, 101)) == spent((100, 101)), "too close to each other for the integration"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("look", DEFAULT)
@pytest.mark.parametrize("alpha", [0.05, 0.004, 1e-6])
def test_a_p_value_of_all_looks_is_what_they_could_have_spent(look: int, alpha: float, known: bool) -> None:
    """Just at the level of a look the whole plan has a p-value of what it spends: half of it on each side."""
    at = level(DEFAULT, look, alpha, known) / 2
    assert overall(DEFAULT, look, at, known) == pytest.approx(alpha / 2, rel=0.02)
    assert overall(DEFAULT, look, at / 2, known) < overall(DEFAULT, look, at, known)
    assert overall(DEFAULT, look, 0.0, known) == 0.0 and overall(DEFAULT, look, 1.0, known) <= 1.0
