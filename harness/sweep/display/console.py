"""Console output that survives closed pipes and full disks; and yes-or-no questions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.prompt import Confirm

from harness.config.errors import SpecError
from harness.store.results import StoreError

STOPPED = 130
"""Exit code after Ctrl-C or SIGTERM."""


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


def ending(do: Callable[[Console], int], *, only_looks: bool, about: Path) -> int:
    """Exit code of a command: bad input is one message a fault and 2, never a traceback.

    ``only_looks``: what is printed is all there is (see :class:`Screen`). An error without a file is of ``about``.
    """
    errors = Console(stderr=True, highlight=False)
    try:
        width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or 120)
        code = do(Screen(goes_on=not only_looks, width=width))
        sys.stdout.flush()
        return code
    except (SpecError, StoreError) as error:
        for one in getattr(error, "complaints", (error,)):
            errors.print(str(one), markup=False, soft_wrap=True)
    except BrokenPipeError:  # whoever read has read enough
        mute()
        return 0
    except OSError as error:
        if only_looks and error.filename is None:  # nothing else was being written
            mute()
            error.filename = "standard output"
        errors.print(f"{error.filename or about}: {error.strerror or error}", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        return STOPPED
    return 2
