"""What the sub-commands that are about sweeps do, once their arguments are read: each imports what it needs."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from harness.sweep.arguments import keys, store_at

if TYPE_CHECKING:
    from rich.console import Console


def run(asked: argparse.Namespace) -> int:
    """``run``, ``plan`` and ``retry``."""
    from harness.sweep.display.console import ending

    def do(console: Console) -> int:
        from harness.config.builtin import experiment_path

        store = store_at(asked.results, writes=not asked.plan)
        asked.experiments = [experiment_path(path) for path in asked.experiments]
        from harness.sweep.command import run_files  # imports torch: what a typo need not wait for

        return run_files(asked, console, store)

    return ending(do, only_looks=asked.plan, about=asked.results)


def status(asked: argparse.Namespace) -> int:
    """How far sweeps are."""
    from harness.sweep import status as sweeps
    from harness.sweep.display.console import ending

    def do(console: Console) -> int:
        store = store_at(asked.results, writes=False)
        named = keys(asked, store)
        if asked.json:
            print(json.dumps(sweeps.as_json(store, named), indent=1))
            return 0
        if asked.watch:
            return sweeps.watch(console, asked.watch, lambda: sweeps.status(console, store, named))
        return sweeps.status(console, store, named)

    return ending(do, only_looks=True, about=asked.results)


def cancel(asked: argparse.Namespace) -> int:
    """Stop what runs and what waits."""
    from harness.sweep import status as sweeps
    from harness.sweep.display.console import ending

    def do(console: Console) -> int:
        store = store_at(asked.results, writes=True)
        return sweeps.cancel(console, store, keys(asked, store), asked.only, yes=asked.yes)

    return ending(do, only_looks=False, about=asked.results)


def logs(asked: argparse.Namespace) -> int:
    """The log of one run."""
    from harness.sweep import status as sweeps
    from harness.sweep.display.console import ending

    def do(console: Console) -> int:
        return sweeps.logs(console, store_at(asked.results, writes=False), asked.run, follow=asked.follow)

    return ending(do, only_looks=True, about=asked.results)
