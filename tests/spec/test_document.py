"""YAML with lines: what a file says, where it says it, and one message where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.spec.document import parse_value, read_yaml
from harness.spec.errors import SpecError


def written(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_are_plain_and_numbers_are_numbers(tmp_path: Path) -> None:
    data = read_yaml(written(tmp_path, "a: 1e-6\nb: [yes, no, 1.0, 3, true, null]\nc: {d: 'x'}\n")).data
    assert data == {"a": 1e-6, "b": ["yes", "no", 1.0, 3, True, None], "c": {"d": "x"}}
    assert [type(one) for one in (data["a"], data["b"][0], data["b"][3])] == [float, str, int]
    assert type(data) is dict and type(data["b"]) is list


def test_every_value_knows_its_line(tmp_path: Path) -> None:
    document = read_yaml(written(tmp_path, "# why\n# and how\na: 1\nb:\n  - c: 2\n    d:\n      - 3\n      - 4\n"))
    assert document.comment == "why and how"
    assert document.line(["a"]) == 3
    assert document.line(["b", 0, "d"]) == 6
    assert document.line(["b", 0, "d", 1]) == 8
    assert document.line(["b", 0, "unheard"]) == 5
    assert str(document.complaint(["a"], "no")) == f"{document.path}:3: no"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\na: 2\n", 2, "duplicate key"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("- a\n- b\n", 1, "expected a mapping"),
        ("", 1, "the file is empty"),
        ("1: 2\n", 1, "keys must be words"),
        ("a: *nowhere\n", 1, "not valid YAML"),
        ("a: Table 5: mine\n", 1, "a text with a colon in it needs quotes"),
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
    ],
)
def test_what_cannot_be_read_names_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        read_yaml(path)
    assert f"{path}:{line}: " in str(caught.value)
    assert said in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="is a folder, not a file"):
        read_yaml(tmp_path)
    (tmp_path / "empty.yaml").write_text("# nothing")
    with pytest.raises(SpecError, match="the file is empty"):
        read_yaml(tmp_path / "empty.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot be read as UTF-8"):
        read_yaml(tmp_path / "binary.yaml")


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("[crop, color]", ["crop", "color"]), ("true", True)])
def test_overrides_are_yaml(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_an_override_that_is_not_yaml() -> None:
    with pytest.raises(SpecError, match="is not a YAML value"):
        parse_value("[1, 2")
