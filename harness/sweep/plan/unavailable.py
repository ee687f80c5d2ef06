"""Evaluations that cannot be had, most of them because their data set is missing: neither failures nor results."""

from __future__ import annotations

from harness.store.results import Seen

Gap = tuple[str, str]
"""The handle of an evaluation, and the reason why it cannot be had."""


def gaps(seen: Seen) -> tuple[Gap, ...]:
    """Of one run."""
    held = {handle: one for handle, one in seen.evaluations.items() if one is not None}
    return tuple((handle, str(one["unavailable"])) for handle, one in held.items() if "unavailable" in one)
