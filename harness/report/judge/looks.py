"""What each planned look at a claim may cost, so that all looks together are wrong no more often than one would be.

Whoever looks at 5 % after 3, 5, 8 and 12 seeds errs in 14 % of the cases without any effect. So the 5 % are spent over
the looks (Lan and DeMets 1983): after the share t of the last look's seeds, 0.05 t^0.75 of them (the power family of
Kim and DeMets 1987). The exponent is below one because most studies end before their last look: a third of the 5 % is
there at three of twelve seeds.

* :func:`spent`: what each look may cost by itself. These levels are right whatever the looks have in common (their
  sum is 5 %), so they serve where little is known of the spread.
* :func:`nominal`: levels that use what the looks have in common: the means of n and of m seeds correlate with
  sqrt(n/m), so a claim that an early look did not decide is less of a chance for a later one (Armitage, McPherson and
  Rowe 1969; Jennison and Turnbull 2000, chapter 7). Computed for normal means and applied to p-values of t statistics
  (Pocock 1977), which is exact as degrees of freedom grow.

All levels are two-sided; a one-sided p-value is held against half of them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special
from scipy.optimize import brentq

ALPHA = 0.05
EXPONENT = 0.75
NODES, LOWEST, HIGHEST = 96, -9.0, 12.0
CLOSEST = 0.15
"""Looks whose means correlate with more than sqrt(1 - 0.15^2) need a finer integration: they get :func:`spent`."""


@lru_cache(maxsize=4096)
def spent(looks: tuple[int, ...], alpha: float = ALPHA) -> tuple[float, ...]:
    """What of ``alpha`` each look adds to what is spent before it."""
    shares = [(look / looks[-1]) ** EXPONENT for look in looks]
    return tuple(alpha * (share - before) for share, before in zip(shares, [0.0, *shares], strict=False))


@lru_cache(maxsize=4096)
def nominal(looks: tuple[int, ...], alpha: float = ALPHA) -> tuple[float, ...]:
    """The level of each look for which the chance to cross one of its two lines first there is that of :func:`spent`.

    By recursion over the density of the paths that crossed none before. The two lines are treated apart, which
    counts a path that crosses both twice.
    """
    apart = [math.sqrt(1 - first / second) for first, second in pairwise(looks)]
    if any(one < CLOSEST for one in apart):
        return spent(looks, alpha)
    points, weights = np.polynomial.legendre.leggauss(NODES)
    found: list[float] = []
    at, mass = np.zeros(1), np.ones(1)  # before the first look all paths are at zero
    for width, cost in zip([1.0, *apart], spent(looks, alpha), strict=True):
        pull = math.sqrt(1 - width * width)

        line = float(brentq(_excess, -1.0, HIGHEST, (at, mass, pull, width, cost / 2))) if cost > 1e-30 else HIGHEST
        found.append(2 * float(special.ndtr(-line)))
        grid = LOWEST + (points + 1) / 2 * (line - LOWEST)
        density = np.exp(-(((grid[:, None] - pull * at) / width) ** 2) / 2) @ mass / (width * math.sqrt(2 * math.pi))
        at, mass = grid, weights * (line - LOWEST) / 2 * density
    return tuple(found)


def _excess(line: float, at: Any, mass: Any, pull: float, width: float, cost: float) -> float:
    """Logarithm of the chance to cross ``line`` at the next look, from ``mass`` at ``at``, over what it may cost."""
    beyond = float(mass @ special.ndtr((pull * at - line) / width))
    return math.log(max(beyond, 1e-300)) - math.log(cost)


def level(looks: tuple[int, ...], look: int, alpha: float = ALPHA, known: bool = True) -> float:
    """The level at the look of ``look`` seeds; ``known``: the spread is known well enough for :func:`nominal`."""
    return (nominal if known else spent)(looks, alpha)[looks.index(look)]


@lru_cache(maxsize=256)
def _family(looks: tuple[int, ...], index: int) -> tuple[Any, Any]:
    """Logarithms of levels at one look and of what all looks together may then cost."""
    alphas = np.union1d(np.geomspace(1e-12, 1.0, 25), [ALPHA])  # at ALPHA itself nothing is interpolated
    return np.log([nominal(looks, float(alpha))[index] for alpha in alphas]), np.log(alphas)


def overall(looks: tuple[int, ...], look: int, p: float, known: bool = True) -> float:
    """The one-sided p-value of the whole plan where one look's is ``p``: the least that the plan could have spent
    and still have decided at that look.
    """
    index = looks.index(look)
    if p <= 0 or not known:
        return min(1.0, p * ALPHA / spent(looks)[index])
    levels, alphas = _family(looks, index)
    return min(1.0, math.exp(float(np.interp(math.log(min(2 * p, 1.0)), levels, alphas))) / 2)
