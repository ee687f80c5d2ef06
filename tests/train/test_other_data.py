"""A run goes on, and is evaluated, on the data that it was trained on, or says what lies there instead."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import components
from harness.components import Evaluation
from harness.config.errors import SpecError
from harness.data import identity
from harness.data.datasets import ImageFolder
from harness.runtime import Runtime
from harness.store.attempts import cause_of
from harness.store.causes import Cause
from harness.store.results import RunFolder, State, read_json, write_json
from harness.train import loop
from tests.data.test_identity import pics
from tests.train.test_loop import HERE, _StopAfter, tiny, tree

FIELDS: dict[str, Any] = {"path": "pics", "image_size": 16, "resize": 16}
OWN: dict[str, Any] = {
    "data": {"image_folder": FIELDS},
    "schedule": {"batch_size": 3, "epochs": 2, "warmup_epochs": 1},
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Runtime]:
    """The same pictures twice, and others, each under the name ``pics``."""
    pics(tmp_path / "A" / "pics")
    shutil.copytree(tmp_path / "A", tmp_path / "copy")
    pics(tmp_path / "B" / "pics", seed=1)
    (tmp_path / "copy" / "pics" / "train" / "a" / "notes.txt").touch()
    return {name: replace(HERE, data=tmp_path / name) for name in ("A", "copy", "B")}


def untrained(tmp_path: Path) -> tuple[RunFolder, list[Evaluation]]:
    return tiny(tmp_path / "results", **OWN)


def stopped_after(step: int, folder: RunFolder, place: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(loop.Interrupted):
        patched.setattr(loop, "stop_on_signal", lambda: nullcontext(_StopAfter(step - 1)))
        loop.execute(folder, [], place)


def test_provenance_and_evaluations_say_what_data(tmp_path: Path, places: dict[str, Runtime]) -> None:
    folder, asked = untrained(tmp_path)
    loop.execute(folder, asked, places["A"])
    data = read_json(folder.provenance)["data"]
    assert data["images"] == {"train": 6, "test": 4} and data["classes"] == ["a", "b"]
    (evaluation,) = (read_json(folder.evaluation(one.id)) for one in asked)
    assert evaluation["data"] == {"digest": data["digest"], "images": data["images"]}


def test_an_evaluation_on_other_data_is_refused(tmp_path: Path, places: dict[str, Runtime]) -> None:
    folder, asked = untrained(tmp_path)
    loop.execute(folder, [], places["A"])
    known = read_json(folder.provenance)["data"]["digest"]
    with pytest.raises(
        SpecError, match=rf"this run was trained on {known} \(train 6, test 4 images; .*--data"
    ) as caught:
        loop.execute(folder, asked, places["B"])
    assert cause_of(caught.value) is Cause.INPUT and not list(folder.path.glob("evaluations/*"))
    loop.execute(folder, asked, places["copy"])  # elsewhere, and beside what is no data: the same pictures
    assert folder.state([one.id for one in asked]) is State.DONE


def test_runs_from_before_are_evaluated_on_what_is_there(tmp_path: Path, places: dict[str, Runtime]) -> None:
    folder, asked = untrained(tmp_path)
    loop.execute(folder, [], places["A"])
    about = read_json(folder.provenance)
    del about["data"]
    write_json(folder.provenance, about)
    loop.execute(folder, asked, places["B"])
    digest = identity.described(pictures_of(places["B"]))["digest"]
    assert read_json(folder.evaluation(asked[0].id))["data"]["digest"] == digest


def pictures_of(place: Runtime) -> Any:
    return ImageFolder(**FIELDS).load(place.data)


def test_a_resume_on_other_data_is_refused_and_loses_nothing(
    tmp_path: Path, places: dict[str, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = untrained(tmp_path)
    stopped_after(1, folder, places["A"], monkeypatch)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(SpecError, match="this run was begun on") as caught:
        loop.execute(folder, asked, places["B"])
    assert cause_of(caught.value) is Cause.INPUT
    assert before == {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    loop.execute(folder, asked, places["copy"])
    assert folder.state([one.id for one in asked]) is State.DONE


def test_processes_that_see_other_data_do_not_share_a_run(
    tmp_path: Path, places: dict[str, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another node another folder may lie under the same path; the first process says what it has."""
    folder, asked = untrained(tmp_path)
    first = identity.described(pictures_of(places["A"]))
    monkeypatch.setattr(loop.distributed, "from_first", lambda make: first if make() != first else make())
    with pytest.raises(SpecError, match="the first process of this run has"):
        loop.execute(folder, asked, places["B"])


def transfer(tmp_path: Path) -> tuple[RunFolder, list[Evaluation]]:
    folder, _ = untrained(tmp_path)
    other = {"image_folder": {"path": "other", "image_size": 16, "resize": 16}}
    asked = components.resolve_evaluations(tree(**OWN), [{"transfer_linear": {"data": other, "penalties": 3}}])
    return folder, asked


def test_a_transfer_says_what_it_looked_at_and_goes_on_there_alone(
    tmp_path: Path, places: dict[str, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = transfer(tmp_path)
    pics(tmp_path / "A" / "other", seed=2, classes=("x", "y", "z"))
    pics(tmp_path / "copy" / "other", seed=3, classes=("x", "y", "z"))
    often = {name: replace(place, checkpoint_minutes=0.0) for name, place in places.items()}
    loop.execute(folder, [], often["A"])
    with monkeypatch.context() as patched, pytest.raises(loop.Interrupted):
        patched.setattr(loop, "stop_on_signal", lambda: nullcontext(_StopAfter(9)))
        loop.execute(folder, asked, often["A"])
    assert folder.partial(asked[0].id).exists()
    with pytest.raises(SpecError, match=r"part\.pt: transfer_linear@other was begun on other data"):
        loop.execute(folder, asked, often["copy"])
    loop.execute(folder, asked, often["A"])
    found = read_json(folder.evaluation(asked[0].id))
    assert found["data"]["images"] == {"train": 9, "test": 6}
    assert found["data"]["digest"] != read_json(folder.provenance)["data"]["digest"]
