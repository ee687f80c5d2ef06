"""What an evaluation yields: numbers by name, now and then an array for a picture; or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

Measurements = Iterator[tuple[str, float | Tensor]]
"""``(name, value)``: a float goes into tables and claims, a tensor (one or two dimensions) is for a figure alone."""

_DIGITS = 4
"""Significant digits of an array's numbers: a figure shows no more, and its file is committed."""


class Unavailable(Exception):
    """This evaluation cannot be had for this run: a data set is not here, a head has not the shape it asks for.

    Neither a failure nor a result: it is recorded with its reason, shown as NOT RUN, and tried again by ``--retry``.
    """


class Divergence(Exception):
    """A training within an evaluation (fine-tuning, say) diverged. A result of that evaluation, recorded as one."""


def recorded(measurements: Measurements) -> dict[str, Any]:
    """The part of an evaluation's file that says what was found.

    ``values`` are the numbers; ``arrays``, where there are any, nested lists rounded to four significant digits;
    ``unavailable``, beside no values, the reason why there are none; ``diverged``, beside none, is true where
    a training within the evaluation diverged. Raises ``FloatingPointError`` for an array
    that is not finite, which JSON could not hold.
    """
    values: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    try:
        for name, value in measurements:
            if isinstance(value, Tensor):
                arrays[name] = _rounded(value.tolist(), name)
            else:
                values[name] = value
    except Unavailable as reason:
        return {"values": {}, "unavailable": str(reason)}
    except Divergence:
        return {"values": {}, "diverged": True}
    return {"values": values, "arrays": arrays} if arrays else {"values": values}


def _rounded(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_rounded(one, name) for one in value]
    if not math.isfinite(value):
        raise FloatingPointError(f"{name} is not finite")
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
