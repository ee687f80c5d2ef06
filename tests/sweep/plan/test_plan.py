"""Plans: counts, states, sharing, staleness, and every complaint with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.digests.compare import Record, trained_with
from harness.digests.platform import platform_of
from harness.digests.record import example
from harness.report.read import collect
from harness.store.results import State, Store, read_json, write_atomic, write_json
from harness.sweep.plan.labels import label
from harness.sweep.plan.manifest import manifest, record
from harness.sweep.plan.plan import Plan, make_plan

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
Write = Callable[..., Path]


def plan(path: Path, tmp_path: Path, **more: Any) -> Plan:
    return make_plan(load_experiment(path), Store(tmp_path / "results"), **more)


def complaints(path: Path, tmp_path: Path, **more: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        plan(path, tmp_path, **more)
    return str(caught.value).replace(str(path.parent) + "/", "").splitlines()


def finish(one: Plan, run: str, code: str = "today", status: str = "trained") -> None:
    folder = one.store.run(run)
    folder.create(one.runs[run].run.spec())
    write_json(folder.outcome, {"run": run, "status": status})
    write_json(folder.provenance, {"code": code})
    for evaluation in one.evaluations:
        write_json(folder.evaluation(evaluation.id), {"run": run, "values": {"top1": 1.0}, "wall_seconds": 1.0})


def test_figure_5_is_147_runs(tmp_path: Path) -> None:
    made = plan(EXPERIMENTS / "augmentation_pairs.yaml", tmp_path)
    assert len(made.runs) == made.asked == len(made.to_do) == 147
    assert {one.run.seed for one in made.to_do[:49]} == {0}, "seed by seed, so that the table fills evenly"


def test_counts_and_labels(write: Write, tmp_path: Path) -> None:
    made = plan(write(), tmp_path)
    assert [one.label for one in made.to_do] == [
        "temperature 0.1, seed 0",
        "temperature 0.5, seed 0",
        "temperature 0.1, seed 1",
        "temperature 0.5, seed 1",
    ]
    assert label({"views.targeted": ["crop", "blur"], "head": {"linear": {"out_dim": 3}}, "a.b": True}) == (
        "targeted [crop, blur], head linear(out_dim 3), b true"
    )
    timm = {"timm": {"name": "resnet18", "arguments": {"drop_path_rate": 0.1}}}  # a field that is a mapping
    assert label({"encoder": timm}) == "encoder timm(name resnet18, arguments drop_path_rate 0.1)"


def test_planning_writes_nothing(write: Write, tmp_path: Path) -> None:
    plan(write(), tmp_path)
    assert not (tmp_path / "results").exists()


def test_states_are_read_off_the_results(write: Write, tmp_path: Path) -> None:
    first = plan(write(), tmp_path, code="today")
    a, b, c, d = first.runs
    finish(first, a)
    finish(first, b, status="diverged")
    finish(first, c, code="yesterday")
    write_json(first.store.run(d).failure, {"type": "ValueError", "message": "no", "cause": "code"})
    again = plan(write(), tmp_path, code="today")
    assert [again.runs[run].state for run in (a, b, c, d)] == [State.DONE, State.DIVERGED, State.DONE, State.FAILED]
    assert [run for run, one in again.runs.items() if one.other_code] == [c], "counted as done, but said"
    assert again.runs[c].other_code.startswith("of earlier code whose digests were not recorded")
    assert again.to_do == [] and again.runs[d].why == "code: ValueError: no"


def digests(store: Store, code: str, **changed: float) -> None:
    """Recorded digests at this place: 1 for all that the runs use, but for what is ``changed``."""
    labels = {use.label for use in trained_with(RUN)} | {"evaluation linear"}
    values = dict.fromkeys(labels, 1.0) | {label.replace("__", " "): value for label, value in changed.items()}
    made = Record(
        code, platform_of(), {label: (example({}, [torch.full((9,), value)]),) for label, value in values.items()}
    )
    write_atomic(store.digests / f"{made.name}.json", made.as_text())


RUN = {
    "data": {"synthetic": {}}, "encoder": {"micro": {}}, "head": {"nonlinear": {}}, "method": {"simclr": {}},
    "objective": {"nt_xent": {}}, "optimizer": {"lars": {}},
    "views": {"both": [{name: {}} for name in ("crop", "flip", "color")]},
}  # fmt: skip
"""What the runs of these plans are made of."""


def test_a_run_is_stale_where_something_that_it_used_computes_another_number(write: Write, tmp_path: Path) -> None:
    first = plan(write(), tmp_path, code="today")
    a, b, c, d = first.runs
    for run, code in ((a, "alike"), (b, "unlike"), (c, "unused"), (d, "evaluated")):
        finish(first, run, code=code)
        path = first.store.run(run).evaluation(first.evaluations[0].id)
        write_json(path, read_json(path) | {"code": code, "evaluation": first.evaluations[0].resolved})
    digests(first.store, "today")
    digests(first.store, "alike")
    digests(first.store, "unlike", objective__nt_xent=1.01, loop=1.5)
    digests(first.store, "unused", objective__nt_logistic=3.0)
    digests(first.store, "evaluated", evaluation__linear=1.5)
    again = plan(write(), tmp_path, code="today").runs
    assert again[a].stale == again[c].stale == ""
    by = r"differs by \de-\d"
    assert re.fullmatch(f"loop: {by}, objective nt_xent: {by} from the code that made it", again[b].stale)
    assert re.fullmatch(f"evaluation linear: {by} from the code that made it", again[d].stale)
    for run in (a, c):
        assert again[run].other_code.endswith("the digests of all that was used are equal")
        assert again[run].other_code.startswith("of other code (by code ")
    assert all(one.state is State.DONE for one in again.values())


def test_a_component_without_digests_is_said_and_nothing_is_claimed(write: Write, tmp_path: Path) -> None:
    first = plan(write(), tmp_path, code="today")
    a, *_ = first.runs
    finish(first, a, code="before")
    for code in ("before", "today"):
        digests(first.store, code)
        (path,) = first.store.digests.glob(f"{code}-*.json")
        path.write_text(path.read_text(encoding="utf-8").replace("augmentation color", "augmentation other"))
    found = plan(write(), tmp_path, code="today").runs[a]
    assert not found.stale and "that used augmentation color, of which there are no digests" in found.other_code


def test_a_run_that_another_code_began_is_compared_with_it_too(write: Write, tmp_path: Path) -> None:
    first = plan(write(), tmp_path, code="today")
    a, b, *_ = first.runs
    for run, codes in ((a, ["yesterday", "today"]), (b, ["today"])):
        finish(first, run)
        write_json(first.store.run(run).provenance, {"code": "today", "codes": codes})
    again = plan(write(), tmp_path, code="today")
    assert again.runs[a].other_code and not again.runs[b].other_code
    digests(first.store, "today")
    digests(first.store, "yesterday", optimizer__lars=2.0)
    again = plan(write(), tmp_path, code="today")
    assert again.runs[a].stale.startswith("optimizer lars: differs by ")
    assert again.runs[a].state is State.DONE and not again.runs[b].stale


@pytest.mark.parametrize(
    "name", ["run.json", "outcome.json", "failed.json", "evaluations/HANDLE.json", "provenance.json"]
)
def test_a_truncated_file_breaks_one_run_and_is_named(write: Write, tmp_path: Path, name: str) -> None:
    first = plan(write(), tmp_path)
    run = next(iter(first.runs))
    finish(first, run)
    path = first.store.run(run).path / name.replace("HANDLE", first.evaluations[0].id)
    if name == "failed.json":
        first.store.run(run).outcome.unlink()
    path.write_text('{"run": "abc", "sta', encoding="utf-8")
    again = plan(write(), tmp_path, code="today")
    assert again.runs[run].state is State.BROKEN and str(path) in again.runs[run].why
    assert len(again.to_do) == 3


def test_two_experiments_that_share_a_cell_share_the_run(write: Write, tmp_path: Path) -> None:
    record(plan(write(), tmp_path))
    other = write(("[0.1, 0.5]", "[0.5, 1.0]"), ("temperature: 0.1", "temperature: 1.0"), name="other")
    made = plan(other, tmp_path)
    shared = [one for one in made.runs.values() if one.also_in]
    assert [one.also_in for one in shared] == [("small@smoke",)] * 2
    assert {one.run.objective["nt_xent"]["temperature"] for one in shared} == {0.5}


def test_the_manifest_is_what_the_report_reads(write: Write, tmp_path: Path) -> None:
    made = plan(write(), tmp_path)
    path = record(made)
    assert path.name == "small@smoke.json"
    held = json.loads(path.read_text(encoding="utf-8"))
    assert held == json.loads(json.dumps(manifest(made)))
    assert held["question"] == "Does the temperature matter?" and held["runs"] == 4 and held["seeds"] == 2
    first = held["arms"][0]
    assert first["settings"]["objective.nt_xent.temperature"] == 0.1
    assert "objective.nt_xent.normalize" in first["settings"], "the published table speaks of it"
    assert set(first["runs"]) == {"0", "1"}
    assert {one.folder.id for one in made.runs.values() if one.folder.spec.exists()} == set(made.runs)
    read = collect.Experiment.model_validate(held)
    assert read.evaluations == {"linear": made.evaluations[0].id} and read.published["simclr/table_5"].cells


def test_overrides_are_other_runs_in_a_manifest_of_their_own(write: Write, tmp_path: Path) -> None:
    plain = plan(write(), tmp_path)
    record(plain)
    deviating = plan(write(), tmp_path, overrides={"optimizer.lars.lr": 0.25})
    path = record(deviating)
    assert not set(plain.runs) & set(deviating.runs)
    assert path.name.startswith("small@smoke+") and len(list(path.parent.iterdir())) == 2
    assert json.loads(path.read_text(encoding="utf-8"))["overrides"] == {"optimizer.lars.lr": 0.25}
    again = plan(write(), tmp_path, overrides={"optimizer.lars.lr": 0.25})
    assert not any(one.also_in for one in again.runs.values()), "it does not share with itself"


AXIS = "objective.nt_xent.temperature: [0.1, 0.5]"
ROWS = "rows: {temperature: objective.nt_xent.temperature}"
LOW = "        - {objective.nt_xent.temperature: 0.1}\n"
SIDES = f"      greater:\n{LOW}        - {{objective.nt_xent.temperature: 0.5}}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("runs: 4", "runs: 5", "small.yaml:11: runs: 5, but the grids make 4 different runs"),
        ("[0.1, 0.5]", "[0.5, 0.50]", "small.yaml:9: dead axis: 'temperature 0.5' and 'temperature 0.5'"),
        (AXIS, "head: [none, {none: {}}]", "small.yaml:9: dead axis"),
        ("[0.1, 0.5]", "[0.1, -0.5]", "small.yaml:9: objective: nt_xent.temperature: Input should be greater than"),
        ("schedule.epochs: 1", "schedule.epochs: none", "small.yaml:7: schedule.epochs: "),
        ("schedule.epochs: 1", "norm.groups: 5", "small.yaml:7: norm.groups: 5 groups do not divide the batch size 32"),
        (
            AXIS,
            "optimizer: [{sgd: {momentum: 0.0, nesterov: true}}]",
            "small.yaml:9: optimizer: Nesterov momentum requ",
        ),
        ("evaluate: [linear]", "evaluate: [linaer]", "small.yaml:12: unknown evaluation 'linaer': did you mean"),
        ("linear/top1}", "linear@z/top1}", "small.yaml:16: metric 'linear@z/top1': no evaluation 'linear@z' here"),
        ("on: linear/top1", "on: knn/top1", "small.yaml:22: metric 'knn/top1'"),
        ("on: linear/top1", "on: linear", "small.yaml:22: metric 'linear': linear does not yield it"),
        ("    on: linear/top1\n", "", "small.yaml:19: does not name a metric"),
        ("temperature: 0.5}", "temperature: 0.7}", "no run of this experiment has objective.nt_xent.temperature: 0.7"),
        (ROWS, ROWS.replace("perature}", "prature}"), "small.yaml:15: 'objective.nt_xent.temprature' does not exist"),
        ("simclr/table_5", "simclr/table_55", "small.yaml:17: no published numbers 'simclr/table_55': did you mean"),
        ("    columns:", "    colums:", "small.yaml:16: table has no 'colums': did you mean 'columns'?"),
        (LOW, "", "small.yaml:24: greater is written {greater: ["),
        (SIDES, "      monotone: schedule.epoch", "small.yaml:24: 'schedule.epoch' does not exist"),
    ],
)
def test_complaints_name_the_line(write: Write, tmp_path: Path, old: str, new: str, said: str) -> None:
    found = complaints(write((old, new)), tmp_path)
    assert any(said in line for line in found), found


def test_a_bad_override_says_so(write: Write, tmp_path: Path) -> None:
    (line,) = complaints(write(), tmp_path, overrides={"optimizer.lars.lr": "fast"})
    assert line.startswith("-o optimizer.lars.lr: optimizer: lars.lr: ")
    (line,) = complaints(write(), tmp_path, overrides={"optimizer.lars.lrr": 1})
    assert "did you mean" in line
    (line,) = complaints(write(), tmp_path, overrides={"objective": "nt_logistic"})
    assert "varied by this experiment" in line


def test_every_complaint_comes_at_once_and_once(write: Write, tmp_path: Path) -> None:
    changes = [("runs: 4", "runs: 5"), ("simclr/table_5", "simclr/x"), ("on: linear/top1", "on: knn/top1")]
    assert len(complaints(write(*changes), tmp_path)) == 3


def test_claims_about_the_papers_grid_may_point_past_a_smaller_one(write: Write, tmp_path: Path) -> None:
    small = "at: {smoke: {vary: [{objective.nt_xent.temperature: [0.1]}], runs: 2}}\nevaluate:"
    assert len(plan(write(("evaluate:", small)), tmp_path).runs) == 2


def test_measured_times_replace_the_guess(write: Write, tmp_path: Path) -> None:
    from harness.store import provenance
    from harness.sweep.plan.cost import Prices, estimate

    made = plan(write(), tmp_path)
    run = next(iter(made.runs))
    runs = list(made.runs.values())
    handles = [one.id for one in made.evaluations]
    guessed = estimate(Prices.read(made.store, None, handles), runs, made.evaluations, at_once=2)
    finish(made, run)
    hardware = {"cpu": provenance.cpu_name(), "cores": 1, "gpu": None}
    write_json(made.store.run(run).provenance, {"code": "x", "hardware": hardware, "images_per_second": 6.4})
    measured = estimate(Prices.read(made.store, None, handles), runs, made.evaluations, at_once=2)
    assert not guessed.measured and measured.measured
    # 64 images at 6.4 a second, one second of evaluation, two of start
    assert measured.mean == pytest.approx(13.0) and measured.wall_seconds == pytest.approx(26.0)
    elsewhere = estimate(Prices.read(made.store, "H200", handles), runs, made.evaluations, at_once=2)
    assert not elsewhere.measured
