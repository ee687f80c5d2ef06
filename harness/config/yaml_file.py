"""Read a YAML file as plain data that knows the line of each value.

YAML 1.2 (ruamel): ``1e-6`` is a number, ``no`` is a word, a key given twice is an error. What is read are the nodes
that ruamel composes, each of which knows its line; anchors, aliases and merge keys (``<<``) are understood, tags that
mean more than plain data are refused.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from harness.config.errors import Complaint, SpecError

Keys = tuple[str | int, ...]

DEPTH = 64
"""Levels of lists and mappings within one another; experiments have nine."""
VALUES = 100_000
"""Values of a file, those that aliases repeat counted each time; the longest experiment has some hundreds."""

PARSER_ERRORS = (YAMLError, ValueError, ArithmeticError, RecursionError, AttributeError, TypeError, LookupError)
"""What ruamel raises at what is no YAML; a letter beyond Unicode, for one, is an OverflowError."""

_CORE = "tag:yaml.org,2002:"
_WORDS = frozenset({"str", "timestamp", "value"})
"""Tags of scalars that are taken as they are written: 2026-01-31 is no date to us."""
_PARSED = frozenset({"int", "float", "bool"})
"""Tags of those that are numbers and truths."""


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
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file{_meant(path)}") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder, not a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    document = Document(path, None, _leading_comment(text))
    try:
        root = _composed(text)
        if root is None:
            raise SpecError([Complaint(f"{path}:1", "the file is empty")])
        if not isinstance(root, MappingNode):
            raise _Refused(root, "expected a mapping of keys to values at the top level")
        document.data = _Reader(document._lines).value(root, ())
    except _Refused as refused:
        raise SpecError([Complaint(f"{path}:{refused.line}", str(refused))]) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).partition(", if necessary")[0].partition("\n")[0]
        raise SpecError([Complaint(f"{path}:{line}", f"not valid YAML: {problem}{_hint(error)}")]) from None
    except PARSER_ERRORS as error:
        raise SpecError([Complaint(f"{path}:{_reached(text)}", f"not valid YAML: {_first_line(error)}")]) from None
    return document


def _first_line(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]


def _reached(text: str) -> int:
    """The line of the last thing that the parser understood, or of the first letter that no YAML may have."""
    line = 1
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            line = event.start_mark.line + 1
    except ReaderError as error:
        return text.count("\n", 0, error.position) + 1
    except PARSER_ERRORS:
        pass
    return line


def _composed(text: str) -> Node | None:
    """The nodes of the one document of a text. Raises ruamel's errors, and :class:`_Refused`."""
    for number, line in enumerate(text.splitlines()):
        if line.startswith("---"):
            break
        if line.startswith("%YAML") and line.split()[1:2] != ["1.2"]:
            raise _Refused(number, "files are read as YAML 1.2: remove this line")
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = DEPTH
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an anchor that is given twice, which YAML allows
        root: Node | None = yaml.compose(text)
    return root


def _hint(error: MarkedYAMLError) -> str:
    """What is most often behind two of the parser's messages."""
    if str(error.problem).startswith("mapping values are not allowed"):
        return "; put text that contains a colon in quotes, and indent all keys of a level alike"
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
        root = _composed(text)
        return None if root is None else _Reader({}).value(root, ())
    except PARSER_ERRORS as error:
        raise SpecError(f"{text!r} is not a YAML value: {_first_line(error)}") from None


def _leading_comment(text: str) -> str:
    kept = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        kept.append(line.lstrip("#").strip())
    return " ".join(kept).strip()


class _Refused(ValueError):
    """What YAML allows and these files do not; ``line`` is counted from 1."""

    def __init__(self, place: Node | int, what: str) -> None:
        super().__init__(what)
        self.line = (place if isinstance(place, int) else place.start_mark.line) + 1


