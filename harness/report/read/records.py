"""What the report knows once the files are read: experiments, arms, runs and their states, the paper's cells."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.config.claim import TRAINING, BestOf
from harness.config.looks import LOOKS, Looks
from harness.config.matching import matches as matches
from harness.config.matching import plain as plain
from harness.digests.compare import Record
from harness.report.read.probes import Fit


class State(StrEnum):
    """What became of a run, as far as one metric is concerned. The value is the word the page prints."""

    DONE = "done"
    RUNNING = "running"
    TRAINED = "not evaluated"
    DIVERGED = "diverged"
    FAILED = "failed"
    OTHER_DATA = "other data"
    NOT_RUN = "not run"


def inner(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under a key of JSON; empty where there is none, or something else."""
    held = value.get(key)
    return held if isinstance(held, Mapping) else {}


@dataclass(frozen=True)
class Problem:
    """A file that could not be used; ``file`` is relative to the results folder."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Arm(_Read):
    """One setting of the varied knobs; ``runs`` maps the seed to the id of its run."""

    settings: dict[str, Any]
    runs: dict[int, str]


class PublishedCell(_Read):
    """One printed number: where it stands (dotted path -> value), what it measures, and the number."""

    at: dict[str, Any]
    metric: str
    value: float


class Published(_Read):
    """One table or figure of the paper, transcribed."""

    title: str = ""
    where: str = ""
    page: int | str | None = None
    read: str = ""
    context: str = ""
    cells: list[PublishedCell] = []


class Claim(_Read):
    """One sentence that can be tested. ``expect`` is judged by :mod:`harness.report.judge.claims`."""

    id: str
    says: str
    where: str = ""
    on: str | None = None
    expect: dict[str, Any]
    summary: Any = None
    best_of: BestOf | None = None


class Experiment(_Read):
    """``results/experiments/<name>@<scale>.json``, as the sweep wrote it."""

    name: str
    scale: str
    title: str = ""
    question: str = ""
    file: str = ""
    seeds: int = 1
    seeds_before: list[int] = []
    looks: Looks = [*LOOKS]
    looks_before: list[list[int]] = []
    runs: int = 0
    overrides: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    paper_scale: bool = False
    scale_note: str = ""
    arms: list[Arm] = []
    evaluations: dict[str, str] = {}
    report: list[dict[str, dict[str, Any]]] = []
    claims: list[Claim] = []
    published: dict[str, Published] = {}

    @property
    def key(self) -> str:
        """``name@scale``, and what was overridden: a sweep with ``-o`` is another table beside the one without."""
        changed = ",".join(f"{path}={value}" for path, value in sorted(self.overrides.items()))
        return f"{self.name}@{self.scale}" + (f"+{changed}" if changed else "")

    @property
    def setting(self) -> str:
        """The scale and what ``-o`` changed of it: two tables of one file differ in nothing else."""
        changed = ", ".join(f"{path} = {value}" for path, value in sorted(self.overrides.items()))
        return f"{self.scale} with {changed}" if changed else self.scale

    @property
    def as_in_paper(self) -> bool:
        """Whether its absolute numbers may be held against the paper's: its scale is, and nothing was overridden."""
        return self.paper_scale and not self.overrides

    @property
    def ids(self) -> list[str]:
        """Run ids of all arms, each once, in order."""
        return list(dict.fromkeys(run for arm in self.arms for _, run in sorted(arm.runs.items())))


