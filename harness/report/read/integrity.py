"""Whether files under ``results/`` are what they say they are: a number counts only for the run that made it.

A run's id is the hash of its specification, so a specification vouches for its folder and its seed; an evaluation's
handle is that of its recipe; a run has its numbers once it was trained to its end. What fails here is named on the page
and left out. It finds folders that were copied, renamed, merged, edited or half transferred; numbers that somebody
changes in all files alike it cannot find: nothing is signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.matching import plain
from harness.config.run import DIGITS, evaluation_id, identity
from harness.report.read.names import arm_name
from harness.report.read.records import Experiment, Run, inner


def spec_fault(name: str, held: Mapping[str, Any] | None) -> str:
    """What is wrong with the ``run.json`` of the run in the folder ``name``; empty if nothing is."""
    if held is None:
        return "is missing, and without it nobody can tell what was trained"
    spec = held.get("spec")
    try:
        found = identity(spec, DIGITS)
    except (TypeError, ValueError, RecursionError):
        found = "nothing"
    return "" if found == name else f"its specification is that of run {found}, not of {name}"


def outcome_fault(outcome: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """What is wrong with an ``outcome.json``: trained means trained for as long as was asked."""
    status, planned = outcome.get("status"), inner(spec, "schedule").get("epochs")
    if status == "diverged":
        return ""
    if status != "trained":
        return f"says {status!r}, which is no outcome"
    return "" if outcome.get("epochs") == planned else f"was trained for {outcome.get('epochs')} of {planned} epochs"


def history_fault(history: Sequence[Mapping[str, float]], outcome: Mapping[str, Any]) -> str:
    """What is wrong with the ``metrics.jsonl`` of a run that was trained to its end."""
    if not history or outcome.get("status") != "trained":
        return ""  # committed results need not have it; then nothing is claimed about the loss
    epochs, last = outcome.get("epochs"), history[-1]
    if [one.get("epoch") for one in history] != list(range(1, len(history) + 1)) or len(history) != epochs:
        return f"does not tell of each of the {epochs} epochs once"
    return "" if last.get("loss") == outcome.get("loss") else "ends with another loss than the run did"


def evaluation_fault(stem: str, held: Mapping[str, Any]) -> str:
    """What is wrong with one file of ``evaluations/``, whose name is ``stem``."""
    handle, recipe = held.get("handle"), held.get("evaluation")
    if handle != stem:
        return f"is evaluation {handle!r} under another name"
    try:
        found = evaluation_id(dict(recipe or {}))
    except (TypeError, ValueError, RecursionError):
        found = "nothing"
    return "" if found == stem else f"its recipe is that of {found}"


def manifest_fault(experiment: Experiment, stem: str, written: Mapping[str, Any]) -> str:
    """What is wrong with a manifest before any run is read; ``written`` is the JSON it was read from."""
    called = f"{experiment.name}@{experiment.scale}"  # older names may have a plus sign in them
    if not (stem.startswith(f"{called}+") if experiment.overrides else stem == called):
        return f"is of {experiment.key}, under another name"
    for arm, as_written in zip(experiment.arms, written.get("arms", []), strict=True):
        named = f"the arm {arm_name(arm.settings)}"
        if list(map(str, arm.runs)) != list(as_written["runs"]):
            return f"{named} has seeds {', '.join(as_written['runs'])}, one of them twice or not a number"
        if len({*arm.runs.values()}) < len(arm.runs):
            return f"{named} has one run for several seeds"
        if {*arm.runs} != {*range(experiment.seeds)}:
            return f"{named} has seeds {', '.join(map(str, arm.runs))}, not 0 to {experiment.seeds - 1}"
    return ""


def arms_fault(experiment: Experiment, runs: Mapping[str, Run]) -> str:
    """What is wrong with a manifest, held against the specifications of its runs."""
    for arm in experiment.arms:
        named = f"the arm {arm_name(arm.settings)}"
        for seed, run in arm.runs.items():
            spec = runs[run].spec
            if not spec:
                continue
            if spec.get("seed") != seed:
                return f"{named} calls run {run} seed {seed}, which is of seed {spec.get('seed')}"
            for path, value in arm.settings.items():
                if contradicts(spec, path, value):
                    return f"{named} names run {run}, which has another {path}"
    return ""


def contradicts(spec: Mapping[str, Any], path: str, setting: Any) -> bool:
    """Whether a specification says otherwise than an arm's setting, as it was written in YAML.

    False where it says nothing of that path: what an augmentation means at a scale stands in the views only.
    """
    node: Any = spec
    if path == "views.branches" and "views" in spec:  # which are left out of a specification where there are none
        node = {**spec, "views": {"branches": [], **spec["views"]}}
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if isinstance(node, list) and part in ("first", "last"):
            node = node[0 if part == "first" else -1] if node else None
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, Mapping) and len(node) == 1 and depth == len(parts) - 1:
            ((name, fields),) = node.items()
            node = name if part == "name" else fields.get(part) if isinstance(fields, Mapping) else None
        else:
            return False
    return setting is not None and node is not None and not _says(node, setting)


def _says(resolved: Any, written: Any) -> bool:
    """Whether a resolved value, a component or a list of them is what the written one can mean."""
    if isinstance(written, list) and isinstance(resolved, list):
        return len(written) == len(resolved) and all(map(_says, resolved, written))
    if isinstance(resolved, Mapping):
        if len(resolved) != 1 or (isinstance(written, Mapping) and len(written) != 1):
            return _fields_say(resolved, written)  # a branch of views, or the fields of a component
        name, fields = next(iter(resolved.items()))
        if not isinstance(written, Mapping):
            return bool(name == written)
        return name in written and _fields_say(fields, written[name])
    return written is None or bool(plain(resolved) == plain(written))


def _fields_say(resolved: Any, written: Any) -> bool:
    """The same of a component's fields. Defaults were filled in, and what is neutral (``knob``) was left out."""
    if not isinstance(written, Mapping) or not isinstance(resolved, Mapping):
        return True
    return all(key not in resolved or _says(resolved[key], value) for key, value in written.items())
