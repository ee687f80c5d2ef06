"""One experiment on the page: its blocks, the links from numbers to runs, the runs themselves, and what ran."""

from __future__ import annotations

import json
import re
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.config.matching import plain
from harness.report.judge.score import Score
from harness.report.judge.spread import Spread
from harness.report.judge.verdicts import Verdict
from harness.report.read import digests
from harness.report.read.metrics import Metric
from harness.report.read.names import arm_name, change_names, duration, path_name, signed, slug, value_name
from harness.report.read.no_effect import Inert, inert_arms
from harness.report.read.probes import Probes, probes
from harness.report.read.records import Arm, Experiment, Results, Run, State, inner
from harness.report.render import figures, heatmap, words
from harness.report.render.curves import Curves, curves
from harness.report.render.entries import Entry
from harness.report.render.pictures import Picture, pictures
from harness.report.render.secondary_sources import Said, said
from harness.report.render.tables import Grid, Reference, grids

MANY = 3
"""Above so many varied knobs an arm is named by what it changes against the first."""

NOTED = {"data": "images", "encoder": "network|ResNet", "schedule.epochs": "epochs", "schedule.batch_size": "batches"}
"""What a scale's note may state, and the word by which it does; arms may set each of these otherwise."""


SPOKEN = (
    ("data", "data", ""),
    ("network", "encoder", ""),
    ("epochs", "schedule", "epochs"),
    ("images in a batch", "schedule", "batch_size"),
)
"""The same of a run's specification, in its own words."""


@dataclass(frozen=True)
class ArmView:
    """One arm in the list of runs."""

    anchor: str
    name: str
    baseline: bool
    changes: tuple[tuple[str, str, str], ...]
    runs: tuple[tuple[int, Run, tuple[tuple[str, str], ...]], ...]
    command: str


