"""YAML with lines: what a file says, where it says it, and one message where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.config.yaml_file import parse_value, read_yaml

LAUGHS = "".join(f"c{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 8))
"""A hundred million values in a few hundred bytes."""


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


def test_anchors_and_merge_keys_keep_their_lines(tmp_path: Path) -> None:
    """Own keys go before merged ones, earlier sources before later ones, as YAML 1.1 had it."""
    text = "x: &x {a: 1, b: [1, 2]}\ny: &y\n  b: 3\n  c: 4\nz:\n  <<: [*x, *y]\n  a: 0\nw: *y\n"
    document = read_yaml(written(tmp_path, text))
    assert document.data["z"] == {"a": 0, "b": [1, 2], "c": 4} and document.data["w"] == document.data["y"]
    assert [document.line(keys) for keys in (["z", "a"], ["z", "b", 1], ["z", "c"], ["w"], ["w", "c"])] == [
        7,
        1,
        4,
        8,
        4,
    ]


def test_what_looks_like_a_date_is_a_text_and_a_byte_order_mark_is_nothing(tmp_path: Path) -> None:
    text = "\ufeffa: 2026-01-31\nb: 2026-13-45\nc: =\nd: !!str 3\ne: ! x\nf: &x 1\ng: &x 2\nh: *x\n"
    data = read_yaml(written(tmp_path, text)).data
    assert data == {"a": "2026-01-31", "b": "2026-13-45", "c": "=", "d": "3", "e": "x", "f": 1, "g": 2, "h": 2}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\na: 2\n", 2, "duplicate key"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("- a\n- b\n", 1, "expected a mapping"),
        ("", 1, "the file is empty"),
        ("1: 2\n", 1, "keys must be text"),
        ("a: *nowhere\n", 1, "not valid YAML"),
        ("a: Table 5: mine\n", 1, "put text that contains a colon in quotes"),
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
        ("a: 1\nb: !mine [linear]\n", 2, "!mine is not supported"),
        ("a: 1\nb: !mine x\n", 2, "!mine is not supported"),
        ("a: 1\nb: !!omap [{c: 1}]\n", 2, "!!omap is not supported"),
        ("a: 1\nb: !!set {c, d}\n", 2, "!!set is not supported"),
        ("a: 1\nb: !!binary aGk=\n", 2, "!!binary is not supported"),
        ("a: 1\nb: !!map [c]\n", 2, "!!map is not supported"),
        ("a: 1\nb: !!int c\n", 2, "'c' is not a valid int"),
        ("a: 1\nb: !!python/tuple [1]\n", 2, "!!python/tuple is not supported"),
        ("a: 1\nb: &b [*b]\n", 2, "a node that contains it"),
        ("a: 1\nb: &b\n  c: 1\n  <<: *b\n", 2, "a node that contains it"),
        ("a: 1\nb: {<<: 3}\n", 2, "'<<' needs a mapping"),
        ("a: 1\nb: {<<: {c: 1}, <<: {d: 1}}\n", 2, "duplicate key '<<'"),
        ("a: 1\nb: {2026-01-31: 1}\n", 2, "keys must be text"),
        ("a: 1\nb: {[c]: 1}\n", 2, "keys must be text"),
        ("a: 1\nb: .nan\n", 2, "not a finite number"),
        ("a: 1\nb: [1, -1e999]\n", 2, "not a finite number"),
        (f"a: 1\nb: {'9' * 5000}\n", 2, "is not a valid int"),
        (f"a: 1\nb: {10**30}\n", 2, "is too large"),
        ('a: 1\nb: "\\0"\n', 2, "contains an invalid character"),
        ('a: 1\nb: "\\ud800"\n', 2, "contains an invalid character"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', 2, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("%YAML 1.1\n---\na: yes\n", 1, "YAML 1.2"),
        ("a: 1\nb: " + "[" * 2000 + "]" * 2000 + "\n", 2, "depth"),
        ("a: 1\nb: " + "{c: " * 2000 + "1" + "}" * 2000 + "\n", 2, "depth"),
        ("b: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + LAUGHS, 1, "aliases expand this file to more than"),
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


@pytest.mark.parametrize(
    "text", ["[1, 2", "!mine 3", "&a [*a]", ".inf", "%YAML 1.1\n--- yes", "1\n---\n2", "\x01", "'"]
)
def test_an_override_that_is_not_yaml(text: str) -> None:
    with pytest.raises(SpecError, match="is not a YAML value"):
        parse_value(text)