class _Reader:
    """Composed nodes -> plain Python, recording lines on the way. Raises :class:`_Refused`."""

    def __init__(self, lines: dict[Keys, int]) -> None:
        self.lines = lines
        self.read = 0
        self.within: list[Node] = []  # nodes that are being read: one that turns up within itself has no end
        self.constructor = YAML(typ="safe", pure=True).constructor

    def value(self, node: Node, trail: Keys) -> Any:
        """What a node means. ``trail`` is where it stands, which is not where its anchor does."""
        self.read += 1
        if self.read > VALUES:
            raise _Refused(node, f"aliases expand this file to more than {VALUES:,} values")
        if any(node is one for one in self.within):
            raise _Refused(node, "an alias refers to a node that contains it")
        self.within.append(node)
        try:
            if len(self.within) > DEPTH:
                raise _Refused(node, f"nested more than {DEPTH} levels deep")
            if isinstance(node, MappingNode):
                return self.mapping(node, trail)
            if isinstance(node, SequenceNode):
                return self.sequence(node, trail)
            return self.scalar(node)
        finally:
            self.within.pop()

    def mapping(self, node: MappingNode, trail: Keys) -> dict[str, Any]:
        """Its own keys, then those of ``<<`` that it does not have itself."""
        self._assert_tag(node, "map")
        plain: dict[str, Any] = {}
        merged: Node | None = None
        for key_node, value_node in node.value:
            if key_node.tag == f"{_CORE}merge":
                if merged is not None:
                    raise _Refused(key_node, "found duplicate key '<<': write <<: [*one, *other]")
                merged = value_node
                continue
            key = self._key(key_node)
            if key in plain:
                raise _Refused(key_node, f"found duplicate key {key!r}")
            self.lines[(*trail, key)] = key_node.start_mark.line + 1
            plain[key] = self.value(value_node, (*trail, key))
        for source in self._merged(merged) if merged is not None else ():
            lines: dict[Keys, int] = {}
            self.lines, held = lines, self.lines
            try:
                more = self.value(source, trail)
            finally:
                self.lines = held
            new = more.keys() - plain.keys()
            self.lines |= {keys: line for keys, line in lines.items() if keys[len(trail)] in new}
            plain |= {key: value for key, value in more.items() if key in new}
        return plain

    def _merged(self, node: Node) -> Iterator[Node]:
        several = node.value if isinstance(node, SequenceNode) else [node]
        for one in several:
            if not isinstance(one, MappingNode):
                raise _Refused(one, "'<<' needs a mapping or a list of mappings")
            yield one

    def _key(self, node: Node) -> str:
        if isinstance(node, ScalarNode) and node.tag == f"{_CORE}str":
            return self._text(node)
        shown = repr(node.value) if isinstance(node, ScalarNode) else "a list or a mapping"
        raise _Refused(node, f"keys must be text, not {shown}: put it in quotes")

    def sequence(self, node: SequenceNode, trail: Keys) -> list[Any]:
        """A list; the line of an item is where it is written, or its anchor."""
        self._assert_tag(node, "seq")
        found = []
        for index, item in enumerate(node.value):
            self.lines[(*trail, index)] = item.start_mark.line + 1
            found.append(self.value(item, (*trail, index)))
        return found

    def scalar(self, node: Node) -> str | int | float | bool | None:
        """Of the tags that YAML gives plain text, or that are written before it."""
        kind = str(node.tag).removeprefix(_CORE)
        if kind == "null" and node.value.lower() in ("", "~", "null"):
            return None
        if kind in _WORDS:
            return self._text(node)
        if kind not in _PARSED:
            raise _Refused(node, _tagged(node))
        try:
            found: int | float | bool = self.constructor.yaml_constructors[node.tag](self.constructor, node)
        except (ValueError, LookupError):
            raise _Refused(node, f"{_cut(node.value)!r} is not a valid {kind}") from None
        if isinstance(found, float) and not math.isfinite(found):
            raise _Refused(node, f"{_cut(node.value)} is not a finite number")
        if type(found) is int and found.bit_length() > 64:
            raise _Refused(node, f"{_cut(node.value)} is too large: integers have at most 64 bits")
        return found

    def _text(self, node: Node) -> str:
        """A text that can be written to a file again, and be a file's name. YAML allows more in quotes."""
        text = str(node.value)
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise _Refused(node, f"{_cut(text)!a} contains an invalid character (NUL or a lone surrogate)")
        return text

    def _assert_tag(self, node: Node, kind: str) -> None:
        if node.tag != f"{_CORE}{kind}":
            raise _Refused(node, _tagged(node))


def _tagged(node: Node) -> str:
    tag = str(node.tag)
    shown = "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag
    return f"{shown} is not supported: write plain values, lists and mappings without tags"


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
