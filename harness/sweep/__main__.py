"""``python -m harness.sweep``: one command whose flags say what to do. ``harness`` has sub-commands for the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.arguments import Parser, said
from harness.sweep.arguments import add_experiments, add_where, add_which, add_yes, keys, store_at

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = """\
examples:
  %(prog)s experiments/temperature.yaml --plan          what would run, and what it would cost
  %(prog)s experiments/temperature.yaml --scale smoke   seconds a run, on any CPU
  %(prog)s experiments/temperature.yaml --scale micro   a real signal on a laptop
  %(prog)s experiments/temperature.yaml                 the file's own scale; SLURM if there is one
  %(prog)s experiments/temperature.yaml --cluster experiments/clusters/example.yaml
  %(prog)s experiments/temperature.yaml -o optimizer.lars.lr=0.5   another value for every run
  %(prog)s experiments/*.yaml --plan --budget 40h       the best use of forty GPU-hours, claim by claim
  %(prog)s --status                                     how far every sweep is, from files alone
  %(prog)s --logs 3f2a                                  the log of the run whose id begins so
  %(prog)s experiments/temperature.yaml --retry         failed runs again

The same command again trains only what is missing; interrupted runs resume from their last checkpoint.
exit codes: 0 all is well; 1 runs failed, were held back or cut off; 2 the input is wrong and nothing was started;
130 stopped by Ctrl-C.
"""


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog="python -m harness.sweep",
        description="Run an experiment: every run of its grid that is not done yet, here or on SLURM.",
        epilog=EXAMPLES,
    )
    add_experiments(made)
    what = made.add_argument_group("what to do instead of running").add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="count and price the runs; write and start nothing")
    what.add_argument("--status", action="store_true", help="how far it is; without a file: every sweep in --results")
    what.add_argument(
        "--logs", metavar="ID", type=said, help="print the log of a run (the first digits of its id are enough)"
    )
    what.add_argument("--cancel", action="store_true", help="stop what runs and what waits; it can be resumed")
    what.add_argument("--schema", action="store_true", help="print the JSON schema of experiment files, for editors")
    which = made.add_argument_group("which runs")
    add_which(which)
    which.add_argument("--retry", action="store_true", help="failed runs too, and evaluations that could not be had")
    where = made.add_argument_group("where")
    add_where(where)
    add_yes(where)
    made.set_defaults(list=False, json=False)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Bad input is one message a fault and 2, never a traceback."""
    asked = parser().parse_args(argv)
    only_looks = bool(asked.plan or asked.status or asked.logs or asked.schema)
    from harness.sweep.display.console import ending

    return ending(lambda console: _dispatch(asked, console), only_looks=only_looks, about=asked.results)


def _dispatch(asked: argparse.Namespace, console: Console) -> int:
    _check_flags(asked)
    if asked.schema:
        from harness.sweep.plan.schema import schema_text

        sys.stdout.write(schema_text())
        return 0
    store = store_at(asked.results, writes=not (asked.plan or asked.status or asked.logs))
    if asked.logs or asked.status or asked.cancel:
        from harness.sweep import status

        if asked.logs:
            return status.logs(console, store, asked.logs)
        if asked.cancel:
            return status.cancel(console, store, keys(asked, store), asked.only, yes=asked.yes)
        return status.status(console, store, keys(asked, store))
    from harness.sweep.command import run_files  # imports torch: a second or two that --status need not wait for

    return run_files(asked, console, store)


def _check_flags(asked: argparse.Namespace) -> None:
    """A choice that would be ignored is refused. Raises :class:`SpecError`."""
    doing = next((one for one in ("logs", "status", "cancel", "schema") if getattr(asked, one)), None)
    if doing is None:
        return
    of_files = doing in ("status", "cancel")
    given = {
        "a file": bool(asked.experiments) and not of_files,
        "--scale": asked.scale is not None and not of_files,
        "--scale without a file": asked.scale is not None and of_files and not asked.experiments,
        "--jobs": asked.jobs is not None,
        "--processes-per-run": asked.processes_per_run is not None,
        "--images-per-pass": asked.images_per_pass is not None,
        "--compile": asked.compile is not None,
        "--only": bool(asked.only) and not asked.cancel,
        "--seeds": asked.seeds is not None,
        "--budget": asked.budget is not None,
        "--retry": asked.retry,
        "-o": bool(asked.overrides),
    }
    if idle := [flag for flag, is_given in given.items() if is_given]:
        from harness.config.errors import SpecError

        raise SpecError(f"--{doing} does not take {', '.join(idle)}; leave it out")


if __name__ == "__main__":
    sys.exit(main())
