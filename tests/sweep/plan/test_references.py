"""What a report block or a claim may point at is checked before anything runs, with the line that is wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.store.results import Store
from harness.sweep.plan.plan import make_plan

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


def plan(folder: Path, name: str, old: str, new: str) -> None:
    """The experiment with one passage changed, planned at the scale that its grid is written for."""
    shutil.copytree(EXPERIMENTS, folder / "experiments")
    path = folder / "experiments" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    make_plan(load_experiment(path, "cifar10"), Store(folder / "results"))


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("losses", "by: linear@validation/top1", "by: linear/top1", "not of validation images"),
        ("losses", "over: [objective.temperature,", "over: [objective.temprature,", "objective.temprature"),
        ("losses", "by: linear@validation/top1", "by: knn@validation/top1", "no evaluation 'knn@validation'"),
        ("losses", "best_of:   {over", "best_of:   {ovre", "best_of is {over"),
        (
            "batch_sizes",
            "after: 4096, within",
            "within",
            "'saturates' needs 'after' beside it: {saturates: dotted.path",
        ),
        ("batch_sizes", "{saturates: schedule.batch_size,", "{saturates: data,", "saturates needs a numeric path"),
        ("untrained", "against: {schedule.epochs: 0}", "against: second", "against is 'first'"),
        ("untrained", "against: {schedule.epochs: 0}", "sort: drop", "sort is 'drop'"),
        ("untrained", "against: {schedule.epochs: 0}", "where: {schedule.epochs: 7}", "no run of this experiment"),
        ("augmentation_pairs", "experiment: untrained", "experiment: untraind", "did you mean 'untrained'"),
        ("augmentation_pairs", "{experiment: untrained, at:", "{experiment: untrained, and:", "reference is {what"),
    ],
)
def test_it_is_named_with_its_line(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)) as caught:
        plan(tmp_path, name, old, new)
    assert re.search(rf"{name}\.yaml:\d+: ", str(caught.value))
