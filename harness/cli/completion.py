"""Completion in the shell, by argcomplete: it calls this command back, so names of experiments and runs are today's."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import Any

SHELLS = ("bash", "zsh", "fish")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end, where it is the shell that asks."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def shell_code(shell: str) -> str:
    """What a shell has to evaluate, e.g. in ``~/.bashrc``."""
    from argcomplete.shell_integration import shellcode

    return str(shellcode(["harness"], shell=shell))


def complete_experiments(action: argparse.Action) -> None:
    """Built-in experiments by name, and files."""
    action.completer = _experiments  # type: ignore[attr-defined]


def complete_runs(action: argparse.Action) -> None:
    """Ids of the runs in ``--results``."""
    action.completer = _runs  # type: ignore[attr-defined]


def _experiments(prefix: str, **_: Any) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    from harness.config.builtin import names_here

    return [*names_here(), *FilesCompleter(("yaml", "yml"))(prefix)]


def _runs(parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    from harness.store.results import Store

    return Store(parsed_args.results).run_ids()
