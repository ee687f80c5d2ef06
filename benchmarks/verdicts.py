"""``python -m benchmarks.verdicts``: how often verdicts are wrong, and how many seeds they take.

The report's own judge (:func:`harness.report.judge.judging.judge_all`) on simulated tables of 24 settings and 12 seeds,
with claims of every kind. The truth lies where each is hardest: on the margin, on the bound of equivalence, tied for
best. There every decision is false, so their share is the error rate; 5 % are allowed, for each claim and for all
claims of a table together. Then power and seeds spent, beside fixed numbers of paired seeds.

An hour at full size on one idle core; writes ``verdicts.json`` and ``verdicts.md`` into ``benchmarks/results``.
Interrupted, it goes on; asked for more tables, it adds them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from harness.config.looks import LOOKS
from harness.report.judge.comparison import POWER
from harness.report.judge.judging import Judged, judge_all
from harness.report.judge.looks import ALPHA, level
from harness.report.judge.spread import Spread
from harness.report.judge.verdicts import DECIDED, Verdict
from harness.report.read.collect import collect
from harness.report.read.records import Cell, Experiment, Results, State
from harness.store.results import write_json

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 12
ARMS = 24
METRIC, OTHER, CHOICE = "linear/top1", "linear@z/top1", "linear@validation/top1"
EARLIER = (2, 3, 5, 8, 12)
"""Looks that begin at two seeds, for the comparison with fixed designs."""

REACH = float(stats.norm.isf(level(LOOKS, LOOKS[-1]) / 2) + stats.norm.isf(1 - POWER)) * math.sqrt(2 / LOOKS[-1])
"""In deviations of a run: what the last look finds with power 0.8, of a difference of two settings."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Null:
    """A claim whose truth lies on its line, so that ``false`` verdicts are errors.

    ``means`` are those of settings that it is about; ``elsewhere``: judged as below the paper's scale.
    """

    name: str
    expect: Mapping[str, Any]
    means: Mapping[int, float]
    false: tuple[Verdict, ...] = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.DIRECTION)
    best_of: Mapping[str, Any] | None = None
    elsewhere: bool = False
    size: float = math.inf

    def wrong(self, one: Judged) -> bool:
        """Whether a verdict is an error: of a difference that is called too small, if what is ruled out is smaller."""
        seen = one.ours.seen
        if one.ours.verdict is Verdict.TOO_SMALL and seen and seen.reach is not None and seen.reach > self.size:
            return False
        return one.ours.verdict in self.false


def of(arm: int, **more: Any) -> dict[str, Any]:
    return {"arm": arm, **more}


FAR = 8.0
NULLS = (
    Null("greater, tied", {"greater": [of(0), of(1)]}, {0: 0.0, 1: 0.0}),
    Null("greater, on its margin", {"greater": [of(2), of(1)], "margin": 2.0}, {2: 2.0}),
    Null("a gap over a gap, equal", {"greater": [of(0, minus={"arm": 1}), of(3, minus={"arm": 4})]}, {3: 0.0, 4: 0.0}),
    Null("two metrics of a run, equal", {"greater": [of(3), of(3, on=OTHER)]}, {}),
    Null("means of four settings, equal", {"greater": [{"half": 0}, {"half": 1}]}, {}),
    Null("equivalent, on its bound", {"equivalent": [of(5), of(1)], "within": 2.0}, {5: 2.0}),
    Null("close, on its bound", {"close": of(0), "within": 1.0}, {}),
    Null("order, one pair tied", {"order": [of(6), of(7), of(8)]}, {6: FAR, 7: 0.0, 8: 0.0}),
    Null("order, all tied", {"order": [of(0), of(1), of(3)]}, {}),
    Null("best, one rival tied", {"best": {"x": [0]}, "where": {"block": "one"}}, {}),
    Null("best, all tied", {"best": {"x": [0]}, "where": {"block": "all"}}, {}),
    Null("best, one of two named, all tied", {"best": {"x": [0, 1]}, "where": {"block": "all"}}, {}),
    Null("lowest among arms, all tied", {"lowest": {"x": [0]}, "among": "arms", "where": {"block": "all"}}, {}),
    Null("monotone, all tied", {"monotone": "x", "where": {"block": "all"}}, {}),
    Null("saturates, on its bound", {"saturates": "x", "after": 0, "within": 1.0, "where": {"block": "up"}}, {}),
    Null("best of a grid, equal", {"greater": [{"grid": 0}, {"grid": 1}]}, {},
         best_of={"over": ["knob"], "by": CHOICE}),
    Null("agrees, at its line", {"agrees": "paper/table", "at_least": 0.6}, {}, (Verdict.REPRODUCED,)),
    Null("too small, at the reach of the looks", {"greater": [of(9), of(1)]}, {},
         (Verdict.TOO_SMALL, Verdict.NOT_REPRODUCED), size=REACH),
    Null("a size, on its margin, below the paper's scale", {"greater": [of(2), of(1)], "margin": 2.0}, {2: 2.0},
         elsewhere=True),
)  # fmt: skip


