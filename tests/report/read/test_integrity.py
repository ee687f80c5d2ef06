"""Files that are not what they say they are: each is named, and none of their numbers counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.experiment import load_experiment, scale_names
from harness.report.judge.judging import judge_all
from harness.report.judge.verdicts import Verdict
from harness.report.read.collect import collect
from harness.report.read.integrity import arms_fault, contradicts, manifest_fault
from harness.report.read.records import Experiment, Run, State
from harness.report.render.page import render
from harness.store.results import Store
from harness.sweep.plan.manifest import manifest as manifest_of
from harness.sweep.plan.plan import make_plan
from tests.report.fake_results import BATCH, HANDLES, FakeResults, add, write

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
CLAIM = {"id": "c", "says": "s", "on": "linear/top1", "expect": {"greater": [{BATCH: 512}, {BATCH: 64}]}}
LOSS = CLAIM | {"on": "training/loss"}


@pytest.fixture
def study(fake: FakeResults) -> FakeResults:
    """Two arms of three seeds: 512 is better by 5.0, 5.1, 5.2 points, and its loss is lower by one."""

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        return {"linear": {"top1": 55.0 + seed / 10 if settings[BATCH] == 512 else 50.0}}

    arms = [add(fake, {BATCH: size}, 3, lambda *_: "done", values) for size in (64, 512)]
    for arm in arms:
        for seed, run in arm["runs"].items():
            loss = 5.0 + int(seed) / 10 - (1 + int(seed) / 100) * (arm["settings"][BATCH] == 512)
            edit(fake.folder(run) / "outcome.json", loss=loss)
            lines = [{"epoch": epoch, "loss": loss if epoch == 30 else 9.0} for epoch in range(1, 31)]
            (fake.folder(run) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fake.experiment("one", arms=arms, claims=[CLAIM, LOSS | {"id": "loss"}])
    return fake


def edit(path: Path, **changes: Any) -> None:
    write(path, json.loads(path.read_text()) | changes)


def runs(fake: FakeResults, size: int) -> list[Path]:
    held = json.loads(manifest(fake).read_text())
    (arm,) = (arm for arm in held["arms"] if arm["settings"][BATCH] == size)
    return [fake.folder(run) for run in arm["runs"].values()]


def manifest(fake: FakeResults) -> Path:
    return fake.root / "experiments" / "one@micro.json"


def rewrite(fake: FakeResults, change: Callable[[dict[str, str], dict[str, str]], object]) -> None:
    """Change what the manifest says of the runs of both arms."""
    held = json.loads(manifest(fake).read_text())
    change(*(arm["runs"] for arm in held["arms"]))
    write(manifest(fake), held)


def test_what_nobody_touched_is_judged(study: FakeResults) -> None:
    results = collect(study.root)
    assert not results.problems
    assert [one.ours.verdict for one in judge_all(results)] == [Verdict.REPRODUCED, Verdict.NOT_REPRODUCED]


def copy_another(fake: FakeResults) -> None:
    """A folder under another run's id, which is replaced everywhere within it."""
    source, target = runs(fake, 512)[:2]
    shutil.rmtree(target)
    shutil.copytree(source, target)
    for path in target.rglob("*.json"):
        path.write_text(path.read_text().replace(source.name, target.name))


def half_copied(*names: str) -> Callable[[FakeResults], None]:
    def act(fake: FakeResults) -> None:
        for name in names:
            (runs(fake, 512)[0] / name).unlink()

    return act


def add_evaluation(fake: FakeResults) -> None:
    path = runs(fake, 512)[0] / "evaluations" / f"{HANDLES['linear']}.json"
    other = path.with_name(f"{path.stem}.sync-conflict-20261120.json")
    shutil.copy(path, other)
    edit(other, values={"top1": 99.0})


