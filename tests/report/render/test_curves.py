"""Learning curves show what went wrong, lose no spike and stay light; arms that change nothing are found."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from harness.report.read.collect import collect
from harness.report.read.no_effect import inert_arms
from harness.report.read.records import Experiment, Run, State
from harness.report.render.curves import BUCKETS, Curves, curves
from harness.report.render.page import render
from tests.report.fake_results import TAU, FakeResults, add, fate_of


def experiment(*ids: list[str]) -> Experiment:
    arms = [{"settings": {"x": index}, "runs": dict(enumerate(runs))} for index, runs in enumerate(ids)]
    return Experiment.model_validate({"name": "one", "scale": "micro", "arms": arms})


def run(name: str, losses: list[float], state: State = State.DONE, epochs: int = 0, **spec: Any) -> Run:
    history = tuple({"epoch": float(epoch), "lr": 1.0, "loss": loss} for epoch, loss in enumerate(losses, start=1))
    held = {"schedule": {"epochs": epochs or len(losses)}, **spec}
    return Run(name, state, held, history=history)


def drawn(*runs: Run) -> Curves:
    (found,) = curves(experiment([one.id for one in runs]), {one.id: one for one in runs}, ["arm"])
    return found


def test_a_curve_says_how_it_ended() -> None:
    found = drawn(
        run("a", [3.0, 2.0, 1.0]),
        run("b", [3.0, 9.0], State.DIVERGED, epochs=3),
        run("c", [3.0, 2.5], State.RUNNING, epochs=3),
    )
    assert (found.metric, found.runs, found.diverged, found.unfinished, found.wrong) == ("loss", 3, 1, 1, 2)
    (panel,) = found.panels
    assert panel.notes == ("seed 1 diverged after epoch 2 of 3", "seed 2 at epoch 2 of 3")
    assert [re.findall(rf'<{tag} class="(\w+)"', panel.svg) for tag in ("path", "circle")] == [
        ["diverged"],
        ["unfinished"],
    ]
    assert all(note in panel.svg for note in panel.notes), "said to screen readers too"


def test_an_unfinished_line_stops_short_of_the_edge() -> None:
    ends = []
    for losses, planned in (([3.0, 2.0, 1.0], 3), ([3.0, 2.0], 3)):
        points = re.findall(r'points="([^"]+)"', drawn(run("a", losses, epochs=planned)).panels[0].svg)
        ends.append(int(points[0].split()[-1].split(",")[0]))
    assert ends[0] > ends[1] + 80


def test_no_spike_is_lost_and_a_long_curve_stays_light() -> None:
    losses = [2.0] * 5000
    losses[3210] = 50.0
    svg = drawn(run("a", losses)).panels[0].svg
    points = re.findall(r'points="([^"]+)"', svg)[0].split()
    assert len(points) <= 2 * BUCKETS + 2
    heights = [int(point.split(",")[1]) for point in points]
    assert min(heights) < 10 < max(heights)


def test_panels_of_one_objective_share_an_axis() -> None:
    lasts = [(4.0, "nt_xent"), (0.0, "nt_xent"), (5.0, "margin_triplet")]
    runs = [run(str(i), [6.0, last], objective={name: {}}) for i, (last, name) in enumerate(lasts)]
    (found,) = curves(experiment(["0"], ["1"], ["2"]), {one.id: one for one in runs}, ["a", "b", "c"])
    ends = [int(re.findall(r",(\d+)\"/>", panel.svg)[0]) for panel in found.panels]
    assert ends[0] < ends[1] == ends[2]  # the third has its own axis and falls to its bottom


def test_very_many_arms_share_one_picture() -> None:
    runs = {str(i): run(str(i), [3.0, 2.0]) for i in range(400)}
    (found,) = curves(experiment(*([name] for name in runs)), runs, ["x"] * 400)
    (panel,) = found.panels
    assert panel.svg.count("<polyline") <= 300 and panel.notes == ("200 of 400 lines are drawn",)


@pytest.mark.parametrize(
    ("second", "flagged"),
    [
        (run("b", [3.0, 2.0, 1.0]), True),
        (run("b", [3.0, 2.0, 1.0000001]), False),
        (run("b", [3.0, 2.0], State.RUNNING, epochs=3), False),  # warm-up alone: they may still part
        (run("b", []), False),
    ],
)
def test_two_settings_with_the_same_losses_are_inert(second: Run, flagged: bool) -> None:
    runs = {"a": run("a", [3.0, 2.0, 1.0]), "b": second}
    found = inert_arms(experiment(["a"], ["b"]), runs)
    assert [(one.first, one.second, one.epochs) for one in found] == ([(0, 1, 3)] if flagged else [])


def test_one_seed_that_differs_clears_a_pair_and_a_shared_run_is_no_pair() -> None:
    runs = {name: run(name, [3.0, last]) for name, last in (("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 2.5))}
    assert not inert_arms(experiment(["a", "c"], ["b", "d"]), runs)
    assert not inert_arms(experiment(["a"], ["a"]), runs)


def weighed(name: str, last: float, weights: str | None) -> Run:
    held = {} if weights is None else {"weights": weights}
    return dataclasses.replace(run(name, [3.0, last]), provenance=held)


@pytest.mark.parametrize(
    ("ends", "flagged"),
    [
        (("x", "y", "x", "y"), True),  # a margin, say, that is added to the loss and has no gradient
        (("x", "y", "x", "z"), False),
        (("x", "y", None, None), False),
        (("x", "y", "x", None), True),  # as far as it was recorded
    ],
)
def test_other_losses_and_the_same_weights_are_inert_too(ends: tuple[str | None, ...], flagged: bool) -> None:
    runs = {name: weighed(name, float(place), end) for place, (name, end) in enumerate(zip("abcd", ends, strict=True))}
    found = inert_arms(experiment(["a", "b"], ["c", "d"]), runs)
    assert [(one.first, one.second, one.by_weights) for one in found] == ([(0, 1, True)] if flagged else [])
    assert not inert_arms(experiment(["a", "b"], ["a", "b"]), runs), "shared runs are no pair"


def test_the_page_shows_curves_and_inert_arms_and_names_a_broken_line(fake: FakeResults) -> None:
    arms = [
        add(fake, {TAU: tau}, 1, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 50.0}}) for tau in (0.1, 0.5)
    ]
    for arm in arms:
        lines = [json.dumps({"epoch": epoch, "loss": 3.0 / epoch}) for epoch in (1, 2)]
        (fake.folder(arm["runs"]["0"]) / "metrics.jsonl").write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    fake.experiment("one", arms=arms)
    results = collect(fake.root)
    assert len(results.problems) == 2 and "line 3 is not an epoch's numbers" in str(results.problems[0])
    page = render(results)
    assert "<b>Inert.</b> temperature 0.1 → 0.5" in page and "Learning curves: loss of 2 runs" in page
