"""The page: what the templates need, worked out, and the one place that imports jinja2.

Everything is escaped by jinja2's autoescape; only the style sheet and the SVGs we drew ourselves are marked safe.
No script, no external file, no clock: the same results give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import jinja2
from markupsafe import Markup

from harness.report.judge.judging import judge_all
from harness.report.judge.score import Score
from harness.report.judge.verdicts import DECIDED, Verdict
from harness.report.read.names import duration, printed_by, signed, value_name, visible
from harness.report.read.records import Results, State
from harness.report.render import figures, heatmap
from harness.report.render.entries import Entry
from harness.report.render.section import Section, tally
from harness.report.render.tables import Grid

PAPERS = {"simclr": "SimCLR (Chen, Kornblith, Norouzi, Hinton 2020)"}
"""Folders of ``experiments/paper`` -> the papers as the page names them."""
MOST_DECIDED = 12
"""Of each verdict at most so many claims are named at the top; all are in the scoreboard."""


def render(results: Results) -> str:
    """The whole report as one HTML document."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report.render", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": signed, "value": value_name, "spread": spread, "duration": duration,
        "svg": Markup, "source": printed_by, "sentence": lambda text: text[:1].upper() + text[1:],
    }  # fmt: skip
    page = Page(results)
    return visible(environment.get_template("page.html.j2").render(page=page, Verdict=Verdict, State=State))


def spread(entry: Entry) -> str:
    """``± 0.8``, or nothing for one seed."""
    half = entry.estimate.half if entry.estimate else None
    return "" if half is None else f"± {half:.{entry.metric.decimals}f}"


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
        """The papers whose numbers stand beside ours; neither the summary nor a public run is one."""
        published = [name for one in self.results.experiments for name in one.published if printed_by(name) == "paper"]
        return [PAPERS.get(name, name) for name in sorted({name.partition("/")[0] for name in published})]

    @property
    def summarised(self) -> bool:
        """Whether the summary says anything of these claims; else it has no column."""
        return any(score.summary or score.summary_verdict for score in self.scores)

    @property
    def printed(self) -> bool:
        """The same of the paper."""
        return any(score.paper_reading or score.judged.experiment.published for score in self.scores)

    @property
    def scales(self) -> dict[str, str]:
        """Scale -> what it is instead of the paper's setting, for those that are not the paper's."""
        noted = {
            one.experiment.scale: one.note
            for one in self.sections
            if not one.experiment.as_in_paper and one.note and one.note == one.experiment.scale_note
        }
        otherwise = {section.experiment.scale for section in self.sections if section.otherwise}
        more = " Where an experiment’s settings say otherwise, its section says so too."
        return {scale: note + more * (scale in otherwise) for scale, note in noted.items()}

    @property
    def decided(self) -> list[tuple[Verdict, list[Score], int]]:
        """Both verdicts that say something, with the claims they are of, and how many more there are."""
        found = [(one, [score for score in self.scores if score.judged.ours.verdict is one]) for one in DECIDED]
        return [(one, scores[:MOST_DECIDED], len(scores[MOST_DECIDED:])) for one, scores in found if scores]

    @property
    def directions(self) -> list[Score]:
        """Claims about a size that are open, though their direction is reproduced."""
        open_ = [score for score in self.scores if score.judged.ours.verdict is Verdict.INCONCLUSIVE]
        return [score for score in open_ if score.direction_holds]

    @cached_property
    def opening(self) -> tuple[Section, Grid, list[heatmap.Panel]] | None:
        """The first heatmap that has both the paper's numbers and ours: the page opens with these two pictures."""
        for section in self.sections:
            for grid, _, panels, _ in section.blocks:
                if len(panels) > 2 and any(entry.estimate for entry in grid.entries):
                    return section, grid, heatmap.patterns(grid)
        return None

    @property
    def verdicts(self) -> list[tuple[Verdict, int]]:
        """Every verdict with its count, zero included: what was not run is part of the result."""
        count = Counter(score.judged.ours.verdict for score in self.scores)
        return [(verdict, count[verdict]) for verdict in Verdict]

    @property
    def jointly(self) -> tuple[int, int]:
        """Verdicts that stand together with all others of their table, and all verdicts."""
        decided = [score for score in self.scores if score.judged.ours.verdict in DECIDED]
        return sum(score.judged.jointly for score in decided), len(decided)

    @property
    def summary(self) -> tuple[int, int]:
        """Claims on which the summary's figures contradict the paper's, and all on which both have some."""
        told = {score.judged.claim.id: score.judged.summary_agrees for score in self.scores}
        known = [agrees for agrees in told.values() if agrees is not None]
        return known.count(False), len(known)

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
        """Colours of the charts' lines, light and dark: one ramp, so an ordered family looks ordered."""
        shares = [index / (figures.LINES - 1) for index in range(figures.LINES)]
        light = [heatmap.colour("mako_r", round(heatmap.STEPS * (0.50 + 0.36 * share))) for share in shares]
        dark = [heatmap.colour("mako", round(heatmap.STEPS * (0.56 + 0.38 * share))) for share in shares]
        return light, dark
