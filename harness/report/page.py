"""The page: what the templates need, worked out, and the one place that imports jinja2.

Everything is escaped by jinja2's autoescape; only the style sheet and the SVGs we drew ourselves are marked safe.
No script, no external file, no clock: the same results give the same bytes.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
from markupsafe import Markup

from harness.report import figures, heatmap, words
from harness.report.claims import Comparison
from harness.report.collect import Arm, Experiment, Results, Run, State, plain
from harness.report.names import arm_name, path_name, slug, value_name
from harness.report.stats import CONFIDENCE, interval
from harness.report.tables import Entry, Grid, Metric, grids
from harness.report.verdicts import Judged, Verdict, judge_all

PAPERS = {"simclr": "SimCLR (Chen, Kornblith, Norouzi, Hinton 2020)"}


def render(results: Results) -> str:
    """The whole report as one HTML document."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": signed, "value": value_name, "path": path_name, "spread": spread, "duration": duration,
        "svg": Markup, "measured": words.measured, "number": words.number,
    }  # fmt: skip
    page = Page(results)
    return environment.get_template("page.html.j2").render(page=page, Verdict=Verdict, State=State)


def signed(value: float, decimals: int = 1) -> str:
    """``+3.4`` or ``−1.2``, with a real minus sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def spread(entry: Entry) -> str:
    """``± 0.8``, or nothing for one seed."""
    half = entry.estimate.half if entry.estimate else None
    return "" if half is None else f"± {half:.{entry.metric.decimals}f}"


def duration(seconds: float) -> str:
    """``2 min 30 s``, ``5 h 12 min``: two units at most."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def reading(comparison: Comparison | None, intervals: bool = True) -> str:
    """The deciding comparison as ``crop over color: +9.2 [8.1, 10.3]``."""
    if comparison is None or not comparison.sample:
        return ""
    write = signed if comparison.signed else lambda value: f"{value:.2f}"
    bounds = interval(comparison.sample, CONFIDENCE) if intervals else None
    inside = f" [{write(bounds[0])}, {write(bounds[1])}]" if bounds else ""
    return f"{comparison.name}: {write(comparison.mean)}{inside}"


@dataclass(frozen=True)
class Score:
    """One line of the scoreboard."""

    judged: Judged

    @property
    def ours(self) -> str:
        return reading(self.judged.ours.deciding)

    @property
    def paper(self) -> str:
        """``holds`` or ``does not hold`` by the printed numbers, or why there is nothing to say."""
        if self.judged.paper is None:
            return self.judged.paper_note
        return "holds" if self.judged.paper[0] else "does not hold"

    @property
    def paper_reading(self) -> str:
        return reading(self.judged.paper[1], intervals=False) if self.judged.paper else ""

    @property
    def summary(self) -> str:
        """What the summary says, whichever of its forms the file uses."""
        summary = self.judged.claim.summary
        if isinstance(summary, Mapping):
            text = summary.get("text")
            return str(text) if text is not None else value_name(summary.get("value"))
        return "" if summary is None else str(summary)

    @property
    def anchor(self) -> str:
        return slug(self.judged.key)

    @property
    def required(self) -> str:
        """What the numbers would have to be, e.g. ``more than +3.0``."""
        one = self.judged.ours.deciding
        if one is None:
            return ""
        write = signed if one.signed else lambda value: f"{value:g}"
        low, high = one.above > float("-inf"), one.below < float("inf")
        if low and high:
            return f"between {write(one.above)} and {write(one.below)}"
        return f"more than {write(one.above)}" if low else f"less than {write(one.below)}"


@dataclass(frozen=True)
class ArmView:
    """One arm in the list of runs."""

    anchor: str
    name: str
    baseline: bool
    changes: tuple[tuple[str, str, str], ...]
    runs: tuple[tuple[int, Run, tuple[str, ...]], ...]
    command: str


