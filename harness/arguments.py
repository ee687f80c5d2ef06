"""Command-line arguments: a parser that complains in one line, and the types that several commands read. No torch."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from harness.config.errors import nearest


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose complaints are one line with the nearest option; exit code 2.

    Descriptions and examples keep their line breaks. ``%(prog)s`` in them is the command as it was called.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**{"allow_abbrev": False, **options})
        self._names: Any = None
        self._unknown: Callable[[str, Iterable[str]], str] = _unknown_command

    def add_subparsers(self, *, unknown: Callable[[str, Iterable[str]], str] | None = None, **options: Any) -> Any:
        """As argparse does; ``unknown`` says what is wrong with a name that is none of them."""
        self._names = super().add_subparsers(**options)
        self._unknown = unknown or self._unknown
        return self._names

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse parses, but what is unknown ends here: a sub-command knows its own options."""
        given = list(sys.argv[1:] if args is None else args)
        if self._names is not None and given and not given[0].startswith("-") and given[0] not in self._names.choices:
            self.error(self._unknown(given[0], self._names.choices))
        found, unknown = super().parse_known_args(given, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]}{self._meant(unknown[0])}")
        return found, unknown

    def _meant(self, word: str) -> str:
        known = [flag for action in self._actions for flag in action.option_strings]
        close = difflib.get_close_matches(word.partition("=")[0], known, n=1) if word.startswith("-") else []
        return f": did you mean {close[0]}?" if close else ""


def _unknown_command(name: str, known: Iterable[str]) -> str:
    return f"no command {name!r}: {nearest(name, known)}"


def positive(text: str) -> int:
    """A number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def said(text: str) -> str:
    """A value that is not empty: that of an unset variable would mean something else, or more."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty (an unset variable?)")
    return text.strip()


def folder(text: str) -> Path:
    """As :func:`said`: an empty path would be the working directory."""
    return Path(said(text))


def add_places(parser: Any, *names: str) -> None:
    """``--results`` and ``--data``, or those of them that are named, for a parser or a group of one."""
    flags: dict[str, Sequence[str]] = {"results": ("--results",), "data": ("--data", "--root")}
    for name in names or flags:
        parser.add_argument(*flags[name], type=folder, default=Path(name), metavar="DIR", help=f"default: {name}")
