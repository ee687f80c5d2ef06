"""Whether the runs of an experiment saw the same data: a word names it, and a digest says which it was.

Runs whose specifications ask for the same data must have seen the same. Where more than half did, that is the data of
the experiment, and settings with a run on other data have no numbers; where no more than half agree, nobody can say
whose numbers are meant, and none of these settings has any. What was not recorded may be any data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.config.matching import plain
from harness.report.read.records import Experiment, Run, State, inner

MOST_NAMED = 6


@dataclass(frozen=True)
class Aside:
    """Runs of an experiment as far as their numbers count in it, and what is said of those that do not."""

    runs: Mapping[str, Run]
    said: tuple[str, ...]


def set_aside(experiment: Experiment, runs: Mapping[str, Run]) -> Aside:
    """The runs of settings that mix data, without their numbers; and, for settings that are left, the same of each
    evaluation that looks at data of its own.
    """
    changed: dict[str, Run] = {}
    said = []
    groups = _groups(experiment.ids, runs)
    for alike in groups:
        trained = {run: runs[run].data for run in alike if runs[run].data}
        if odd := _odd(trained):
            out = _of_settings(experiment, odd)
            changed |= {run: _without_numbers(runs[run]) for run in out}
            said.append(_in_words("runs", experiment, runs, trained, out))
    numberless = frozenset(changed)
    for label, handle in experiment.evaluations.items():
        for alike in groups:
            seen = {run: runs[run].evaluated_on.get(handle, "") for run in alike if run not in numberless}
            seen = {run: digest for run, digest in seen.items() if digest}
            if odd := _odd(seen):
                out = _of_settings(experiment, odd) - numberless
                changed |= {run: _without(changed.get(run, runs[run]), handle) for run in out}
                said.append(_in_words(f"{label} evaluations", experiment, runs, seen, out))
    return Aside(changed, tuple(said))


def _groups(ids: Iterable[str], runs: Mapping[str, Run]) -> list[dict[str, None]]:
    """Runs by the data that their specifications ask for."""
    found: dict[object, dict[str, None]] = {}
    for run in ids:
        found.setdefault(plain(inner(runs[run].spec, "data")), {})[run] = None
    return list(found.values())


def _odd(digests: Mapping[str, str]) -> set[str]:
    """Those of other data than most; all of them where there is no such majority."""
    counts = Counter(digests.values())
    if len(counts) < 2:
        return set()
    most, count = counts.most_common(1)[0]
    return {run for run, digest in digests.items() if digest != most or 2 * count <= len(digests)}


def _of_settings(experiment: Experiment, odd: set[str]) -> set[str]:
    """All runs of the settings that one of these belongs to."""
    return {run for arm in experiment.arms if odd & {*arm.runs.values()} for run in arm.runs.values()}


def _without_numbers(run: Run) -> Run:
    nothing: dict[str, Any] = {name: {} for name in ("evaluations", "splits", "unavailable", "arrays", "last")}
    return replace(run, state=State.OTHER_DATA, **nothing, diverged=(), history=())


def _without(run: Run, handle: str) -> Run:
    return replace(run, other_data=frozenset({*run.other_data, handle}))


def _in_words(
    what: str, experiment: Experiment, runs: Mapping[str, Run], digests: Mapping[str, str], out: set[str]
) -> str:
    seeds = {run: seed for arm in experiment.arms for seed, run in arm.runs.items()}
    parts = []
    for digest, _ in Counter(digests[run] for run in sorted(digests, key=seeds.__getitem__)).most_common():
        of = sorted((run for run in digests if digests[run] == digest), key=lambda run: (seeds[run], run))
        named = ", ".join(of[:MOST_NAMED]) + (f" and {len(of) - MOST_NAMED} more" if len(of) > MOST_NAMED else "")
        listed = ", ".join(map(str, sorted({seeds[run] for run in of})))
        parts.append(f"{digest} ({runs[of[0]].data_in_words}seeds {listed}: {named})")
    settings = sum(bool(out & {*arm.runs.values()}) for arm in experiment.arms)
    return (
        f"its {what} saw different data under one name: {'; '.join(parts)}; "
        f"the numbers of {settings} of {len(experiment.arms)} settings were left out"
    )