@dataclass(frozen=True)
class Run:
    """One pretraining as its folder shows it.

    ``evaluations`` maps a handle to ``{name: value}``, ``splits`` a handle to the images it was evaluated on,
    ``unavailable`` a handle to the reason why it could not be had, ``arrays`` a handle to what figures are drawn from;
    ``diverged`` are the handles of evaluations within which a training diverged, though the run did not;
    ``history`` is what was measured at the end of each epoch, ``last`` that of the last epoch of a whole training;
    ``evaluated_by`` maps a handle to the numeric code that evaluated, ``asked`` to the evaluation with its
    settings, ``evaluated_on`` to the digest of what data;
    ``other_data`` are the handles whose numbers are of other data than those of the other runs; ``fits`` maps one to
    how far its probe ended from the optimum, where that was written down, ``collapsed`` one to how many features did
    not vary, and of how many.
    """

    id: str
    state: State
    spec: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    diverged: Collection[str] = ()
    arrays: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    last: Mapping[str, float] = field(default_factory=dict)
    evaluated_by: Mapping[str, str] = field(default_factory=dict)
    evaluated_on: Mapping[str, str] = field(default_factory=dict)
    other_data: Collection[str] = ()
    fits: Mapping[str, Fit] = field(default_factory=dict)
    collapsed: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def data(self) -> str:
        """Digest of the data that it was trained on; empty where that was not recorded."""
        return str(inner(self.provenance, "data").get("digest") or "")

    @property
    def data_in_words(self) -> str:
        """``train 160, test 40 images; ``, or nothing."""
        counts = ", ".join(
            f"{split} {count}" for split, count in inner(inner(self.provenance, "data"), "images").items()
        )
        return f"{counts} images; " if counts else ""

    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs it is to train for; those it has where its specification does not say."""
        planned = inner(self.spec, "schedule").get("epochs")
        return planned if isinstance(planned, int) else len(self.history)

    @property
    def codes(self) -> list[str]:
        """The numeric code that trained it; several, in order, where another went on from a checkpoint."""
        several, one = self.provenance.get("codes"), self.provenance.get("code")
        return [str(code) for code in several] if isinstance(several, list) else [str(one)] if one else []

    @property
    def all_codes(self) -> set[str]:
        """The numeric code of its training and of its evaluations."""
        return {*self.codes, *self.evaluated_by.values()}

    def value(self, handle: str | None, name: str) -> float | State:
        """A number, or the reason why there is none. A NaN counts as diverged: it is a result, but not a number."""
        if self.state is State.DIVERGED:
            return self.state
        if handle in self.other_data:
            return State.OTHER_DATA
        if handle in self.diverged:
            return State.DIVERGED
        measured = self.last if handle == TRAINING else self.evaluations.get(handle or "", {})
        value = measured.get(name)
        if value is None and handle in self.unavailable:
            return State.NOT_RUN
        if value is None:
            return State.TRAINED if self.state is State.DONE else self.state
        return value if math.isfinite(value) else State.DIVERGED


Terms = Mapping[tuple[str, int], float]
"""(metric, arm) -> its weight in a sum over arms."""


@dataclass(frozen=True)
class Cell:
    """Several runs of one setting, one per seed: the numbers there are, and the state of those there are not.

    ``selecting`` marks the provisional winner of a selection that still lacks numbers; ``unconverged`` are the seeds
    whose number is that of a probe that did not converge. ``terms`` are the (metric, arm) that its numbers are sums of,
    with their weights: none for a constant, None where they change from seed to seed; from so many ``candidates`` each
    seed's setting was chosen by the other seeds.
    """

    settings: Mapping[str, Any]
    values: Mapping[int, float]
    states: Mapping[int, State] = field(default_factory=dict)
    arms: tuple[int, ...] = ()
    selecting: bool = False
    unconverged: frozenset[int] = frozenset()
    terms: Terms | None = None
    candidates: int = 1

    @property
    def planned(self) -> int:
        """Number of seeds that were asked for, whether they have a number or not."""
        return len({*self.values, *self.states})

    @property
    def state(self) -> State:
        """Of the seeds without a number the most telling state; DONE when every seed has one."""
        order = (State.OTHER_DATA, State.FAILED, State.DIVERGED, State.RUNNING, State.TRAINED, State.NOT_RUN)
        found = set(self.states.values())
        return next((state for state in order if state in found), State.DONE if self.values else State.NOT_RUN)


def first_seeds(cell: Cell, count: int) -> Cell:
    """A cell as the first ``count`` of its planned seeds have it."""
    kept = {*sorted({*cell.values, *cell.states})[:count]}
    values = {seed: value for seed, value in cell.values.items() if seed in kept}
    states = {seed: state for seed, state in cell.states.items() if seed in kept}
    return replace(cell, values=values, states=states, unconverged=cell.unconverged & kept)


def combined(parts: Iterable[tuple[Terms | None, float]]) -> Terms | None:
    """The terms of a weighted sum of cells; None where those of one of them are not known."""
    found: dict[tuple[str, int], float] = {}
    for terms, weight in parts:
        if terms is None:
            return None
        for key, one in terms.items():
            found[key] = found.get(key, 0.0) + weight * one
    return found


@dataclass(frozen=True)
class Results:
    """Everything the report knows."""

    experiments: tuple[Experiment, ...]
    runs: Mapping[str, Run]
    problems: tuple[Problem, ...] = ()
    orphans: int = 0
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # code -> numeric file -> digest
    aside: Mapping[str, Mapping[str, Run]] = field(default_factory=dict)
    """Experiment -> those of its runs whose numbers do not count in it, without them."""
    digests: Mapping[str, Sequence[Record]] = field(default_factory=dict)  # code -> what it computes, at every place

    def of(self, experiment: Experiment) -> Results:
        """The same as one experiment may use it."""
        aside = self.aside.get(experiment.key)
        return replace(self, runs={**self.runs, **aside}) if aside else self

    def changed(self, codes: Iterable[str]) -> list[str]:
        """Numeric files that are not the same in all of these codes, as far as their files were written down."""
        known = [self.sources[code] for code in sorted(set(codes)) if code in self.sources]
        return sorted({name for one in known for name in one if any(one[name] != other.get(name) for other in known)})

    def cells(self, experiment: Experiment, metric: str) -> list[Cell]:
        """One cell per arm of the experiment for a metric such as ``linear/top1``."""
        label, _, name = metric.rpartition("/")
        handle = TRAINING if label == TRAINING else experiment.evaluations.get(label)
        runs = self.of(experiment).runs
        found = []
        for index, arm in enumerate(experiment.arms):
            read = {seed: runs[run].value(handle, name) for seed, run in sorted(arm.runs.items())}
            values = {seed: value for seed, value in read.items() if not isinstance(value, State)}
            states = {seed: value for seed, value in read.items() if isinstance(value, State)}
            fits = {seed: self.runs[arm.runs[seed]].fits.get(handle or "") for seed in values}
            lost = frozenset(seed for seed, fit in fits.items() if fit is not None and not fit.converged)
            terms = {(metric, index): 1.0}
            found.append(Cell(arm.settings, values, states, (index,), unconverged=lost, terms=terms))
        return found

    def splits(self, experiment: Experiment, metric: str) -> set[str]:
        """The images (test, validation) that a metric's evaluations say they were made on."""
        handle = experiment.evaluations.get(metric.rpartition("/")[0], "")
        runs = (self.runs[run] for run in experiment.ids)
        return {run.splits[handle] for run in runs if handle in run.splits}


def published_cells(published: Published, metric: str) -> list[Cell]:
    """The paper's numbers in the shape of ours: one value, seed 0, per cell."""
    return [Cell(cell.at, {0: cell.value}) for cell in published.cells if cell.metric == metric]
