"""Hours on the command line and in tables. No torch: ``--help`` reads this too."""

from __future__ import annotations

import re

_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}


def hours_of(text: str) -> float:
    """``40h``, ``90m``, ``1.5d``. Raises :class:`ValueError` otherwise: without a unit, for zero too."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd])", text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise ValueError(text)
    return float(found[1]) * _HOURS[found[2]]


def hours(number: float) -> str:
    """``0.042``, ``3.5``, ``1,234``: three digits."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
