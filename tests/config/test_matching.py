"""The arms a claim touches are exactly those whose numbers the report's judge looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import components
from harness.config.claim import CLAIM_KINDS
from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.config.grid import expand, lookup
from harness.config.matching import matches, metric_shown, plain, split_side, touched
from harness.report.judge.claims import Evidence, NoEvidence, kind_of
from harness.report.read.records import Cell, Claim

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

GRID: list[dict[str, Any]] = [
    {"tau": tau, "head": head, "size": size} for tau in (0.1, 0.5) for head in ("none", "mlp") for size in (1, 2, 4)
]
PAPER: dict[str, list[dict[str, Any]]] = {
    "whole": [{"tau": tau, "head": head} for tau in (0.1, 0.5) for head in ("none", "mlp")],
    "part": [{"tau": 0.1}, {"tau": 9}],
}
CLAIMS: list[tuple[dict[str, Any], int]] = [
    ({"best": {"tau": 0.1}}, 12),
    ({"best": {"tau": [0.1]}, "where": {"head": "mlp"}, "margin": 1}, 6),
    ({"best": {"tau": [0.1, 0.5]}}, 0),  # no rival
    ({"best": {"tau": 7}}, 0),
    ({"best": {"tau": 0.1}, "among": "arms", "where": {"head": "mlp"}}, 6),
    ({"lowest": {"tau": 0.1}}, 12),
    ({"lowest": {"head": "none"}, "among": "arms", "where": {"size": 1}}, 4),
    ({"lowest": {"size": 3}}, 0),
    ({"greater": [{"tau": 0.1, "size": 1}, {"tau": 0.5, "size": 1}]}, 4),
    ({"greater": [{"tau": 0.1, "size": 1.0, "head": {"mlp": {}}}, {"tau": 7}]}, 0),
    ({"greater": [{"tau": 0.1, "size": 4, "minus": {"size": 1}}, {"tau": 0.5, "size": 4, "minus": {"size": 1}}]}, 8),
    ({"order": [{"size": 4, "head": "mlp"}, {"size": 2, "head": "mlp"}, {"size": 1, "head": "mlp"}]}, 6),
    ({"equivalent": [{"size": 4}, {"size": 2}], "within": 1.0}, 8),
    ({"monotone": "size"}, 12),
    ({"monotone": "size", "where": {"tau": 0.5, "head": "none"}, "direction": "decreasing"}, 3),
    ({"monotone": "size", "where": {"size": 4}}, 0),
    ({"saturates": "size", "after": 2, "within": 1.0}, 8),
    ({"saturates": "size", "after": 3, "within": 1.0}, 0),
    ({"saturates": "size", "after": 4, "within": 1.0}, 0),
    ({"close": {"tau": 0.1, "head": "mlp"}, "within": 1.0}, 3),
    ({"agrees": "whole", "at_least": 0.5}, 12),
    ({"agrees": "part", "at_least": 0.5}, 0),
    ({"agrees": "none", "at_least": 0.5}, 0),
]


def judged(expect: dict[str, Any], cells: list[Cell], published: dict[str, list[Cell]]) -> Any:
    """What the judge sees: the samples of all comparisons; None where it finds nothing to compare."""
    kind = kind_of(Claim(id="c", says="", expect=expect))
    try:
        return kind.alternatives(Evidence(cells, published, lambda metric: cells))
    except NoEvidence:
        return None


def looked_at(expect: dict[str, Any], arms: list[dict[str, Any]], paper: dict[str, list[dict[str, Any]]]) -> set[int]:
    """Take the numbers of one arm away after the other, and see which the judge misses."""
    published = {name: [Cell(at, {0: float(i)}) for i, at in enumerate(places)] for name, places in paper.items()}
    cells = [Cell(settings, {0: float(i * i), 1: float(i)}, {}, (i,)) for i, settings in enumerate(arms)]
    whole = judged(expect, cells, published)
    if whole is None:
        return set()
    return {
        index
        for index, settings in enumerate(arms)
        if judged(expect, [*cells[:index], Cell(settings, {}), *cells[index + 1 :]], published) != whole
    }


@pytest.mark.parametrize(("expect", "count"), CLAIMS, ids=str)
def test_touched_is_what_the_judge_looks_at(expect: dict[str, Any], count: int) -> None:
    found = touched(expect, GRID, PAPER)
    assert found == looked_at(expect, GRID, PAPER)
    assert len(found) == count


def test_every_kind_of_claim_is_here() -> None:
    assert {kind for expect, _ in CLAIMS for kind in expect if kind in CLAIM_KINDS} == set(CLAIM_KINDS)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_so_it_is_for_every_claim_of_every_experiment(path: Path) -> None:
    experiment = load_experiment(path)
    made = expand(experiment)
    for claim in experiment.claims:
        if "agrees" in claim.expect or "close" in claim.expect:
            continue  # they need the published tables, as above
        paths = {one for side in _dictionaries(claim.expect) for one in side if "." in one or one in _TOP}
        paths |= {claim.expect[kind] for kind in ("monotone", "saturates") if kind in claim.expect}
        arms = [{**arm.settings, **{one: _value(arm.tree, arm.settings, one) for one in sorted(paths)}} for arm in made]
        found = touched(claim.expect, arms, {})
        assert found == looked_at(claim.expect, arms, {}), claim.id
        assert found, f"{claim.id} touches nothing"


_TOP = ("head", "method", "encoder", "objective", "optimizer", "data")


def _value(tree: Any, settings: Any, path: str) -> Any:
    try:
        return lookup(tree, settings, path)
    except SpecError:
        return None


def _dictionaries(value: Any) -> list[dict[str, Any]]:
    """Every mapping inside a claim's ``expect``."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, dict) else []) + [found for one in inner for found in _dictionaries(one)]


def test_one_meaning_has_one_form() -> None:
    assert matches({"a": 10.0, "b": {"crop": None}}, {"a": 10, "b": "crop"})
    assert not matches({"a": 1}, {"a": True}) and not matches({}, {"a": None})
    assert plain([{"blur": {"sigma": [1, 2]}}]) == ((("blur", (("sigma", (1, 2)),)),),)
    assert plain({"first": {}, "last": {}}) != "first", "only a mapping of one key is a component"


@pytest.mark.parametrize(
    ("report", "metric"),
    [
        ([{"heatmap": {"cell": "knn/top1"}}, {"lines": {"y": "training/loss"}}], "knn/top1"),
        ([{"heatmap": {}}, {"lines": {"y": "training/loss"}}], "training/loss"),
        ([{"scatter": {"y": "knn/top1"}}, {"table": {"columns": {"a": "knn/top1", "b": "knn/top5"}}}], "knn/top5"),
        ([{"table": {"columns": {"a": "linear/top1", "b": "knn/top5"}}}], "linear/top1"),
        ([{"heatmop": {"cell": "knn/top1"}}], "linear/top1"),
    ],
)
def test_a_claim_is_about_what_the_report_shows_first(report: list[dict[str, Any]], metric: str) -> None:
    assert metric_shown(report) == metric


def test_a_side_must_be_one() -> None:
    assert split_side({"a": 1, "on": "linear/top1", "minus": {"a": 2}}) == ({"a": 1}, "linear/top1", {"a": 2})
    with pytest.raises(SpecError, match="minus: takes settings"):
        split_side({"a": 1, "minus": 3})


assert components  # registers what the experiments name
