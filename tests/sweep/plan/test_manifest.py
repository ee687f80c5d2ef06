"""What a sweep writes down of its experiment, and that it says when seeds were added after looking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.config.looks import LOOKS
from harness.store.results import Store, read_json, write_json
from harness.sweep.__main__ import main
from harness.sweep.plan.manifest import check_names, record
from harness.sweep.plan.plan import Plan, make_plan


@pytest.mark.parametrize("looked", [False, True])
def test_seeds_that_were_added_after_looking_are_written_down(
    write: Callable[..., Path], tmp_path: Path, looked: bool
) -> None:
    store = Store(tmp_path / "results")
    for seeds, before in ((1, None), (2, [1]), (2, [1]), (3, [1, 2])):
        plan = make_plan(
            load_experiment(write(("seeds: 2", f"seeds: {seeds}"), ("runs: 4", f"runs: {2 * seeds}"))), store
        )
        held = read_json(record(plan))
        assert held["seeds"] == seeds and held.get("seeds_before") == (before if looked else None)
        if looked:
            run = next(iter(plan.runs.values()))
            write_json(run.folder.outcome, {"run": run.folder.id, "status": "trained"})


def test_looks_that_were_changed_after_looking_are_written_down(write: Callable[..., Path], tmp_path: Path) -> None:
    """Without results a plan may change; what an older manifest does not say is the default."""
    store = Store(tmp_path / "results")
    ids = set()
    for looks, before in (("[2]", None), ("[2, 4]", None), ("[3]", [[2, 4]]), ("[3]", [[2, 4]])):
        plan = make_plan(load_experiment(write(("looks: [2]", f"looks: {looks}"))), store)
        held = read_json(path := record(plan))
        ids.add(tuple(plan.runs))
        assert held["looks"] == yaml_list(looks) and held.get("looks_before") == before
        if looks == "[2, 4]":
            run = next(iter(plan.runs.values()))
            write_json(run.folder.outcome, {"run": run.folder.id, "status": "trained"})
    assert len(ids) == 1, "when a claim is looked at is no part of a run"
    write_json(path, {key: value for key, value in held.items() if key not in ("looks", "looks_before")})
    assert read_json(record(plan))["looks_before"] == [[*LOOKS]]


def yaml_list(text: str) -> list[int]:
    return [int(one) for one in text.strip("[]").split(",")]


@pytest.mark.parametrize("looks", ["[1, 3]", "[5, 3]", "[3, 3]", "[]", "3", "[3, x]"])
def test_looks_that_are_none_are_refused(write: Callable[..., Path], looks: str) -> None:
    with pytest.raises(SpecError, match=r"small.yaml:27: looks"):
        load_experiment(write(("looks: [2]", f"looks: {looks}")))


Scan = Callable[..., Plan]


@pytest.fixture
def look(folder: Path, tmp_path: Path, write: Callable[..., Path]) -> Scan:
    """A plan of ``<where>/small.yaml`` with this batch size, against one results folder."""

    def planned(where: str, batch: int = 32, evaluate: str = "[linear]") -> Plan:
        there = tmp_path / where
        if not there.exists():
            there.mkdir()
            for name in ("scales", "paper", "clusters"):
                (there / name).symlink_to(folder / name)
        changes = (("batch_size: 32", f"batch_size: {batch}"), ("[linear]", evaluate))
        return make_plan(load_experiment(write(*changes).replace(there / "small.yaml")), Store(tmp_path / "results"))

    return planned


def test_a_file_of_the_same_name_takes_no_other_s_place(look: Scan) -> None:
    record(look("a", evaluate="[linear, knn]"))
    held = record(look("a", evaluate="[linear, knn]")).read_bytes()
    knn = look("a", evaluate="[knn, linear]").evaluations[0].id
    for where, changes in (("b", {"batch": 16}), ("b", {"evaluate": "[linear]"})):
        for run in look("a").runs.values():
            write_json(run.folder.evaluation(knn), {"run": run.folder.id, "values": {}})
        with pytest.raises(SpecError, match="belongs to another file of this name"):
            record(look(where, **changes))
    assert record(look("a", evaluate="[linear, knn]")).read_bytes() == held


def test_the_same_file_may_say_something_else_today(look: Scan) -> None:
    record(look("a"))
    record(look("a", 16))


def test_a_file_that_asks_for_all_that_is_there_loses_nothing(look: Scan) -> None:
    record(look("a"))
    record(look("b", evaluate="[linear, knn]"))


def test_a_project_that_has_moved_is_the_same(look: Scan, tmp_path: Path) -> None:
    """Results and file together; and of an older manifest, without the digest, the file's name as it was written."""
    path = record(look("a"))
    held = read_json(path)
    (tmp_path / "moved").mkdir()
    for name in ("a", "experiments", "results"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    there = tmp_path / "moved" / "a"
    (there / "scales").unlink()
    (there / "scales").symlink_to(tmp_path / "moved" / "experiments" / "scales")
    (there / "paper").unlink()
    (there / "paper").symlink_to(tmp_path / "moved" / "experiments" / "paper")
    text = (there / "small.yaml").read_text().replace("batch_size: 32", "batch_size: 16")
    (there / "small.yaml").write_text(text)
    store = Store(tmp_path / "moved" / "results")
    check_names([make_plan(load_experiment(there / "small.yaml"), store)])
    for file, fine in (("a/small.yaml", True), ("b/small.yaml", False), ("small.yaml", True)):
        older = {key: value for key, value in held.items() if key != "place"} | {"file": file}
        write_json(store.experiments / path.name, older)
        if fine:
            check_names([make_plan(load_experiment(there / "small.yaml"), store)])
        else:
            with pytest.raises(SpecError, match="another file"):
                check_names([make_plan(load_experiment(there / "small.yaml"), store)])


def test_two_files_of_one_name_in_one_command_start_nothing(
    look: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(look(where).experiment.document.path) for where in ("a", "b")]
    where = ["--results", str(tmp_path / "results"), "--cluster", "local", "--data", str(tmp_path)]
    assert main([*files, *where, "--yes"]) == 2
    assert "has the same name" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "results").exists()
