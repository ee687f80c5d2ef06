"""Print unavailable evaluations: mostly a data set is missing, and the sweep still succeeds. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from rich.console import Console

from harness.sweep.display.live import many, say
from harness.sweep.plan.unavailable import UnavailableEvaluation

LISTED = 6


def show_unavailable(console: Console, found: Collection[UnavailableEvaluation], labels: Mapping[str, str]) -> None:
    """How many, and each reason once; ``labels`` name evaluation_ids for people."""
    if not found:
        return
    said = f"{many(len(found), 'evaluation')} unavailable; fix the cause and rerun with --retry:"
    say(console, said, style="yellow")
    for line in _by_reason((labels.get(evaluation_id, evaluation_id), reason) for evaluation_id, reason in found):
        say(console, f"  {line}")


def show_lacking(console: Console, found: Collection[UnavailableEvaluation]) -> None:
    """What could not be had if the sweep started now: ``found`` comes from ``preflight.lacking``."""
    if found:
        say(console, f"{many(len(found), 'evaluation')} of every run unavailable at present:", style="yellow")
    for line in _by_reason(found):
        say(console, f"  {line}")


def _by_reason(found: Iterable[tuple[str, str]]) -> Iterable[str]:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for name, reason in found:
        names[reason][name] = None
    for reason in list(names)[:LISTED]:
        yield f"{', '.join(names[reason])}: {reason}"
    if len(names) > LISTED:
        yield f"... and {many(len(names) - LISTED, 'more reason')}"
