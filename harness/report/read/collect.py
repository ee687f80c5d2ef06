"""Reads ``results/``: experiments, their arms and runs, and what became of each run.

Nothing here fails on a bad file: it becomes a :class:`Problem` that the page prints, and the rest is read.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.digests.compare import RECIPE, Record
from harness.report.read import integrity
from harness.report.read.metrics import Metric
from harness.report.read.probes import Fit, collapse_of, fit_of
from harness.report.read.records import Experiment, Problem, Results, Run, State, inner
from harness.report.read.same_data import set_aside
from harness.store.causes import policy
from harness.store.results import RunFolder, Store, StoreError, read_json

SCALES = ("imagenet", "cifar10", "micro", "smoke")
"""Order on the page: nearest to the paper first; a scale that is not listed comes before smoke."""


_decode = json.JSONDecoder().raw_decode
"""``json.loads`` without its looking for spaces: half the time of so short a line, of which a run has hundreds."""


class NotResults(ValueError):
    """The folder is not a results folder."""


def collect(root: Path) -> Results:
    """Read a results folder. Raises :class:`NotResults` when ``root`` holds neither experiments nor runs."""
    if not root.is_dir():
        raise NotResults(f"{root} is not a folder")
    store = Store(root)
    if not store.experiments.is_dir() and not store.runs.is_dir():
        raise NotResults(f"{root} is not a results folder: it has neither experiments/ nor runs/")
    reader = _Reader(root)
    experiments = sorted(reader.experiments(sorted(store.experiments.glob("*.json"))), key=_order)
    wanted: dict[str, set[str]] = {}
    for experiment in experiments:
        for run in experiment.ids:
            wanted.setdefault(run, set()).update(experiment.evaluations.values())
    runs = {run: reader.run(run, wanted[run]) for run in sorted(wanted)}
    experiments = [one for one in experiments if reader.vouched(one, runs)]
    aside = {one.key: reader.same_data(one, runs) for one in experiments}
    present = set(store.run_ids())
    sources = {path.stem: reader.json(path) or {} for path in sorted(store.sources.glob("*.json"))}
    digests = reader.digests(sorted(store.digests.glob("*.json")))
    left = len(present - wanted.keys())
    return Results(tuple(experiments), runs, tuple(reader.problems), left, sources, aside, digests)


def _order(experiment: Experiment) -> tuple[str, float, str]:
    known = experiment.scale in SCALES
    return experiment.name, SCALES.index(experiment.scale) if known else len(SCALES) - 1.5, experiment.scale


class _Reader:
    """Reads JSON files below ``root`` and notes those that are broken."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.files: dict[str, Path] = {}  # experiment -> its manifest

    def complain(self, path: Path, what: str) -> None:
        self.problems.append(Problem(path.relative_to(self.root).as_posix(), what))

    def json(self, path: Path) -> dict[str, Any] | None:
        """The object in a file, or None where the file is absent or (noted) broken."""
        try:
            data = read_json(path)
        except (StoreError, RecursionError) as error:
            self.complain(path, str(error).removeprefix(f"{path}: "))
            return None
        if not isinstance(data, dict) and (data is not None or path.exists()):
            self.complain(path, "holds no JSON object; it was left out")
            return None
        return data

    def experiment(self, path: Path) -> Experiment | None:
        data = self.json(path)
        if data is None:
            return None
        try:
            found = Experiment.model_validate(data)
            fault = integrity.manifest_fault(found, path.stem, data)
        except ValidationError as error:
            first = error.errors()[0]
            fault = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        if fault:
            self.complain(path, f"{fault}; the experiment was left out")
        return None if fault else found

    def experiments(self, paths: Iterable[Path]) -> Iterator[Experiment]:
        """All manifests; of two of one experiment the second is left out, or its claims would be counted twice."""
        seen: dict[str, Path] = {}
        for path in paths:
            if (found := self.experiment(path)) is None:
                continue
            if found.key in seen:
                self.complain(path, f"is {found.key} once more, as {seen[found.key].name} is; it was left out")
                continue
            seen[found.key] = self.files[found.key] = path
            yield found

    def vouched(self, experiment: Experiment, runs: Mapping[str, Run]) -> bool:
        """Whether the runs of an experiment are what its manifest calls them."""
        fault = integrity.arms_fault(experiment, runs)
        if fault:
            self.complain(self.files[experiment.key], f"{fault}; the experiment was left out")
        return not fault

    def same_data(self, experiment: Experiment, runs: Mapping[str, Run]) -> Mapping[str, Run]:
        """The runs whose numbers do not count in an experiment because they are of other data."""
        found = set_aside(experiment, runs)
        for said in found.said:
            self.complain(self.files[experiment.key], said)
        return found.runs

    def run(self, name: str, asked: Collection[str] = ()) -> Run:
        """What the files say, by the store's order: a run that has all that is ``asked`` (handles) is done.

        Whatever a process that was killed between its last words left beside it. Unlike the store it asks no clock and
        no process: of a run that is not done, a claim means running.
        """
        folder = RunFolder(self.root / "runs" / name)
        if not folder.path.is_dir():
            return Run(name, State.NOT_RUN)
        held = self.json(folder.spec)
        if fault := integrity.spec_fault(name, held):
            if held is not None or not folder.spec.exists():  # else it was complained of
                self.complain(folder.spec, f"{fault}; the run was left out")
            return Run(name, State.NOT_RUN)
        spec = _mapping((held or {}).get("spec"))
        outcome, failure = self.json(folder.outcome), self.json(folder.failure)
        if outcome is not None and outcome.get("run") != name:
            self.complain(folder.outcome, f"belongs to run {outcome.get('run')!r}; it was left out")
            outcome = None
        if outcome is not None and (fault := integrity.outcome_fault(outcome, spec)):
            self.complain(folder.outcome, f"{fault}; it was left out")
            outcome = None
        found = self.evaluations(folder)
        history, whole = self.history(folder)
        if outcome is None and found["evaluations"]:
            if not folder.outcome.exists():  # else it was complained of
                self.complain(folder.path / "evaluations", "are of a run without an outcome; they were left out")
            found = {"evaluations": {}}
        elif outcome is not None and whole and (fault := integrity.history_fault(history, outcome)):
            self.complain(folder.metrics, f"{fault}; it was left out")
            history = ()
        if outcome is not None and outcome.get("status") == "diverged":
            state, note = State.DIVERGED, f"its loss was not finite at or before step {outcome.get('at_step', '?')}"
        elif outcome is not None and asked and found["evaluations"].keys() >= set(asked):
            state, note = State.DONE, ""
        elif folder.lock.path.exists():
            state, note = State.RUNNING, self.progress(folder)
        elif failure is not None:
            said, cause = f"{failure.get('type', 'error')}: {failure.get('message', '')}", str(failure.get("cause", ""))
            state, note = State.FAILED, f"{said} ({cause}; {policy(cause)})" if policy(cause) else said
        elif outcome is not None:
            state, note = State.DONE, ""
        else:
            state, note = State.NOT_RUN, "cancelled" if folder.cancelled.exists() else ""
        about = self.json(folder.provenance) or {}
        last = history[-1] if whole and history and outcome is not None else {}
        return Run(name, state, spec, about, note=note, history=history, last=last, **found)

    def history(self, folder: RunFolder) -> tuple[tuple[dict[str, float], ...], bool]:
        """The numbers of ``metrics.jsonl``, epoch by epoch, and whether these are all.

        A line that holds none ends them, and is complained of.
        """
        try:
            lines = folder.metrics.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return (), True
        except (OSError, ValueError) as error:
            self.complain(folder.metrics, str(error))
            return (), False
        found: list[dict[str, float]] = []
        for number, line in enumerate(lines, start=1):
            try:
                held: Any
                held, end = _decode(line) if line.startswith("{") else ({}, -1)
                if end != len(line):
                    held = json.loads(line)  # spaces around it, or no object
                found.append({str(k): float(v) for k, v in held.items() if isinstance(v, int | float)})
            except (ValueError, AttributeError, OverflowError, RecursionError):
                self.complain(folder.metrics, f"line {number} is not an epoch's numbers; the rest was left out")
                return tuple(found), False
        return tuple(found), True

    def digests(self, paths: Iterable[Path]) -> dict[str, list[Record]]:
        """By code. What another recipe made is passed over: it is no pair with ours."""
        found: dict[str, list[Record]] = {}
        for path in paths:
            held = self.json(path)
            if held is None or held.get("recipe") != RECIPE:
                continue
            if (made := Record.of(held)) is None:
                self.complain(path, "does not hold digests; it was left out")
            else:
                found.setdefault(made.code, []).append(made)
        return found

    def progress(self, folder: RunFolder) -> str:
        data = self.json(folder.progress) or {}
        return f"epoch {data['epoch']} of {data['epochs']}" if {"epoch", "epochs"} <= data.keys() else ""

    def values(self, path: Path, told: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of an evaluation; what cannot be one (a share of images above 100 %) is complained of."""
        found = {}
        for key, value in told.items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                continue
            if isinstance(value, int) and abs(value) > sys.float_info.max:
                self.complain(path, f"{key} is larger than any float; it was left out")
            elif Metric(key).unit == "%" and math.isfinite(value) and not 0 <= value <= 100:
                self.complain(path, f"{key} is {value:g} %, outside of 0 to 100; it was left out")
            else:
                found[str(key)] = float(value)
        return found

    def evaluations(self, folder: RunFolder) -> dict[str, Any]:
        """By handle: values, the images each says it was made on (test, validation), what could not be had, arrays."""
        found: dict[str, dict[str, float]] = {}
        splits: dict[str, str] = {}
        unavailable: dict[str, str] = {}
        diverged: set[str] = set()
        arrays: dict[str, Mapping[str, Any]] = {}
        codes: dict[str, str] = {}
        seen: dict[str, str] = {}
        fits: dict[str, Fit] = {}
        collapsed: dict[str, tuple[int, int]] = {}
        asked: dict[str, Mapping[str, Any]] = {}
        for path in sorted((folder.path / "evaluations").glob("*.json")):
            data = self.json(path)
            if data is None:
                continue
            if data.get("run") != folder.id:
                self.complain(path, f"belongs to run {data.get('run')!r}; it was left out")
                continue
            if fault := integrity.evaluation_fault(path.stem, data):
                self.complain(path, f"{fault}; it was left out")
                continue
            handle = path.stem
            found[handle] = self.values(path, _mapping(data.get("values")))
            if isinstance(code := data.get("code"), str):
                codes[handle] = code
            if isinstance(digest := inner(data, "data").get("digest"), str):
                seen[handle] = digest
            asked[handle] = _mapping(data.get("evaluation"))
            if isinstance(reason := data.get("unavailable"), str):
                unavailable[handle] = reason
            if data.get("diverged") is True:
                diverged.add(handle)
            if fit := fit_of(data.get("convergence")):
                fits[handle] = fit
            if dead := collapse_of(data.get("collapsed")):
                collapsed[handle] = dead
            if arrays_of := _mapping(data.get("arrays")):
                arrays[handle] = arrays_of
            for fields in _mapping(data.get("evaluation")).values():
                if isinstance(split := _mapping(fields).get("split"), str):
                    splits[handle] = split
        return {
            "evaluations": found,
            "splits": splits,
            "unavailable": unavailable,
            "diverged": diverged,
            "arrays": arrays,
            "evaluated_by": codes,
            "evaluated_on": seen,
            "fits": fits,
            "collapsed": collapsed,
            "asked": asked,
        }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
