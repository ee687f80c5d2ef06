"""Errors of experiment files: every complaint of a file at once, each with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong; ``where`` is ``file:line`` or the dotted path that was asked for."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class SpecError(ValueError):
    """Bad input. Command lines print it without a traceback and exit with code 2."""

    def __init__(self, complaints: Iterable[Complaint] | str) -> None:
        listed = [Complaint("", complaints)] if isinstance(complaints, str) else list(complaints)
        self.complaints: tuple[Complaint, ...] = tuple(listed)
        super().__init__("\n".join(str(one) for one in self.complaints))


def remedy(kind: str, value: Any) -> str:
    """What to write instead, where pydantic's message (of this ``kind``, about ``value``) says only what is wrong."""
    if kind == "list_type":
        if isinstance(value, Mapping):
            return ": write '- ' before its first key"
        return f": write [{value}]" if isinstance(value, str | int | float) else ""
    if kind in ("bool_type", "bool_parsing") and str(value).lower() in ("yes", "no", "on", "off"):
        return "; in YAML 1.2 that is a word: write true or false"
    return ""


def nearest(word: str, choices: Iterable[str], most: int = 12) -> str:
    """``did you mean 'blur'? (choices: ...)``: the tail of every message about a name that does not exist."""
    known = sorted(set(choices))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not known:
        return "nothing is known here"
    shown = ", ".join(known[:most]) + (", ..." if len(known) > most else "")
    return f"did you mean {close[0]!r}? (choices: {shown})" if close else f"choices: {shown}"