class Section:
    """One experiment at one scale."""

    def __init__(self, results: Results, experiment: Experiment, scores: Sequence[Score]) -> None:
        self.results, self.experiment, self.scores = results, experiment, scores
        self.anchor = slug(experiment.key)
        self.runs = [results.runs[run] for run in experiment.ids]

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
            found = run.value(self.experiment.evaluations.get(label), name)
            if isinstance(found, State):
                return found
        return run.state

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
    def arms(self) -> list[ArmView]:
        return [self._arm(index, arm) for index, arm in enumerate(self.experiment.arms)]

    def _arm(self, index: int, arm: Arm) -> ArmView:
        runs = [(seed, self.results.runs[run], self._values(self.results.runs[run])) for seed, run in sorted(arm.runs.items())]
        name = arm_name({path: arm.settings[path] for path in self.varied if path in arm.settings})
        only = " ".join(f"--only {run.id}" for _, run, _ in runs)
        file = self.experiment.file or f"experiments/{self.experiment.name}.yaml"
        override = "".join(f" -o {path}={_shell(value)}" for path, value in self.experiment.overrides.items())
        command = f"python -m harness.sweep {file} --scale {self.experiment.scale}{override} {only}"
        return ArmView(f"{self.anchor}-arm-{index}", name, index == 0, self._changes(arm), tuple(runs), command)

    def _values(self, run: Run) -> tuple[str, ...]:
        shown = []
        for metric in self.metrics:
            label, _, name = metric.path.rpartition("/")
            value = run.value(self.experiment.evaluations.get(label), name)
            shown.append(str(value) if isinstance(value, State) else f"{value:.{metric.decimals}f}")
        return tuple(shown)

    def _changes(self, arm: Arm) -> tuple[tuple[str, str, str], ...]:
        """What the resolved specification changes against the first arm: (path, there, here)."""
        base, mine = self._flat(self.experiment.arms[0]), self._flat(arm)
        paths = sorted(path for path in base.keys() | mine.keys() if base.get(path) != mine.get(path))
        return tuple((path, base.get(path, "—"), mine.get(path, "—")) for path in paths)

    def _flat(self, arm: Arm) -> dict[str, str]:
        spec = next((self.results.runs[run].spec for _, run in sorted(arm.runs.items()) if self.results.runs[run].spec), {})
        return {path: value for path, value in flat(spec or arm.settings) if path != "seed"}

    @cached_property
    def provenance(self) -> list[tuple[str, str]]:
        """What ran, as label and text; several values are all named, never merged."""
        held = [run.provenance for run in self.runs if run.provenance]
        if not held:
            return []
        walls = [float(one["wall_seconds"]) for one in held if isinstance(one.get("wall_seconds"), int | float)]
        speeds = [float(one["images_per_second"]) for one in held if isinstance(one.get("images_per_second"), int | float)]
        found = [
            ("commit", _several(str(one.get("commit", "?"))[:10] + (" + local changes" if one.get("dirty") else "") for one in held)),
            ("versions", _several(", ".join(f"{k} {v}" for k, v in sorted(_map(one, "versions").items())) for one in held)),
            ("hardware", _several(_hardware(one) for one in held)),
        ]
        if walls:
            found.append(("wall time", f"{duration(sum(walls))} for {len(walls)} runs, median {duration(statistics.median(walls))} each"))
        if speeds:
            found.append(("speed", f"median {statistics.median(speeds):,.0f} images/s".replace(",", " ")))
        return found

    @cached_property
    def mixed_code(self) -> int:
        """Number of different numeric sources its runs were made with; more than one is worth a warning."""
        return len({run.provenance["code"] for run in self.runs if run.provenance.get("code")})

    @cached_property
    def broken(self) -> list[Run]:
        """Runs that failed or diverged, for the list of mishaps."""
        return [run for run in self.runs if run.note and run.state in (State.FAILED, State.DIVERGED)]


class Page:
    """The document: scoreboard, sections, runs."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.scores = [Score(judged) for judged in judge_all(results)]
        self.sections = [
            Section(results, experiment, [score for score in self.scores if score.judged.experiment is experiment])
            for experiment in results.experiments
        ]

    @property
    def papers(self) -> list[str]:
        names = {name.partition("/")[0] for one in self.results.experiments for name in one.published}
        return [PAPERS.get(name, name) for name in sorted(names)]

    @property
    def verdicts(self) -> list[tuple[Verdict, int]]:
        """Every verdict with its count, zero included: what was not run is part of the result."""
        count = Counter(score.judged.ours.verdict for score in self.scores)
        return [(verdict, count[verdict]) for verdict in Verdict]

    @cached_property
    def states(self) -> list[tuple[str, int]]:
        """Runs by state over all experiments; a run that two experiments share counts once."""
        found: dict[str, State] = {}
        for section in self.sections:
            for run, state in zip(section.runs, section.run_states, strict=True):
                if found.get(run.id, State.DONE) is State.DONE:
                    found[run.id] = state
        return tally(found.values())

    @property
    def run_count(self) -> int:
        return len(self.results.runs)

    @property
    def done(self) -> int:
        return dict(self.states).get(State.DONE, 0)

    @property
    def line_colours(self) -> tuple[list[str], list[str]]:
        """Colours of the charts' lines, light and dark: dark to bright along one map, so an ordered family looks ordered."""
        steps = [figures.LINES - 1 - i for i in range(figures.LINES)]
        order = [steps[(i * 3) % figures.LINES] for i in range(figures.LINES)]
        light = [heatmap.colour("mako_r", round(heatmap.STEPS * (0.42 + 0.05 * (9 - step)))) for step in order]
        dark = [heatmap.colour("mako", round(heatmap.STEPS * (0.5 + 0.047 * (9 - step)))) for step in order]
        return light, dark


def tally(states: Any) -> list[tuple[str, int]]:
    """Counts by state, in the order of :class:`State`, without those that do not occur."""
    count = Counter(states)
    return [(str(state), count[state]) for state in State if count[state]]


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as dotted paths with their values in words."""
    if isinstance(value, Mapping) and value:
        return [leaf for key, one in value.items() for leaf in flat(one, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, value_name(value) if not isinstance(value, Mapping) else "")]


def _several(texts: Any) -> str:
    """Distinct texts with how often each occurs, most frequent first."""
    count = Counter(texts)
    if len(count) == 1:
        return str(next(iter(count)))
    return "; ".join(f"{text} ({n})" for text, n in sorted(count.items(), key=lambda item: (-item[1], item[0])))


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    held = value.get(key)
    return held if isinstance(held, Mapping) else {}


def _hardware(provenance: Mapping[str, Any]) -> str:
    parts = [str(part) for part in _map(provenance, "hardware").values() if part]
    threads = provenance.get("threads")
    return ", ".join([*parts, f"{threads} thread{'s' if threads != 1 else ''}"] if threads else parts) or "?"


def _shell(value: Any) -> str:
    text = value_name(value)
    return text if text.replace(".", "").replace("-", "").isalnum() else f"'{text}'"
