"""Whether the versions of the code that made an experiment's runs compute the same, by recorded digests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from harness.digests.compare import Difference, Record, RecordComparison, Use, evaluated_with, trained_with
from harness.report.read.records import Run

Recorded = Mapping[str, Sequence[Record]]
"""Numeric code -> its digests, of every place where they were computed."""


def said(runs: Sequence[Run], recorded: Recorded) -> str:
    """A sentence on the several codes of ``runs``: what differs and by how much, nothing, or that it is not known."""
    used = uses(runs)
    found: dict[str, Difference] = {}
    unknown: set[str] = set()
    silent = sorted(code for code in used if code not in recorded)
    for one, other in itertools.combinations(sorted(used.keys() - silent), 2):
        labels = {use.label for use in used[one]} & {use.label for use in used[other]}
        shared = [use for use in (*used[one], *used[other]) if use.label in labels]
        comparison = RecordComparison.of(*pair(recorded[one], recorded[other]))
        for difference in comparison.about(shared):
            if difference.label not in found or difference.by > found[difference.label].by:
                found[difference.label] = difference
        unknown |= {*comparison.unknown(shared)} | (labels & comparison.doubtful.keys())
    parts = []
    if found:
        parts.append(f"By their digests: {', '.join(str(one) for one in sorted(found.values(), key=lambda d: -d.by))}.")
    if silent:
        of = "them" if len(silent) == len(used) else f"{len(silent)} of them"
        parts.append(f"No digests of {of} were recorded, so by how much their numbers differ is not known.")
    if unknown - found.keys():
        parts.append(f"Not comparable by digests: {', '.join(sorted(unknown - found.keys()))}.")
    return " ".join(parts) or "Digests of all that these runs share are equal."


def uses(runs: Iterable[Run]) -> dict[str, list[Use]]:
    """Numeric code -> what the runs that it trained, or evaluated, used of it."""
    found: dict[str, list[Use]] = {}
    for run in runs:
        processes = run.provenance.get("processes")
        for code in run.codes:
            found.setdefault(code, []).extend(trained_with(run.spec, processes if isinstance(processes, int) else 1))
        for handle, code in run.evaluated_by.items():
            found.setdefault(code, []).extend(evaluated_with(run.asked.get(handle, {})))
    return found


def pair(one: Sequence[Record], other: Sequence[Record]) -> tuple[Record, Record]:
    """Two records of one place, if there are any: only there do bits compare."""
    alike = [(a, b) for a in one for b in other if a.place == b.place]
    return alike[0] if alike else (one[0], other[0])
