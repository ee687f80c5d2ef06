"""Console output that survives closed pipes and full disks; and yes-or-no questions."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.prompt import Confirm


class Screen(Console):
    """A console that outlives its reader (``| head``, a closed terminal, a full disk behind ``>``).

    With ``goes_on`` the work behind it is what matters, and goes on unseen; otherwise what is printed is all there is,
    and the command ends: with 0 where nobody reads any further, with 2 where it cannot be written.
    """

    def __init__(self, *, goes_on: bool, **options: Any) -> None:
        super().__init__(highlight=False, **options)
        self.goes_on = goes_on

    def on_broken_pipe(self) -> None:
        """As rich calls it; rich itself would end the command, and with it a sweep, with exit code 1."""
        self.quiet = True
        mute()
        if not self.goes_on:
            raise SystemExit(0)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich prints."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.quiet = True
            mute()  # or Python, which still holds the text, would complain a second time when it ends
            more = "; the sweep continues without output" if self.goes_on else ""
            print(f"standard output: {error.strerror or error}{more}", file=sys.stderr)
            if not self.goes_on:
                raise SystemExit(2) from None


def mute() -> None:
    """From now on standard output leads nowhere."""
    with suppress(OSError, ValueError):  # nothing to lead away where it is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def agreed(console: Console, question: str, otherwise: str) -> bool:
    """Ask a person yes or no. Enter and the end of the input mean no: then print ``otherwise``."""
    with suppress(EOFError):
        if Confirm.ask(question, console=console, default=False):
            return True
    console.print(otherwise, markup=False)
    return False
