"""``python -m harness.doctor``: what will and will not work here, each fault with its remedy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from harness.doctor.finding import Finding, Severity, show
from harness.doctor.here import check_here
from harness.doctor.needs import check_needs
from harness.doctor.slurm import check_slurm
from harness.sweep.display.console import Screen

EXAMPLES = """\
examples:
  python -m harness.doctor                                                this machine, and SLURM if sbatch is here
  python -m harness.doctor experiments/temperature.yaml --scale micro     and whether what these need is here
  python -m harness.doctor --cluster experiments/clusters/mine.yaml       would SLURM take the jobs of this file?
  python -m harness.doctor --data /scratch/data --results /scratch/results

Nothing is written, trained or submitted. exit codes: 0 a sweep would run; 1 it would fail; 2 wrong usage.
"""
EXPERIMENTS = Path("experiments")


def parser() -> argparse.ArgumentParser:
    """The command line: the options of the sweep that say where."""
    made = argparse.ArgumentParser(
        prog="python -m harness.doctor",
        description="Say what will and will not work on this machine or cluster, and what to do about it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("experiments", nargs="*", type=Path, metavar="EXPERIMENT.yaml", help="look at what these need")
    made.add_argument("--scale", metavar="NAME", help="the scale these would run at (default: each file's own)")
    made.add_argument("--cluster", default="auto", metavar="NAME|FILE", help="as for the sweep; default: auto")
    made.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    made.add_argument("--data", "--root", type=Path, default=Path("data"), metavar="DIR", help="default: data")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    made = parser()
    asked = made.parse_args(argv)
    if asked.scale and not asked.experiments:
        made.error("--scale says at which scale experiments would run: name one, e.g. experiments/temperature.yaml")
    seen: list[Finding] = []

    def found() -> Iterator[Finding]:
        machine = check_here(asked.data, asked.results, wanted=not asked.experiments)
        needs = check_needs(asked.experiments, asked.scale, asked.data)
        for one in chain(machine, needs, check_slurm(asked.cluster, EXPERIMENTS, asked.results)):
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


if __name__ == "__main__":
    sys.exit(main())
