"""A YAML file as plain data that remembers on which line each value stood.

YAML 1.2 (ruamel): ``1e-6`` is a number, ``no`` is a word, a key given twice is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.spec.errors import Complaint, SpecError

Keys = tuple[str | int, ...]


@dataclass
class Document:
    """``data`` is made of dict, list, str, int, float, bool and None only; ``comment`` is the leading comment."""

    path: Path
    data: Any
    comment: str = ""
    _lines: dict[Keys, int] = field(default_factory=dict)

    def line(self, keys: Iterable[str | int]) -> int:
        """The line (from 1) of a key, or of its nearest ancestor that is written in the file."""
        trail = tuple(keys)
        while trail and trail not in self._lines:
            trail = trail[:-1]
        return self._lines.get(trail, 1)

    def complaint(self, keys: Iterable[str | int], what: str) -> Complaint:
        """A complaint that names this file and the line of ``keys``."""
        return Complaint(f"{self.path}:{self.line(keys)}", what)


def read_yaml(path: Path) -> Document:
    """Read one file. Raises :class:`SpecError`: missing, not UTF-8, not YAML, a duplicate key, not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file{_meant(path)}") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder, not a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    try:
        loaded = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).splitlines()[0]
        raise SpecError([Complaint(f"{path}:{line}", problem)]) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError([Complaint(f"{path}:{line}", f"not valid YAML: {error.problem}{_hint(error)}")]) from None
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise SpecError([Complaint(f"{path}:1", f"not valid YAML: {str(error).splitlines()[0]}")]) from None
    if loaded is None:
        raise SpecError([Complaint(f"{path}:1", "the file is empty")])
    if not isinstance(loaded, CommentedMap):
        raise SpecError([Complaint(f"{path}:1", "expected a mapping of keys to values at the top level")])
    document = Document(path, None, _leading_comment(text))
    document.data = _plain(loaded, (), document._lines, document)
    return document


def _hint(error: MarkedYAMLError) -> str:
    """What is most often behind two of the parser's messages."""
    if str(error.problem).startswith("mapping values are not allowed"):
        return "; a text with a colon in it needs quotes, and keys of one level one indentation"
    if "'\\t'" in str(error.problem):
        return "; indent with spaces, not with tabs"
    return ""


def _meant(path: Path) -> str:
    """The file beside it with nearly this name; for a bare name, the experiment of that name."""
    named = Path("experiments") / f"{path.name}.yaml"
    if not path.suffix and named.is_file():
        return f"; did you mean {named}?"
    close = difflib.get_close_matches(path.name, [one.name for one in path.parent.glob("*.yaml")], n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def parse_value(text: str) -> Any:
    """The value of ``-o key=text``, read as YAML: ``0.5``, ``true``, ``[crop, color]``."""
    try:
        loaded = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise SpecError(f"{text!r} is not a YAML value: {str(error).splitlines()[0]}") from None
    return loaded


def _leading_comment(text: str) -> str:
    kept = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        kept.append(line.lstrip("#").strip())
    return " ".join(kept).strip()


def _plain(node: Any, trail: Keys, lines: dict[Keys, int], document: Document) -> Any:
    """ruamel's round-trip objects -> plain Python, recording lines on the way."""
    if isinstance(node, CommentedMap):
        plain: dict[str, Any] = {}
        for key, value in node.items():
            if not isinstance(key, str):
                line = node.lc.key(key)[0] + 1 if node.lc.data else 1
                raise SpecError([Complaint(f"{document.path}:{line}", f"keys must be words, not {key!r}")])
            lines[(*trail, key)] = node.lc.key(key)[0] + 1
            plain[str(key)] = _plain(value, (*trail, str(key)), lines, document)
        return plain
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            lines[(*trail, index)] = node.lc.item(index)[0] + 1
        return [_plain(value, (*trail, index), lines, document) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    return str(node)
