"""How attempts at runs ended, by class, with what happens then: the lower part of ``--status``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from rich.console import Console

from harness.store.attempts import last
from harness.store.causes import Cause
from harness.store.results import RunFolder, State, StoreError, read_json
from harness.sweep.display.live import say

OPEN = (State.TODO, State.TRAINED, State.CANCELLED)


def endings(states: Iterable[tuple[RunFolder, State]]) -> Counter[Cause]:
    """Of every run that failed, diverged, or was tried and is to do again: the cause of its newest attempt."""
    found: Counter[Cause] = Counter()
    for folder, state in states:
        word: object = None
        if state is State.DIVERGED:
            word = Cause.DIVERGED
        elif state is State.FAILED:
            with suppress(StoreError):
                word = (read_json(folder.failure) or {}).get("cause", Cause.CODE)
        elif state is State.UNKNOWN:
            word = Cause.NODE
        elif state in OPEN:
            word = (last(folder) or {}).get("cause")
        with suppress(ValueError):
            cause = Cause(str(word))
            if cause is not Cause.DONE:  # of its training, where only an evaluation is to do
                found[cause] += 1
    return found


def show_endings(console: Console, found: Counter[Cause]) -> None:
    """One line a class: how many, and the policy."""
    for cause in Cause:
        if found[cause]:
            style = "red" if cause.failed else "yellow"
            say(console, f"{found[cause]} {cause}: {cause.policy}", style=style)
