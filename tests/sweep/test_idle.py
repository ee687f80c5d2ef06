"""Settings that cannot take effect are said in the plan, for every arm whose own length makes them so."""

from __future__ import annotations

from typing import Any

import pytest

from harness.spec.experiment import load_experiment
from harness.spec.run import Evaluation
from harness.store import Store
from harness.sweep.__main__ import main
from harness.sweep.idle import idle, idle_in
from harness.sweep.plan import make_plan
from tests.sweep.test_plan import Write

EPOCHS = ("objective.nt_xent.temperature: [0.1, 0.5]", "schedule.epochs: [0, 1, 3, 200]")


def test_a_warm_up_longer_than_an_arm_s_run_is_named(
    write: Write, results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = (
        EPOCHS,
        ("  schedule.epochs: 1\n", "  schedule.warmup_epochs: 100\n"),
        ("runs: 4", "runs: 8"),
        ("    rows: {temperature: objective.nt_xent.temperature}", "    rows: {epochs: schedule.epochs}"),
    )
    text = write(*changes).read_text().partition("claims:")[0].replace("    published: simclr/table_5\n", "")
    path = write()
    path.write_text(text)
    found = idle(make_plan(load_experiment(path), results))
    assert [(what.partition(":")[0], arms) for what, arms in found.items()] == [
        ("schedule.warmup_epochs 100 of 1 epochs", ["epochs 1"]),
        ("schedule.warmup_epochs 100 of 3 epochs", ["epochs 3"]),
    ]
    assert main([str(path), "--plan", "--results", str(results.root), "--cluster", "local"]) == 0
    assert capsys.readouterr().out.count("NO EFFECT: schedule.warmup_epochs") == 2


def moving(epochs: int) -> dict[str, Any]:
    return {"method": {"moco": {"momentum": {"cosine": {"start": 0, "end": 1, "epochs": epochs}}}}}


@pytest.mark.parametrize(
    ("changes", "evaluation", "said"),
    [
        ({}, {"knn": {"k": 64}}, "k 64 of 64 images"),
        ({}, {"knn": {"k": 63}}, ""),
        ({"views": {"both": [{"blur": {"p": 0.0}}]}}, {"linear": {}}, "views.both.blur.p 0"),
        ({"views": {"both": [{"blur": {"p": 0.5}}]}}, {"linear": {}}, ""),
        (moving(9), {"linear": {}}, "epochs 9 of 1"),
        (moving(1), {"linear": {}}, ""),
    ],
)  # fmt: skip
def test_others_of_the_kind(
    write: Write, results: Store, changes: dict[str, Any], evaluation: dict[str, Any], said: str
) -> None:
    run = next(iter(make_plan(load_experiment(write()), results).runs.values())).run
    spec = run.spec() | {"schedule": {"batch_size": 32, "epochs": 1}, "views": {"both": []}} | changes
    found = list(idle_in(type(run).model_validate(spec), [Evaluation("label", "handle", evaluation)]))
    assert len(found) == bool(said) and all(said in one for one in found)
