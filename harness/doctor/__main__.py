"""``python -m harness.doctor``: check this machine or cluster, with a fix for each fault."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.arguments import Parser, add_places
from harness.config.errors import SpecError
from harness.sweep.arguments import add_experiments

if TYPE_CHECKING:
    from harness.doctor.finding import Finding

ABOUT = "say what will and will not work on this machine or cluster, and what to do about it"

EXAMPLES = """\
examples:
  %(prog)s                                                this machine, and SLURM if sbatch is here
  %(prog)s experiments/temperature.yaml --scale micro     and whether what these need is here
  %(prog)s --cluster experiments/clusters/mine.yaml       would SLURM take the jobs of this file?
  %(prog)s --data /scratch/data --results /scratch/results

Nothing is written, trained or submitted. exit codes: 0 a sweep would run; 1 it would fail; 2 wrong usage.
"""
EXPERIMENTS = Path("experiments")


def parser() -> Parser:
    """The command line."""
    made = Parser(prog="python -m harness.doctor", description=f"{ABOUT[0].upper()}{ABOUT[1:]}.", epilog=EXAMPLES)
    add_arguments(made)
    return made


def add_arguments(made: Parser) -> None:
    """The options of the sweep that say where."""
    add_experiments(made, "look at what these need: files, or names of built-in ones")
    made.add_argument("--scale", metavar="NAME", help="the scale these would run at (default: each file's own)")
    made.add_argument("--cluster", default="auto", metavar="NAME|FILE", help="as for the sweep; default: auto")
    add_places(made)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    made = parser()
    return act(made.parse_args(argv), made)


def act(asked: argparse.Namespace, made: Parser) -> int:
    """Look at everything; returns the exit code. ``made`` complains of options that do not go together."""
    if asked.scale and not asked.experiments:
        made.error("--scale says at which scale experiments would run: name one, e.g. experiments/temperature.yaml")
    from harness.doctor.finding import Severity, show
    from harness.sweep.display.console import Screen

    seen: list[Finding] = []

    def found() -> Iterator[Finding]:
        for one in findings(asked):
            seen.append(one)
            yield one

    console = Screen(goes_on=False)
    show(console, found())
    faults = sum(one.level is Severity.FAIL for one in seen)
    console.print()
    if faults:
        console.print(f"{faults} of {len(seen)} would make a sweep fail; see the fix under each.", style="red")
        return 1
    console.print("A sweep would run here.", style="green")
    return 0


def findings(asked: argparse.Namespace) -> Iterator[Finding]:
    """Of this machine, of what the experiments need, and of SLURM, one after the other."""
    from harness.config.builtin import experiment_path
    from harness.doctor.finding import fail
    from harness.doctor.here import check_here
    from harness.doctor.needs import check_needs
    from harness.doctor.slurm import check_slurm

    yield from check_here(asked.data, asked.results, wanted=not asked.experiments)
    for written in asked.experiments:
        try:
            yield from check_needs([experiment_path(written)], asked.scale, asked.data)
        except SpecError as error:
            yield fail("experiment", str(error), "name a file or a built-in experiment")
    yield from check_slurm(asked.cluster, EXPERIMENTS, asked.results)


if __name__ == "__main__":
    sys.exit(main())