def table(nulls: Sequence[Null] = NULLS, looks: Sequence[int] = LOOKS) -> tuple[list[Experiment], Array]:
    """Experiments with these claims, at the paper's scale and below, and the true mean of each of the 24 settings."""
    settings: list[dict[str, Any]] = [{"arm": arm} for arm in range(ARMS)]
    means = np.zeros(ARMS)
    blocks = {"one": (10, [0.0, 0.0, -FAR]), "all": (0, [0.0] * 4), "up": (13, [0.0, 1.0])}
    for arm, (block, x) in {0: ("all", 0), 1: ("all", 1), 3: ("all", 2), 4: ("all", 3)}.items():
        settings[arm] |= {"block": block, "x": x}
    for block, (first, truth) in blocks.items():
        for x, mean in enumerate(truth if block != "all" else ()):
            settings[first + x] |= {"block": block, "x": x}
            means[first + x] = mean
    for half, arms in enumerate(((0, 1), (3, 4))):
        for arm in arms:
            settings[arm] |= {"half": half}
    for grid in range(2):
        for knob in range(2):
            settings[15 + 2 * grid + knob] |= {"grid": grid, "knob": knob}
    ranked = range(19, 24)  # of the ten pairs two lie the other way round: tau 0.6
    means[[*ranked]] = (1.5 * np.array([1, 0, 3, 2, 4])).tolist()
    cells = [{"at": {"arm": arm}, "metric": METRIC, "value": float(place)} for place, arm in enumerate(ranked)]
    for null in nulls:
        for arm, mean in null.means.items():
            means[arm] = mean
    means[9] = REACH
    means[0:2] = 0.0
    about = {
        "name": "simulated", "seeds": SEEDS, "looks": [*looks],
        "arms": [{"settings": one, "runs": {}} for one in settings],
        "published": {"paper/table": {"cells": cells},
                      "paper/close": {"cells": [{"at": {"arm": 0}, "metric": METRIC, "value": -1.0}]}},
    }  # fmt: skip

    def claims(elsewhere: bool) -> list[dict[str, Any]]:
        return [{"id": f"c{place}", "says": null.name, "on": METRIC, "expect": null.expect, "best_of": null.best_of}
                for place, null in enumerate(nulls) if null.elsewhere is elsewhere]  # fmt: skip

    scales = [("imagenet", True), ("micro", False)]
    told = [about | {"scale": scale, "paper_scale": paper, "claims": claims(not paper)} for scale, paper in scales]
    return [Experiment.model_validate(one) for one in told if one["claims"]], means


@dataclass(frozen=True)
class Simulated(Results):
    """Results whose numbers are given: metric -> settings x seeds. NaN: no number yet, +inf: diverged."""

    numbers: Mapping[str, Array] = field(default_factory=dict)

    def cells(self, experiment: Experiment, metric: str) -> list[Cell]:
        found = []
        for index, (arm, row) in enumerate(zip(experiment.arms, self.numbers[metric].tolist(), strict=True)):
            values = {seed: one for seed, one in enumerate(row) if math.isfinite(one)}
            states = {
                seed: State.DIVERGED if one == math.inf else State.NOT_RUN
                for seed, one in enumerate(row)
                if not math.isfinite(one)
            }
            found.append(Cell(arm.settings, values, states, (index,), terms={(metric, index): 1.0}))
        return found

    def splits(self, experiment: Experiment, metric: str) -> set[str]:
        return {"validation"} if "validation" in metric else {"test"}


Noise = Callable[[np.random.Generator], Array]
"""Deviations from the true means, settings x seeds; in units of a run's deviation, where that is the same for all."""


def normal(rng: np.random.Generator) -> Array:
    return rng.standard_normal((ARMS, SEEDS))


def heavy(rng: np.random.Generator) -> Array:
    """Student's t with five degrees of freedom."""
    return rng.standard_t(5, (ARMS, SEEDS)) / math.sqrt(5 / 3)


def unequal(rng: np.random.Generator) -> Array:
    """Variances from a prior with four degrees of freedom: what the committed runs show."""
    return normal(rng) * np.sqrt(4 / rng.chisquare(4, (ARMS, 1)))


