"""``python -m harness.sweep``: see :data:`EXAMPLES`, or ``--help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.spec.document import parse_value
from harness.spec.errors import SpecError
from harness.spec.experiment import Experiment, load_experiment
from harness.store import Store, StoreError
from harness.sweep.live import say

if TYPE_CHECKING:
    from harness.sweep.plan import Plan, PlannedRun

EXAMPLES = """\
examples:
  python -m harness.sweep experiments/temperature.yaml --plan          what would run, and what it would cost
  python -m harness.sweep experiments/temperature.yaml --scale smoke   seconds a run, on any CPU
  python -m harness.sweep experiments/temperature.yaml --scale micro   a real signal on a laptop
  python -m harness.sweep experiments/temperature.yaml                 the file's own scale; SLURM if there is one
  python -m harness.sweep experiments/temperature.yaml --cluster experiments/clusters/example.yaml
  python -m harness.sweep experiments/temperature.yaml -o optimizer.lars.lr=0.5   another value for every run
  python -m harness.sweep --status                                     how far every sweep is, from files alone
  python -m harness.sweep --logs 3f2a                                  the log of the run whose id begins so
  python -m harness.sweep experiments/temperature.yaml --retry         failed runs again

The same command again trains only what is missing; interrupted runs resume from their last checkpoint.
exit codes: 0 all is well; 1 runs failed or were held back; 2 the input is wrong and nothing was started;
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
    what.add_argument("--logs", metavar="ID", help="print the log of a run (the first digits of its id are enough)")
    what.add_argument("--cancel", action="store_true", help="stop what runs and what waits; it can be resumed")
    what.add_argument("--schema", action="store_true", help="print the JSON schema of experiment files, for editors")
    which = made.add_argument_group("which runs")
    which.add_argument("--scale", metavar="NAME", help="smoke, micro, cifar10, imagenet: a file of experiments/scales")
    which.add_argument("-o", "--override", action="append", default=[], metavar="PATH=VALUE", dest="overrides")
    which.add_argument("--only", metavar="ID[,ID]", help="only these runs (first digits of their ids)")
    which.add_argument("--retry", action="store_true", help="failed runs too")
    where = made.add_argument_group("where")
    where.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    where.add_argument("--data", type=Path, default=Path("data"), metavar="DIR", help="default: data")
    where.add_argument(
        "--cluster",
        default="auto",
        metavar="NAME|FILE",
        help="local, slurm, a file like experiments/clusters/example.yaml, or auto: SLURM if sbatch is here",
    )
    where.add_argument("--jobs", type=_positive, metavar="N", help="runs at a time here (default: one per GPU or core)")
    where.add_argument("--yes", action="store_true", help="do not ask")
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Bad input is one message a fault and 2, never a traceback."""
    asked = parser().parse_args(argv)
    errors = Console(stderr=True, highlight=False)
    try:
        width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or 120)
        return _dispatch(asked, Console(highlight=False, width=width))
    except (SpecError, StoreError) as error:
        complaints = getattr(error, "complaints", (error,))
        for one in complaints:
            say(errors, str(one))
    except OSError as error:
        say(errors, f"{error.filename or asked.results}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    return 2


def _dispatch(asked: argparse.Namespace, console: Console) -> int:
    if asked.schema:
        from harness.sweep.schema import schema_text

        sys.stdout.write(schema_text())
        return 0
    _check_results(asked.results)
    store = Store(asked.results)
    if asked.logs or asked.status or asked.cancel:
        from harness.sweep import status

        keys = [f"{path.stem}@{asked.scale}" if asked.scale else path.stem for path in asked.experiments]
        if asked.logs:
            return status.logs(console, store, asked.logs)
        if asked.cancel:
            return status.cancel(console, store, keys, _ids(asked.only), yes=asked.yes)
        return status.status(console, store, keys)
    if not asked.experiments:
        raise SpecError("name an experiment, e.g. experiments/temperature.yaml (or --help for what else there is)")
    experiments = [load_experiment(path, asked.scale) for path in asked.experiments]
    return max(_sweep(asked, console, store, one) for one in experiments)


def _sweep(asked: argparse.Namespace, console: Console, store: Store, experiment: Experiment) -> int:
    from harness.sweep.plan import make_plan  # imports torch: a second or two that --status need not wait for

    overrides, code = _overrides(asked.overrides), _code()
    plan = make_plan(experiment, store, overrides=overrides, code=code)
    if asked.retry and not asked.plan:
        from harness.sweep import status

        status.forget_failures(plan, _ids(asked.only))
        plan = make_plan(experiment, store, overrides=overrides, code=code)
    runs = _chosen(plan, _ids(asked.only))
    cluster = _cluster(asked, experiment)
    if cluster is None:
        return _here(asked, console, plan, runs)
    from harness.sweep.launch import sweep_on

    return sweep_on(console, plan, runs, cluster, asked.data.resolve(), only_plan=asked.plan)


def _here(asked: argparse.Namespace, console: Console, plan: Plan, runs: list[PlannedRun]) -> int:
    from harness.sweep import local
    from harness.sweep.preflight import check_data
    from harness.sweep.record import record
    from harness.sweep.show import show_plan

    cost, here = local.cost_here(plan, runs, asked.jobs)
    many = f"{here.jobs} at a time" if here.jobs > 1 else "one at a time"
    show_plan(console, plan, cost, f"here, {many}" + (" on GPUs" if here.gpus else ""))
    if asked.plan:
        return 0
    check_data(runs, asked.data)
    if not local.confirm_long(console, cost, yes=asked.yes):
        return 2
    record(plan)
    outcome = local.run_here(console, plan, runs, cost, here, asked.data) if runs else None
    return verdict(console, plan, clean=outcome is None or outcome.clean, stopped=bool(outcome and outcome.stopped))


def verdict(console: Console, plan: Plan, *, clean: bool, stopped: bool) -> int:
    """The last line, and the exit code: failures of earlier sweeps count too."""
    from harness.store import State

    bad = plan.in_state(State.FAILED, State.BROKEN)
    if clean and not bad:
        command = f"python -m harness.report {plan.store.root} > report.html"
        say(console, f"All {len(plan.runs)} runs are accounted for. The report: {command}", style="green")
        return 0
    if bad:
        say(console, f"{len(bad)} runs were left out, as listed above.", style="red")
    return 130 if stopped else 1


def _chosen(plan: Plan, ids: list[str]) -> list[PlannedRun]:
    for one in ids:
        if not any(run.startswith(one) for run in plan.runs):
            raise SpecError(f"--only {one}: no run of {plan.experiment.name}@{plan.experiment.scale.name} begins so")
    return [one for one in plan.to_do if not ids or one.folder.id.startswith(tuple(ids))]


def _ids(only: str | None) -> list[str]:
    return [one.strip() for one in (only or "").split(",") if one.strip()]


def _overrides(written: Sequence[str]) -> dict[str, Any]:
    overrides = {}
    for one in written:
        path, equals, value = one.partition("=")
        if not equals or not path.strip():
            raise SpecError(f"-o {one}: expected PATH=VALUE, e.g. -o optimizer.lars.lr=0.5")
        overrides[path.strip()] = parse_value(value)
    return overrides


def _code() -> str:
    from harness.provenance import code_fingerprint

    return code_fingerprint()


def _cluster(asked: argparse.Namespace, experiment: Experiment) -> Any:
    """The cluster to submit to, or None for this machine."""
    from harness.sweep.cluster import find_cluster

    return find_cluster(asked.cluster, experiment.document.path.parent)


def _check_results(results: Path) -> None:
    """A results folder that cannot be one is said so before anything is planned."""
    if results.exists() and not results.is_dir():
        raise SpecError(f"--results {results}: is a file, not a folder")
    standing = next((path for path in (results, *results.resolve().parents) if path.exists()), Path("/"))
    if not os.access(standing, os.W_OK):
        raise SpecError(f"--results {results}: {standing} is not writable")


if __name__ == "__main__":
    sys.exit(main())