class Section:
    """One experiment at one scale."""

    def __init__(self, results: Results, experiment: Experiment, scores: Sequence[Score]) -> None:
        self.results, self.experiment, self.scores = results.of(experiment), experiment, scores
        self.anchor = slug(experiment.key)
        self.runs = [self.results.runs[run] for run in experiment.ids]

    @cached_property
    def blocks(self) -> list[tuple[Grid, str, list[heatmap.Panel], list[figures.Chart]]]:
        """Grid, what was seen, and the panels or charts it is drawn as."""
        return [
            (
                grid,
                words.seen(grid),
                heatmap.panels(grid) if grid.kind == "heatmap" else [],
                figures.charts(grid) if grid.kind == "lines" else [],
            )
            for grid in grids(self.results, self.experiment)
        ]

    @property
    def verdicts(self) -> list[tuple[str, int]]:
        """Its verdicts with their counts, without those that do not occur."""
        count = Counter(score.judged.ours.verdict for score in self.scores)
        return [(str(verdict), count[verdict]) for verdict in Verdict if count[verdict]]

    @cached_property
    def metrics(self) -> list[Metric]:
        """Every metric its blocks and claims speak of."""
        named = [entry.metric.path for grid, *_ in self.blocks for entry in grid.entries]
        named += [score.judged.metric for score in self.scores]
        return [Metric(path) for path in dict.fromkeys(named) if path.rpartition("/")[0] in self.experiment.evaluations]

    @cached_property
    def states(self) -> list[tuple[str, int]]:
        """How many runs are in which state; a trained run that lacks an evaluation counts as not evaluated."""
        return tally(self.run_states)

    @cached_property
    def run_states(self) -> list[State]:
        return [self._state(run) for run in self.runs]

    def _state(self, run: Run) -> State:
        for metric in self.metrics:
            label, _, name = metric.path.rpartition("/")
            handle = self.experiment.evaluations.get(label)
            found = run.value(handle, name)
            if isinstance(found, State) and handle not in run.unavailable and handle not in run.diverged:
                return found
        return run.state

    def reference_link(self, reference: Reference) -> str:
        """Where the runs of another experiment's number are listed."""
        return f"#{slug(reference.experiment)}-arm-{reference.arm}" if reference.known else ""

    def link(self, entry: Entry) -> str:
        """Where the runs behind a number are listed."""
        return f"#{self.anchor}-arm-{entry.cell.arms[0]}" if entry.cell and entry.cell.arms else ""

    @cached_property
    def varied(self) -> list[str]:
        """Paths whose value differs between arms, without those that only restate part of another (``.first``)."""
        arms = [arm.settings for arm in self.experiment.arms]
        paths = dict.fromkeys(path for settings in arms for path in settings)
        differ = [path for path in paths if len({plain(one.get(path)) for one in arms}) > 1]
        return [path for path in differ if path.rpartition(".")[0] not in differ] or list(paths)[:1]

    @cached_property
    def note(self) -> str:
        """What the scale says of itself; of runs that ``fixed:`` or ``-o`` changed in that, what they say themselves.

        Their specifications then name data, network and length: the scale's note would be of other runs.
        """
        experiment = self.experiment
        changed = {*experiment.fixed, *experiment.overrides}
        if not any(path == one or path.startswith(f"{one}.") for path in changed for one in NOTED):
            return experiment.scale_note
        specs = [run.spec for run in self.runs if run.spec]
        told = [
            (
                name,
                list(
                    dict.fromkeys(value_name(inner(spec, part).get(key) if key else spec.get(part)) for spec in specs)
                ),
            )
            for name, part, key in SPOKEN
        ]
        said = "; ".join(f"{name} {', '.join(values[:MANY])}" for name, values in told if values)
        return f"{said[:1].upper()}{said[1:]}." if said else ""

    @cached_property
    def otherwise(self) -> str:
        """``epochs 10, 20, 40``: what the arms set themselves of what their scale's note states; mostly empty.

        The note is of the scale and knows nothing of the experiment, which may vary the very thing that it says.
        """
        stated = [path for path, word in NOTED.items() if re.search(word, self.experiment.scale_note)]
        if self.note != self.experiment.scale_note:
            return ""
        arms = [arm.settings for arm in self.experiment.arms]
        set_here = [path for path in dict.fromkeys(path for settings in arms for path in settings)
                    if any(path == one or path.startswith(f"{one}.") for one in stated)]  # fmt: skip
        told = [(path_name(path), [value_name(one[path]) for one in arms if path in one]) for path in set_here]
        listed = [(name, list(dict.fromkeys(values))) for name, values in told]
        return "; ".join(
            f"{name} {', '.join(values)}"
            for name, values in listed
            if len(values) > 1 or not re.search(rf"\b{re.escape(values[0])} {name}", self.experiment.scale_note)
        )

    @cached_property
    def arms(self) -> list[ArmView]:
        return [self._arm(index, arm) for index, arm in enumerate(self.experiment.arms)]

    def _arm(self, index: int, arm: Arm) -> ArmView:
        runs = [
            (seed, self.results.runs[run], self._values(self.results.runs[run]))
            for seed, run in sorted(arm.runs.items())
        ]
        name = arm_name({path: arm.settings[path] for path in self.varied if path in arm.settings})
        if len(self.varied) > MANY:
            name = change_names(self.experiment.arms[0].settings, arm.settings) or "baseline"
        only = ",".join(run.id for _, run, _ in runs)
        file = self.experiment.file or f"experiments/{self.experiment.name}.yaml"
        overrides = self.experiment.overrides.items()
        changed = "".join(f" -o {shlex.quote(f'{path}={_written(value)}')}" for path, value in overrides)
        where = f"{shlex.quote(file)} --scale {shlex.quote(self.experiment.scale)}"
        command = f"python -m harness.sweep {where}{changed} --only {only}"
        return ArmView(f"{self.anchor}-arm-{index}", name, index == 0, self._changes(arm), tuple(runs), command)

    @cached_property
    def probes(self) -> list[Probes]:
        """What is known of the probes behind its numbers, evaluation by evaluation."""
        return probes(self.experiment.evaluations, self.runs)

    def _values(self, run: Run) -> tuple[tuple[str, str], ...]:
        """Each metric's number or state, and how its probe ended."""
        shown = []
        for metric in self.metrics:
            label, _, name = metric.path.rpartition("/")
            value = run.value(self.experiment.evaluations.get(label), name)
            fit = run.fits.get(self.experiment.evaluations.get(label) or "")
            told = str(value) if isinstance(value, State) else f"{value:.{metric.decimals}f}"
            shown.append((told, fit.note if fit and not isinstance(value, State) else ""))
        return tuple(shown)

    def _changes(self, arm: Arm) -> tuple[tuple[str, str, str], ...]:
        """What the resolved specification changes against the first arm: (path, there, here)."""
        base, mine = self._flat(self.experiment.arms[0]), self._flat(arm)
        paths = sorted(path for path in base.keys() | mine.keys() if base.get(path) != mine.get(path))
        return tuple((path, base.get(path, "—"), mine.get(path, "—")) for path in paths)

    def _flat(self, arm: Arm) -> dict[str, str]:
        spec = next(
            (self.results.runs[run].spec for _, run in sorted(arm.runs.items()) if self.results.runs[run].spec), {}
        )
        return {path: value for path, value in flat(spec or arm.settings) if path != "seed"}

    @cached_property
    def other_networks(self) -> list[tuple[str, str, int]]:
        """(method, network, runs) where evaluations see another network than the one that gradients train."""
        told = [(run.spec.get("method", {}), run.provenance.get("evaluates")) for run in self.runs]
        found = Counter((", ".join(method), str(network)) for method, network in told if network)
        return [(method, network, count) for (method, network), count in found.items()]

    @cached_property
    def other_precision(self) -> list[tuple[str, str, int]]:
        """(asked for, used, runs) where a run was computed in another precision than its specification says."""
        pairs = [(run.spec.get("precision"), run.provenance.get("precision")) for run in self.runs]
        found = Counter((str(asked), str(used)) for asked, used in pairs if asked and used and asked != used)
        return [(asked, used, count) for (asked, used), count in found.items()]

    @cached_property
    def pictures(self) -> list[Picture]:
        """Its ``scatter`` and ``spectrum`` blocks."""
        return pictures(self.results, self.experiment)

    @cached_property
    def unavailable(self) -> list[tuple[str, str, int]]:
        """Evaluations that could not be had: label, reason, and for how many runs."""
        labels = {handle: label for label, handle in self.experiment.evaluations.items()}
        reasons = [(labels[h], why) for run in self.runs for h, why in run.unavailable.items() if h in labels]
        return [(label, why, count) for (label, why), count in Counter(reasons).items()]

    @cached_property
    def curves(self) -> list[Curves]:
        """Learning curves, one set per metric that was measured while training."""
        return curves(self.experiment, self.results.runs, [arm.name for arm in self.arms])

    @cached_property
    def hearsay(self) -> list[Said]:
        """The summary's numbers beside the paper's."""
        return said(self.results, self.experiment)

    @cached_property
    def inert(self) -> list[tuple[Inert, ArmView, ArmView, str]]:
        """Arms that repeat another's losses, with both, and what they differ in."""
        found = inert_arms(self.experiment, self.results.runs)
        arms = self.experiment.arms
        return [
            (one, self.arms[one.first], self.arms[one.second],
             change_names(arms[one.first].settings, arms[one.second].settings))
            for one in found
        ]  # fmt: skip

    @cached_property
    def spreads(self) -> list[tuple[str, bool]]:
        """What its claims take for the spread over seeds, one sentence for each metric, and whether it looks skewed."""
        seen = [score.judged.ours.seen for score in self.scores]
        found = {one.contrast.spread.pattern: one.contrast.spread for one in seen if one and one.contrast}
        return [(spread_said(one), one.skewed) for one in found.values()]

    @cached_property
    def provenance(self) -> list[tuple[str, str]]:
        """What ran, as label and text; several values are all named, never merged."""
        held = [run.provenance for run in self.runs if run.provenance]
        if not held:
            return []
        walls = [float(one["wall_seconds"]) for one in held if isinstance(one.get("wall_seconds"), int | float)]
        speeds = [
            float(one["images_per_second"]) for one in held if isinstance(one.get("images_per_second"), int | float)
        ]
        found = [
            (
                "commit",
                _several(
                    str(one.get("commit", "?"))[:10] + (" + local changes" if one.get("dirty") else "") for one in held
                ),
            ),
            (
                "versions",
                _several(", ".join(f"{k} {v}" for k, v in sorted(inner(one, "versions").items())) for one in held),
            ),
            ("numeric code", _several(", then ".join(run.codes) or "?" for run in self.runs if run.provenance)),
            ("hardware", _several(_hardware(one) for one in held)),
        ]
        if any(run.data for run in self.runs):
            seen = (f"{run.data} ({run.data_in_words.rstrip('; ')})" for run in self.runs if run.data)
            found.append(("data", _several(seen)))
        if walls:
            found.append(
                (
                    "wall time",
                    f"{duration(sum(walls))} for {len(walls)} runs, median {duration(statistics.median(walls))} each",
                )
            )
        if speeds:
            found.append(("speed", f"median {statistics.median(speeds):,.0f} images/s".replace(",", " ")))
        return found

    @cached_property
    def mixed_code(self) -> int:
        """Number of different numeric sources its runs were made with; more than one is worth a warning."""
        return len({code for run in self.runs for code in run.all_codes})

    @cached_property
    def resumed_by_other(self) -> list[str]:
        """Runs that were begun by one code and went on by another: their numbers are of neither alone."""
        return [run.id for run in self.runs if len(run.codes) > 1]

    @cached_property
    def changed_code(self) -> list[str]:
        """The files in which those numeric sources differ."""
        return self.results.changed(code for run in self.runs for code in run.all_codes)

    @cached_property
    def digests(self) -> str:
        """Whether those sources compute the same, as far as that was recorded."""
        return digests.said(self.runs, self.results.digests)

    @cached_property
    def broken(self) -> list[Run]:
        """Runs that failed or diverged, for the list of mishaps."""
        return [run for run in self.runs if run.note and run.state in (State.FAILED, State.DIVERGED)]


