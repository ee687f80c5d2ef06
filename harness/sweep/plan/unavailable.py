"""Evaluations that are unavailable, mostly because their data set is missing: neither failures nor results."""

from __future__ import annotations

from harness.store.results import RunStatus

UnavailableEvaluation = tuple[str, str]
"""The evaluation_id of an evaluation, and the reason why it cannot be had."""


def unavailable_of(seen: RunStatus) -> tuple[UnavailableEvaluation, ...]:
    """Return those of one run."""
    held = {evaluation_id: one for evaluation_id, one in seen.evaluations.items() if one is not None}
    return tuple(
        (evaluation_id, str(one["unavailable"])) for evaluation_id, one in held.items() if "unavailable" in one
    )