def shaken(rng: np.random.Generator) -> Array:
    """Half of the variance is what a seed does to all settings."""
    return (normal(rng) + rng.standard_normal(SEEDS)) / math.sqrt(2)


def incomplete(rng: np.random.Generator) -> Array:
    """A tenth of the runs have no number yet."""
    found = normal(rng)
    found[rng.random((ARMS, SEEDS)) < 0.1] = math.nan
    return found


def diverging(rng: np.random.Generator) -> Array:
    """One run in fifty diverges, and of the others no more is known than that they did not."""
    found = normal(rng)
    found[rng.random((ARMS, SEEDS)) < 0.02] = math.inf
    return found


def skewed(rng: np.random.Generator) -> Array:
    return rng.exponential(size=(ARMS, SEEDS)) - 1


def skewed_apart(rng: np.random.Generator) -> Array:
    """Of every second setting the long tail points the other way: differences are skewed as well."""
    return skewed(rng) * np.where(np.arange(ARMS) % 2, 1, -1)[:, None]


def one_wild(rng: np.random.Generator) -> Array:
    """The first setting, in many of the claims, varies three times as much as the others."""
    return normal(rng) * np.where(np.arange(ARMS) == 0, 3, 1)[:, None]


def half_wild(rng: np.random.Generator) -> Array:
    """A random half of the settings varies twice as much as the other half."""
    return normal(rng) * rng.permutation(np.where(np.arange(ARMS) < ARMS // 2, 2, 1))[:, None]


def wild_half(rng: np.random.Generator) -> Array:
    """The half that nearly all claims are about varies twice as much as the other half."""
    return normal(rng) * np.where(np.arange(ARMS) < ARMS // 2, 2, 1)[:, None]


OurTables = Sequence[tuple[Array, Array]]
"""Variance of each setting and its degrees of freedom, for each of our tables."""


@lru_cache(maxsize=1)
def our_residuals() -> tuple[Array, OurTables]:
    """Of the committed tables of eight settings or more: residuals over moderated deviations; moderated variances."""
    results = collect(ROOT / "results")
    shapes: list[float] = []
    tables = []
    for experiment in results.experiments:
        held = {cell.arms[0]: [*cell.values.values()] for cell in results.cells(experiment, METRIC)}
        held = {arm: values for arm, values in held.items() if len(values) >= 3}
        spread = Spread(((METRIC, 1.0),), 3, {arm: values[:3] for arm, values in held.items()})
        if spread.arms < 8:
            continue
        for arm, (variance, _) in spread.moderated.items():
            values = np.array(held[arm][:3])
            shapes += ((values - values.mean()) / math.sqrt(variance)).tolist()
        variances, freedom = np.array([*spread.moderated.values()]).T
        tables.append((variances / variances.mean(), freedom))
    return np.array(shapes) / np.std(shapes), tables


def our_own(shapes: Array, tables: OurTables, rng: np.random.Generator) -> Array:
    """Settings that vary as those of one of our tables may, each seed with a residual that some seed of ours had."""
    variances, freedom = tables[rng.integers(len(tables))]
    drawn = rng.integers(len(variances), size=ARMS)
    deviations = np.sqrt(variances[drawn] * freedom[drawn] / rng.chisquare(freedom[drawn]))
    return np.asarray(rng.choice(shapes, (ARMS, SEEDS)) * deviations[:, None])


def noises() -> dict[str, tuple[Noise, bool]]:
    """Name -> noise, and whether 5 % must hold under it (else its rate is only reported)."""
    ours = partial(our_own, *our_residuals())
    return {
        "normal": (normal, True), "t with 5 degrees of freedom": (heavy, True), "our own residuals": (ours, True),
        "unequal variances": (unequal, True), "a random half with twice the deviation": (half_wild, True),
        "seeds that move all settings": (shaken, True),
        "a tenth of the runs missing": (incomplete, True), "a fiftieth of the runs diverged": (diverging, True),
        "exponential": (skewed, False), "exponential, tails apart": (skewed_apart, False),
        "the half that is claimed about with twice the deviation": (wild_half, False),
        "one setting with three times the deviation": (one_wild, False),
    }  # fmt: skip


def judged(experiments: Sequence[Experiment], means: Array, noise: Array, rng: np.random.Generator) -> list[Judged]:
    """One simulated table through the judge. Of another metric and on validation images the noise is half the same."""

    def beside() -> Array:
        own = rng.standard_normal(noise.shape)
        return np.where(np.isfinite(noise), (noise + own) / math.sqrt(2), noise)

    numbers = {METRIC: means[:, None] + noise}
    numbers[OTHER] = means[:, None] + beside()
    numbers[CHOICE] = means[:, None] + beside()
    return judge_all(Simulated(tuple(experiments), {}, numbers=numbers))


def rates(noise: Noise, tables: int, seed: int, nulls: Sequence[Null] = NULLS) -> dict[str, int]:
    """False decisions of so many tables: claim -> count; ``""``: tables with any that also stands jointly."""
    rng = np.random.default_rng(seed)
    experiments, means = table(nulls)
    nulls = [*sorted(nulls, key=lambda null: null.elsewhere)]  # in the order of the experiments
    wrong: Counter[str] = Counter({"": 0} | {null.name: 0 for null in nulls})
    for _ in range(tables):
        found = judged(experiments, means, noise(rng), rng)
        errors = [(null, one) for null, one in zip(nulls, found, strict=True) if null.wrong(one)]
        wrong.update(null.name for null, _ in errors)
        wrong[""] += any(one.jointly for null, one in errors if not null.elsewhere)
    return dict(wrong)


def share(wrong: int, tables: int) -> tuple[float, float]:
    """The 95 % interval of a share (Clopper and Pearson 1934)."""
    bounds = stats.binomtest(wrong, tables).proportion_ci(0.95, "exact")
    return float(bounds.low), float(bounds.high)


def shown(wrong: int, tables: int) -> str:
    """``4.9``, in percent, and a mark where that is or may be too many."""
    low, high = share(wrong, tables)
    return f"{100 * wrong / tables:.1f}{' !' if low > ALPHA else ' ?' if high > 0.056 else ''}"


def paired(deviations: float, seeds: int) -> float:
    """Power of a paired t test at 5 %, by the noncentral t distribution."""
    line = stats.t.isf(ALPHA / 2, seeds - 1)
    return float(stats.nct.sf(line, seeds - 1, deviations * math.sqrt(seeds)))


def best_fixed(deviations: float, power: float = 0.88) -> int:
    """The fewest paired seeds with that power."""
    return next(seeds for seeds in range(2, 99) if paired(deviations, seeds) >= power)


def spent_seeds(
    deviations: float, looks: Sequence[int], tables: int, seed: int, noise: Noise = normal
) -> tuple[float, float]:
    """(power, mean number of seeds until a decision or the end) of twelve pairs of settings in each table.

    ``deviations``: the true difference over the deviation of a paired difference.
    """
    pairs = [Null(str(one), {"greater": [of(2 * one), of(2 * one + 1)]}, {}) for one in range(ARMS // 2)]
    experiments, _ = table(pairs, looks)
    means = np.where(np.arange(ARMS) % 2, 0.0, deviations * math.sqrt(2))
    means += np.repeat(np.arange(ARMS // 2), 2)
    rng = np.random.default_rng(seed)
    found = [one.ours for _ in range(tables) for one in judged(experiments, means, noise(rng), rng)]
    power = sum(one.verdict is Verdict.REPRODUCED for one in found) / len(found)
    return power, sum(one.n if one.verdict in DECIDED else looks[-1] for one in found) / len(found)


CHUNK = 100
"""Tables of one task; whole tasks are kept, so that an interrupted run goes on."""
DESIGNS = {
    "looks at 2, 3, 5, 8, 12": (EARLIER, normal),
    "looks at 3, 5, 8, 12": (LOOKS, normal),
    "looks at 2, 3, 5, 8, 12, unequal variances": (EARLIER, unequal),
}
DEVIATIONS = (1.0, 2.0, 3.0)


def code() -> str:
    """Return a digest of the judge and of this simulation, without comments and docstrings: counts of another go."""
    report = ROOT / "harness" / "report"
    found = hashlib.sha256()
    for file in (Path(__file__), report / "stats.py", *sorted((report / "judge").glob("*.py"))):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                said = (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in node.body)
                node.body = [one for one, words in zip(node.body, said, strict=True) if not words]
        found.update(ast.dump(tree).encode())
    return found.hexdigest()[:12]


def task(name: str, deviations: float, seed: int, tables: int) -> dict[str, float]:
    """One chunk: false decisions under a noise, or decisions and seeds of a design (``deviations`` above 0)."""
    if not deviations:
        return dict(rates(noises()[name][0], tables, seed))
    looks, noise = DESIGNS[name]
    power, seeds = spent_seeds(deviations, looks, max(1, tables // 5), seed, noise)
    return {"power": power, "seeds": seeds}


def measure(tables: int, jobs: int, file: Path) -> dict[str, Any]:
    """All rates, over ``jobs`` processes (the numbers are the same for any); what ``file`` holds already is kept.

    Written after every chunk. Every kind of noise gets its first chunk before any gets its second.
    """
    chunk = min(CHUNK, tables)
    held = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    found: dict[str, Any] = {"code": code(), "chunk": chunk, "chunks": {}}
    if all(held.get(key) == found[key] for key in ("code", "chunk")):
        found = held
    kinds = [(name, 0.0) for name in noises()] + [(name, one) for name in DESIGNS for one in DEVIATIONS]
    plan = [(name, one, seed) for seed in range(math.ceil(tables / chunk)) for name, one in kinds]
    todo = [one for one in plan if json.dumps(one) not in found["chunks"]]
    with ProcessPoolExecutor(jobs) as pool:
        asked = {pool.submit(task, *one, chunk): json.dumps(one) for one in todo}
        for done in as_completed(asked):
            found["chunks"][asked[done]] = done.result()
            write_json(file, found | {"chunks": dict(sorted(found["chunks"].items()))})
    return found


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The chunks added up: rates with their numbers of tables, power and seeds of each design."""
    wrong: dict[str, Counter[str]] = {name: Counter() for name in noises()}
    tables: Counter[str] = Counter()
    designs: dict[tuple[str, float], list[Mapping[str, float]]] = {}
    for key, told in found["chunks"].items():
        name, deviations, _ = json.loads(key)
        if deviations:
            designs.setdefault((name, deviations), []).append(told)
        else:
            wrong[name].update(told)
            tables[name] += found["chunk"]
    return {
        "tables": dict(tables),
        "rates": {name: dict(wrong[name]) for name in wrong if tables[name]},
        "designs": [
            {"design": name, "deviations": one,
             "power": float(np.mean([each["power"] for each in designs[name, one]])),
             "seeds": float(np.mean([each["seeds"] for each in designs[name, one]])),
             "fixed": best_fixed(one), "fixed_power": paired(one, best_fixed(one))}
            for name in DESIGNS for one in DEVIATIONS if (name, one) in designs
        ],
    }  # fmt: skip


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The results in Markdown."""
    counts = found["tables"]
    yield "# How often verdicts are wrong, and how many seeds they take\n"
    yield f"`python -m benchmarks.verdicts`: {min(counts.values())} tables or more of {ARMS} settings for each kind of"
    yield "noise, looks at 3, 5, 8 and 12 seeds. False decisions in percent, with the truth where the claim is hardest."
    yield "5 % are allowed; ! marks what is surely above, ? where the upper end of the 95 % interval is above 5.6 %.\n"
    kinds = list(found["rates"])
    yield "| claim | " + " | ".join(kinds) + " |"
    yield "|---|" + "--:|" * len(kinds)
    for name in [*(null.name for null in NULLS), ""]:
        cells = [shown(found["rates"][kind].get(name, 0), counts[kind]) for kind in kinds]
        yield f"| {name or '**all of a table together (Holm)**'} | " + " | ".join(cells) + " |"
    only = [kind for kind, (_, must) in noises().items() if not must]
    yield f"\nReported, not promised: {', '.join(only)}.\n"
    yield "## Seeds\n"
    yield "Power and mean number of seeds, where the true difference is so many deviations of a paired difference;"
    yield "beside them the fewest paired seeds with power 0.88 at 5 %.\n"
    yield "| design | deviations | power | seeds | fixed, paired | its power | times fewer |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for one in found["designs"]:
        yield (
            f"| {one['design']} | {one['deviations']:.0f} | {one['power']:.3f} | {one['seeds']:.2f} | {one['fixed']} | "
            f"{one['fixed_power']:.3f} | {one['fixed'] / one['seeds']:.2f} |"
        )
    for which in dict.fromkeys(one["design"] for one in found["designs"]):
        mean = float(np.mean([one["seeds"] for one in found["designs"] if one["design"] == which]))
        fewer = f"{SEEDS / mean:.2f} times fewer than a fixed {SEEDS}"
        yield f"\n{which}: {mean:.2f} seeds on average over the three, {fewer}."


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verdicts", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--tables", type=int, default=10_000, help="simulated tables for each kind of noise")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the results")
    asked = parser.parse_args(argv)
    if min(asked.tables, asked.jobs) < 1:
        parser.error("--tables and --jobs are numbers from 1")
    asked.out.mkdir(parents=True, exist_ok=True)
    found = measure(asked.tables, asked.jobs, asked.out / "verdicts.json")
    text = "\n".join(lines(summary(found))) + "\n"
    (asked.out / "verdicts.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