def spread_said(spread: Spread) -> str:
    """The spread of a metric, its prior, and what became of the pairing by seed."""
    metric = " ".join(f"{'−' if weight < 0 else '+'}{metric}" if len(spread.pattern) > 1 else metric
                      for metric, weight in spread.pattern)  # fmt: skip
    text = f"Spread of {metric} over {spread.look} seeds: {spread.typical:.2g} in {spread.arms} settings; "
    text += f"their prior has {spread.freedom:.2g} degrees of freedom"
    if spread.slope:
        text += f" and a variance that {'falls' if spread.slope < 0 else 'rises'} with the level"
    taken = "are taken out" if spread.common else "cancel too little to be taken out"
    text += f". What seeds do to all settings alike (correlation {signed(spread.correlation, 2)}) {taken}."
    if spread.skewed:
        text += f" Residuals are skewed ({signed(spread.skewness[0])}): t intervals of few seeds are wrong too often."
    return text


def tally(states: Iterable[State]) -> list[tuple[str, int]]:
    """Counts by state, in the order of :class:`State`, without those that do not occur."""
    count = Counter(states)
    return [(str(state), count[state]) for state in State if count[state]]


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as dotted paths with their values in words."""
    if isinstance(value, Mapping) and value:
        return [leaf for key, one in value.items() for leaf in flat(one, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, value_name(value) if not isinstance(value, Mapping) else "")]


def _several(texts: Iterable[str]) -> str:
    """Distinct texts with how often each occurs, most frequent first."""
    count = Counter(texts)
    if len(count) == 1:
        return str(next(iter(count)))
    return "; ".join(f"{text} ({n})" for text, n in sorted(count.items(), key=lambda item: (-item[1], item[0])))


def _hardware(provenance: Mapping[str, Any]) -> str:
    parts = [_count(part, "core") if key == "cores" else str(part)
             for key, part in inner(provenance, "hardware").items() if part]  # fmt: skip
    threads = provenance.get("threads")
    return ", ".join([*parts, _count(threads, "thread")] if threads else parts) or "?"


def _count(number: Any, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _written(value: Any) -> str:
    """A value as ``-o`` reads it back: JSON, which is YAML; words of letters without their quotes."""
    bare = isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]*", value) and value not in ("true", "false", "null")
    return str(value) if bare else json.dumps(value, ensure_ascii=False)
