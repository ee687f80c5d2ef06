"""One line of the doctor's screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.text import Text


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  # good to know; nothing is wrong
    WARN = "warn"  # a sweep runs, but not as well as it could
    FAIL = "FAIL"  # a sweep would fail


STYLES = {Severity.OK: "green", Severity.NOTE: "cyan", Severity.WARN: "yellow", Severity.FAIL: "bold red"}


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was seen, and what to do about it."""

    level: Severity
    about: str
    seen: str
    remedy: str = ""


def ok(about: str, seen: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Severity.OK, about, seen)


def note(about: str, seen: str, remedy: str = "") -> Finding:
    """Return a finding that is good to know."""
    return Finding(Severity.NOTE, about, seen, remedy)


def warn(about: str, seen: str, remedy: str) -> Finding:
    """Return a finding that a sweep runs with, though not as well as it could."""
    return Finding(Severity.WARN, about, seen, remedy)


def fail(about: str, seen: str, remedy: str) -> Finding:
    """Return a finding that would make a sweep fail."""
    return Finding(Severity.FAIL, about, seen, remedy)


def show(console: Console, findings: Iterable[Finding]) -> None:
    """One line a finding, as soon as it is there; its remedy beneath it."""
    for one in findings:
        line = Text(f"{one.level.value:5}", style=STYLES[one.level]).append(
            f"{one.about:12} {one.seen}", style="default"
        )
        console.print(line, soft_wrap=True)
        if one.remedy:
            console.print(Text(f"{'':18}-> {one.remedy}"), soft_wrap=True)
