"""``python -m harness.sweep``: see :data:`EXAMPLES`, or ``--help``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.runtime import COMPILE
from harness.store.results import Store, StoreError
from harness.sweep.display.console import Screen, mute
from harness.sweep.display.format import hours_of
from harness.sweep.display.live import say

OVERRIDE_HELP = "set a value of every run, e.g. optimizer.lars.lr=0.5; may be repeated"
COMPILE_HELP = "torch.compile of the networks, up to minutes before the first step (default: off)"

EXAMPLES = """\
examples:
  python -m harness.sweep experiments/temperature.yaml --plan          what would run, and what it would cost
  python -m harness.sweep experiments/temperature.yaml --scale smoke   seconds a run, on any CPU
  python -m harness.sweep experiments/temperature.yaml --scale micro   a real signal on a laptop
  python -m harness.sweep experiments/temperature.yaml                 the file's own scale; SLURM if there is one
  python -m harness.sweep experiments/temperature.yaml --cluster experiments/clusters/example.yaml
  python -m harness.sweep experiments/temperature.yaml -o optimizer.lars.lr=0.5   another value for every run
  python -m harness.sweep experiments/*.yaml --plan --budget 40h       the best use of forty GPU-hours, claim by claim
  python -m harness.sweep --status                                     how far every sweep is, from files alone
  python -m harness.sweep --logs 3f2a                                  the log of the run whose id begins so
  python -m harness.sweep experiments/temperature.yaml --retry         failed runs again

The same command again trains only what is missing; interrupted runs resume from their last checkpoint.
exit codes: 0 all is well; 1 runs failed, were held back or cut off; 2 the input is wrong and nothing was started;
130 stopped by Ctrl-C.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m harness.sweep",
        description="Run an experiment: every run of its grid that is not done yet, here or on SLURM.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("experiments", nargs="*", type=Path, metavar="EXPERIMENT.yaml", help="one or several")
    what = made.add_argument_group("what to do instead of running").add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="count and price the runs; write and start nothing")
    what.add_argument("--status", action="store_true", help="how far it is; without a file: every sweep in --results")
    what.add_argument(
        "--logs", metavar="ID", type=said, help="print the log of a run (the first digits of its id are enough)"
    )
    what.add_argument("--cancel", action="store_true", help="stop what runs and what waits; it can be resumed")
    what.add_argument("--schema", action="store_true", help="print the JSON schema of experiment files, for editors")
    which = made.add_argument_group("which runs")
    which.add_argument(
        "--scale", metavar="NAME", type=said, help="smoke, micro, cifar10, imagenet: a file of experiments/scales"
    )
    which.add_argument(
        "-o", "--override", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help=OVERRIDE_HELP
    )
    which.add_argument(
        "--only", metavar="ID[,ID]", type=ids_of, default=[], help="only these (first digits of their ids)"
    )
    which.add_argument("--seeds", metavar="0[,1-2]", type=_seeds, help="only these replicates, e.g. 0 or 1-2")
    which.add_argument(
        "--budget",
        metavar="40h",
        type=_budget,
        help="GPU-hours (without GPUs: core-hours; 90m, 2d too) for all files together: seed 0 of every cell first, "
        "then what claims need; says what is left out and which claims stay open for it",
    )
    which.add_argument("--retry", action="store_true", help="failed runs too, and evaluations that could not be had")
    where = made.add_argument_group("where")
    where.add_argument("--results", type=folder, default=Path("results"), metavar="DIR", help="default: results")
    where.add_argument("--data", "--root", type=folder, default=Path("data"), metavar="DIR", help="default: data")
    where.add_argument(
        "--cluster",
        default="auto",
        metavar="NAME|FILE",
        help="local, slurm, a file like experiments/clusters/example.yaml, or auto: SLURM if sbatch is here",
    )
    where.add_argument("--jobs", type=positive, metavar="N", help="runs at a time here (default: one per GPU or core)")
    where.add_argument(
        "--processes-per-run", type=positive, metavar="N", help="processes that share one run, each with a GPU if any"
    )
    where.add_argument(
        "--images-per-pass",
        type=positive,
        metavar="N",
        help="most images a process takes through its networks at once, where its part of a batch does not fit",
    )
    where.add_argument("--compile", choices=COMPILE, help=COMPILE_HELP)
    where.add_argument("--yes", action="store_true", help="do not ask")
    return made


def positive(text: str) -> int:
    """A number from 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _budget(text: str) -> float:
    try:
        return hours_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a budget such as 40h, 90m or 2d") from None


def ids_of(text: str) -> list[str]:
    """Ids, or their first digits, between commas, for argparse. None at all would mean every run: an unset variable."""
    return [said(one) for one in text.split(",") if one.strip()] or [said("")]


def said(text: str) -> str:
    """A value that is not empty, for argparse: that of an unset variable would mean something else, or more."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty (an unset variable?)")
    return text.strip()


def folder(text: str) -> Path:
    """As :func:`said`: an empty path would be the working directory."""
    return Path(said(text))


def _seeds(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        seeds = range(int(span[1]), int(span[2] or span[1]) + 1) if span else ()
        if not seeds:
            raise argparse.ArgumentTypeError(f"{text!r} are no seeds such as 0, 0,2 or 1-2")
        found |= set(seeds)
    return frozenset(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Bad input is one message a fault and 2, never a traceback."""
    asked = parser().parse_args(argv)
    errors = Console(stderr=True, highlight=False)
    only_looks = bool(asked.plan or asked.status or asked.logs or asked.schema)
    try:
        width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or 120)
        code = _dispatch(asked, Screen(goes_on=not only_looks, width=width))
        sys.stdout.flush()
        return code
    except (SpecError, StoreError) as error:
        complaints = getattr(error, "complaints", (error,))
        for one in complaints:
            say(errors, str(one))
    except BrokenPipeError:  # whoever read has read enough
        mute()
        return 0
    except OSError as error:
        if only_looks and error.filename is None:  # nothing else was being written
            mute()
            error.filename = "standard output"
        say(errors, f"{error.filename or asked.results}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    return 2


def _dispatch(asked: argparse.Namespace, console: Console) -> int:
    _check_flags(asked)
    if asked.schema:
        from harness.sweep.plan.schema import schema_text

        sys.stdout.write(schema_text())
        return 0
    _check_results(asked.results, writes=not (asked.plan or asked.status or asked.logs))
    store = Store(asked.results)
    if asked.logs or asked.status or asked.cancel:
        from harness.sweep import status

        names = [path.stem if path.suffix in (".yaml", ".yml") else path.name for path in asked.experiments]
        keys = [f"{name}@{asked.scale}" if asked.scale else name for name in names]
        if asked.logs:
            return status.logs(console, store, asked.logs)
        for path, key in zip(asked.experiments, keys, strict=True):
            status.check_file(store, path, key)
        if asked.cancel:
            return status.cancel(console, store, keys, asked.only, yes=asked.yes)
        return status.status(console, store, keys)
    if not asked.experiments:
        raise SpecError("name an experiment, e.g. experiments/temperature.yaml (or --help for what else there is)")
    from harness.sweep.command import sweep  # imports torch: a second or two that --status need not wait for

    return sweep(asked, console, store, [load_experiment(path, asked.scale) for path in asked.experiments])


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
        raise SpecError(f"--{doing} does not take {', '.join(idle)}; leave it out")


def _check_results(results: Path, *, writes: bool) -> None:
    """A results folder that cannot be one is said so before anything is planned; looking at one takes no permission."""
    if results.exists() and not results.is_dir():
        raise SpecError(f"--results {results}: is a file, not a folder")
    standing = next((path for path in (results, *results.resolve().parents) if path.exists()), Path("/"))
    if writes and not os.access(standing, os.W_OK):
        raise SpecError(f"--results {results}: {standing} is not writable")


if __name__ == "__main__":
    sys.exit(main())
