"""States of runs, and folders with something wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config.matching import matches
from harness.report.read.collect import NotResults, collect
from harness.report.read.records import State
from tests.report.fake_results import HANDLES, TAU, FakeResults, fate_of, run_id, spec_of, temperature, write

SPEC = spec_of({TAU: 0.1}, 0)
VALUES = {"linear": {"top1": 48.2}}


def state(fake: FakeResults) -> float | State:
    run = run_id(SPEC)
    fake.experiment("one", arms=[{"settings": {TAU: 0.1}, "runs": {"0": run}}])
    return collect(fake.root).runs[run].value(HANDLES["linear"], "top1")


def test_a_number(fake: FakeResults) -> None:
    fake.finish(SPEC, VALUES)
    assert state(fake) == 48.2


def test_states(fake: FakeResults) -> None:
    assert state(fake) is State.NOT_RUN
    fake.start(SPEC)
    assert state(fake) is State.NOT_RUN
    fake.fail(SPEC)
    assert state(fake) is State.FAILED
    fake.running(SPEC)  # tried again
    assert state(fake) is State.RUNNING
    fake.finish(SPEC, {})
    (fake.folder(run_id(SPEC)) / "claim.json").unlink()
    (fake.folder(run_id(SPEC)) / "failed.json").unlink()
    assert state(fake) is State.TRAINED
    fake.diverge(SPEC)
    assert state(fake) is State.DIVERGED


@pytest.mark.parametrize("left", ["claim.json", "failed.json"])
def test_what_a_killed_process_left_beside_a_finished_run_changes_nothing(fake: FakeResults, left: str) -> None:
    """Killed after its last evaluation and before it tidied up: the store says DONE, and so does the page."""
    (fake.running if left == "claim.json" else fake.fail)(SPEC)
    run = fake.finish(SPEC, {label: {"top1": 48.2} for label in HANDLES})
    assert (fake.folder(run) / left).exists()
    assert state(fake) == 48.2
    assert collect(fake.root).runs[run].state is State.DONE


def test_not_a_number_counts_as_diverged(fake: FakeResults) -> None:
    fake.finish(SPEC, {"linear": {"top1": float("nan")}})
    assert state(fake) is State.DIVERGED


@pytest.mark.parametrize("value", [1e300, 1e9, 100.5, -0.1, 10**400, -(10**400)])
def test_a_share_of_images_outside_of_0_to_100_is_left_out_and_named(fake: FakeResults, value: float) -> None:
    run = fake.finish(SPEC, {"linear": {"top1": value, "top5": 61.0}})
    assert state(fake) is State.TRAINED
    results = collect(fake.root)
    assert results.runs[run].value(HANDLES["linear"], "top5") == 61.0
    (problem,) = results.problems
    assert problem.file == f"runs/{run}/evaluations/{HANDLES['linear']}.json" and "top1 is " in problem.what


@pytest.mark.parametrize("value", [0, 0.0, 100, 100.0])
def test_the_ends_of_the_range_are_shares(fake: FakeResults, value: float) -> None:
    fake.finish(SPEC, {"linear": {"top1": value, "loss": 1e300}})
    assert state(fake) == value and not collect(fake.root).problems


def test_an_evaluation_of_another_run_is_left_out_and_named(fake: FakeResults) -> None:
    run = fake.finish(SPEC, VALUES)
    path = fake.folder(run) / "evaluations" / f"{HANDLES['linear']}.json"
    write(path, json.loads(path.read_text(encoding="utf-8")) | {"run": "000000000000"})
    assert state(fake) is State.TRAINED
    (problem,) = collect(fake.root).problems
    assert problem.file == f"runs/{run}/evaluations/{HANDLES['linear']}.json" and "belongs to run" in problem.what


def test_every_truncated_file_is_named_once_and_the_rest_is_read(tmp_path: Path) -> None:
    """Cut each kind of file in half in turn; the reader never raises and names exactly that file."""
    fake = FakeResults(tmp_path / "results")
    temperature(fake, fate_of(0.4))
    whole = collect(fake.root)
    assert not whole.problems
    read = [*fake.root.glob("experiments/*.json"), *sorted(fake.root.glob("runs/*/*.json"))[:40]]
    read += sorted(fake.root.glob("runs/*/evaluations/*.json"))[:5]
    for path in (one for one in read if one.name != "claim.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text[: len(text) // 2], encoding="utf-8")
        problems = collect(fake.root).problems
        assert [problem.file for problem in problems] == [path.relative_to(fake.root).as_posix()]
        assert str(tmp_path) not in problems[0].what
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", "", "\x00", "[" * 5000, '{"name": 3}', '{"name": "x", "scale": "y", "arms": [1]}']
)
def test_any_json_in_place_of_an_experiment(fake: FakeResults, text: str) -> None:
    (fake.root / "experiments" / "bad@micro.json").write_text(text, encoding="utf-8")
    fake.experiment("good")
    results = collect(fake.root)
    assert [one.name for one in results.experiments] == ["good"]
    assert len(results.problems) == 1


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_not_a_results_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(NotResults):
        collect(tmp_path / name)


def test_runs_of_no_experiment_are_counted(fake: FakeResults) -> None:
    fake.finish(SPEC, VALUES)
    fake.experiment("one")
    assert collect(fake.root).orphans == 1


def test_the_order_of_experiments_is_by_name_then_scale(fake: FakeResults) -> None:
    for name, scale in [("b", "smoke"), ("b", "laptop"), ("b", "imagenet"), ("a", "micro"), ("b", "micro")]:
        fake.experiment(name, scale)
    keys = [one.key for one in collect(fake.root).experiments]
    assert keys == ["a@micro", "b@imagenet", "b@micro", "b@laptop", "b@smoke"]


@pytest.mark.parametrize(
    ("value", "same", "other"),
    [
        (10, 10.0, 11),
        (True, True, 1),
        ("crop", {"crop": {}}, {"crop": {"p": 1}}),
        (["a", "b"], ("a", {"b": None}), ["b", "a"]),
    ],
)
def test_one_meaning_has_one_form(value: object, same: object, other: object) -> None:
    assert matches({"x": value}, {"x": same})
    assert not matches({"x": value}, {"x": other})
