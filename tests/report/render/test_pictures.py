"""Figures from arrays: every point drawn, one picture per arm, and a reason where there is none."""

from __future__ import annotations

from dataclasses import replace

from harness.report.read.records import Arm, Experiment, Results, Run, State
from harness.report.render.pictures import pictures

ARRAYS = {"h": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], "z": [[1.0, 1.0], [0.0, 2.0], [3.0, 1.0]], "labels": [0, 1, 0],
          "squared_eigenvalues": [4.0, 1.0, 0.5]}  # fmt: skip
SCATTER = {"scatter": {"of": "tsne", "panels": ["h", "z"], "color": "labels", "where": {"head.name": "nonlinear"}}}
SPECTRUM = {"spectrum": {"of": "tsne", "curves": ["squared_eigenvalues"]}}


def results(*blocks: dict[str, dict[str, object]], **about: object) -> Results:
    experiment = Experiment(
        name="heads", scale="micro", evaluations={"tsne": "tsne-1"}, report=list(blocks),
        arms=[Arm(settings={"head.name": "nonlinear"}, runs={0: "a", 1: "b"}),
              Arm(settings={"head.name": "linear"}, runs={0: "c"})],
    )  # fmt: skip
    done = Run("a", State.DONE, arrays={"tsne-1": ARRAYS})
    runs = {"a": done, "b": replace(done, id="b"), "c": Run("c", State.DONE, **about)}  # type: ignore[arg-type]
    return Results((experiment,), runs)


def test_every_point_of_every_panel_in_the_colour_of_its_class() -> None:
    found = results(SCATTER)
    (one,) = pictures(found, found.experiments[0])
    assert one.title == "tsne: h and z; nonlinear, seed 0"
    assert one.svg.startswith("<svg") and one.svg.count("<use") == 2 * 3
    assert one.svg.count("#1f77b4") == 2 * one.svg.count("#ff7f0e") > 0
    assert one == pictures(found, found.experiments[0])[0], "the same bytes every time"


def test_a_spectrum_for_each_arm_and_the_reason_where_there_is_none() -> None:
    found = results(SPECTRUM, unavailable={"tsne-1": "the spectrum is that of a linear head"})
    first, second = pictures(found, found.experiments[0])
    assert "share of the largest" in first.svg and not first.absent
    assert not second.svg and second.absent == "the spectrum is that of a linear head"
    found = results(SPECTRUM)
    assert pictures(found, found.experiments[0])[1].absent == "not run"


def test_what_could_not_be_had_is_not_run_and_not_a_run_to_do() -> None:
    run = Run("a", State.DONE, evaluations={"linear-1": {"top1": 3.0}}, unavailable={"transfer-1": "not here"})
    assert run.value("transfer-1", "top1") is State.NOT_RUN
    assert run.value("linear-1", "top1") == 3.0 and run.value("other-1", "top1") is State.TRAINED


def test_an_evaluation_that_diverged_is_shown_as_that_in_its_cell_alone() -> None:
    run = Run("a", State.DONE, evaluations={"linear-1": {"top1": 3.0}, "transfer-1": {}}, diverged={"transfer-1"})
    assert run.value("transfer-1", "top1") is State.DIVERGED and run.value("linear-1", "top1") == 3.0
