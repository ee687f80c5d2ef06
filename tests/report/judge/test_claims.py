"""Every kind of claim on evidence that is clear, reversed, noisy, thin, incomplete or diverged."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

from harness.config.claim import CLAIM_KINDS
from harness.config.errors import SpecError
from harness.report.judge.claim_data import Evidence, NoEvidence
from harness.report.judge.claims import claim_kind, kind_of
from harness.report.judge.verdicts import Verdict, holds, judge
from harness.report.read.records import Cell, Claim, State

X = "schedule.batch_size"
PAPER = {1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0}
FLAT = {1: 30.0, 2: 30.2, 3: 30.1, 4: 29.9}
WIGGLE = (-0.1, 0.0, 0.1)

# kind: (expect, means under which it holds, means under which it does not)
CASES: dict[str, tuple[dict[str, Any], dict[int, float], dict[int, float]]] = {
    "best": ({"best": {X: [4]}, "margin": 2.0}, PAPER, {**PAPER, 1: 60.0}),
    "lowest": ({"lowest": {X: [1]}, "margin": 2.0}, PAPER, {**PAPER, 4: -20.0}),
    "greater": ({"greater": [{X: 4}, {X: 1}], "margin": 2.0}, PAPER, {**PAPER, 1: 60.0}),
    "order": ({"order": [{X: 4}, {X: 3}, {X: 2}, {X: 1}]}, PAPER, {**PAPER, 3: 60.0}),
    "monotone": ({"monotone": X, "direction": "increasing"}, PAPER, {**PAPER, 4: 5.0}),
    "saturates": ({"saturates": X, "after": 2, "within": 1.0}, {**FLAT, 1: 10.0}, PAPER),
    "close": ({"close": {X: 4}, "within": 1.0}, {**PAPER, 4: 40.3}, {**PAPER, 4: 45.0}),
    "equivalent": ({"equivalent": [{X: 1}, {X: 2}], "within": 1.0}, FLAT, PAPER),
    "agrees": ({"agrees": "paper", "at_least": 0.7}, {**PAPER, 1: 12.0}, {1: 40.0, 2: 30.0, 3: 20.0, 4: 10.0}),
}
each_kind = pytest.mark.parametrize("kind", CASES)


def cells(means: dict[int, float], wiggle: tuple[float, ...] = WIGGLE) -> list[Cell]:
    """One cell per setting; seeds differ by ``wiggle``, otherwise in each cell, so that paired differences do too."""
    made = []
    for index, (value, mean) in enumerate(means.items()):
        scaled = [(1, -1, 2, -2)[index] * one for one in wiggle]
        made.append(Cell({X: value}, {seed: mean + one for seed, one in enumerate(scaled)}, {}, (index,)))
    return made


def verdict(kind: str, ours: list[Cell]) -> Verdict:
    claim = Claim(id="c", says="s", expect=CASES[kind][0])
    paper = [Cell({X: value}, {0: mean}) for value, mean in PAPER.items()]
    return judge(kind_of(claim).alternatives(Evidence(ours, {"paper": paper})), (3,)).verdict


def spoilt(kind: str, spoil: Callable[[Cell], Cell]) -> list[Verdict]:
    """The verdicts with each cell that the claim looks at spoilt in turn."""
    clear = cells(CASES[kind][1])
    found = []
    for index in range(len(clear)):
        ours = [spoil(cell) if at == index else cell for at, cell in enumerate(clear)]
        if _looks_at(kind, index + 1):
            found.append(verdict(kind, ours))
    return found


def _looks_at(kind: str, value: int) -> bool:
    looked = {"greater": (1, 4), "saturates": (2, 3, 4), "close": (4,), "equivalent": (1, 2)}
    return value in looked.get(kind, (1, 2, 3, 4))


def test_every_kind_has_a_case() -> None:
    assert set(CASES) == set(claim_kind.names()) == set(CLAIM_KINDS)


@each_kind
def test_clear_evidence_reproduces(kind: str) -> None:
    assert verdict(kind, cells(CASES[kind][1])) is Verdict.REPRODUCED


@each_kind
def test_reversed_evidence_does_not(kind: str) -> None:
    assert verdict(kind, cells(CASES[kind][2])) is Verdict.NOT_REPRODUCED


@each_kind
def test_noise_is_inconclusive(kind: str) -> None:
    assert verdict(kind, cells(CASES[kind][1], (-40.0, 0.0, 47.0))) is Verdict.INCONCLUSIVE


@each_kind
@pytest.mark.parametrize("which", [1, 2], ids=["clear", "reversed"])
def test_one_seed_decides_nothing(kind: str, which: int) -> None:
    means = CASES[kind][which]
    assert isinstance(means, dict)
    assert verdict(kind, cells(means, (0.0,))) is Verdict.INCONCLUSIVE


@each_kind
def test_nothing_run_is_not_run(kind: str) -> None:
    assert verdict(kind, cells(CASES[kind][1], ())) is Verdict.NOT_RUN


@each_kind
def test_a_missing_cell_is_never_reproduced(kind: str) -> None:
    verdicts = spoilt(kind, lambda cell: dataclasses.replace(cell, values={}))
    assert verdicts and Verdict.REPRODUCED not in verdicts


@each_kind
def test_a_diverged_run_is_never_reproduced(kind: str) -> None:
    def diverge(cell: Cell) -> Cell:
        return dataclasses.replace(cell, values={0: cell.values[0], 1: cell.values[1]}, states={2: State.DIVERGED})

    verdicts = spoilt(kind, diverge)
    assert verdicts and Verdict.REPRODUCED not in verdicts


@pytest.mark.parametrize(("kind", "drop"), [("best", 1), ("order", 0), ("monotone", 0)])
def test_missing_evidence_can_still_refute(kind: str, drop: int) -> None:
    """A reversed comparison refutes a conjunction whatever else is missing."""
    ours = cells(CASES[kind][2])
    ours[drop] = dataclasses.replace(ours[drop], values={})
    assert verdict(kind, ours) is Verdict.NOT_REPRODUCED


@each_kind
def test_bare_numbers_of_a_paper_are_read_without_intervals(kind: str) -> None:
    component = kind_of(Claim(id="c", says="s", expect=CASES[kind][0]))
    for which, expected in ((1, True), (2, False)):
        means = CASES[kind][which]
        assert isinstance(means, dict)
        paper = [Cell({X: value}, {0: mean}) for value, mean in PAPER.items()]
        alone = [Cell({X: value}, {0: mean}) for value, mean in means.items()]
        assert holds(component.alternatives(Evidence(alone, {"paper": paper})))[0] is expected


def test_best_of_several_needs_only_one_of_them() -> None:
    claim = kind_of(Claim(id="c", says="s", expect={"best": {X: [3, 4]}, "margin": 2.0}))
    assert judge(claim.alternatives(Evidence(cells({1: 10, 2: 20, 3: 5, 4: 40})))).verdict is Verdict.REPRODUCED
    assert judge(claim.alternatives(Evidence(cells({1: 10, 2: 50, 3: 5, 4: 40})))).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize("kind", ["best", "lowest"])
@pytest.mark.parametrize("among", ["values", "arms"])
def test_best_and_lowest_are_what_looking_at_every_pair_of_means_says(kind: str, among: str) -> None:
    """Sixty grids of two knobs; the oracle averages (or does not) and compares by hand. No seeds: `holds` alone."""
    luck, seen = random.Random(0), []
    for _ in range(60):
        grid = {(x, k): luck.gauss(0, 1) for x in (1, 2, 3) for k in ("a", "b")}
        mine, margin = [x for x in (1, 2) if luck.random() < 0.7] or [1], luck.choice([0.0, 0.3])
        means = {x: [(grid[x, "a"] + grid[x, "b"]) / 2] for x in (1, 2, 3)}
        each = {x: [grid[x, "a"], grid[x, "b"]] for x in (1, 2, 3)}
        values = means if among == "values" else each
        sign = -1 if kind == "lowest" else 1
        rivals = [one for x in (1, 2, 3) if x not in mine for one in values[x]]
        expected = any(all(sign * (one - other) > margin for other in rivals) for x in mine for one in values[x])
        ours = [Cell({X: x, "k": k}, {0: value}, {}, (i,)) for i, ((x, k), value) in enumerate(grid.items())]
        claim = Claim(id="c", says="s", expect={kind: {X: mine}, "margin": margin, "among": among})
        seen.append(expected)
        assert holds(kind_of(claim).alternatives(Evidence(ours)))[0] is expected
    assert {*seen} == {True, False}


def test_the_largest_drop_of_a_leave_one_out_table_is_found_among_arms_that_share_values() -> None:
    """Averaged over the values of the path, the one terrible arm would hide among those that share the recipe's: 40
    against the mean of 50, 30 and 49.
    """
    arms = [({"views": "all", "head": "mlp"}, 50.0), ({"views": "no color", "head": "mlp"}, 40.0)]
    arms += [({"views": "all", "head": head}, mean) for head, mean in (("none", 30.0), ("linear", 49.0))]
    ours = [
        Cell(settings, {seed: mean + (index + 1) * one for seed, one in enumerate(WIGGLE)}, {}, (index,))
        for index, (settings, mean) in enumerate(arms)
    ]
    values, arms = (
        kind_of(Claim(id="c", says="s", expect={"lowest": {"views": ["no color"]}, "among": among}))
        for among in ("values", "arms")
    )
    with pytest.raises(NoEvidence, match=r"all with 3, no color with 1\): say which"):
        values.alternatives(Evidence(ours))
    judged = judge(arms.alternatives(Evidence(ours)))
    assert judged.verdict is Verdict.NOT_REPRODUCED
    assert judged.deciding is not None and judged.deciding.name == "head mlp → none over no color"
    assert judged.comparisons == 3


def test_right_direction_but_less_than_the_margin_is_not_reproduced() -> None:
    claim = kind_of(Claim(id="c", says="s", expect={"greater": [{X: 2}, {X: 1}], "margin": 20.0}))
    assert judge(claim.alternatives(Evidence(cells(PAPER)))).verdict is Verdict.NOT_REPRODUCED


def test_saturates_does_not_mind_a_loss() -> None:
    assert verdict("saturates", cells({1: 10.0, 2: 30.0, 3: 20.0, 4: 20.0})) is Verdict.REPRODUCED


def test_several_arms_on_a_side_are_averaged_within_the_seed() -> None:
    ours = [Cell({X: 1, "k": k}, {0: 10.0 + k, 1: 11.0 + k, 2: 12.0 + k}) for k in (0, 4)]
    side = Evidence(ours).side({X: 1})
    assert side.values == {0: 12.0, 1: 13.0, 2: 14.0}
    short = [ours[0], dataclasses.replace(ours[1], values={0: 14.0, 2: 16.0})]
    assert set(Evidence(short).side({X: 1}).values) == {0, 2}


def test_a_side_may_be_measured_by_another_metric() -> None:
    """h against z: the same arm, two metrics."""
    z = {"linear@z/top1": cells({1: 5.0, 2: 8.0})}
    claim = kind_of(Claim(id="c", says="s", expect={"greater": [{X: 1}, {X: 1, "on": "linear@z/top1"}], "margin": 3.0}))
    (comparison,) = claim.alternatives(Evidence(cells(PAPER), measured=z.__getitem__))[0]
    assert comparison.sample == pytest.approx((5.0, 5.0, 5.0)) and "(linear@z)" in comparison.name


def test_gaps_can_be_compared() -> None:
    """``minus`` turns a side into a difference within the seed: large batches help short training more than long."""
    luck = 0.01, -0.01, 0.0
    ours = [
        Cell({X: batch, "epochs": epochs}, {seed: value + 10 * seed + luck[seed] * batch * epochs for seed in range(3)})
        for batch, epochs, value in [(1, 15, 40.0), (2, 15, 48.0), (1, 60, 50.0), (2, 60, 53.0)]
    ]
    sides = [{X: 2, "epochs": epochs, "minus": {X: 1}} for epochs in (15, 60)]
    claim = kind_of(Claim(id="c", says="s", expect={"greater": sides}))
    judged = judge(claim.alternatives(Evidence(ours)))
    assert judged.verdict is Verdict.REPRODUCED
    assert judged.deciding is not None and judged.deciding.sample == pytest.approx((4.55, 5.45, 5.0))
    ours[0] = dataclasses.replace(ours[0], values={}, states={0: State.FAILED})
    assert judge(claim.alternatives(Evidence(ours))).verdict is Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("expect", "complaint"),
    [
        ({}, "exactly one of"),
        ({"best": {X: [1]}, "greater": [{X: 1}, {X: 2}]}, "exactly one of"),
        ({"greater": [{X: 1}, {X: 2}], "margn": 1.0}, "margin"),
        ({"close": {X: 1}, "within": -1.0}, "within"),
        ({"lowest": {X: [1]}, "among": "seeds"}, "among"),
        ({"agrees": "paper", "at_least": 2.0}, "at_least"),
    ],
)
def test_a_wrong_claim_is_named(expect: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        kind_of(Claim(id="c", says="s", expect=expect))


@pytest.mark.parametrize(
    "expect",
    [
        {"best": {X: [9]}},
        {"lowest": {X: [1]}, "among": "arms", "where": {X: 1}},
        {"greater": [{X: 9}, {X: 1}]},
        {"saturates": X, "after": 4, "within": 1.0},
    ],
)
def test_a_claim_about_something_that_is_not_there(expect: dict[str, Any]) -> None:
    with pytest.raises(NoEvidence):
        kind_of(Claim(id="c", says="s", expect=expect)).alternatives(Evidence(cells(PAPER)))


OTHER = "schedule.epochs"


def grid(*arms: tuple[int, int], ours: bool = True) -> list[Cell]:
    """Arms of (value of X, value of OTHER), each 10 points better for every step of OTHER and none for X."""
    return [
        Cell({X: x, OTHER: other}, {seed: 10.0 * other + one for seed, one in enumerate(WIGGLE)}, {}, (index,) * ours)
        for index, (x, other) in enumerate(arms)
    ]


@pytest.mark.parametrize("kind", ["best", "lowest", "monotone", "saturates"])
def test_means_over_different_other_settings_are_not_compared(kind: str) -> None:
    """The higher value of X would win by the company it keeps."""
    kept = kind_of(Claim(id="c", says="s", expect=CASES[kind][0]))
    unlike = [(1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (4, 3)]
    with pytest.raises(
        NoEvidence, match=r"were not tried with .* \(1 with 1, 2 with 1, 3 with 2, 4 with 2\): say which"
    ):
        kept.alternatives(Evidence(grid(*unlike)))
    alike = [(x, other) for x in (1, 2, 3, 4) for other in (1, 2)]
    linked = [dataclasses.replace(one, settings={**one.settings, "lr": one.settings[X] / 10}) for one in grid(*alike)]
    assert kept.alternatives(Evidence(linked)), "a rate that goes with the value is part of what is compared"
    for allowed in (grid(*alike), grid(*unlike, ours=False), grid((1, 1), (2, 1), (3, 2), (4, 3))):
        assert kept.alternatives(Evidence(allowed))
