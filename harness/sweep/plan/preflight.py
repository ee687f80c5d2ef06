"""Check runs against the machine that is to run them, before the first one starts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.components import Evaluation
from harness.config import registry
from harness.config.errors import Complaint, SpecError
from harness.data import identity
from harness.runtime import Compile, check_graphs, passes
from harness.store.results import State, StoreError, read_json
from harness.sweep.plan.unavailable import UnavailableEvaluation

if TYPE_CHECKING:
    from harness.sweep.plan.plan import Plan, PlannedRun


def check_data(runs: Iterable[PlannedRun], root: Path) -> None:
    """Load every data set that the runs ask for, once, and see that it holds a batch.

    Raises :class:`SpecError` with the command that mends it.
    """
    sizes = sorted({(json.dumps(one.run.data, sort_keys=True), one.run.schedule.batch_size) for one in runs})
    complaints = list(dict.fromkeys(one for entry, _ in sizes for one in _refused(entry, root)))
    for entry, batch in sizes:
        if (known := _looked_at(entry, root)[2]) and batch > known.train:
            said = f"batch size {batch} exceeds the {known.train} training images"
            complaints.append(Complaint("schedule.batch_size", said))
    if complaints:
        raise SpecError(complaints)


def remarks(runs: Iterable[PlannedRun], root: Path) -> list[str]:
    """What the data sets that these runs ask for have to say of themselves: what was left out as no data."""
    entries = sorted({json.dumps(one.run.data, sort_keys=True) for one in runs})
    return list(dict.fromkeys(line for entry in entries for line in _looked_at(entry, root)[1]))


def lacking(evaluations: Iterable[Evaluation], root: Path) -> list[UnavailableEvaluation]:
    """Labels of evaluations whose own data set cannot be loaded, with the reason: no fault, but to be known early."""
    found = []
    for one in evaluations:
        entry = getattr(registry.evaluation.build(one.resolved), "data", None)
        if entry is not None and (why := _refused(json.dumps(entry, sort_keys=True), root)):
            found.append((one.label, "; ".join(map(str, why))))
    return found


def other_data(plan: Plan, runs: Iterable[PlannedRun], root: Path) -> list[str]:
    """Warnings where runs of the same experiment were trained on other data than ``root`` has under the same name.

    One trained run is asked for each data set; digests are taken only where one is on record.
    """
    entries = {json.dumps(one.run.data, sort_keys=True) for one in runs}
    found = []
    for one in plan.runs.values():
        entry = json.dumps(one.run.data, sort_keys=True)
        if entry not in entries or not (one.state.finished or one.state is State.TRAINED):
            continue
        known = _on_record(one)
        if not known:
            continue
        entries.remove(entry)
        here = _identity(entry, root)
        if here is not None and here["digest"] != known.get("digest"):
            found.append(
                f"{root}: other data than run {one.folder.id} was trained on under the same name "
                f"({identity.in_words(known)}; here lies {identity.in_words(here)}): the report averages no setting "
                "that has seen both. Give the folder of data sets that holds the former (--data), or keep the two "
                "studies apart (--results)"
            )
    return found


def _on_record(one: PlannedRun) -> Mapping[str, Any]:
    """What a finished run says of its data; empty where it says nothing that can be read."""
    with suppress(StoreError):
        held = (read_json(one.folder.provenance) or {}).get("data")
        if isinstance(held, dict):
            return held
    return {}


@lru_cache(maxsize=256)
def _identity(entry: str, root: Path) -> dict[str, Any] | None:
    """What this data set is; None where it cannot be loaded, which is said elsewhere."""
    try:
        return identity.described(registry.dataset.build(json.loads(entry)).load(root))
    except SpecError:
        return None


def images(data: Mapping[str, Any], root: Path) -> int | None:
    """Images of one epoch of a data set, as it is here; None where it cannot be loaded."""
    known = counts(data, root)
    return known and known.train


class Counts(NamedTuple):
    """Images of each split of a data set, and its classes."""

    train: int
    validation: int
    test: int
    classes: int


def counts(data: Mapping[str, Any], root: Path) -> Counts | None:
    """Of a data set as it is here; None where it cannot be loaded."""
    return _looked_at(json.dumps(data, sort_keys=True), root)[2]


def _refused(entry: str, root: Path) -> tuple[Complaint, ...]:
    return _looked_at(entry, root)[0]


@lru_cache(maxsize=256)
def _looked_at(entry: str, root: Path) -> tuple[tuple[Complaint, ...], tuple[str, ...], Counts | None]:
    """Why this data set cannot be loaded, its remarks, and how many images it has; asked once, whoever asks."""
    try:
        loaded = registry.dataset.build(json.loads(entry)).load(root)
        validation = 0 if loaded.validation is None else len(loaded.validation)
        known = Counts(len(loaded.train), validation, len(loaded.test), len(loaded.classes))
        return (), tuple(identity.remarks(loaded)), known
    except SpecError as error:
        return error.complaints, (), None


def check_processes(runs: Iterable[PlannedRun], processes: int, images_per_pass: int, compile: Compile = "off") -> None:
    """Whether so many processes can share every run, cut and compiled so; if not, :class:`SpecError` says why."""
    complaints: list[Complaint] = []
    for batch_size, groups in sorted({(one.run.schedule.batch_size, one.run.norm.groups) for one in runs}):
        try:
            cuts = passes(batch_size=batch_size, groups=groups, world=processes, images_per_pass=images_per_pass)
            check_graphs(compile, groups=groups, world=processes, passes=cuts)
        except SpecError as error:
            complaints += error.complaints
    if complaints:
        raise SpecError(complaints)
