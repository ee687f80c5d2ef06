"""Names of files: two files of one name are two studies, and what a name cannot be is said at the first door."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.report.read.collect import collect
from harness.report.read.names import slug
from harness.store.results import Store
from harness.sweep.__main__ import main
from harness.sweep.plan.manifest import record
from harness.sweep.plan.plan import make_plan

Write = Callable[..., Path]
OTHER = ("temperature: [0.1, 0.5]", "temperature: [0.2, 0.5]"), ("temperature: 0.1}", "temperature: 0.2}")


def moved(path: Path, folder: Path, name: str = "small.yaml") -> Path:
    """The file under a folder of its own, with the scales and papers beside it."""
    folder.mkdir()
    for beside in ("scales", "paper", "clusters"):
        (folder / beside).symlink_to(path.parent / beside)
    return Path(shutil.move(path, folder / name))


@pytest.fixture
def two(write: Write, tmp_path: Path) -> tuple[Path, Path]:
    """Two studies of one name; a run of theirs is the same."""
    first = moved(write(), tmp_path / "a")
    return first, moved(write(*OTHER), tmp_path / "b")


def wrote(path: Path, store: Store) -> Path:
    return record(make_plan(load_experiment(path), store))


@pytest.mark.parametrize("doing", [["--plan"], []])
def test_a_second_file_of_a_name_is_refused_before_anything_starts(
    two: tuple[Path, Path], results: Store, capsys: pytest.CaptureFixture[str], doing: list[str]
) -> None:
    first, second = two
    before = wrote(first, results).read_bytes()
    runs = results.run_ids()
    where = ["--results", str(results.root), "--cluster", "local"]
    assert main([str(second), *doing, *where]) == (0 if doing else 2)
    said = "".join(capsys.readouterr())
    assert "belongs to another file of this name" in said and "2 of its runs would disappear" in said
    assert results.experiment("small", "smoke").read_bytes() == before and results.run_ids() == runs
    with pytest.raises(SpecError, match="to another file of this name"):
        wrote(second, results)


@pytest.mark.parametrize("doing", [["--plan"], []])
def test_two_of_a_name_in_one_command_are_refused(
    two: tuple[Path, Path], results: Store, capsys: pytest.CaptureFixture[str], doing: list[str]
) -> None:
    code = main([*map(str, two), *doing, "--results", str(results.root), "--cluster", "local"])
    assert code == (0 if doing else 2) and "has the same name" in "".join(capsys.readouterr())
    assert not results.root.exists()


def test_status_and_cancel_of_a_file_are_not_of_another_of_its_name(
    two: tuple[Path, Path], results: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two
    wrote(first, results)
    for doing in ("--status", "--cancel"):
        assert main([str(first), doing, "--results", str(results.root)]) == 0
        assert main(["small", doing, "--results", str(results.root)]) == 0
        capsys.readouterr()
        assert main([str(second), doing, "--results", str(results.root)]) == 2
        assert "is of another file of this name" in capsys.readouterr().err


def test_the_same_file_edited_is_the_same_study(write: Write, results: Store) -> None:
    wrote(write(), results)
    path = wrote(write(*OTHER), results)
    assert [arm["settings"]["objective.nt_xent.temperature"] for arm in json.loads(path.read_text())["arms"]] == [
        *(0.2, 0.5)
    ]


def test_a_copy_elsewhere_that_has_all_the_runs_may_go_on(write: Write, results: Store, tmp_path: Path) -> None:
    wrote(write(), results)
    more = write(("seeds: 2", "seeds: 3"), ("runs: 4", "runs: 6"))
    assert json.loads(wrote(moved(more, tmp_path / "clone"), results).read_text())["seeds"] == 3


NAMES = ["study.v2", "A-b_c", "7", "x" * 99, "my study", "größe", "日本"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_taken_pass_every_door(
    write: Write, results: Store, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = write(("  schedule.epochs: 1\n", "  schedule.epochs: 0\n"), name=name)
    where = ["--results", str(results.root)]
    assert main([str(path), *where, "--cluster", "local"]) == 0
    assert main([str(path), *where, "--cluster", "local", "-o", "schedule.batch_size=16"]) == 0
    for asked in (str(path), name):
        capsys.readouterr()
        assert main([asked, "--status", *where]) == 0
        assert f"{name}@smoke" in capsys.readouterr().out.replace("\n", "") or len(name) > 60
    found = collect(results.root)
    assert not found.problems and [one.name for one in found.experiments] == [name, name]


def test_names_that_read_alike_have_anchors_of_their_own() -> None:
    keys = [f"{name}@smoke" for name in (*NAMES, "a_b", "a-b", "a.b", "A_b", "a b", "a__b", "日", "größe.2", "gr-e")]
    assert len({slug(key) for key in keys}) == len(keys)
    assert slug("learning_rate@micro") == "learning-rate-micro", "links to pages that are out there go on"


def test_printed_commands_can_be_pasted(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.sweep.command import read_overrides

    results, data = tmp_path / "my results; $(x)", tmp_path / "my data"
    file = write(("  schedule.epochs: 1\n", "  schedule.epochs: 0\n"))
    changes = ["optimizer.lars.nesterov=true", "head={nonlinear: {hidden_dim: null, out_dim: 64}}", "norm.eps=1e-05"]
    changes += ["views.both=[crop, {blur: {p: 1.0}}]", "optimizer.lars.lr_scaling=sqrt"]
    options = [part for one in changes for part in ("-o", one)]
    assert main([str(file), *options, "--results", str(results), "--data", str(data), "--cluster", "local"]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert f"python -m harness.report {shlex.quote(str(results))} > report.html" in said

    from harness.report.render.page import Page

    (section,) = Page(collect(results)).sections
    written = shlex.split(section.arms[0].command)
    again = [written[place + 1] for place, one in enumerate(written) if one == "-o"]
    assert read_overrides(again) == read_overrides(changes)
