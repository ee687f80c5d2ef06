"""The command line: what is written where, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report.__main__ import FORMATS, main
from tests.report.fake_results import FakeResults, fate_of, figure_5


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_go_to_standard_output(
    folders: dict[str, Path], capsysbinary: pytest.CaptureFixture[bytes], kind: str
) -> None:
    assert main([str(folders["some"]), "--format", kind]) == 0
    out, err = capsysbinary.readouterr()
    assert out.decode().strip() and not err


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_not_a_results_folder_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and err.startswith("error: ")


def test_broken_files_are_named_the_page_is_written_and_the_code_is_2(
    fake: FakeResults, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    figure_5(fake, fate_of(1.0), seeds=1)
    broken = sorted(fake.root.glob("runs/*/outcome.json"))[:2]
    for path in broken:
        path.write_text("{", encoding="utf-8")
    assert main([str(fake.root)]) == 2
    out, err = capsysbinary.readouterr()
    lines = err.decode().splitlines()
    assert [line.split(": ")[1] for line in lines] == [path.relative_to(fake.root).as_posix() for path in broken]
    assert out.decode().endswith("</html>\n") or out.decode().endswith("</html>")


def test_figures_go_to_the_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    assert main([str(folders["nothing"]), "--figures", str(tmp_path / "a" / "b")]) == 0
    assert sorted(path.suffix for path in (tmp_path / "a" / "b").iterdir()) == [".png", ".svg"]


def test_no_figures_are_said_to_be_none(fake: FakeResults, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fake.root / "experiments").mkdir(parents=True, exist_ok=True)
    assert main([str(fake.root), "--figures", str(tmp_path / "pictures")]) == 0
    assert "nothing was drawn" in capsys.readouterr().err