FAULTS: dict[str, tuple[Callable[[FakeResults], object], str, str]] = {
    "copied folder": (copy_another, "run.json", "is that of run"),
    "another seed": (
        lambda fake: rewrite(fake, lambda _, big: big.update({"0": big["1"], "1": big["0"]})),
        "one@micro.json",
        "calls run",
    ),
    "one run for all seeds": (
        lambda fake: rewrite(fake, lambda _, big: big.update({"1": big["0"], "2": big["0"]})),
        "one@micro.json",
        "one run for several seeds",
    ),
    "a seed written twice": (
        lambda fake: rewrite(fake, lambda small, big: big.update({"02": small["2"]})),
        "one@micro.json",
        "one of them twice",
    ),
    "arms exchanged": (
        lambda fake: rewrite(fake, lambda small, big: (held := dict(small), small.update(big), big.update(held))),
        "one@micro.json",
        "which has another schedule.batch_size",
    ),
    "a seed left out": (
        lambda fake: rewrite(fake, lambda small, big: (small.pop("1"), big.pop("1"))),
        "one@micro.json",
        "not 0 to 2",
    ),
    "another specification": (
        lambda fake: edit(runs(fake, 512)[0] / "run.json", spec={"seed": 0}),
        "run.json",
        "is that of run",
    ),
    "no specification": (half_copied("run.json"), "run.json", "is missing"),
    "no outcome": (half_copied("outcome.json"), "evaluations", "without an outcome"),
    "cut off": (lambda fake: edit(runs(fake, 512)[0] / "outcome.json", epochs=3), "outcome.json", "3 of 30 epochs"),
    "no end": (lambda fake: edit(runs(fake, 512)[0] / "outcome.json", status="interrupted"), "outcome.json", "no outc"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_not_what_it_says_decides_nothing(study: FakeResults, name: str) -> None:
    act, file, said = FAULTS[name]
    act(study)
    results = collect(study.root)
    assert any(one.file.endswith(file) and said in one.what for one in results.problems), results.problems
    decided = [one for one in judge_all(results) if one.ours.verdict in (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)]
    assert not decided


def test_a_failed_run_has_no_number_whatever_it_left_behind(study: FakeResults) -> None:
    for folder in runs(study, 512):
        (folder / "outcome.json").unlink()
        write(folder / "failed.json", {"run": folder.name, "type": "RuntimeError", "message": "NaN in weights"})
    assert {one.ours.verdict for one in judge_all(collect(study.root))} == {Verdict.NOT_RUN}


def test_an_evaluation_counts_once_and_by_its_own_recipe(study: FakeResults) -> None:
    add_evaluation(study)
    results = collect(study.root)
    (problem,) = results.problems
    assert "under another name" in problem.what
    assert judge_all(results)[0].ours.verdict is Verdict.REPRODUCED, "the other is as it was"
    edit(runs(study, 64)[0] / "evaluations" / f"{HANDLES['linear']}.json", evaluation={"linear": {"epochs": 1}})
    results = collect(study.root)
    assert "its recipe is that of linear-" in str(results.problems)
    assert judge_all(results)[0].ours.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("fault", ["shorter", "another run's"])
def test_a_loss_is_that_of_the_whole_training(study: FakeResults, fault: str) -> None:
    for folder, other in zip(runs(study, 512), runs(study, 64), strict=True):
        lines = (folder / "metrics.jsonl").read_text().splitlines()[:4]
        told = "\n".join(lines) if fault == "shorter" else (other / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(told)
    results = collect(study.root)
    assert len(results.problems) == 3
    assert [one.ours.verdict for one in judge_all(results)] == [Verdict.REPRODUCED, Verdict.NOT_RUN]


def test_a_second_manifest_of_one_experiment_is_left_out(study: FakeResults) -> None:
    for copy in ("one@micro (conflicted copy)", "one@imagenet"):
        shutil.copy(manifest(study), manifest(study).with_name(f"{copy}.json"))
    results = collect(study.root)
    assert len(results.experiments) == 1 and len(results.problems) == 2


SPEC = {
    "views": {
        "both": [{"crop": {"scale": [0.08, 1.0]}}, {"rotate": {"upright": True}}],
        "branches": [{"augment": [{"crop": {"flip": 0.5}}], "count": 2, "size": 16}],
    },
    "head": {"nonlinear": {"out_dim": 128}},
    "schedule": {"batch_size": 64},
}


@pytest.mark.parametrize(
    "path, same, other",
    [
        ("schedule.batch_size", 64, 128),
        ("head", "nonlinear", "linear"),
        ("head", {"nonlinear": {"out_dim": 128}}, {"nonlinear": {"out_dim": 64}}),
        ("head.name", "nonlinear", "none"),
        ("head.out_dim", 128.0, 64),
        ("views.both", ["crop", {"rotate": {}}], ["crop"]),
        ("views.both", [{"crop": {}}, {"rotate": {"upright": True}}], ["crop", {"rotate": {"upright": False}}]),
        ("views.both.last", "rotate", "crop"),
        ("views.branches", [{"augment": ["crop"], "count": 2, "size": 16}], []),
        ("views.branches", [{"augment": [{"crop": {}}], "size": 16}], [{"augment": ["crop"], "count": 3, "size": 16}]),
        ("views.branches", [{"augment": ["crop"]}], [{"augment": ["blur"], "count": 2, "size": 16}]),
        ("augmentations.color.strength", 0.5, None),  # nothing is known of it
        ("head.margin", None, None),
        ("head", {"nonlinear": {"hidden_layers": 1}}, {"linear": {}}),  # what is neutral is not in a specification
        ("views.both", ["crop", {"rotate": {"p": 1.0}}], [{"crop": {"scale": [0.2, 1.0]}}, "rotate"]),
    ],
)
def test_a_setting_is_held_against_the_specification(path: str, same: Any, other: Any) -> None:
    assert not contradicts(SPEC, path, same)
    assert other is None or contradicts(SPEC, path, other)


def test_a_specification_without_branches_has_none() -> None:
    plain = {**SPEC, "views": {"both": []}}
    assert not contradicts(plain, "views.branches", [])
    assert contradicts(plain, "views.branches", [{"augment": ["crop"]}])


@pytest.mark.parametrize("scale", scale_names(EXPERIMENTS))
@pytest.mark.parametrize("name", sorted(path.stem for path in EXPERIMENTS.glob("*.yaml")))
def test_no_experiment_of_ours_is_taken_for_another(name: str, scale: str, tmp_path: Path) -> None:
    """A false alarm would leave a whole experiment out: every setting agrees with the specification it became."""
    plan = make_plan(load_experiment(EXPERIMENTS / f"{name}.yaml", scale), Store(tmp_path / "results"))
    held = manifest_of(plan)
    experiment = Experiment.model_validate(held)
    assert not manifest_fault(experiment, f"{name}@{scale}", held)
    runs = {run: Run(run, State.NOT_RUN, one.run.spec()) for run, one in plan.runs.items()}
    assert not arms_fault(experiment, runs)
    others = {run: Run(run, State.NOT_RUN, {**one.spec, "seed": 99}) for run, one in runs.items()}
    assert "which is of seed 99" in arms_fault(experiment, others)


def test_the_page_says_that_looks_were_changed_and_that_another_code_evaluated(study: FakeResults) -> None:
    assert "Looks changed" not in render(collect(study.root)) and "Mixed code" not in render(collect(study.root))
    edit(manifest(study), looks_before=[[2], [2, 3]])
    edit(runs(study, 64)[0] / "evaluations" / f"{HANDLES['linear']}.json", code="another")
    page = render(collect(study.root))
    assert "<b>Looks changed after looking.</b> Looks at 2; then at 2, 3 seeds were planned, now at 3, 5, 8, 12" in page
    assert "2 versions of the numeric sources" in page
